"""assoc_memory: recall of masked units is the exact conditional: its mean at T = 0, all of it at T = 1."""

import numpy as np
import pytest
import torch

from pcsim.engines.torch.target import CircuitTarget, Clamp
from pcsim.inference.kernels import langevin
from pcsim.inference.rng import seed_stream
from tests.circuits.shipped import Array, assert_mean, described, joint_of, path_of, run_study, target_of
from tests.exact.gaussian_circuits import F64, Orthogonal, Posterior, condition

P = np.array([1.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0, -1.0])
Q = np.array([1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
CUES = {"half": [0, 1, 2, 3], "scattered": [0, 3, 6], "one": [2], "all but one": [0, 1, 2, 3, 4, 5, 6]}


def matrix() -> Array:
    return np.array(described("assoc_memory")["nodes"]["x"]["distribution"]["gaussian"]["precision"])


def mask_of(cue: list[int]) -> Array:
    mask = np.zeros(8)
    mask[cue] = 1.0
    return mask


def cued(pattern: Array, cue: list[int], rows: int) -> CircuitTarget:
    """The memory with the units of the cue held at a pattern; the others of the clamp are bait."""
    target = target_of(described("assoc_memory"), {}, rows)
    mask = torch.from_numpy(mask_of(cue))
    values = torch.from_numpy(np.where(mask_of(cue) > 0, pattern, 77.0)).expand(rows, -1).clone()
    return CircuitTarget(target.bound, Clamp({"x": values}, {"x": mask}), rows)


def recalled(pattern: Array, cue: list[int]) -> Posterior:
    return condition(joint_of(described("assoc_memory")), mask_of(cue) > 0, pattern)


def test_precision_holds_two_patterns() -> None:
    """Oracle: Λ = 4I − .4375 (ppᵀ + qqᵀ), so variance 2 along either pattern and ¼ across; to rounding."""
    np.testing.assert_allclose(matrix(), 4 * np.eye(8) - 0.4375 * (np.outer(P, P) + np.outer(Q, Q)))
    spread = np.linalg.inv(matrix())
    for pattern in (P, Q):
        np.testing.assert_allclose(spread @ pattern, 2 * pattern)
    assert np.sort(np.linalg.eigvalsh(spread))[:6] == pytest.approx(np.full(6, 0.25))


@pytest.mark.parametrize("cue", CUES)
@pytest.mark.parametrize("pattern", [P, Q], ids=["p", "q"])
def test_recall_is_the_conditional_mean(pattern: Array, cue: str) -> None:
    """Oracle: −Λmm⁻¹ Λmk xk, and the same by conditioning the covariance; vanilla PC, to 1e-9."""
    known, free = CUES[cue], [i for i in range(8) if i not in CUES[cue]]
    exact = -np.linalg.solve(matrix()[np.ix_(free, free)], matrix()[np.ix_(free, known)] @ pattern[known])
    posterior = recalled(pattern, known)
    np.testing.assert_allclose(posterior.mean, exact, atol=1e-12)
    target = cued(pattern, known, 1)
    start = target.start({"x": torch.zeros(1, 8, dtype=F64)})
    rates = np.linalg.eigvalsh(posterior.precision)
    steps = int(np.ceil(np.log(1e-10) / np.log(1 - rates.min() / rates.max()))) if len(free) > 1 else 2
    x = path_of(langevin(1 / rates.max(), 0.0), target, seed_stream(0), start, steps)["x"][-1, 0]
    np.testing.assert_allclose(x[free], exact, atol=1e-9)
    np.testing.assert_array_equal(x[known], pattern[known])
    if cue in ("half", "all but one"):  # enough is held to tell the two patterns apart
        np.testing.assert_array_equal(np.sign(x), pattern)


def test_recall_comes_with_its_uncertainty() -> None:
    """Oracle: covariance [Λmm(I − γΛmm/2)]⁻¹ at T = 1, Λmm⁻¹ up to the step; to rounding, by draws of exact moments."""
    cue, free = CUES["half"], [4, 5, 6, 7]
    posterior = recalled(P, cue)
    np.testing.assert_allclose(posterior.precision, matrix()[np.ix_(free, free)], atol=1e-12)
    step, rates = 0.2, np.linalg.eigvalsh(posterior.precision)
    steps = int(np.ceil(np.log(1e-6) / np.log(1 - step * rates.min())))
    rows = 8 * steps + 2
    target = cued(P, cue, rows)
    start = target.start({"x": torch.zeros(rows, 8, dtype=F64)})
    x = path_of(langevin(step), target, Orthogonal(rows), start, steps)["x"][-1]
    np.testing.assert_allclose(x[:, free].mean(0), posterior.mean, atol=1e-5)
    np.testing.assert_allclose(np.cov(x[:, free].T, bias=True), posterior.ula(step, 1.0), atol=1e-9)
    np.testing.assert_array_equal(x[:, cue], np.broadcast_to(P[cue], (rows, 4)))


def test_storing_ends_at_the_covariance_of_the_patterns() -> None:
    """Oracle: ∂U/∂(factor of Λ) vanishes in the mean over data of second moment Λ⁻¹, and over no other; to rounding.

    Data ±√(8λi) along the eigenvectors of Λ⁻¹ have that moment exactly.
    """
    circuit = described("assoc_memory")
    circuit["nodes"]["x"]["learn"] = ["precision"]
    values, vectors = np.linalg.eigh(np.linalg.inv(matrix()))
    patterns = np.concatenate([np.sqrt(8 * values) * vectors, -np.sqrt(8 * values) * vectors], 1).T
    np.testing.assert_allclose(patterns.T @ patterns / 16, np.linalg.inv(matrix()), atol=1e-12)
    program = target_of(circuit, {}, 16).bound
    for data, rests in ((patterns, True), (1.1 * patterns, False)):
        target = CircuitTarget(program, Clamp({"x": torch.from_numpy(data.copy())}), 16, learn=True)
        gradient = target.evaluate({}, False).aux.gradient["x.cholesky"].numpy() / 16
        assert (np.abs(gradient).max() < 1e-10) == rests


def test_study(tmp_path) -> None:
    """Oracle: the conditional mean and the chain's own covariance given the first half of p; 4 s.e. of 1000 chains."""
    trace = run_study("assoc_memory", tmp_path / "run", "figures=[]")
    x = trace["x"]["value"].isel(image=0).sel(step=slice(150, None)).to_numpy()
    posterior = recalled(P, CUES["half"])
    np.testing.assert_array_equal(x[..., :4], np.broadcast_to(P[:4], x[..., :4].shape))
    away = x[..., 4:] - posterior.mean
    assert_mean(away.mean(1), 0.0)
    exact = posterior.ula(0.05, 1.0)
    for i in range(4):
        assert_mean((away[..., i, None] * away).mean(1), exact[i])
    assert (posterior.mean < -0.4).all()
