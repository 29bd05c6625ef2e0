"""Adam steps on the state, for maximum a posteriori estimates."""

from typing import NamedTuple

import torch

from pcsim.inference import limits
from pcsim.inference.types import Info, Kernel, Point, Rng, Target, Tree


class AdamState(NamedTuple):
    """What the next step needs."""

    position: Tree
    point: Point
    steps: int
    mean: Tree
    mean_square: Tree


def adam(
    step_size: float, mean_decay: float = 0.9, square_decay: float = 0.999, epsilon: float = 1e-8
) -> Kernel:
    """z ← z − γ M m̂ / (sqrt(v̂) + ε): Adam on the energy; a descent to a local MAP, not a sampler.

    m̂ and v̂ are the bias-corrected exponential means of g and g⊙g. It settles within about one step size of
    the minimum. Kingma and Ba (2015), Algorithm 1, their α, β₁, β₂ and ε.
    """
    limits.positive("kernel.step_size", step_size)
    limits.below_one("kernel.mean_decay", mean_decay)
    limits.below_one("kernel.square_decay", square_decay)
    limits.positive("kernel.epsilon", epsilon)
    info = Info(step_size)

    def init(target: Target, rng: Rng, position: Tree) -> AdamState:
        zeros = {name: torch.zeros_like(z) for name, z in position.items()}
        return AdamState(position, target.evaluate(position, False), 0, zeros, zeros)

    def step(target: Target, rng: Rng, state: AdamState) -> tuple[AdamState, Info]:
        grad, mobility, count = state.point.grad, target.mobility, state.steps + 1
        rate = step_size / (1 - mean_decay**count)
        correction = 1 / (1 - square_decay**count)
        position, mean, mean_square = {}, {}, {}
        for name, z in state.position.items():
            g, factor = grad[name], mobility.get(name)
            mean[name] = m = torch.lerp(g, state.mean[name], mean_decay)
            mean_square[name] = v = torch.lerp(g * g, state.mean_square[name], square_decay)
            pull = m if factor is None else m * factor
            position[name] = torch.addcdiv(z, pull, (v * correction).sqrt_().add_(epsilon), value=-rate)
        point = target.evaluate(position, False)
        return AdamState(position, point, count, mean, mean_square), info

    return Kernel(init, step, temperature=0.0)
