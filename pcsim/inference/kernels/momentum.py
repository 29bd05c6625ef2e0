"""Heavy-ball descent, and stochastic-gradient Hamiltonian Monte Carlo above temperature 0."""

import math
from typing import NamedTuple

import torch

from pcsim.inference import limits
from pcsim.inference.types import Info, Kernel, Point, Rng, Target, Tree


class MomentumState(NamedTuple):
    """What the next step needs."""

    position: Tree
    point: Point
    displacement: Tree
    """The last move z^(t) − z^(t−1) = −γ M v, `[row, *node shape]`."""


def momentum(step_size: float, momentum: float = 0.9, temperature: float = 0.0) -> Kernel:
    """v ← μ v + g + sqrt(2T(1−μ)/(γM)) ξ;  z ← z − γ M v: heavy ball at T = 0, SGHMC above.

    μ = momentum, M the target's mobility. On a Gaussian of precision λ the variance is
    T / (λ (1 − γλ/(2(1+μ)))), stable while γλ < 2(1+μ); μ = 0 is Langevin. The state holds −γ M v, so that
    entries of mobility 0 stay put without a division. One gradient per step.
    Polyak (1964), USSR Comput. Math. Math. Phys. 4; Chen, Fox and Guestrin (2014), Eq. 15.
    """
    limits.positive("kernel.step_size", step_size)
    limits.below_one("kernel.momentum", momentum)
    limits.not_negative("kernel.temperature", temperature)
    noise_scale = math.sqrt(2 * temperature * (1 - momentum) * step_size)
    info = Info(step_size)

    def init(target: Target, rng: Rng, position: Tree) -> MomentumState:
        still = {name: torch.zeros_like(z) for name, z in position.items()}
        return MomentumState(position, target.evaluate(position, False), still)

    def step(target: Target, rng: Rng, state: MomentumState) -> tuple[MomentumState, Info]:
        grad, mobility = state.point.grad, target.mobility
        position, displacement = {}, {}
        for name, z in state.position.items():
            factor = mobility.get(name)
            pull = grad[name] if factor is None else grad[name] * factor
            move = torch.mul(state.displacement[name], momentum).add_(pull, alpha=-step_size)
            if noise_scale > 0:
                noise = rng.normal(z)
                move.add_(noise if factor is None else noise * factor**0.5, alpha=noise_scale)
            displacement[name] = move
            position[name] = z + move
        return MomentumState(position, target.evaluate(position, False), displacement), info

    return Kernel(init, step, temperature=temperature)
