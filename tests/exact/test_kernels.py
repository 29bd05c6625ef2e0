"""Kernels against closed forms and quadrature. Bounds: 4 standard errors, unless a test says otherwise."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pcsim.inference.chain import run_chain
from pcsim.inference.kernels import adam, langevin, mala, momentum
from pcsim.inference.preconditioners import Preconditioner, Scaling
from pcsim.inference.rng import Draw, Replay, Stream, seed_stream
from pcsim.inference.types import Info, Kernel
from tests.exact.targets import (
    Gaussian,
    Separable,
    expectation,
    quartic,
    random_precision,
    two_wells,
)

F64 = torch.float64
ROWS = 20_000


def stream(*path: str | int) -> Stream:
    return seed_stream(7, *path)


def fixed(g: Tensor) -> Preconditioner:
    """A caller's own preconditioner: G = g, always."""
    return Preconditioner(lambda s, grad: Scaling(s.seen + 1, s.mean_square, {"z": g}, {"z": g.sqrt()}))


def gaussian(dimensions: int, seed: int = 3) -> Gaussian:
    mean = torch.from_numpy(np.random.default_rng(seed).normal(size=dimensions))
    return Gaussian(random_precision(dimensions, 0.6, 4.0, seed), mean)


def assert_gaussian(draws: Tensor, mean: Tensor, covariance: Tensor) -> None:
    """Mean and covariance of independent rows within 4 s.e.; of C_ij it is sqrt((C_ii C_jj + C_ij²)/n)."""
    n, variance = len(draws), covariance.diagonal()
    assert ((draws.mean(0) - mean).abs() < 4 * (variance / n).sqrt()).all()
    bound = 4 * ((variance[:, None] * variance[None] + covariance**2) / n).sqrt()
    assert ((draws.T.cov() - covariance).abs() < bound).all()


def final(kernel: Kernel, target: Gaussian | Separable, steps: int, start: Tensor, name: str) -> Tensor:
    return run_chain(kernel, target, stream(name), {"z": start}, steps).position["z"]


# --- law 2: Gaussian targets, with the bias of the step size


@pytest.mark.parametrize("temperature", [1.0, 0.3])
@pytest.mark.parametrize("dimensions", [1, 2, 4])
def test_langevin_covariance(dimensions: int, temperature: float) -> None:
    """Oracle: N(m, T[Λ(I − γΛ/2)]⁻¹); γλ_max = 1.2, (1 − γλ_min)^t < 1e-7."""
    target, step = gaussian(dimensions), 0.3
    eye, precision = torch.eye(dimensions, dtype=F64), target.precision
    draws = final(langevin(step, temperature), target, 90, torch.zeros(ROWS, dimensions, dtype=F64), "ula")
    exact = temperature * torch.linalg.inv(precision @ (eye - step / 2 * precision))
    assert_gaussian(draws, target.mean, exact)


def exact_with(target: Gaussian, g: Tensor, step: float, temperature: float = 1.0) -> Tensor:
    precision = target.precision
    bias = step / 2 * precision @ torch.diag_embed(g) @ precision
    return temperature * torch.linalg.inv(precision - bias)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_langevin_covariance_with_fixed_preconditioner(temperature: float) -> None:
    """Oracle: T[Λ − (γ/2)ΛGΛ]⁻¹, from a caller's own preconditioner and, the same law, from the mobility."""
    target, step = gaussian(3), 0.2
    g, start = torch.tensor([1.5, 0.7, 1.1], dtype=F64), torch.zeros(ROWS, 3, dtype=F64)
    exact = exact_with(target, g, step, temperature)
    draws = final(langevin(step, temperature, fixed(g)), target, 200, start, "fixed")
    assert_gaussian(draws, target.mean, exact)
    moved = Gaussian(target.precision, target.mean, mobility={"z": g})
    assert_gaussian(final(langevin(step, temperature), moved, 200, start, "mobility"), target.mean, exact)


def test_mobility_and_preconditioner_multiply() -> None:
    """Oracle: preconditioner G with mobility M is, draw for draw, the preconditioner MG."""
    target, g = gaussian(3), torch.tensor([1.5, 0.7, 1.1], dtype=F64)
    start = torch.zeros(5, 3, dtype=F64)
    halved = Gaussian(target.precision, target.mean, mobility={"z": 0.5})
    a = final(langevin(0.2, 1.0, fixed(g)), halved, 30, start, "same")
    b = final(langevin(0.2, 1.0, fixed(g * 0.5)), target, 30, start, "same")
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_langevin_has_weak_order_one() -> None:
    """Oracle: bias of the variance T/(λ(1−γλ/2)) − T/λ, without chance.

    z is linear in its draws, z_t = Σ w_s ξ_s, so the squared responses to unit draws sum to the variance.
    """
    target = Gaussian(torch.tensor([[2.0]], dtype=F64), torch.zeros(1, dtype=F64))
    bias = []
    for step, steps in ((0.1, 200), (0.05, 400)):
        impulses = torch.eye(steps, dtype=F64)[:, :, None]  # row s gets a unit draw at step s
        tape = [Draw("normal", impulses[s]) for s in range(steps)]
        zero = {"z": torch.zeros(steps, 1, dtype=F64)}
        response = run_chain(langevin(step), target, Replay(tape), zero, steps).position["z"]
        variance = float(response.square().sum())
        assert variance == pytest.approx(1 / (2 * (1 - step)), rel=1e-10)
        bias.append(variance - 0.5)
    assert bias[0] / bias[1] == pytest.approx(2 * 0.95 / 0.9, rel=1e-8)  # 2 as γ → 0


# --- law 4: vanilla predictive coding, and the other descents


@pytest.mark.parametrize(
    ("target", "curvature"),
    [(gaussian(4), 4.0), (two_wells(), 1.25), (quartic(), 13.0)],
    ids=["gaussian", "wells", "quartic"],
)
def test_vanilla_never_raises_the_energy(target: Gaussian | Separable, curvature: float) -> None:
    """Oracle: the descent lemma, U' ≤ U at γ L < 2, with L = max |u''| over the starts' interval [−2, 2]."""
    step = 2.0 / curvature * 0.99
    start = torch.from_numpy(np.random.default_rng(1).uniform(-2, 2, size=(200, 4)))
    energies = []

    def visit(t: int, state, info: Info) -> None:
        energies.append(target.evaluate(state.position, True).energy)

    state = run_chain(langevin(step, temperature=0.0), target, stream("none"), {"z": start}, 1000, visit)
    rise = torch.stack(energies).diff(dim=0).max()
    assert rise <= 1e-12
    assert state.point.grad["z"].abs().max() < 1e-6  # 0.98^1000 of where it began


@pytest.mark.parametrize(
    ("kernel", "tolerance"),
    [
        (langevin(0.4, 0.0), 1e-10),
        (momentum(0.2, 0.5), 1e-10),
        (momentum(0.1, 0.9), 1e-10),
        (adam(0.01), 0.01),
    ],
    ids=["vanilla", "momentum", "heavy", "adam"],
)
def test_descents_reach_the_map(kernel: Kernel, tolerance: float) -> None:
    """Oracle: the mean of the Gaussian; Adam moves about a step size per step and settles within that."""
    target = gaussian(4)
    z = final(kernel, target, 1000, torch.zeros(3, 4, dtype=F64), "map")
    assert (z - target.mean).abs().max() < tolerance


def test_adam_is_torch_adam() -> None:
    """Oracle: torch.optim.Adam on the same energy, 50 steps, to rounding."""
    target = quartic()
    leaf = torch.linspace(-2, 2, 7, dtype=F64).reshape(7, 1).requires_grad_()
    start = leaf.detach().clone()
    optimiser = torch.optim.Adam([leaf], lr=0.05)
    for _ in range(50):
        optimiser.zero_grad()
        target.energy(leaf).sum().backward()
        optimiser.step()
    torch.testing.assert_close(
        final(adam(0.05), target, 50, start, "adam"), leaf.detach(), rtol=1e-10, atol=1e-10
    )


# --- momentum and MALA


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("temperature", [1.0, 0.25])
def test_momentum_variance(decay: float, temperature: float) -> None:
    """Oracle: T/(λ(1 − γλ/(2(1+μ)))), at γλ = 1.5, by the response to unit draws (exact, no chance)."""
    target, steps, step = Gaussian(torch.tensor([[3.0]], dtype=F64), torch.zeros(1, dtype=F64)), 500, 0.5
    impulses = torch.eye(steps, dtype=F64)[:, :, None]
    tape = [Draw("normal", impulses[s]) for s in range(steps)]
    kernel = momentum(step, decay, temperature)
    response = run_chain(
        kernel, target, Replay(tape), {"z": torch.zeros(steps, 1, dtype=F64)}, steps
    ).position["z"]
    exact = temperature / (3 * (1 - step * 3 / (2 * (1 + decay))))
    assert float(response.square().sum()) == pytest.approx(exact, rel=1e-8)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_mala_leaves_a_gaussian_invariant_at_a_big_step(temperature: float) -> None:
    """Oracle: from exact draws of N(m, TΛ⁻¹), 30 steps later still that law, at γλ_max = 2."""
    target = gaussian(3)
    covariance = temperature * torch.linalg.inv(target.precision)
    noise = torch.from_numpy(np.random.default_rng(2).normal(size=(ROWS, 3)))
    start = target.mean + noise @ torch.linalg.cholesky(covariance).T
    z = final(mala(0.5, temperature), target, 30, start, "mala")
    assert (z != start).all(1).double().mean() > 0.9
    assert_gaussian(z, target.mean, covariance)


@pytest.mark.parametrize(("target", "step"), [(quartic(), 0.6), (two_wells(), 1.5)], ids=["quartic", "wells"])
def test_mala_reaches_what_quadrature_says(target: Separable, step: float) -> None:
    """Oracle: quadrature for E z, E z² and E |z|, from a start far from equilibrium; 4 s.e. of the rows."""
    z = final(mala(step), target, 150, torch.full((ROWS, 1), 1.0, dtype=F64), "quadrature")
    for f, g in ((lambda x: x, float), (lambda x: x**2, lambda x: x**2), (lambda x: x.abs(), abs)):
        values = f(z)
        assert abs(float(values.mean()) - expectation(target, g)) < 4 * float(values.std()) / ROWS**0.5


def test_mala_satisfies_detailed_balance() -> None:
    """Oracle: π(z) q(z'|z) α(z→z') = π(z') q(z|z') α(z'→z), q from torch.distributions, to rounding."""
    target, step, temperature = quartic(), 0.4, 1.7
    kernel = mala(step, temperature)
    z = torch.linspace(-1.5, 1.5, 12, dtype=F64).reshape(6, 2)
    onward = torch.from_numpy(np.random.default_rng(0).normal(size=(6, 2)))
    scale = math.sqrt(2 * step * temperature)

    def proposal(a: Tensor) -> torch.distributions.Normal:
        return torch.distributions.Normal(a - step * target.slope(a), scale)

    def log_flow(a: Tensor, draw: Tensor) -> tuple[Tensor, Tensor]:
        tape = [Draw("normal", draw), Draw("uniform", torch.full((6,), 1e-300, dtype=F64))]  # always accepts
        rng = Replay(tape)
        state, info = kernel.step(target, rng, kernel.init(target, rng, {"z": a}))
        b, acceptance = state.position["z"], info.acceptance
        assert acceptance is not None
        weight = -target.energy(a).sum(1) / temperature + proposal(a).log_prob(b).sum(1)
        return b, weight + acceptance.log()

    b, flow = log_flow(z, onward)
    back = (z - (b - step * target.slope(b))) / scale
    returned, flow_back = log_flow(b, back)
    torch.testing.assert_close(returned, z, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(flow, flow_back, rtol=1e-10, atol=1e-10)


def test_mala_adapts_its_step_and_then_stops() -> None:
    """Oracle: the wanted acceptance, from a step 100 times too small; each row's step constant afterwards."""
    target = gaussian(10)
    kernel = mala(0.005, adapt=200, target_acceptance=0.574)
    assert kernel.warm_up == 200
    acceptances, steps = [], []

    def visit(t: int, state, info: Info) -> None:
        if t > 200:
            acceptances.append(info.acceptance)
            steps.append(info.step_size)

    run_chain(kernel, target, stream("adapt"), {"z": target.mean.repeat(200, 1)}, 500, visit)
    assert all(torch.equal(step, steps[0]) for step in steps[1:])
    # each row's own adaptation ends within a few hundredths: sqrt(Σ gain² Var α) of t^-.6 gains, averaged
    assert float(torch.stack(acceptances).mean()) == pytest.approx(0.574, abs=0.05)
