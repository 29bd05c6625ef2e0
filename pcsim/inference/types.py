"""What a kernel may know of a problem, and what it gives back. No graph, data or study in here."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from torch import Tensor

Tree = dict[str, Tensor]
"""A state: one leaf per free node, `[row, *node shape]`; row = image · n_chain + chain."""


class Point(NamedTuple):
    """One evaluation of the energy U at one state: one forward and one backward pass."""

    grad: Tree
    """∂U/∂z per leaf, `[row, *node shape]`; zero where an entry is clamped."""
    energy: Tensor | None
    """U per row, `[row]`; None unless it was asked for."""
    aux: Any
    """Whatever the target's owner wants carried along (errors, parameter gradient); kernels never look."""


class Target(Protocol):
    """All that a kernel may know of the distribution that it samples, π(z) ∝ exp(−U(z)/T)."""

    @property
    def mobility(self) -> Mapping[str, float | Tensor]:
        """A factor on the step size of each leaf (absent = 1): 1/τ of its node, 0 at clamped entries."""
        ...

    def evaluate(self, z: Tree, energy: bool) -> Point:
        """Gradient (and energy, when asked) at z."""
        ...


class Rng(Protocol):
    """A source of draws, always passed explicitly: `Stream` draws, `Replay` hands in recorded draws."""

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal draws of `like`'s shape, dtype and device."""
        ...

    def uniform(self, like: Tensor) -> Tensor:
        """Uniform draws on [0, 1) of `like`'s shape, dtype and device."""
        ...


class Info(NamedTuple):
    """What readers of a chain need and the next step does not."""

    step_size: float | Tensor
    acceptance: Tensor | None = None
    """Metropolis acceptance probability per row, `[row]`; None for unadjusted kernels."""


class Kernel(NamedTuple):
    """One Markov transition: hyperparameters at construction, the problem (target) at the call.

    `step` returns a new state and leaves its argument untouched. Every state has the fields `position`
    (Tree) and `point` (the `Point` at that position).
    """

    init: Callable[[Target, Rng, Tree], Any]
    step: Callable[[Target, Rng, Any], tuple[Any, Info]]
    warm_up: int = 0
    """The first steps, in which something still adapts: their draws must never be averaged."""
    temperature: float = 1.0
    """Of the law that it aims at, 0 for a descent; the guard expects energies of that size."""
