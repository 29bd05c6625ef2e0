"""bogacz_two_node: its mode, its gradient flow, its posterior at every temperature and its evidence."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad, solve_ivp
from scipy.optimize import brentq

from pcsim.inference.kernels import langevin
from pcsim.inference.rng import seed_stream
from tests.circuits.euler_law import euler_law
from tests.circuits.shipped import Array, assert_mean, described, measured, path_of, run_study, target_of
from tests.exact.gaussian_circuits import F64

MODE = brentq(lambda phi: 2 * phi**3 - 3 * phi - 3, 1, 2, xtol=1e-14)
GRID = np.linspace(-3.5, 4.5, 801)


def slope(phi: Array) -> Array:
    """dU/dφ of U = ½ (φ − 3)² + ½ (2 − φ²)²."""
    return 2 * phi**3 - 3 * phi - 3


def energy(phi: float) -> float:
    return 0.5 * (phi - 3) ** 2 + 0.5 * (2 - phi**2) ** 2


def moment(f: object, temperature: float) -> float:
    """∫ f exp(−(U − U_min)/T) dφ."""
    assert callable(f)
    weight = energy(MODE)
    return quad(lambda p: f(p) * math.exp((weight - energy(p)) / temperature), -8, 9, limit=400)[0]


def descend(step: float, steps: int) -> Array:
    """φ along vanilla PC from φ = 3, `[step]`."""
    target = target_of(described("bogacz_two_node"), {"u": [2.0]}, 1)
    start = {"phi": torch.full((1, 1), 3.0, dtype=F64)}
    return path_of(langevin(step, 0.0), target, seed_stream(0), start, steps)["phi"][:, 0, 0]


def test_vanilla_pc_ends_at_the_mode() -> None:
    """Oracle: the root of 2φ³ − 3φ − 3, and there ε_φ = φ − 3, ε_u = 2 − φ²; to rounding."""
    assert pytest.approx(1.567468, abs=5e-7) == MODE
    phi = descend(0.01, 400)
    assert phi[-1] == pytest.approx(MODE, abs=1e-12)
    target = target_of(described("bogacz_two_node"), {"u": [2.0]}, 1)
    point = target.evaluate({"phi": torch.full((1, 1), float(phi[-1]), dtype=F64)}, energy=True)
    assert float(point.aux.errors["phi"]) == pytest.approx(-1.43253, abs=5e-6)
    assert float(point.aux.errors["u"]) == pytest.approx(-0.45696, abs=5e-6)
    assert point.energy is not None
    assert float(point.energy) == pytest.approx(energy(MODE) + math.log(2 * math.pi), abs=1e-12)


def test_euler_steps_of_the_exercise() -> None:
    """Oracle: φ ← φ − .01 (2φ³ − 3φ − 3) written out; 2.58 after one step."""
    phi = [3.0]
    for _ in range(50):
        phi.append(phi[-1] - 0.01 * (2 * phi[-1] ** 3 - 3 * phi[-1] - 3))
    found = descend(0.01, 50)
    np.testing.assert_allclose(found, phi, rtol=1e-13)
    np.testing.assert_allclose(found[[1, 10, 50]], [2.58, 1.75535, 1.56855], atol=5e-6)


def test_small_steps_follow_the_gradient_flow() -> None:
    """Oracle: dφ/dt = −dU/dφ by Runge-Kutta; Euler's error is of first order, so it halves with the step."""
    times = np.array([0.01, 0.1, 0.5])
    flow = solve_ivp(lambda t, p: -slope(p), (0, 0.5), [3.0], t_eval=times, rtol=1e-11, atol=1e-12).y[0]
    np.testing.assert_allclose(flow, [2.66459, 1.79926, 1.56925], atol=5e-6)
    gaps = []
    for step in (2e-4, 1e-4):
        found = descend(step, round(0.5 / step))
        gaps.append(np.abs(found[np.round(times / step).astype(int)] - flow))
    assert (gaps[1] < 1e-3).all()
    np.testing.assert_allclose(gaps[0] / gaps[1], 2.0, atol=0.02)


TABLE = {0.1: (1.5605, 0.00867), 0.5: (1.5300, 0.04737), 1.0: (1.4797, 0.11732), 2.0: (1.3139, 0.40253)}


@pytest.mark.parametrize("temperature", TABLE)
def test_posterior_at_each_temperature(temperature: float) -> None:
    """Oracle: quadrature of exp(−U/T), and of the chain's own transition density; 4 s.e. of 4000 chains.

    The chain's own law differs from the posterior by O(γ), half as much at half the step.
    """
    total = moment(lambda p: 1.0, temperature)
    mean = moment(lambda p: p, temperature) / total
    variance = moment(lambda p: (p - mean) ** 2, temperature) / total
    assert (round(mean, 4), round(variance, 5)) == TABLE[temperature]
    step = 0.002 if temperature < 0.5 else 0.01
    bias = []
    for size in (step, step / 2):
        law = euler_law((GRID,), slope, size, temperature)
        mass = law.stationary()
        own = mass @ law.points[:, 0]
        spread = mass @ (law.points[:, 0] - own) ** 2
        bias.append(np.array([own - mean, spread - variance]))
        if size == step:
            check_chain(step, temperature, own, spread)
    np.testing.assert_allclose(bias[0] / bias[1], 2.0, atol=0.3)


def check_chain(step: float, temperature: float, mean: float, variance: float) -> None:
    n = 4000
    target = target_of(described("bogacz_two_node"), {"u": [2.0]}, n)
    start = {"phi": torch.full((n, 1), 1.5, dtype=F64)}
    stream = seed_stream(1, "bogacz", round(10 * temperature))
    phi = path_of(langevin(step, temperature), target, stream, start, round(4 / step))["phi"][-1, :, 0]
    assert_mean(phi, mean)
    assert_mean((phi - mean) ** 2, variance)


def test_study(tmp_path) -> None:
    """Oracle: the stationary law of the chain, P(φ < 0) of it, and log p(u) by quadrature; 4 s.e.

    The error of the annealed estimate of p(u) follows from its effective sample size: √((n/ESS − 1)/n).
    """
    trace = run_study("bogacz_two_node", tmp_path / "run", "figures=[]")
    phi = trace["phi"]["value"].isel(image=0, unit=0).sel(step=slice(400, None)).to_numpy()  # [chain, step]
    law = euler_law((GRID,), slope, 0.005)
    mass = law.stationary()
    mean = mass @ law.points[:, 0]
    assert_mean(phi.mean(1), mean)
    assert_mean(((phi - mean) ** 2).mean(1), mass @ (law.points[:, 0] - mean) ** 2)
    below = mass @ np.where(law.points[:, 0] < -1e-9, 1.0, np.where(law.points[:, 0] > 1e-9, 0.0, 0.5))
    assert_mean((phi < 0).mean(1), below)
    exact = moment(lambda p: float(p < 0), 1.0) / moment(lambda p: 1.0, 1.0)
    assert exact == pytest.approx(0.00262, abs=5e-6)
    evidence = moment(lambda p: 1.0, 1.0) * math.exp(-energy(MODE)) / (2 * math.pi)
    assert evidence == pytest.approx(0.0392911, abs=5e-8)
    effective = measured(tmp_path / "run", "effective_sample_size")
    error = math.sqrt((400 / effective - 1) / 400)
    assert abs(measured(tmp_path / "run", "log_likelihood") - math.log(evidence)) < 4 * error
