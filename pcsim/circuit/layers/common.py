"""What the layers share: the frozen record, checked field types, initial weights, the shape error."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, model_validator
from torch import Generator, Tensor

from pcsim.errors import CircuitError

Positive = Annotated[int, Field(strict=True, gt=0)]
NonNegative = Annotated[int, Field(strict=True, ge=0)]


def _bias(value: Any) -> bool | tuple[float, ...]:
    if isinstance(value, bool):
        return value
    numbers = isinstance(value, list | tuple) and all(
        isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in value
    )
    if not numbers:
        raise ValueError("expected true, false or a list of numbers, one per output")
    return tuple(float(v) for v in value)


# A plain validator, because a pydantic union reports one error per member and none of them says both.
Bias = Annotated[bool | tuple[float, ...], PlainValidator(_bias, json_schema_input_type=bool | list[float])]


class Record(BaseModel):
    """A frozen description of one layer; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Affine(Record):
    """The bias of a layer with weights: drawn (true), absent (false), or given as numbers.

    With an outright weight and no word on the bias there is none: a random number beside stated ones would
    surprise.
    """

    shorthand: ClassVar[str | None]
    weight: Any = None
    bias: Bias = True

    @model_validator(mode="before")
    @classmethod
    def _outright_weight_brings_no_bias(cls, data: object) -> object:
        if isinstance(data, Mapping) and data.get("weight") is not None:
            return {"bias": False, **data}
        return data

    @model_validator(mode="after")
    def _no_random_bias_beside_a_weight(self) -> Self:
        if self.weight is not None and self.bias is True:
            raise ValueError("with an outright weight, state the bias as a list of numbers or leave it out")
        return self


def uniform(shape: Sequence[int], fan_in: int, generator: Generator) -> Tensor:
    """Draws of U(−1/√fan_in, 1/√fan_in) in float64.

    This is where torch.nn.Linear and torch.nn.Conv2d start: kaiming uniform (He et al., 2015) with a = √5 has
    the bound sqrt(6/((1 + a²) fan_in)) = 1/√fan_in, and their bias has the same.
    """
    bound = 1 / math.sqrt(fan_in)
    draws = torch.rand(*shape, generator=generator, dtype=torch.float64, device=generator.device)
    return draws.mul_(2 * bound).sub_(bound)


def initial_bias(
    bias: bool | tuple[float, ...], size: int, fan_in: int, generator: Generator
) -> dict[str, Tensor]:
    """`{"bias": [size]}` as given, drawn when `bias` is True, and empty when it is False."""
    if isinstance(bias, tuple):
        return {"bias": torch.tensor(bias, dtype=torch.float64)}
    return {"bias": uniform((size,), fan_in, generator)} if bias else {}


def check_bias(bias: bool | tuple[float, ...], size: int) -> None:
    """Raise `ValueError` unless a bias that is given outright has one number per output."""
    if isinstance(bias, tuple) and len(bias) != size:
        raise ValueError(f"bias has {len(bias)} numbers for {size} outputs; one each")


def refuse(layer: str, wanted: str, shape: Sequence[int], hint: str) -> CircuitError:
    """The error for an input that cannot enter a layer: both shapes, and the way out."""
    return CircuitError(f"{layer} takes {wanted}, but its input has shape {list(shape)}; {hint}")
