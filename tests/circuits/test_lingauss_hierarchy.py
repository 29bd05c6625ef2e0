"""lingauss_hierarchy: moments, virial, energy and the timescale of every unit in closed form."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from pcsim.inference.kernels import langevin
from pcsim.inference.rng import seed_stream
from tests.circuits.shipped import (
    Array,
    assert_mean,
    described,
    joint_of,
    measured,
    path_of,
    run_study,
    target_of,
)
from tests.exact.gaussian_circuits import F64, GaussianCircuit, Orthogonal, Posterior, condition, flat

SEEN = [1.0, -1.0, 0.5, 0.0]
STEP = 0.02


def scalar_chain() -> dict[str, Any]:
    """Four levels of one unit, weight 1, variance .3 below a unit root, over an observation."""
    names = ("z4", "z3", "z2", "z1", "x")
    nodes = {n: {"shape": [1], "distribution": {"gaussian": {"precision": 1 / 0.3}}} for n in names}
    nodes["z4"]["distribution"] = {"gaussian": {"precision": 1.0}}
    layers = [{"linear": {"weight": [[1.0]]}}]
    edges = [{"from": a, "to": b, "layers": layers} for a, b in pairwise(names)]
    return {"nodes": nodes, "edges": edges}


def posterior_of(joint: GaussianCircuit, held: str | None) -> Posterior:
    """Of everything else given `held` at `SEEN` (its first units), or of everything."""
    known = np.zeros(len(joint.mean), dtype=bool)
    values = np.zeros(len(joint.mean))
    if held is not None:
        part = joint.parts[held]
        known[part], values[part] = True, SEEN[: part.stop - part.start]
    return condition(joint, known, values)


def integrated(posterior: Posterior) -> Array:
    """∫₀^∞ of each unit's autocorrelation: (Λ⁻²)ii/(Λ⁻¹)ii."""
    covariance = np.linalg.inv(posterior.precision)
    times: Array = np.diag(covariance @ covariance) / np.diag(covariance)
    return times


def test_moments_and_virial() -> None:
    """Oracle: conditioning, Λ⁻¹(I − γΛ/2)⁻¹ and E[z gᵀ] = (I − γΛ/2)⁻¹; to rounding.

    Draws of exact moments, started in that law: it is the one that a step leaves as it is.
    """
    description = described("lingauss_hierarchy")
    joint = joint_of(description)
    posterior = posterior_of(joint, "x")
    step, steps, size = 1.0 / np.linalg.eigvalsh(posterior.precision).max(), 20, len(posterior.mean)
    covariance, rows = posterior.ula(step, 1.0), size * (steps + 1) + 2
    target, rng = target_of(description, {"x": SEEN}, rows), Orthogonal(rows)
    noise = rng.normal(torch.zeros(rows, size, dtype=F64)).numpy()
    begin = leaves(joint, posterior, target.free, posterior.mean + noise @ np.linalg.cholesky(covariance).T)
    path = path_of(langevin(step), target, rng, begin, steps)
    z = {n: torch.from_numpy(p[-1]) for n, p in path.items()}
    draws = flat(joint, z, posterior).numpy()
    slope = flat(joint, target.evaluate(z, False).grad, posterior).numpy()
    np.testing.assert_allclose(draws.mean(0), posterior.mean, atol=1e-10)
    np.testing.assert_allclose(np.cov(draws.T, bias=True), covariance, atol=1e-10)
    np.testing.assert_allclose(slope.mean(0), 0.0, atol=1e-9)
    expected = np.linalg.inv(np.eye(size) - step / 2 * posterior.precision)
    np.testing.assert_allclose(draws.T @ slope / rows, expected, atol=1e-8)


def leaves(
    joint: GaussianCircuit, posterior: Posterior, names: tuple[str, ...], rows: Array
) -> dict[str, torch.Tensor]:
    """Rows of free units as the state of their nodes."""
    places = np.full(len(joint.mean), -1)
    places[posterior.free] = np.arange(len(posterior.free))
    return {name: torch.from_numpy(rows[:, places[joint.parts[name]]]) for name in names}


def test_time_constants_of_a_scalar_chain() -> None:
    """Oracle: with the observation held .636, 1.004, 1.142, 1.023 from below; without it 4.66, 4.88, 4.67, 4.00.

    Free means that the lowest level has no child, as before the observation exists.
    """
    evoked = integrated(posterior_of(joint_of(scalar_chain()), "x"))[::-1]
    np.testing.assert_allclose(evoked, [0.636, 1.004, 1.142, 1.023], atol=5e-4)
    alone = scalar_chain()
    del alone["nodes"]["x"], alone["edges"][-1]
    spontaneous = integrated(posterior_of(joint_of(alone), None))[::-1]
    np.testing.assert_allclose(spontaneous, [4.66, 4.88, 4.67, 4.00], atol=5e-3)
    assert np.argmax(evoked) != 3  # no gradient up to the top without level-dependent mobility
    assert np.argmin(spontaneous) == 3


@pytest.mark.parametrize("held", ["x", None], ids=["evoked", "spontaneous"])
def test_time_constants_of_the_circuit(held: str | None) -> None:
    """Oracle: N Var(mean over N steps) = Σ (1 − |k|/N) (Aᵏ C)ii, 2(Λ⁻²)ii/γ in the limit; 4 s.e. of 500 chains."""
    description = described("lingauss_hierarchy")
    joint = joint_of(description)
    posterior = posterior_of(joint, held)
    step, n, rows = 0.05, 1500, 500
    map_, covariance = np.eye(len(posterior.mean)) - step * posterior.precision, posterior.ula(step, 1.0)
    total, power = np.diag(covariance).copy(), covariance
    for k in range(1, n):
        power = map_ @ power
        total += 2 * (1 - k / n) * np.diag(power)
    limit = 2 * np.diag(np.linalg.matrix_power(np.linalg.inv(posterior.precision), 2)) / step
    slowest = 1 / np.linalg.eigvalsh(posterior.precision).min()
    np.testing.assert_allclose(total / limit, 1.0, atol=2 * slowest / (n * step))
    target = target_of(description, {"x": SEEN} if held else {}, rows)
    stream = seed_stream(2, "hierarchy", held or "nothing")
    root = np.linalg.cholesky(covariance)  # starts in its stationary law
    start = posterior.mean + stream.normal(torch.zeros(rows, len(root), dtype=F64)).numpy() @ root.T
    begin = leaves(joint, posterior, target.free, start)
    path = path_of(langevin(step), target, stream, begin, n - 1)
    means = np.concatenate([path[name].mean(0) for name in joint.parts if name in path], axis=1)
    assert_mean(n * (means - posterior.mean) ** 2, total)


def test_study(tmp_path) -> None:
    """Oracle: mean, variance, E[−z·drift] per unit, E U and E|g|² = tr Λ(I − γΛ/2)⁻¹, log p(x); 4 s.e."""
    joint = joint_of(described("lingauss_hierarchy"))
    posterior = posterior_of(joint, "x")
    trace = run_study("lingauss_hierarchy", tmp_path / "run", "figures=[]").sel(step=slice(400, None))
    names = [n for n in joint.parts if n != "x"]
    z, drift = (
        np.concatenate([trace[n][v].isel(image=0).to_numpy() for n in names], -1) for v in ("value", "drift")
    )
    away = z - posterior.mean
    stretch = np.linalg.inv(np.eye(7) - STEP / 2 * posterior.precision)
    assert_mean(z.mean(1), posterior.mean)
    assert_mean((away**2).mean(1), np.diag(posterior.ula(STEP, 1.0)))
    assert_mean(-(away * drift).mean(1), np.diag(stretch))
    assert_mean(
        (trace["gradient_norm"].isel(image=0).to_numpy() ** 2).mean(1),
        np.trace(posterior.precision @ stretch),
    )
    lowest = float(trace["energy_minimum"].to_numpy()[0])
    exact = lowest_energy(joint, posterior)
    assert lowest == pytest.approx(exact, abs=1e-4)
    assert_mean(trace["energy"].isel(image=0).to_numpy().mean(1) - exact, np.trace(stretch) / 2)
    observed = joint.parts["x"]
    gap = np.array(SEEN) - joint.mean[observed]
    spread = joint.covariance[observed, observed]
    evidence = -0.5 * (gap @ np.linalg.solve(spread, gap) + np.linalg.slogdet(2 * np.pi * spread)[1])
    effective = measured(tmp_path / "run", "effective_sample_size")
    found = measured(tmp_path / "run", "log_likelihood")
    assert abs(found - evidence) < 4 * np.sqrt((200 / effective - 1) / 200)


def lowest_energy(joint: GaussianCircuit, posterior: Posterior) -> float:
    """−log p(z, x) of the whole joint at the conditional mean."""
    point = np.zeros(len(joint.mean))
    point[joint.parts["x"]] = SEEN
    point[posterior.free] = posterior.mean
    gap = point - joint.mean
    normaliser = np.linalg.slogdet(2 * np.pi * joint.covariance)[1]
    return float(0.5 * (gap @ np.linalg.solve(joint.covariance, gap) + normaliser))
