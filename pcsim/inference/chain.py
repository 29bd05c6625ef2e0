"""Running a chain, and stopping it where it diverges."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pcsim.errors import Divergence
from pcsim.inference.types import Info, Kernel, Point, Rng, Target, Tree

GUARD_EVERY = 25
"""Steps between two checks; asking for the energy at every step costs small circuits 15 %."""
GUARD_FACTOR = 100.0

Visit = Callable[[int, Any, Info], None]


class WithEnergy:
    """The same target, giving the energy with every gradient: for the steps at which a reader needs it."""

    def __init__(self, target: Target) -> None:
        self.target = target

    @property
    def mobility(self) -> Mapping[str, float | Tensor]:
        """The mobility of the target within."""
        return self.target.mobility

    def evaluate(self, z: Tree, energy: bool) -> Point:
        """Gradient and energy at z, whether or not the energy was asked for."""
        return self.target.evaluate(z, True)


class Guard(NamedTuple):
    """The energy per row above which a chain counts as diverged."""

    limit: Tensor
    """`[row]`"""


def start_guard(
    target: Target, position: Tree, point: Point | None = None, temperature: float = 1.0
) -> Guard:
    """The `Guard` of chains that start at `position`: U₀ + 100 (D max(T, 1) + |U₀|) per row.

    D entries at temperature T lift the energy D T/2 above its minimum, and a stable step size up to
    1/(1 − γλ/2) times that, without bound as γλ → 2: the mean reaches the limit where γλ = 1.99 in every
    direction. Outside the stable region the energy grows as (1 − γλ)^(2t), so a generous bound costs a few
    steps and hardly stops a chain that would have come back. |U₀| covers starts far out and observations
    with many entries. `point`, the evaluation at `position`, saves one where it has the energy. Raises
    `Divergence` at step 0 where the start is not finite.
    """
    if point is None or point.energy is None:
        point = target.evaluate(position, True)
    energy = _energy_of(point, target, position)
    entries = sum(leaf[0].numel() for leaf in position.values())
    node = _first_not_finite(position) or _first_not_finite(point.grad)
    if node is not None or not bool(energy.isfinite().all()):
        worst = float(energy[_worst_row(energy)])
        advice = "the start itself is not finite: check data, weights and the start of the chain"
        raise Divergence(0, node or _steepest(point.grad, _worst_row(energy)), worst, advice)
    return Guard(energy + GUARD_FACTOR * (entries * max(temperature, 1.0) + energy.abs()))


def guard_due(step: int, steps: int) -> bool:
    """Whether to check after step 1 … steps: every 25 steps and at the last one."""
    return step % GUARD_EVERY == 0 or step == steps


def check(guard: Guard, target: Target, state: Any, step: int, info: Info) -> None:
    """Raises `Divergence` where a leaf is not finite, or a row's energy is not finite or above the limit.

    Uses the energy in `state.point` where it is there (step with `WithEnergy(target)`), else asks for it.
    Names the node that is not finite, or the one with the largest gradient in the worst row.
    """
    node = _first_not_finite(state.position)
    energy = _energy_of(state.point, target, state.position)
    if node is None and bool((energy <= guard.limit).all()):
        return
    row = _worst_row(energy - guard.limit)
    raise Divergence(step, node or _steepest(state.point.grad, row), float(energy[row]), _advice(info))


def run_chain(
    kernel: Kernel, target: Target, rng: Rng, start: Tree, steps: int, visit: Visit | None = None
) -> Any:
    """The kernel's state after `steps` steps from `start`; calls `visit(step, state, info)` after each.

    Nothing is kept between steps but the state, so memory does not grow with them. The energy is asked for
    at checked steps only. Raises `Divergence`.
    """
    with torch.no_grad():
        state = kernel.init(WithEnergy(target), rng, start)
    return advance(kernel, target, rng, state, steps, visit)


def advance(
    kernel: Kernel, target: Target, rng: Rng, state: Any, steps: int, visit: Visit | None = None
) -> Any:
    """As `run_chain`, from a kernel's state: goes on where an earlier call ended."""
    asking = WithEnergy(target)
    with torch.no_grad():
        guard = start_guard(target, state.position, state.point, kernel.temperature)
        for step in range(1, steps + 1):
            due = guard_due(step, steps)
            state, info = kernel.step(asking if due else target, rng, state)
            if due:
                check(guard, target, state, step, info)
            if visit is not None:
                visit(step, state, info)
    return state


def _energy_of(point: Point, target: Target, position: Tree) -> Tensor:
    if point.energy is not None:
        return point.energy
    energy = target.evaluate(position, True).energy
    assert energy is not None  # the protocol: given when asked for
    return energy


def _first_not_finite(tree: Tree) -> str | None:
    return next((name for name, leaf in tree.items() if not bool(leaf.isfinite().all())), None)


def _worst_row(excess: Tensor) -> int:
    return int(excess.nan_to_num(nan=torch.inf, posinf=torch.inf).argmax())


def _steepest(grad: Tree, row: int) -> str:
    """The leaf whose gradient is the largest in one row; a gradient that is not a number counts as that."""
    sizes = {name: float(g[row].abs().nan_to_num(nan=torch.inf).max()) for name, g in grad.items()}
    return max(sizes, key=lambda name: sizes[name])


def _advice(info: Info) -> str:
    largest = float(torch.as_tensor(info.step_size).max())
    return (
        f"the step size {largest:g} is too large for this energy: try kernel.step_size: {largest / 4:.2g}, "
        "preconditioner: frozen, or kernel: mala, which adapts its step size"
    )
