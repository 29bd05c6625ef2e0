"""The contract of a layer: a differentiable map inside an edge, with its pullback in closed form."""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Protocol

from torch import Generator, Tensor

Shape = tuple[int, ...]


class Pullback(NamedTuple):
    """Jᵀε, taken back through one layer or one edge."""

    message: Tensor | None
    """(∂f/∂x)ᵀ ε, `[row, *input shape]`; None when it was not asked for."""
    gradient: dict[str, Tensor]
    """(∂f/∂θ)ᵀ ε summed over rows, per parameter (for a linear layer the Hebbian product of error and
    presynaptic activity); empty when it was not asked for."""


class Layer(Protocol):
    """One map f_θ: `[row, *input shape] → [row, *output shape]` that never mixes rows."""

    shorthand: ClassVar[str | None]
    """The field that a bare YAML value fills (`linear: 256` → `units`); None if the layer takes no value."""

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of f(x) without the row axis; raises `CircuitError` naming both shapes when x cannot enter."""
        ...

    def parameters(self, shape: Shape, generator: Generator) -> dict[str, Tensor]:
        """Initial float64 parameters for inputs of that shape, drawn from `generator` unless given outright."""
        ...

    def forward(self, params: Mapping[str, Tensor], x: Tensor) -> tuple[Tensor, Any]:
        """(f(x), whatever the pullback needs of this call)."""
        ...

    def pullback(
        self, params: Mapping[str, Tensor], saved: Any, error: Tensor, *, message: bool, learn: bool
    ) -> Pullback:
        """Jᵀ error at the point of the forward call that returned `saved`."""
        ...
