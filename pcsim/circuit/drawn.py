"""What a drawing is made of: boxes, error nodes and lines with their words, at places in inches."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

Point = tuple[float, float]
Rectangle = tuple[float, float, float, float]
"""Left, bottom, right, top."""
Kind = Literal["value", "clamped", "past"]
Role = Literal["prediction", "encoder", "past"]
LEFT, RIGHT = -1, 1
CHARACTER, LINE = 0.062, 0.115
"""Width of a character and height of a line of the small font (6.5 points), with room to spare."""
RADIUS = 0.15
"""Of error nodes."""


class Box(NamedTuple):
    """A value node; `x, y` is its centre."""

    name: str
    lines: tuple[str, ...]
    kind: Kind
    x: float
    y: float
    width: float
    height: float


class Mark(NamedTuple):
    """The error node ε(name); its words stand to the right of it."""

    name: str
    lines: tuple[str, ...]
    x: float
    y: float


class Line(NamedTuple):
    """A line with words on it, from the first point to the last."""

    role: Role
    ends: tuple[str, str]
    points: tuple[Point, ...]
    message: bool
    """Whether the error returns along it."""
    lines: tuple[str, ...]
    at: Point


class Drawing(NamedTuple):
    """All of it; y grows upwards."""

    boxes: tuple[Box, ...]
    marks: tuple[Mark, ...]
    lines: tuple[Line, ...]
    extent: Rectangle
    """Left, bottom, right and top, in inches."""


class Standing(NamedTuple):
    """Everything that has a place of its own, by name."""

    boxes: dict[str, Box]
    marks: dict[str, Mark]
    passing: dict[str, tuple[Point, Point]]
    """Top and bottom of the slot in which a long edge passes a level."""
    via: Mapping[tuple[str, str], tuple[str, ...]]


def text_size(lines: Sequence[str]) -> tuple[float, float]:
    """Width and height that words take at most, in inches."""
    return max((len(line) for line in lines), default=0) * CHARACTER, len(lines) * LINE


def rectangle(part: Box | Mark | Line) -> Rectangle:
    """Left, bottom, right and top of a box, of an error node with its words, or of the words of a line."""
    if isinstance(part, Box):
        wide, high, x, y = part.width, part.height, part.x, part.y
    elif isinstance(part, Mark):
        wide, high = text_size(part.lines)
        high = max(high, 2 * RADIUS)
        return part.x - RADIUS, part.y - high / 2, part.x + RADIUS + 0.05 + wide, part.y + high / 2
    else:
        (wide, high), (x, y) = text_size(part.lines), part.at
    return x - wide / 2, y - high / 2, x + wide / 2, y + high / 2


def overlap(one: Rectangle, other: Rectangle) -> bool:
    """Whether two rectangles (left, bottom, right, top) have an area in common."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def rectangles(standing: Standing, lines: Sequence[Line]) -> list[Rectangle]:
    parts: list[Box | Mark | Line] = [*standing.boxes.values(), *standing.marks.values(), *lines]
    return [rectangle(part) for part in parts]


def extent_of(standing: Standing, lines: Sequence[Line]) -> Rectangle:
    corners = rectangles(standing, lines)
    points = [point for line in lines for point in line.points]
    return (
        min([c[0] for c in corners] + [x for x, _ in points]),
        min([c[1] for c in corners] + [y for _, y in points]),
        max([c[2] for c in corners] + [x for x, _ in points]),
        max([c[3] for c in corners] + [y for _, y in points]),
    )
