"""What a function's outputs react to, found by moving one unit of one input at a time."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Tree = Mapping[str, Tensor]
STEP = 0.1
"""How far a unit is moved: far beyond rounding, near enough to stay where activations are alive."""
ROUNDING = 1e-10
"""Changes below this share of an output's size are rounding."""


class Response(NamedTuple):
    """Which entries of one output moved with which unit of one input."""

    units: tuple[int, ...]
    """The units that were moved, as places in the flattened input."""
    moved: Tensor
    """bool `[moved unit, entry of the flattened output]`."""

    @property
    def any(self) -> bool:
        """Did the output react at all?"""
        return bool(self.moved.any())

    @property
    def beyond_own(self) -> bool:
        """Did an entry react to another unit than the one at its own place (output and input of one shape)?"""
        own = self.moved.clone()
        own[torch.arange(len(self.units)), torch.tensor(self.units)] = False
        return bool(own.any())

    @property
    def shared(self) -> bool:
        """Did some entry react to two units or more?"""
        return bool((self.moved.sum(0) > 1).any())


def responses(
    function: Callable[[Tree], Tree], points: Sequence[Tree], units: int
) -> dict[tuple[str, str], Response]:
    """`{(output, input): Response}` of a function of one row, at the union of some points.

    At most `units` units of an input are moved, evenly spread over it. Several points are asked because a dead
    rectifier or a saturated unit hides at one of them what it reads.
    """
    found: dict[tuple[str, str], Response] = {}
    for point in points:
        before = function(point)
        for name, value in point.items():
            places = torch.linspace(0, value.numel() - 1, min(units, value.numel())).round().long().tolist()
            after = [function({**point, name: _moved(value, place)}) for place in places]
            for output, base in before.items():
                moved = torch.stack([_differs(result[output], base) for result in after])
                earlier = found.get((output, name))
                moved = moved if earlier is None else moved | earlier.moved
                found[output, name] = Response(tuple(places), moved)
    return found


def _moved(value: Tensor, place: int) -> Tensor:
    result = value.clone().reshape(-1)
    result[place] += STEP
    return result.reshape(value.shape)


def _differs(after: Tensor, before: Tensor) -> Tensor:
    size = max(1.0, float(before.abs().max())) if before.numel() else 1.0
    return ((after - before).abs() > ROUNDING * size).reshape(-1)
