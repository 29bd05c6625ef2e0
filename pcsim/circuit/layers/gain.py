"""The gain layer: some units scale the others together, `gain: {by: 4}`; the contrast of an image patch."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Generator, Tensor

from pcsim.circuit.layers.base import Pullback, Shape
from pcsim.circuit.layers.common import Positive, Record, refuse


class Gain(Record):
    """y_i = c x_(by+i) with the common gain c = ½ Σ_(j<by) x_j², `[row, by + n] → [row, n]`.

    Under standard normal x_j the gain is exactly Gamma(shape by/2, scale 1): the positive multiplier of a
    Gaussian scale mixture (Wainwright and Simoncelli, 2000; Orbán, Berkes, Fiser and Lengyel, 2016), with no
    constraint on any unit.
    """

    shorthand: ClassVar[str | None] = "by"

    by: Positive

    def output_shape(self, shape: Shape) -> Shape:
        """`[n]`; raises `CircuitError` unless the input is `[by + n]` with n ≥ 1."""
        if len(shape) != 1 or shape[0] <= self.by:
            wanted = f"an input of shape [units] with more than {self.by} units"
            raise refuse("gain", wanted, shape, f"the first {self.by} set the gain of the rest")
        return (shape[0] - self.by,)

    def parameters(self, shape: Shape, generator: Generator) -> dict[str, Tensor]:
        """None."""
        return {}

    def forward(self, params: Mapping[str, Tensor], x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(c x_(by…), (x, c))."""
        gain = x[:, : self.by].square().sum(1, keepdim=True).mul(0.5)
        return gain * x[:, self.by :], (x, gain)

    def pullback(
        self,
        params: Mapping[str, Tensor],
        saved: tuple[Tensor, Tensor],
        error: Tensor,
        *,
        message: bool,
        learn: bool,
    ) -> Pullback:
        """x_j Σ_i x_(by+i) ε_i to the units that set the gain, c ε_i to those that it scales."""
        if not message:
            return Pullback(None, {})
        x, gain = saved
        drive = (x[:, self.by :] * error).sum(1, keepdim=True)
        return Pullback(torch.cat((x[:, : self.by] * drive, gain * error), 1), {})
