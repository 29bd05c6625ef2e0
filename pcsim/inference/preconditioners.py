"""Diagonal preconditioners G = 1/m̂ per chain and unit, made of the gradients that a chain meets."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from pcsim.inference import limits
from pcsim.inference.types import Tree


class Scaling(NamedTuple):
    """What a preconditioner remembers, and the factors that it last gave. Leaves are `[row, *node shape]`."""

    seen: int
    """Gradients seen."""
    mean_square: Tree
    """A running or exponential mean of g⊙g."""
    drift: Tree
    """G, the factor on the drift γ g; empty before the first step."""
    noise: Tree
    """The factor on the noise sqrt(2γT) ξ: sqrt(G) in a valid sampler; empty before the first step."""


class Preconditioner(NamedTuple):
    """A rule that turns gradients into factors on drift and noise. Pure: `update` returns a new `Scaling`."""

    update: Callable[[Scaling, Tree], Scaling] | None
    """Takes in the gradient at the point from which the step starts, before the step; None = no scaling."""
    warm_up: int = 0
    """The first steps, in which the factors still change."""


def start_scaling(grad: Tree) -> Scaling:
    """The `Scaling` of a chain that has seen no gradient."""
    return Scaling(0, {name: torch.zeros_like(g) for name, g in grad.items()}, {}, {})


def none() -> Preconditioner:
    """No preconditioning, G = 1. What the LPC paper writes as "β = 0" (Zahid, Guo and Fountas, 2024, A.1)."""
    return Preconditioner(None)


WINDOW_CEILING = 1.0
"""The largest G inside the window of `frozen`."""


def frozen(window: int = 20, epsilon: float = 1e-8) -> Preconditioner:
    """G = 1/m̂, m̂ = sqrt(mean of g⊙g over the first `window` gradients) + epsilon, constant afterwards.

    Constant means valid: from there on the chain is an unadjusted Langevin chain with a fixed diagonal G. The
    mean over the window, not a short exponential average, because the latter catches single small gradients
    and lets chains diverge. Inside the window the mean is over the gradients so far and G at most 1, which
    is no preconditioning: a mean of one or two gradients is often near 0, most of all where chains start at
    the MAP, and its kick sqrt(2γ/|g|) throws a unit so far that the window then freezes a far too large m̂.
    """
    limits.count("preconditioner.window", window, 1)
    limits.positive("preconditioner.epsilon", epsilon)

    def update(scaling: Scaling, grad: Tree) -> Scaling:
        if scaling.seen == window:
            return scaling
        seen = scaling.seen + 1
        mean_square = {n: torch.lerp(scaling.mean_square[n], g * g, 1.0 / seen) for n, g in grad.items()}
        drift = {n: m.sqrt().add_(epsilon).reciprocal_() for n, m in mean_square.items()}
        if seen < window:
            drift = {n: d.clamp_(max=WINDOW_CEILING) for n, d in drift.items()}
        return Scaling(seen, mean_square, drift, {n: d.sqrt() for n, d in drift.items()})

    return Preconditioner(update, warm_up=window)


def corrected(decay: float = 0.25, epsilon: float = 1e-2) -> Preconditioner:
    """G = 1/m̂ anew at every step, m ← βm + (1−β) g⊙g, m̂ = sqrt(m/(1−βᵗ)) + epsilon, β = decay.

    Algorithm 1 of Zahid, Guo and Fountas (2024) with its Eqs 18-19 in place of the printed noise. It leaves
    out Γ = ∂G/∂z and so overheats: the variance is doubled as β → 0 and right only where the memory
    1/(1−β) is long against the relaxation of the chain. The paper gives no epsilon; 1e-2 is our choice. It
    bounds the kick of a vanishing gradient by sqrt(2γT/epsilon), 4.5 at γ = .1, where 1e-8 allows 4,500.
    """
    return _exponential(decay, epsilon, Tensor.reciprocal)


def printed(decay: float = 0.25, epsilon: float = 1e-2) -> Preconditioner:
    """As `corrected`, but with noise variance 2γT m̂ in place of 2γT/m̂, as Algorithm 1 prints it.

    Not a sampler: it is here to show what that line does. The state z^(t−1) that the line omits is kept.
    """
    return _exponential(decay, epsilon, Tensor.clone)


def _exponential(decay: float, epsilon: float, variance: Callable[[Tensor], Tensor]) -> Preconditioner:
    """An exponential mean with bias correction; noise factor = sqrt(variance(m̂))."""
    limits.below_one("preconditioner.decay", decay)
    limits.positive("preconditioner.epsilon", epsilon)

    def update(scaling: Scaling, grad: Tree) -> Scaling:
        seen = scaling.seen + 1
        correction = 1.0 / (1.0 - decay**seen)
        mean_square, drift, noise = {}, {}, {}
        for name, g in grad.items():
            m = torch.lerp(g * g, scaling.mean_square[name], decay)
            root = (m * correction).sqrt_().add_(epsilon)
            mean_square[name] = m
            drift[name] = root.reciprocal()
            noise[name] = variance(root).sqrt_()
        return Scaling(seen, mean_square, drift, noise)

    return Preconditioner(update)


PRECONDITIONERS: dict[str, Callable[..., Preconditioner]] = {
    "none": none,
    "frozen": frozen,
    "corrected": corrected,
    "printed": printed,
}
