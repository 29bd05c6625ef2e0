"""square_bimodal: two modes, the barrier between them, and how long a chain stays in one."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from pcsim.inference.kernels import langevin
from pcsim.inference.rng import seed_stream
from tests.circuits.euler_law import EulerLaw, dwell, dwell_times, euler_law, surplus
from tests.circuits.shipped import Array, assert_mean, described, path_of, run_study, target_of
from tests.exact.gaussian_circuits import F64

MODE = math.sqrt(1.75)
STEP = 0.01


def cells(n: int) -> Array:
    """Middles of cells of width 1/n on [−3.5, 3.5], so that thresholds of ±1 fall between two of them."""
    return (np.arange(-3.5 * n, 3.5 * n) + 0.5) / n


def energy(z: float) -> float:
    """½ z² + (2 − z²)², without constants."""
    return 0.5 * z**2 + (2 - z**2) ** 2


def slope(z: Array) -> Array:
    return z - 4 * z * (2 - z**2)


def chain(temperature: float, start: Array, steps: int) -> Array:
    """z of chains of step .01, `[step, row]`."""
    target = target_of(described("square_bimodal"), {"x": [2.0]}, len(start))
    begin = {"z": torch.from_numpy(start)[:, None].to(F64)}
    return path_of(langevin(STEP, temperature), target, seed_stream(3), begin, steps)["z"][..., 0]


def test_modes_and_barrier() -> None:
    """Oracle: ±√(x − σx²/2) = ±1.3229, ΔU = 3.0625, U'' = 14 and −7; vanilla PC stays on the side of its start."""
    assert pytest.approx(1.3229, abs=5e-5) == MODE
    ends = chain(0.0, np.array([-3.0, -0.01, 0.01, 3.0]), 400)[-1]
    np.testing.assert_allclose(ends, [-MODE, -MODE, MODE, MODE], atol=1e-12)
    points = np.array([MODE, 0.0, MODE + 1e-4, MODE - 1e-4, 1e-4, -1e-4])
    target = target_of(described("square_bimodal"), {"x": [2.0]}, 6)
    found = target.evaluate({"z": torch.from_numpy(points)[:, None]}, True)
    u, g = found.energy, found.grad["z"][:, 0]
    assert u is not None
    assert float(u[1] - u[0]) == pytest.approx(3.0625)
    assert float(g[2] - g[3]) / 2e-4 == pytest.approx(14, rel=1e-6)
    assert float(g[4] - g[5]) / 2e-4 == pytest.approx(-7, rel=1e-6)


def test_mean_first_passage_times() -> None:
    """Oracle: ∫ e^U ∫ e^(−U) = 15.57 from 1 to −1 in continuous time, Kramers' 13.57, and the chain's approach to it.

    A chain is seen only at its steps, as if thresholds stood .5826 √(2γ) further out (Siegmund 1979): its mean
    dwell is longer by .5826 √(2γ) e^U(1) ∫ e^(−U), and O(γ). Extrapolated from two steps, to 3 % for the next order.
    """

    def mass(low: float) -> float:
        return quad(lambda z: math.exp(-energy(z)), low, 5)[0]

    exact = quad(lambda y: math.exp(energy(y)) * mass(y), -1, 1)[0]
    assert exact == pytest.approx(15.57, abs=0.005)
    kramers = 2 * math.pi * math.exp(3.0625) / math.sqrt(14 * 7)
    assert kramers == pytest.approx(13.57, abs=0.005)
    coarse, fine = (
        (dwell(euler_law((cells(2 * math.ceil(2 / math.sqrt(2 * h))),), slope, h), 1.0, 1).mean * h - exact)
        / math.sqrt(h)
        for h in (1e-4, 2.5e-5)
    )
    assert 2 * fine - coarse == pytest.approx(
        0.5826 * math.sqrt(2) * math.exp(energy(1.0)) * mass(-5.0), rel=0.03
    )


def law(thinning: int) -> EulerLaw:
    """Of the chain seen every so many steps."""
    one = euler_law((cells(40),), slope, STEP)
    return one._replace(matrix=one.matrix**thinning)


def test_study(tmp_path) -> None:
    """Oracle: the exact law of the chain as recorded, every fifth step; rate of switches and survival of dwells, 4 s.e.

    Mean 15.57 and CV .984 in continuous time. Dwells that begin in the first half are seen to their end or for 100
    units of time, so that how many survive some time below is unbiased.
    """
    trace = run_study("square_bimodal", tmp_path / "run", "figures=[]")
    z = trace["z"]["value"].isel(image=0, unit=0).to_numpy().T
    assert len(z) == 4001
    exact = dwell(law(5), 1.0, 2000)
    assert exact.mean * 0.05 == pytest.approx(15.57, rel=0.12)
    assert exact.variation == pytest.approx(0.984, abs=0.02)
    found = dwell_times(z, 1.0)
    window = (1000, 4000)
    counts = [((c > window[0]) & (c <= window[1])).sum() for c, _ in found]
    assert_mean(counts, (window[1] - window[0]) / exact.mean)
    for time in (20, 100, 300, 600, 1200):
        assert_mean(surplus(found, time, 2000, exact.survival[time]), 0.0)


def test_stationary_law() -> None:
    """Oracle: both modes are occupied alike and the law is the grid's; 4 s.e. of 3000 chains after 60 units of time.

    Chains start in the right mode: with a rate of 1/15.6 in each direction e^(−2 · 60/15.6) = 5e-4 of it is left.
    """
    z = chain(1.0, np.full(3000, MODE), 6000)[-1]
    one = euler_law((cells(40),), slope, STEP)
    mass = one.stationary()
    assert_mean(z > 0, 0.5, slack=1e-3)
    assert_mean(z**2, mass @ one.points[:, 0] ** 2)
    assert_mean(z**4, mass @ one.points[:, 0] ** 4)
