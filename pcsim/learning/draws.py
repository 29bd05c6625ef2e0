"""Which draws of a chain count, and the averages over them, in memory that does not grow with the chain."""

from typing import Any, Literal, NamedTuple

from torch import Tensor

from pcsim.engines.torch.target import CircuitTarget
from pcsim.errors import StudyError
from pcsim.inference.chain import WithEnergy, check, guard_due, start_guard
from pcsim.inference.types import Kernel, Point, Rng, Tree

Which = Literal["all", "last", "final", "start"]


class Draws(NamedTuple):
    """Which of z^(0) … z^(steps) are averaged: `all` is z^(1) …, `start` is z^(0) alone."""

    which: Which = "all"
    last: int = 1
    include_start: bool = False

    def counts(self, step: int, steps: int, warm_up: int) -> bool:
        """Does z^(step) count? Draws of a warm-up (an adapting preconditioner) never do."""
        if step == 0:
            return self.include_start or self.which == "start"
        if self.which == "start" or step <= warm_up:
            return False
        window = {"all": steps, "last": self.last, "final": 1}[self.which]
        return step > steps - window

    def check(self, steps: int, warm_up: int) -> None:
        """Refuse a choice that leaves nothing to average, or that would average the warm-up."""
        if self.which != "start" and steps <= warm_up:
            raise StudyError(
                f"{steps} steps leave no draw after the first {warm_up}, in which the kernel still adapts; "
                f"take more than {warm_up} steps, a shorter window, or preconditioner: none"
            )
        if self.which == "last" and not 1 <= self.last <= steps - warm_up:
            raise StudyError(f"last: {self.last} needs between 1 and {steps - warm_up} draws after warm-up")
        if self.include_start and warm_up:
            raise StudyError(
                "include_start would average the start before a warm-up; use preconditioner: none"
            )


class Expectation(NamedTuple):
    """Averages over the counted draws of every chain of a batch, and where the chain stands."""

    gradient: dict[str, Tensor]
    """Mean over draws of ∂U/∂θ summed over rows."""
    first: Tree
    """Mean over draws of z, per row."""
    second: Tree
    """Mean over draws of z², per row."""
    start: Point
    """The point at z^(0)."""
    state: Any


def expectation(
    kernel: Kernel, target: CircuitTarget, rng: Rng, start: Tree, steps: int, draws: Draws, *, moments: bool
) -> Expectation:
    """Run a chain and average over its counted draws: E_p[∂U/∂θ] by Monte Carlo, gathered where it moves.

    Fisher's identity: −∂ log p(x)/∂θ = E_{p(z|x)}[∂U/∂θ]. The parameter gradient comes from the evaluation
    that the next drift needs anyway, and only at draws that count. Raises `StudyError` where no draw counts.
    """
    draws.check(steps, kernel.warm_up)
    plain, learning = target.learning(False), target.learning(True)
    gradient: dict[str, Tensor] = {}
    first: Tree = {}
    second: Tree = {}
    n = 0
    counted = draws.counts(0, steps, kernel.warm_up)
    state = kernel.init(WithEnergy(learning if counted else plain), rng, start)
    begin = state.point
    guard = start_guard(plain, state.position, state.point, kernel.temperature)
    for step in range(steps + 1):
        if step:
            counted = draws.counts(step, steps, kernel.warm_up)
            here, due = learning if counted else plain, guard_due(step, steps)
            state, info = kernel.step(WithEnergy(here) if due else here, rng, state)
            if due:
                check(guard, here, state, step, info)
        if counted:
            n += 1
            if state.point.aux.gradient is None:  # a kernel that stayed keeps a point made without learning
                asked = state.point.energy is not None
                state = state._replace(point=learning.evaluate(state.position, asked))
            _add(gradient, state.point.aux.gradient)
            if moments:
                _add(first, state.position)
                _add(second, {name: z * z for name, z in state.position.items()})
    for sums in (gradient, first, second):
        for value in sums.values():
            value /= n
    return Expectation(gradient, first, second, begin, state)


def _add(sums: dict[str, Tensor], values: dict[str, Tensor]) -> None:
    for name, value in values.items():
        if name in sums:
            sums[name] += value
        else:
            sums[name] = value.clone()
