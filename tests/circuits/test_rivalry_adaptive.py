"""rivalry_adaptive: every step by hand, dwell times against an independent chain, and what people do otherwise."""

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.special import digamma

from pcsim.inference.rng import seed_stream
from tests.circuits.euler_law import dwell_times
from tests.circuits.shipped import Array, described, run_study
from tests.exact.gaussian_circuits import F64

pytest.importorskip("brian2", reason="the optional dependency brian2 is not installed")

STEP, TEMPERATURE, FATIGUE, STRENGTH = 0.01, 0.05, 5.0, 3.0
THRESHOLD = 0.35
"""Of v1 − v2, on either side."""
SETTLED = 2000
"""Steps, four time constants of the fatigue."""


def moved(v: Array, a: Array, contrast: Array, noise: Array) -> tuple[Array, Array]:
    """One Euler step of v and of both fatigues, `[row, 2]`."""
    slope = -6 / (1 + a) * (contrast - v) + 0.1 * v + 24 * v * v[:, ::-1] ** 2
    rise = (-a + STRENGTH * np.maximum(v, 0) ** 2) / FATIGUE
    return v - STEP * slope + math.sqrt(2 * STEP * TEMPERATURE) * noise, a + STEP * rise


def chain(contrast: tuple[float, float], rows: int, steps: int, seed: int) -> Array:
    """v1 − v2 of independent chains written out in numpy, `[step, row]`."""
    rng, c = np.random.default_rng(seed), np.array(contrast)
    v, a = np.full((rows, 2), 0.5), np.zeros((rows, 2))
    kept = np.empty((steps, rows))
    for k in range(steps):
        v, a = moved(v, a, c, rng.standard_normal((rows, 2)))
        kept[k] = v[:, 0] - v[:, 1]
    return kept


def test_every_step_of_the_fatigued_network() -> None:
    """Oracle: the equations written out, with the same draws; 300 noisy steps to 1e-9."""
    from pcsim.circuit.read import load_circuit
    from pcsim.engines.brian2.network import Dynamics
    from pcsim.engines.brian2.plan import plan_network
    from pcsim.engines.brian2.simulation import Simulation
    from pcsim.engines.torch.program import Program
    from pcsim.engines.torch.target import Clamp

    circuit, rows = load_circuit(described("rivalry_adaptive")), 3
    params = Program(circuit).initial_parameters(torch.Generator().manual_seed(0))
    contrast = torch.tensor([[1.0, 1.2]], dtype=F64).expand(rows, 2)
    clamp = Clamp({"c": contrast, "both": torch.zeros(rows, 1, dtype=F64)})
    simulation = Simulation(plan_network(circuit, params, clamp, rows, Dynamics(STEP, STEP, TEMPERATURE)))
    start = torch.tensor([[0.5, 0.4], [1.0, -0.1], [0.0, 0.9]], dtype=F64)
    simulation.start({"v": start})
    simulation.run(seed_stream(0, "rivalry"), 300)
    v, a, rng = start.numpy(), np.zeros((rows, 2)), seed_stream(0, "rivalry")
    for _ in range(300):
        v, a = moved(v, a, contrast.numpy(), rng.normal(start).numpy())
    np.testing.assert_allclose(simulation.values["v"], v, atol=1e-9)
    error = 6 / (1 + a) * (contrast.numpy() - v)
    np.testing.assert_allclose(simulation.errors["c"], error, atol=1e-9)


class Dwells(NamedTuple):
    """Of complete dwells after the fatigue has settled."""

    mean: float
    variation: float
    shape: float
    serial: float
    first: float
    """Mean dwell of the first percept, v1 > v2."""
    second: float


def one_by_one(difference: Array) -> list[Array]:
    """Per chain of `[step, chain]` its dwells after settling, `[dwell, (length in s, 1 for the first percept)]`."""
    kept = []
    for (changes, lengths), path in zip(dwell_times(difference, THRESHOLD), difference.T, strict=True):
        late = changes[:-1] > SETTLED
        kept.append(np.stack([STEP * lengths[late], path[changes[:-1][late]] > 0], 1))
    return kept


def statistics(dwells: list[Array]) -> Dwells:
    """Gamma shape by maximum likelihood, correlation of a dwell with the next, of all chains together."""
    both = np.concatenate(dwells)
    x = both[:, 0]
    pairs = np.concatenate([np.stack([d[:-1, 0], d[1:, 0]], 1) for d in dwells])
    gap = math.log(x.mean()) - np.log(x).mean()
    shape = brentq(lambda k: math.log(k) - digamma(k) - gap, 0.25 / gap, 2 / gap)
    return Dwells(
        x.mean(), x.std() / x.mean(), shape, np.corrcoef(pairs.T)[0, 1], x[both[:, 1] == 1].mean(),
        x[both[:, 1] == 0].mean(),
    )  # fmt: skip


def measured(difference: Array) -> tuple[Array, Array]:
    """`Dwells` and their standard errors, by leaving out a twentieth of the chains in turn."""
    dwells = one_by_one(difference)
    found = np.array(statistics(dwells))
    left = np.array(
        [statistics([d for k, d in enumerate(dwells) if k % 20 != out]) for out in range(20)]
    )  # fmt: skip
    return found, np.sqrt(19 / 20 * ((left - left.mean(0)) ** 2).sum(0))


CONTRASTS = [
    (1.0, 1.0),
    pytest.param((0.8, 0.8), marks=pytest.mark.slow),
    pytest.param((1.2, 1.2), marks=pytest.mark.slow),
    pytest.param((1.0, 1.2), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_dwell_times_of_the_study(contrast: tuple[float, float], tmp_path) -> None:
    """Oracle: independent chains of the same equations in numpy; 4 s.e. of both, by the jackknife over chains."""
    steps = 6000
    trace = run_study(
        "rivalry_adaptive", tmp_path / "run", f"clamp.c={list(contrast)}",
        "record.probes=[{read: [value], nodes: [v]}]",
    )  # fmt: skip
    v = trace["v"]["value"].isel(image=0).to_numpy()
    found, error = measured((v[..., 0] - v[..., 1]).T)
    exact, other = measured(chain(contrast, 300, steps, seed=1))
    np.testing.assert_array_less(np.abs(found - exact), 4 * np.hypot(error, other))


def test_what_people_do_and_what_they_do_not() -> None:
    """Means 3.93, 3.03 and 5.47 at contrasts 1, .8 and 1.2; shape 4.7 and CV .41 at 1, as people's (3 to 5, .4 to .6).

    Against people: dwells correlate (.30, theirs about 0), and they grow with contrast (Levelt's fourth law: they
    shrink). Second law: of 1 and 1.2 the stronger one's own dwells grow, to 5.9, the other's stay. 8 s.e. each.
    """
    laws = {
        c: measured(chain(c, 400, 12_000, seed=2)) for c in ((0.8, 0.8), (1.0, 1.0), (1.2, 1.2), (1.0, 1.2))
    }
    (weak, weak_error), (mid, error), (strong, strong_error), (uneven, uneven_error) = laws.values()
    assert mid[0] == pytest.approx(3.93, abs=4 * error[0])
    assert mid[1] == pytest.approx(0.41, abs=4 * error[1])
    assert mid[2] == pytest.approx(4.75, abs=4 * error[2])
    assert mid[3] == pytest.approx(0.30, abs=4 * error[3])
    assert mid[3] > 8 * error[3]
    assert strong[0] - mid[0] > 8 * math.hypot(strong_error[0], error[0])
    assert mid[0] - weak[0] > 8 * math.hypot(weak_error[0], error[0])
    assert uneven[5] - mid[5] > 8 * math.hypot(uneven_error[5], error[5])
    assert abs(uneven[4] - mid[4]) < 0.1 * (uneven[5] - mid[5])
