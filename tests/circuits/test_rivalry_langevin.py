"""rivalry_langevin: the energy, near-exponential dwell times, and Levelt's fourth law turned round."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from pcsim.inference.kernels import langevin
from pcsim.inference.rng import seed_stream
from tests.circuits.euler_law import Dwell, dwell, dwell_times, euler_law, surplus
from tests.circuits.shipped import Array, assert_mean, described, path_of, run_study, target_of
from tests.exact.gaussian_circuits import F64

THRESHOLD = 0.35
"""Of v1 − v2, on either side."""
STEP = 0.001
GRID_ERROR = 0.01
"""Of the mean dwell on the grid of `exact_dwell`: it falls by .5 % from six cells below the threshold to nine."""


def energy(v: Array, contrast: float) -> Array:
    """10 Σ (c − v)² + ½ Σ v² + 200 v1² v2² of `[point, 2]`, without constants."""
    found: Array = 10 * ((contrast - v) ** 2).sum(1) + 0.5 * (v**2).sum(1) + 200 * (v**2).prod(1)
    return found


def slope(v: Array, contrast: float) -> Array:
    return -20 * (contrast - v) + v + 400 * v * v[:, ::-1] ** 2


def held(contrast: float) -> dict[str, list[float]]:
    return {"c": [contrast, contrast], "both": [0.0]}


def exact_dwell(contrast: float) -> Dwell:
    """The law of dwell times of the chain, on a grid of (v1 + v2, v1 − v2)/√2 with thresholds between cells."""
    width = THRESHOLD / math.sqrt(2) / 6
    across = (np.arange(-36, 36) + 0.5) * width
    along = np.arange(-0.5, 1.6, width)
    turn = np.array([[1.0, 1.0], [1.0, -1.0]]) / math.sqrt(2)
    law = euler_law((along, across), lambda p: slope(p @ turn, contrast) @ turn, STEP)
    return dwell(law, THRESHOLD / math.sqrt(2), 2500)


def test_energy_and_drift() -> None:
    """Oracle: energy and gradient written out, at random points; the product by layers is v1 v2; to rounding."""
    v = np.random.default_rng(0).normal(size=(40, 2))
    target = target_of(described("rivalry_langevin"), held(1.2), 40)
    found = target.evaluate({"v": torch.from_numpy(v)}, True)
    assert found.energy is not None
    constant = 2.5 * math.log(2 * math.pi) - 0.5 * math.log(20**2 * 400)
    np.testing.assert_allclose(found.energy.numpy(), energy(v, 1.2) + constant, rtol=1e-12)
    np.testing.assert_allclose(found.grad["v"].numpy(), slope(v, 1.2), rtol=1e-11, atol=1e-11)


def barrier(contrast: float) -> float:
    """Energy of the fused percept, the saddle on v1 = v2, above that of a single one."""
    single = minimize(lambda v: energy(v[None], contrast)[0], [contrast, 0.05], tol=1e-10).fun
    fused = minimize(lambda s: energy(np.array([[s[0], s[0]]]), contrast)[0], [0.4], tol=1e-10).fun
    return float(fused - single)


def test_contrast_raises_the_barrier() -> None:
    """Oracle: minimisation of the energy; two percepts at every contrast, further apart at higher ones.

    The parameters of the adaptive circuit (precision 6, prior variance 10, κ = 12) have no barrier at contrast 1:
    there the fused percept is the minimum, and without adaptation nothing alternates.
    """
    barriers = [barrier(c) for c in (0.8, 1.0, 1.2)]
    assert barriers == pytest.approx([0.547, 1.522, 3.038], abs=2e-3)
    s = minimize(lambda s: 6 * (1 - s[0]) ** 2 + 0.1 * s[0] ** 2 + 12 * s[0] ** 4, [0.4], tol=1e-12).x[0]
    curvature = 6 + 0.1 + 24 * s**2 - 48 * s**2  # of U along v1 − v2
    assert curvature > 0


def test_no_switch_without_noise() -> None:
    """Oracle: vanilla PC goes to the percept on the side of its start and stays."""
    target = target_of(described("rivalry_langevin"), held(1.0), 2)
    start = {"v": torch.tensor([[0.5, 0.4], [0.4, 0.5]], dtype=F64)}
    v = path_of(langevin(STEP, 0.0), target, seed_stream(0), start, 3000)["v"]
    np.testing.assert_allclose(v[-1, 0], v[-1, 1, ::-1], atol=1e-12)
    assert v[-1, 0, 0] - v[-1, 0, 1] > 0.8
    assert np.abs(v[-1] - v[-2]).max() < 1e-9


CONTRASTS = [pytest.param(0.8, marks=pytest.mark.slow), 1.0, pytest.param(1.2, marks=pytest.mark.slow)]


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_dwell_times_of_the_study(contrast: float, tmp_path) -> None:
    """Oracle: the exact law of the chain's dwell times: rate of switches, survival; 4 s.e. and the error of the grid.

    All steps are recorded, so that no switch is missed between two of them.
    """
    exact = exact_dwell(contrast)
    steps = 8000
    trace = run_study(
        "rivalry_langevin", tmp_path / "run", "figures=[]", f"clamp.c=[{contrast}, {contrast}]",
        f"record.steps={steps}", "record.chains=300", "record.probes=[{read: [value], nodes: [v]}]",
    )  # fmt: skip
    v = trace["v"]["value"].isel(image=0).to_numpy()
    found = dwell_times((v[..., 0] - v[..., 1]).T, THRESHOLD)
    counts = [((c > 2000) & (c <= steps)).sum() for c, _ in found]
    expected = (steps - 2000) / exact.mean
    assert_mean(counts, expected, slack=GRID_ERROR * expected)
    for time in (50, 300, 1000, 2500):
        p = exact.survival[time]
        begun = np.mean([(c < 5000).sum() for c, _ in found])
        assert_mean(surplus(found, time, 5000, p), 0.0, slack=GRID_ERROR * p * begun)


@pytest.mark.slow
def test_longer_dwells_at_higher_contrast() -> None:
    """Oracle: the exact law: means .42, .88 and 2.95, shape 1/CV² of a gamma law with these moments .99, .83, .78.

    Levelt's fourth law has shorter dwells, and people have shapes of 3 to 5: noise alone gives neither.
    """
    laws = [exact_dwell(c) for c in (0.8, 1.0, 1.2)]
    assert [x.mean * STEP for x in laws] == pytest.approx([0.42, 0.88, 2.95], rel=0.02)
    assert [x.variation**-2 for x in laws] == pytest.approx([0.99, 0.83, 0.78], abs=0.02)
