"""Preconditioners: the virial identity that tells them apart (law 3), and what each does in closed form."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pcsim.errors import Divergence
from pcsim.inference.chain import run_chain
from pcsim.inference.kernels import langevin
from pcsim.inference.preconditioners import corrected, frozen, printed
from pcsim.inference.rng import Draw, Replay
from pcsim.inference.types import Kernel
from tests.exact.targets import Gaussian, Separable, exact_draws, two_wells
from tests.exact.test_kernels import F64, ROWS, exact_with, final, gaussian, stream


@pytest.mark.parametrize("offset", [1.0, 1e-6], ids=["far", "near the MAP"])
def test_frozen_is_a_valid_sampler_given_its_factors(offset: float) -> None:
    """Oracle: given G of its window, a chain has covariance [Λ − (γ/2)ΛGΛ]⁻¹; in the mean over chains.

    Near the MAP the first gradients vanish: without the ceiling on G chains are thrown out and stay out.
    """
    target, step = gaussian(3), 0.2
    start = target.mean + offset * torch.ones(ROWS, 3, dtype=F64)
    kernel = langevin(step, 1.0, frozen(window=20))
    state = run_chain(kernel, target, stream("frozen"), {"z": start}, 400)
    assert kernel.warm_up == 20
    g = state.scaling.drift["z"]
    exact = exact_with(target, g, step)
    offset = state.position["z"] - target.mean
    surplus = offset[:, :, None] * offset[:, None, :] - exact
    assert (surplus.mean(0).abs() < 4 * surplus.std(0) / ROWS**0.5).all()
    assert (offset.mean(0).abs() < 4 * offset.std(0) / ROWS**0.5).all()


def test_frozen_factors_are_the_window_mean_and_then_constant() -> None:
    """Oracle: 1/(sqrt(mean of g² over the first 5 gradients) + ε) from a separate record of the gradients."""
    target, gradients, factors = gaussian(2), [], []
    kernel = langevin(0.1, 1.0, frozen(window=5, epsilon=0.01))
    state = kernel.init(target, stream("window"), {"z": torch.ones(3, 2, dtype=F64)})
    rng = stream("window", 1)
    for _ in range(12):
        gradients.append(state.point.grad["z"])
        state, _info = kernel.step(target, rng, state)
        factors.append(state.scaling.drift["z"])
    exact = 1 / (torch.stack(gradients[:5]).square().mean(0).sqrt() + 0.01)
    torch.testing.assert_close(factors[4], exact, rtol=1e-12, atol=0)
    assert all(torch.equal(factor, factors[4]) for factor in factors[5:])
    assert not torch.equal(factors[3], factors[4])


def virial(kernel: Kernel, target: Separable, step: float, skip: int, steps: int) -> tuple[Tensor, ...]:
    """Per chain, means over time of g and of z g − (γ/2) G g² with the G that the step used."""
    sums = [torch.zeros(2000, 2, dtype=F64) for _ in range(2)]
    rng = stream("virial")
    state = kernel.init(target, rng, {"z": exact_draws(target, 4000).reshape(2000, 2)})
    for t in range(steps):  # not run_chain: its guard stops `printed`
        state, _info = kernel.step(target, rng, state)
        if t >= skip:
            z, g = state.position["z"], state.point.grad["z"]
            factor = 1.0 if state.scaling is None else state.scaling.drift["z"]
            sums[0].add_(g / (steps - skip))
            sums[1].add_((z * g - step / 2 * factor * g * g) / (steps - skip))
    return sums[0], sums[1]


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("step", [0.1, 1.0])
def test_virial_is_exact_at_any_stable_step(step: float, temperature: float) -> None:
    """Oracle: ⟨g⟩ = 0 and ⟨z g⟩ = T + (γ/2)⟨g²⟩ on two wells, as E z' = E z and E z'² = E z²."""
    g, balance = virial(langevin(step, temperature), two_wells(), step, 200, 600)
    for mean, expected in ((g, 0.0), (balance, temperature)):
        assert ((mean.mean(0) - expected).abs() < 4 * mean.std(0) / len(mean) ** 0.5).all()


def test_virial_tells_the_preconditioners_apart() -> None:
    """Oracle: the identity holds with `frozen` (4 s.e.); `corrected` misses it by 20 s.e. and more.

    `printed` on a stiff energy, curvature λ = 100: E z² grows by 2γ(λ − 1)|z| a step, noise 2γ|g| against
    drift γ sign g, so half the chains are beyond 10 T (the mean has no useful standard error there).
    """
    step, target, balance = 0.01, two_wells(scale=10.0), {}
    for name, rule in {"frozen": frozen(), "corrected": corrected(), "printed": printed()}.items():
        balance[name] = virial(langevin(step, 1.0, rule), target, step, 200, 400)[1]
    standard_errors = {
        name: ((b.mean(0) - 1) / (b.std(0) / len(b) ** 0.5)).abs() for name, b in balance.items()
    }
    assert (standard_errors["frozen"] < 4).all()
    assert (standard_errors["corrected"] > 20).all()
    assert (balance["printed"].abs().median(0).values > 10).all()


@pytest.mark.parametrize("precision", [0.25, 1.0, 4.0])
def test_corrected_doubles_the_variance_without_memory(precision: float) -> None:
    """Oracle: as β, γ → 0 the density is ∝ π/G = π (|g| + ε): λ E z² = (2a + ε)/(a + ε), a = sqrt(2λ/π).

    Allowance: 4 s.e. of the variance, and for the step size and the memory of β = .25 ten per cent
    (an independent simulation at this γ finds 2.08, 2.00, 2.03).
    """
    target = Gaussian(torch.tensor([[precision]], dtype=F64), torch.zeros(1, dtype=F64))
    start = torch.from_numpy(np.random.default_rng(5).normal(size=(4000, 1))) / precision**0.5
    steps = 1500 if precision < 1 else 700
    z = final(langevin(0.01, 1.0, corrected(decay=0.25, epsilon=0.01)), target, steps, start, "corrected")
    a = math.sqrt(2 * precision / math.pi)
    expected = (2 * a + 0.01) / (a + 0.01)
    ratio = float(z.square().mean() * precision)
    assert abs(ratio - expected) < 0.2 + 4 * (4 / 4000) ** 0.5  # Var z² = 8/λ² − 4/λ²


def test_printed_is_far_off_soon() -> None:
    """Oracle: λ Var z = 1 for a sampler; `printed` has noise m̂² times too large where λ is above 1.

    Fifteen steps take it a hundred times past that, so that the guard stops it: ½λz² > 100 (D + |U₀|).
    """
    target = Gaussian(torch.tensor([[100.0]], dtype=F64), torch.zeros(1, dtype=F64))
    start = torch.from_numpy(np.random.default_rng(5).normal(size=(500, 1))) / 10
    with pytest.raises(Divergence, match="node 'z'"):
        final(langevin(0.01, 1.0, printed(decay=0.25)), target, 15, start, "printed")


def test_printed_noise_with_a_fixed_factor() -> None:
    """Oracle: the first step by hand, z − γ g/m̂ + sqrt(2γ m̂) ξ, where m̂ = |g| exactly."""
    target = Gaussian(torch.tensor([[4.0]], dtype=F64), torch.zeros(1, dtype=F64))
    tape = [Draw("normal", torch.tensor([[1.5]], dtype=F64))]
    kernel = langevin(0.01, 1.0, printed(decay=0.25, epsilon=1e-300))
    z = run_chain(kernel, target, Replay(tape), {"z": torch.tensor([[0.5]], dtype=F64)}, 1).position["z"]
    assert float(z) == pytest.approx(0.5 - 0.01 + math.sqrt(2 * 0.01 * 2.0) * 1.5, rel=1e-12)
