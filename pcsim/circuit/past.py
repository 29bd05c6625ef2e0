"""What stands in the place of a distribution at a node that only remembers."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from pcsim.circuit.distributions.base import Draws, Local, Shape
from pcsim.circuit.distributions.record import Record


class PastValue(Record):
    """The point mass of a past node at its given value: no energy, no error, and a draw is η itself.

    η, the node's mean, is what it holds before the first frame.
    """

    discrete: ClassVar[bool] = False
    learnable: ClassVar[tuple[str, ...]] = ()
    data_range: ClassVar[tuple[float, float]] = (-1.0, 1.0)

    @property
    def learned(self) -> tuple[str, ...]:
        """Nothing."""
        return ()

    def parameters(self, shape: Shape) -> dict[str, Tensor]:
        """None."""
        return {}

    def local(
        self,
        params: Mapping[str, Tensor],
        z: Tensor,
        eta: Tensor,
        *,
        mask: Tensor | None = None,
        energy: bool = False,
        learn: bool = False,
    ) -> Local:
        """Zero energy and error: the value is a condition, not an outcome."""
        zero = torch.zeros_like(z)
        return Local(zero, zero, z.new_zeros(len(z)) if energy else None, {})

    def sample(self, params: Mapping[str, Tensor], eta: Tensor, draws: Draws) -> Tensor:
        """η; no draw is made."""
        return eta

    def mean(self, params: Mapping[str, Tensor], eta: Tensor) -> Tensor:
        """η."""
        return eta
