"""The reshape layer: the same values in another shape, `reshape: [1, 28, 28]`."""

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Generator, Tensor

from pcsim.circuit.layers.base import Pullback, Shape
from pcsim.circuit.layers.common import Positive, Record, refuse


class Reshape(Record):
    """y = x in another shape, `[row, *input shape] → [row, *shape]`, last axis fastest."""

    shorthand: ClassVar[str | None] = "shape"

    shape: Annotated[tuple[Positive, ...], Field(min_length=1)]

    def output_shape(self, shape: Shape) -> Shape:
        """The new shape; raises `CircuitError` unless both hold the same number of values."""
        if math.prod(shape) != math.prod(self.shape):
            wanted = f"{math.prod(self.shape)} values (its shape is {list(self.shape)})"
            raise refuse("reshape", wanted, shape, f"that is {math.prod(shape)} values")
        return self.shape

    def parameters(self, shape: Shape, generator: Generator) -> dict[str, Tensor]:
        """None."""
        return {}

    def forward(self, params: Mapping[str, Tensor], x: Tensor) -> tuple[Tensor, Shape]:
        """(x in the new shape, the old shape with its row axis)."""
        return x.reshape(x.shape[0], *self.shape), x.shape

    def pullback(
        self, params: Mapping[str, Tensor], saved: Shape, error: Tensor, *, message: bool, learn: bool
    ) -> Pullback:
        """The error in the old shape."""
        return Pullback(error.reshape(saved) if message else None, {})
