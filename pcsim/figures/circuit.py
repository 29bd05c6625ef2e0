"""The picture of a circuit, from boxes, error nodes and lines whose places are known."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path as Curve
from numpy.typing import NDArray

from pcsim.errors import StudyError, nearest
from pcsim.figures.style import COLOURS, REFERENCE, house_style

PREDICTION, ERROR = COLOURS["PC"], COLOURS["LPC"]
ENCODER = COLOURS["VAE"]
FILL = {"value": "#FFFFFF", "clamped": "#D9D9D9", "past": "#F4F4F4"}
UNDATED: dict[str, dict[str, Any]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}
SMALL, NAME = 6.5, 9.0
RADIUS = 0.15
BESIDE = 0.035
"""Half the distance in inches between a prediction and the error that returns along it."""
MARGIN, KEY_LINE = 0.2, 0.17
Place = tuple[float, float]


class _Box(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def lines(self) -> tuple[str, ...]: ...
    @property
    def kind(self) -> str: ...
    @property
    def x(self) -> float: ...
    @property
    def y(self) -> float: ...
    @property
    def width(self) -> float: ...
    @property
    def height(self) -> float: ...


class _Mark(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def lines(self) -> tuple[str, ...]: ...
    @property
    def x(self) -> float: ...
    @property
    def y(self) -> float: ...


class _Line(Protocol):
    @property
    def role(self) -> str: ...
    @property
    def points(self) -> tuple[Place, ...]: ...
    @property
    def message(self) -> bool: ...
    @property
    def lines(self) -> tuple[str, ...]: ...
    @property
    def at(self) -> Place: ...


class _Drawing(Protocol):
    """What `pcsim.circuit.drawing.drawing` returns; figures do not import circuits."""

    @property
    def boxes(self) -> Sequence[_Box]: ...
    @property
    def marks(self) -> Sequence[_Mark]: ...
    @property
    def lines(self) -> Sequence[_Line]: ...
    @property
    def extent(self) -> tuple[float, float, float, float]: ...


class Sign(NamedTuple):
    """One entry of the key."""

    text: str
    color: str
    dashes: Any


SIGNS = {
    "prediction": Sign("prediction, down to an error node", PREDICTION, "-"),
    "message": Sign("error, to its own node and up to those that predicted", ERROR, "-"),
    "value": Sign("value, to its own error node", "black", "-"),
    "encoder": Sign("encoder: the fast sweep at stimulus onset", ENCODER, (0, (4, 2))),
    "past": Sign("value kept for the next frame", REFERENCE, (0, (1, 1.5))),
}


def circuit(drawing: _Drawing, title: str, description: str = "") -> Figure:
    """The drawing in inches as it is laid out, with its title, its description and a key of what occurs in it."""
    left, bottom, right, top = drawing.extent
    signs = _signs(drawing)
    wide = max(right - left, 3.0)
    words = textwrap.wrap(description, int(wide / 0.058)) if description else []
    head, foot = 0.32 + 0.13 * len(words), 0.12 + KEY_LINE * (len(signs) + 1)
    width, height = wide + 2 * MARGIN, top - bottom + head + foot + 2 * MARGIN
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    centre = (left + right) / 2
    x0, y0 = centre - width / 2, bottom - foot - MARGIN
    axes.set(xlim=(x0, x0 + width), ylim=(y0, y0 + height))
    axes.set_axis_off()
    for line in drawing.lines:
        _line(axes, line)
    for mark in drawing.marks:
        _mark(axes, mark, next(box for box in drawing.boxes if box.name == mark.name))
    for box in drawing.boxes:
        _box(axes, box)
    for line in drawing.lines:
        _words(axes, line)
    axes.text(x0 + MARGIN, top + head, title, fontsize=10, fontweight="bold", va="center")
    axes.text(x0 + MARGIN, top + head - 0.14, "\n".join(words), fontsize=SMALL, va="top", color=REFERENCE)
    _key(axes, signs, x0 + MARGIN, bottom - 0.25, any(box.kind == "clamped" for box in drawing.boxes))
    return figure


def check_format(path: Path) -> str:
    """The format that the suffix names; raises `StudyError` where it names none that can be written."""
    kind = path.suffix.removeprefix(".").lower()
    if kind not in UNDATED:
        raise StudyError(f"{path}: no format {path.suffix!r} for a picture; {nearest(kind, UNDATED)}")
    return kind


def write(figure: Figure, path: Path) -> None:
    """Writes the figure in the format of the suffix, the same bytes each time; raises `StudyError` for others."""
    kind = check_format(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with house_style():
        figure.savefig(path, dpi=200, format=kind, metadata=UNDATED[kind])


def _box(axes: Axes, box: _Box) -> None:
    dashes: Any = (0, (3, 2)) if box.kind == "past" else "-"
    axes.add_patch(
        FancyBboxPatch(
            (box.x - box.width / 2, box.y - box.height / 2), box.width, box.height, gid=f"value {box.name}",
            boxstyle="round,pad=0,rounding_size=0.1", facecolor=FILL[box.kind], edgecolor="black",
            linewidth=1.6 if box.kind == "clamped" else 0.9, linestyle=dashes, zorder=3,
        )
    )  # fmt: skip
    top = box.y + box.height / 2
    axes.text(
        box.x, top - 0.15, box.name, fontsize=NAME, fontweight="bold", ha="center", va="center", zorder=4
    )
    axes.text(
        box.x, top - 0.27, "\n".join(box.lines[1:]), fontsize=SMALL, ha="center", va="top", zorder=4, linespacing=1.15
    )  # fmt: skip


def _mark(axes: Axes, mark: _Mark, box: _Box) -> None:
    axes.add_patch(Circle((mark.x, mark.y), RADIUS, facecolor="white", edgecolor=ERROR, linewidth=1.2, zorder=3,
                          gid=f"error {mark.name}"))  # fmt: skip
    axes.text(mark.x, mark.y, "ε", fontsize=NAME, color=ERROR, ha="center", va="center_baseline", zorder=4)
    axes.text(
        mark.x + RADIUS + 0.05, mark.y, "\n".join(mark.lines), fontsize=SMALL, va="center", linespacing=1.15
    )
    stalk = np.array([(mark.x, box.y + box.height / 2), (mark.x, mark.y - RADIUS)])
    axes.add_patch(_arrow(_moved(stalk, -BESIDE), "black", "-"))
    axes.add_patch(_arrow(_moved(stalk[::-1], -BESIDE), ERROR, "-"))


def _line(axes: Axes, line: _Line) -> None:
    points, sign = np.asarray(line.points, np.float64), SIGNS[line.role]
    if line.role != "prediction":
        axes.add_patch(_arrow(points, sign.color, sign.dashes))
        return
    beside = BESIDE if line.message else 0.0
    axes.add_patch(_arrow(_moved(points, beside), sign.color, sign.dashes))
    if line.message:
        axes.add_patch(_arrow(_moved(points[::-1], beside), ERROR, "-"))


def _words(axes: Axes, line: _Line) -> None:
    frame = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none"}
    axes.text(*line.at, "\n".join(line.lines), fontsize=SMALL, ha="center", va="center", zorder=2.5, bbox=frame,
              color=SIGNS[line.role].color, linespacing=1.15)  # fmt: skip


def _arrow(points: NDArray[np.float64], color: str, dashes: Any) -> FancyArrowPatch:
    path = Curve(points, [Curve.MOVETO] + [Curve.LINETO] * (len(points) - 1))
    return FancyArrowPatch(path=path, arrowstyle="-|>", mutation_scale=7, color=color, linestyle=dashes,
                           linewidth=1.0, zorder=2, joinstyle="round", capstyle="butt")  # fmt: skip


def _moved(points: NDArray[np.float64], beside: float) -> NDArray[np.float64]:
    """The polyline moved to its left by `beside`, as seen along it."""
    along = np.diff(points, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], axis=1) / np.linalg.norm(along, axis=1, keepdims=True)
    at = np.concatenate([normal[:1], (normal[:-1] + normal[1:]) / 2, normal[-1:]])
    moved: NDArray[np.float64] = points + beside * at
    return moved


def _signs(drawing: _Drawing) -> list[Sign]:
    roles = {line.role for line in drawing.lines}
    roles |= {"message", "value"} if drawing.marks else set()
    return [sign for role, sign in SIGNS.items() if role in roles]


def _key(axes: Axes, signs: Sequence[Sign], x: float, y: float, clamped: bool) -> None:
    for row, sign in enumerate(signs):
        at = y - KEY_LINE * row
        axes.add_patch(_arrow(np.array([(x, at), (x + 0.4, at)]), sign.color, sign.dashes))
        axes.text(x + 0.5, at, sign.text, fontsize=SMALL, va="center")
    grey = ", grey: held" if clamped else ""
    axes.text(x, y - KEY_LINE * len(signs), f"box: value node{grey}; ε: error node, with its precision Π",
              fontsize=SMALL, va="center")  # fmt: skip
