"""Law 2 on circuits: any DAG, any held subset, sampled moments = Gaussian conditioning with the step's bias."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pcsim.engines.torch.program import ancestral
from pcsim.engines.torch.target import Clamp
from pcsim.inference.chain import run_chain
from pcsim.inference.kernels import langevin, momentum
from pcsim.inference.preconditioners import Preconditioner, Scaling, frozen
from pcsim.inference.rng import seed_stream
from pcsim.inference.types import Tree
from tests.exact.gaussian_circuits import (
    F64,
    GaussianCircuit,
    Orthogonal,
    Posterior,
    clamp_of,
    condition,
    flat,
    random_circuit,
)

Held = NDArray[np.bool_]


def held_units(joint: GaussianCircuit, seed: int, how: str) -> Held:
    """Which units are held: whole nodes by chance, units by chance, the roots, or the leaves."""
    rng = np.random.default_rng(seed)
    held = np.zeros(len(joint.mean), dtype=bool)
    circuit = joint.circuit
    names = {
        "nodes": [n for n in joint.parts if rng.random() < 0.4],
        "units": [],
        "tops": circuit.roots,
        "bottoms": circuit.leaves,
        "nothing": [],
    }[how]
    for name in names:
        held[joint.parts[name]] = True
    if how == "units":
        held = rng.random(len(held)) < 0.4
    if held.all():
        held[0] = False
    return held


def start_at(joint: GaussianCircuit, names: tuple[str, ...], rows: int) -> Tree:
    sizes = {n: joint.parts[n].stop - joint.parts[n].start for n in names}
    return {n: torch.zeros(rows, size, dtype=F64) for n, size in sizes.items()}


def after(posterior: Posterior, step: float, steps: int, temperature: float, factor: np.ndarray) -> tuple:
    """Exact mean and covariance after t steps from 0: m − Aᵗm, C∞ − AᵗC∞Aᵗᵀ, A = I − γGΛ."""
    power = np.linalg.matrix_power(
        np.eye(len(posterior.mean)) - step * factor[:, None] * posterior.precision, steps
    )
    limit = posterior.ula(step, temperature, factor)
    return posterior.mean - power @ posterior.mean, limit - power @ limit @ power.T


@pytest.mark.parametrize("how", ["nodes", "units", "tops", "bottoms", "nothing"])
@pytest.mark.parametrize("seed", range(6))
def test_moments_are_exact(seed: int, how: str) -> None:
    """Oracle: conditioning of the joint covariance, T[Λ − (γ/2)ΛMΛ]⁻¹ and its transient; to rounding.

    Draws with exact sample moments (`Orthogonal`) take the sampling error away; M = 1/τ of each node.
    """
    joint = random_circuit(seed, 2 + seed)
    held = held_units(joint, seed, how)
    values = np.random.default_rng(seed + 100).normal(size=len(held))
    posterior = condition(joint, held, values)
    rng = np.random.default_rng(seed)
    mobility = {name: float(rng.uniform(0.5, 1.5)) for name in joint.parts}
    factor = np.concatenate([np.full(p.stop - p.start, mobility[n]) for n, p in joint.parts.items()])
    factor = factor[posterior.free]
    root = np.sqrt(factor)
    largest = np.linalg.eigvalsh(root[:, None] * posterior.precision * root).max()
    step, temperature, steps = 1.3 / largest, 0.7, 25
    rows = steps * len(held) + 2
    target = joint.target(clamp_of(joint, held, values, rows), rows, mobility)
    start = target.start(start_at(joint, target.free, rows))
    z = run_chain(langevin(step, temperature), target, Orthogonal(rows, seed), start, steps).position
    draws = flat(joint, z, posterior).numpy()
    mean, covariance = after(posterior, step, steps, temperature, factor)
    np.testing.assert_allclose(draws.mean(0), mean, atol=1e-10 * (1 + np.abs(mean).max()))
    np.testing.assert_allclose(
        np.cov(draws.T, bias=True).reshape(covariance.shape), covariance, atol=1e-10 * covariance.max()
    )
    for name in target.masked:  # held entries have not moved
        kept = held[joint.parts[name]]
        assert (z[name][:, kept].numpy() == values[joint.parts[name]][kept]).all()


@pytest.mark.parametrize("seed", [2, 4])
def test_fixed_preconditioner_on_a_circuit(seed: int) -> None:
    """Oracle: T[Λ − (γ/2)ΛGΛ]⁻¹ with its transient, G a caller's own fixed diagonal; to rounding."""
    joint = random_circuit(seed, 4)
    held = held_units(joint, seed, "bottoms")
    posterior = condition(joint, held, np.ones(len(held)))
    g = {n: torch.linspace(0.5, 2.0, p.stop - p.start, dtype=F64) for n, p in joint.parts.items()}
    factor = torch.cat(list(g.values())).numpy()[posterior.free]
    step, steps = 0.5 / np.linalg.eigvalsh(posterior.precision).max(), 30
    rows = steps * len(held) + 2
    rule = Preconditioner(
        lambda s, _: Scaling(s.seen + 1, s.mean_square, g, {n: x.sqrt() for n, x in g.items()})
    )
    target = joint.target(clamp_of(joint, held, np.ones(len(held)), rows), rows)
    start = target.start(start_at(joint, target.free, rows))
    z = run_chain(langevin(step, 1.0, rule), target, Orthogonal(rows), start, steps).position
    draws = flat(joint, z, posterior).numpy()
    mean, covariance = after(posterior, step, steps, 1.0, factor)
    np.testing.assert_allclose(draws.mean(0), mean, atol=1e-10)
    np.testing.assert_allclose(np.cov(draws.T, bias=True), covariance, atol=1e-10)


@pytest.mark.parametrize("seed", [1, 3, 5])
def test_sampled_moments(seed: int) -> None:
    """Oracle: N(m, T[Λ(I − γΛ/2)]⁻¹), 4000 independent chains; 5 s.e., of C_ij sqrt((C_ii C_jj + C_ij²)/n)."""
    joint = random_circuit(seed, 5)
    held = held_units(joint, seed, "units")
    values = np.random.default_rng(seed).normal(size=len(held))
    posterior = condition(joint, held, values)
    rates = np.linalg.eigvalsh(posterior.precision)
    step, n = 1.2 / rates.max(), 4000
    steps = int(np.ceil(np.log(1e-4) / np.log(1 - step * rates.min())))  # transient: 1e-4 of the offset
    target = joint.target(clamp_of(joint, held, values, n), n)
    start = target.start(start_at(joint, target.free, n))
    stream = seed_stream(11, "circuit", seed)
    z = flat(joint, run_chain(langevin(step), target, stream, start, steps).position, posterior).numpy()
    covariance = posterior.ula(step, 1.0)
    variance = np.diag(covariance)
    assert (
        np.abs(z.mean(0) - posterior.mean) < 5 * np.sqrt(variance / n) + 1e-4 * np.abs(posterior.mean)
    ).all()
    bound = 5 * np.sqrt((np.outer(variance, variance) + covariance**2) / n)
    assert (np.abs(np.atleast_2d(np.cov(z.T)) - covariance) < bound).all()
    exact = np.linalg.inv(posterior.precision)  # the test has the power to see the bias of the step
    assert (np.abs(np.atleast_2d(np.cov(z.T)) - exact) > bound).any()


def test_momentum_on_a_circuit() -> None:
    """Oracle: T Λ⁻¹(I − γΛ/(2(1+μ)))⁻¹ (momentum's closed form along the eigenvectors of Λ); to rounding."""
    joint = random_circuit(3, 3)
    held = held_units(joint, 3, "bottoms")
    posterior = condition(joint, held, np.zeros(len(held)))
    rates = np.linalg.eigvalsh(posterior.precision)
    step, mu = 1.5 / rates.max(), 0.4
    steps = 120
    rows = steps * len(held) + 2
    target = joint.target(clamp_of(joint, held, np.zeros(len(held)), rows), rows)
    start = target.start(start_at(joint, target.free, rows))
    z = run_chain(momentum(step, mu, 1.0), target, Orthogonal(rows), start, steps).position
    draws = flat(joint, z, posterior).numpy()
    eye = np.eye(len(rates))
    covariance = np.linalg.inv(posterior.precision @ (eye - step / (2 * (1 + mu)) * posterior.precision))
    transient = max(np.abs(np.roots([1, -(1 + mu - step * r), mu])).max() for r in rates) ** steps
    assert transient < 1e-6
    np.testing.assert_allclose(draws.mean(0), posterior.mean, atol=1e-4)
    np.testing.assert_allclose(np.cov(draws.T, bias=True), covariance, atol=1e-4)


@pytest.mark.parametrize("seed", [0, 5])
def test_zero_temperature_reaches_the_conditional_mean_downhill(seed: int) -> None:
    """Oracle: U never rises at γλ_max = 1.9 (law 4), and its end is the mean of the conditional."""
    joint = random_circuit(seed, 5)
    held = held_units(joint, seed, "units")
    values = np.random.default_rng(seed).normal(size=len(held))
    posterior = condition(joint, held, values)
    rates = np.linalg.eigvalsh(posterior.precision)
    step = 1.9 / rates.max()
    target = joint.target(clamp_of(joint, held, values, 4), 4)
    start = target.start({n: 3 + z for n, z in start_at(joint, target.free, 4).items()})
    slowest = np.abs(1 - step * rates).max()
    steps = int(np.ceil(np.log(1e-8) / np.log(slowest)))
    kernel, rng, energies = langevin(step, 0.0), seed_stream(0, "unused"), []
    state = kernel.init(target, rng, start)
    for _ in range(steps):
        energies.append(target.evaluate(state.position, True).energy)
        state, _info = kernel.step(target, rng, state)
    u = torch.stack([e for e in energies if e is not None])
    assert (u.diff(dim=0) <= 1e-12 * u[0].abs()).all()
    z = flat(joint, state.position, posterior).numpy()
    np.testing.assert_allclose(z, np.broadcast_to(posterior.mean, z.shape), atol=1e-5)


def test_frozen_preconditioner_on_a_circuit() -> None:
    """Oracle: given its own G a chain has covariance [Λ − (γ/2)ΛGΛ]⁻¹, in the mean over 4000 chains; 5 s.e."""
    joint = random_circuit(4, 4)
    held = held_units(joint, 4, "bottoms")
    values = np.random.default_rng(4).normal(size=len(held))
    posterior = condition(joint, held, values)
    n, step, size = 4000, 0.2, len(posterior.mean)
    target = joint.target(clamp_of(joint, held, values, n), n)
    stream = seed_stream(11, "frozen circuit")
    start = target.start({k: z + stream.normal(z) for k, z in start_at(joint, target.free, n).items()})
    state = run_chain(langevin(step, 1.0, frozen(20)), target, stream, start, 500)
    g = flat(joint, state.scaling.drift, posterior)
    precision = torch.from_numpy(posterior.precision)
    bias = step / 2 * precision @ torch.diag_embed(g) @ precision
    stable = torch.linalg.eigvalsh(precision - bias).min()
    assert stable > 0
    offset = flat(joint, state.position, posterior) - torch.from_numpy(posterior.mean)
    surplus = (offset[:, :, None] * offset[:, None, :] - torch.linalg.inv(precision - bias)).reshape(n, -1)
    assert (surplus.mean(0).abs() < 5 * surplus.std(0) / n**0.5).all()
    assert (offset.mean(0).abs() < 5 * offset.std(0) / n**0.5).all()
    assert surplus.shape[1] == size * size


@pytest.mark.parametrize("seed", [1, 3])
def test_ancestral_draws(seed: int) -> None:
    """Oracle: mean and covariance of the joint, every node drawn or one of them given; to rounding."""
    joint = random_circuit(seed, 5)
    rows = len(joint.mean) + 2
    target = joint.target(Clamp({}), rows)
    z = ancestral(target.bound, Orthogonal(rows), rows, {})
    draws = torch.cat([z[n] for n in joint.parts], 1).numpy()
    np.testing.assert_allclose(draws.mean(0), joint.mean, atol=1e-10)
    np.testing.assert_allclose(np.cov(draws.T, bias=True), joint.covariance, atol=1e-10)
    top = joint.parts["n0"]
    known = {"n0": torch.ones(rows, top.stop - top.start, dtype=F64)}
    z = ancestral(target.bound, Orthogonal(rows), rows, known)
    held = np.zeros(len(joint.mean), dtype=bool)
    held[top] = True
    below = condition(joint, held, np.ones(len(held)))  # n0 is a root: given it, the rest is its conditional
    draws = flat(joint, z, below).numpy()
    np.testing.assert_allclose(draws.mean(0), below.mean, atol=1e-10)
    np.testing.assert_allclose(np.cov(draws.T, bias=True), np.linalg.inv(below.precision), atol=1e-9)
