"""Unadjusted Langevin dynamics; vanilla predictive coding at temperature 0."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from pcsim.errors import StudyError
from pcsim.inference import limits
from pcsim.inference.preconditioners import Preconditioner, Scaling, none, start_scaling
from pcsim.inference.types import Info, Kernel, Point, Rng, Target, Tree

Factor = float | Tensor | None
Move = Callable[[Rng, Tensor, Tensor, Factor], Tensor]


class LangevinState(NamedTuple):
    """What the next step needs."""

    position: Tree
    point: Point
    scaling: Scaling | None
    """What the preconditioner remembers, with the factors of the step that led here; None without one."""


def langevin(
    step_size: float, temperature: float = 1.0, preconditioner: Preconditioner | None = None
) -> Kernel:
    """z ← z − γ M G g + sqrt(2γ T M G) ξ, ξ ~ N(0, I): unadjusted Langevin, vanilla PC at T = 0.

    g = ∂U/∂z at the old position, M the target's mobility, G the preconditioner (default: 1). Samples
    exp(−U/T) up to O(step_size), exactly N(m, T[Λ − (γ/2) ΛMGΛ]⁻¹) on a Gaussian of precision Λ and constant
    G. One gradient per step, at the new position. Stable while γ λ_max(MGΛ) < 2.

    Raises `StudyError` for a step size that is not positive, a negative temperature, and for temperature 0
    with a preconditioner.
    Roberts and Tweedie (1996), Bernoulli 2; Zahid, Guo and Fountas (2024) for its use in predictive coding.
    """
    limits.positive("kernel.step_size", step_size)
    limits.not_negative("kernel.temperature", temperature)
    rule = none() if preconditioner is None else preconditioner
    if rule.update is not None:
        if temperature == 0:
            raise StudyError(
                "kernel.temperature: 0 (vanilla predictive coding) with a preconditioner is neither vanilla "
                "PC nor a sampler; write preconditioner: none, or kernel: adam for a scaled descent"
            )
        return Kernel(*_preconditioned(step_size, temperature, rule.update), rule.warm_up, temperature)
    move = _descent(step_size) if temperature == 0 else _diffusion(step_size, temperature)
    info = Info(step_size)

    def init(target: Target, rng: Rng, position: Tree) -> LangevinState:
        return LangevinState(position, target.evaluate(position, False), None)

    def step(target: Target, rng: Rng, state: LangevinState) -> tuple[LangevinState, Info]:
        grad, mobility = state.point.grad, target.mobility
        position = {n: move(rng, z, grad[n], mobility.get(n)) for n, z in state.position.items()}
        return LangevinState(position, target.evaluate(position, False), None), info

    return Kernel(init, step, temperature=temperature)


def _descent(step_size: float) -> Move:
    def move(rng: Rng, z: Tensor, g: Tensor, mobility: Factor) -> Tensor:
        return torch.add(z, g if mobility is None else g * mobility, alpha=-step_size)

    return move


def _diffusion(step_size: float, temperature: float) -> Move:
    noise_scale = math.sqrt(2 * step_size * temperature)

    def move(rng: Rng, z: Tensor, g: Tensor, mobility: Factor) -> Tensor:
        noise = rng.normal(z)
        if mobility is None:
            return torch.add(z, g, alpha=-step_size).add_(noise, alpha=noise_scale)
        return torch.add(z, g * mobility, alpha=-step_size).add_(noise * mobility**0.5, alpha=noise_scale)

    return move


def _preconditioned(
    step_size: float, temperature: float, update: Callable[[Scaling, Tree], Scaling]
) -> tuple[
    Callable[[Target, Rng, Tree], LangevinState],
    Callable[[Target, Rng, LangevinState], tuple[LangevinState, Info]],
]:
    """`init` and `step` with factors on drift and noise that `update` makes of the gradients."""
    noise_scale = math.sqrt(2 * step_size * temperature)
    info = Info(step_size)

    def init(target: Target, rng: Rng, position: Tree) -> LangevinState:
        point = target.evaluate(position, False)
        return LangevinState(position, point, start_scaling(point.grad))

    def step(target: Target, rng: Rng, state: LangevinState) -> tuple[LangevinState, Info]:
        grad, mobility = state.point.grad, target.mobility
        assert state.scaling is not None  # set by init; the field is None in the kernel without scaling
        scaling = update(state.scaling, grad)
        position = {}
        for name, z in state.position.items():
            drift, noise, factor = scaling.drift[name], scaling.noise[name], mobility.get(name)
            if factor is not None:
                drift, noise = drift * factor, noise * factor**0.5
            moved = torch.addcmul(z, grad[name], drift, value=-step_size)
            position[name] = moved.addcmul_(rng.normal(z), noise, value=noise_scale)
        return LangevinState(position, target.evaluate(position, False), scaling), info

    return init, step
