"""The linear layer: a weighted sum of the presynaptic values, `linear: 256`."""

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field, model_validator
from torch import Generator, Tensor

from pcsim.circuit.layers.base import Pullback, Shape
from pcsim.circuit.layers.common import Affine, Positive, check_bias, initial_bias, refuse, uniform


class Linear(Affine):
    """y = W x + b on `[row, in] → [row, units]`; W is `[units, in]`.

    Either `units` (weights drawn), or `weight` outright as rows of W.
    """

    shorthand: ClassVar[str | None] = "units"

    units: Positive | None = None
    weight: tuple[tuple[float, ...], ...] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> "Linear":
        if self.units is None and self.weight is None:
            raise ValueError("linear needs units, for example {linear: 256}, or weight")
        if self.weight is not None:
            if len({len(row) for row in self.weight}) > 1 or not self.weight[0]:
                raise ValueError("the rows of weight must have one length, at least 1")
            if self.units is not None and self.units != len(self.weight):
                raise ValueError(f"units is {self.units}, but weight has {len(self.weight)} rows")
        check_bias(self.bias, self.size)
        return self

    @property
    def size(self) -> int:
        """The number of outputs."""
        return len(self.weight) if self.weight is not None else (self.units or 0)

    def output_shape(self, shape: Shape) -> Shape:
        """`[units]`; raises `CircuitError` unless the input is `[in]` (and as wide as an outright weight)."""
        if len(shape) != 1:
            hint = f"put {{reshape: [{math.prod(shape)}]}} before it"
            raise refuse(f"linear ({self.size} units)", "an input of shape [units]", shape, hint)
        if self.weight is not None and len(self.weight[0]) != shape[0]:
            wanted = f"an input of shape [{len(self.weight[0])}]"
            given = f"its weight is {len(self.weight)} × {len(self.weight[0])}"
            raise refuse(
                "linear", wanted, shape, f"{given}; a different width needs a different weight or a reshape"
            )
        return (self.size,)

    def parameters(self, shape: Shape, generator: Generator) -> dict[str, Tensor]:
        """`weight` `[units, in]` and `bias` `[units]`, both U(±1/√in) unless given outright."""
        self.output_shape(shape)
        fan_in = shape[0]
        if self.weight is not None:
            weight = torch.tensor(self.weight, dtype=torch.float64)
        else:
            weight = uniform((self.size, fan_in), fan_in, generator)
        return {"weight": weight, **initial_bias(self.bias, self.size, fan_in, generator)}

    def forward(self, params: Mapping[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        """(W x + b, x)."""
        bias = params.get("bias")
        weight = params["weight"].t()
        return (torch.mm(x, weight) if bias is None else torch.addmm(bias, x, weight)), x

    def pullback(
        self, params: Mapping[str, Tensor], saved: Tensor, error: Tensor, *, message: bool, learn: bool
    ) -> Pullback:
        """Message Wᵀε; gradient ε xᵀ, the Hebbian product of error and presynaptic activity, and Σ ε."""
        gradient: dict[str, Tensor] = {}
        if learn:
            gradient["weight"] = torch.mm(error.t(), saved)
            if "bias" in params:
                gradient["bias"] = error.sum(0)
        return Pullback(torch.mm(error, params["weight"]) if message else None, gradient)
