"""What the records of all distributions share: frozen, strict about fields, aware of their `learn:` words."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict, field_validator
from torch import Tensor

from pcsim.errors import nearest

HALF_LOG_TWO_PI = 0.9189385332046727  # ½ log 2π


class Record(BaseModel):
    """The base of the distributions that a circuit file can name; members add fields and pure functions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    discrete: ClassVar[bool] = False
    learnable: ClassVar[tuple[str, ...]] = ()
    data_range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    learn: tuple[str, ...] = ()

    @field_validator("learn")
    @classmethod
    def _words(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        for word in words:
            if word not in cls.learnable:
                raise ValueError(
                    f"{word!r} cannot be learned here; {nearest(word, cls.learnable)}"
                    if cls.learnable
                    else f"{word!r} cannot be learned: this distribution has no parameters"
                )
        if len(set(words)) < len(words):
            raise ValueError(f"{list(words)} names a word twice")
        return words


def per_row(x: Tensor) -> Tensor:
    """Sum over all axes but the first: `[row, *shape] → [row]`."""
    return x.reshape(x.shape[0], -1).sum(1)


def units(shape: Sequence[int]) -> int:
    """Number of units of a node of that shape (1 for a scalar node)."""
    return int(torch.Size(shape).numel())


def numeric(value: Any) -> bool:
    """Whether `value` is a real number (bool is not one)."""
    return isinstance(value, int | float) and not isinstance(value, bool)
