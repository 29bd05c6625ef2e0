"""The look that all figures share: widths, fonts, one fixed colour per method, and how figures are saved."""

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec

import matplotlib
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from pcsim.errors import RunError
from pcsim.figures.run_view import Method, RunView, labels

P = ParamSpec("P")
COLUMN, PAGE = 3.4, 7.0
"""Widths in inches: one column and a whole page."""
COLOURS: dict[Method, str] = {"PC": "#0072B2", "LPC": "#D55E00", "VAE": "#009E73"}
"""Okabe & Ito (2008): told apart with every common colour-vision deficiency and in grey print."""
REFERENCE = "#555555"
MARGIN = 0.12
"""Inches at the right that the layout leaves free: half of a tick's label."""
DASHES = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1)))
STYLE: dict[str, Any] = {
    "font.size": 8,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "lines.linewidth": 1.3,
    "svg.hashsalt": "pcsim",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}


class Look(NamedTuple):
    """How one run appears in every panel of a figure."""

    label: str
    color: tuple[float, float, float]
    dashes: Any


def looks(runs: Sequence[RunView]) -> tuple[Look, ...]:
    """Label, colour and dashes per run: colour says the method, dashes and tint tell runs of one method apart."""
    if not runs:
        raise RunError("a figure needs at least one run")
    seen: dict[Method, int] = {}
    result = []
    for run, label in zip(runs, labels(runs), strict=True):
        place = seen.get(run.method, 0)
        seen[run.method] = place + 1
        result.append(Look(label, _tint(COLOURS[run.method], place), DASHES[place % len(DASHES)]))
    return tuple(result)


def save(figure: Figure, stem: Path) -> tuple[Path, ...]:
    """Writes `stem` as .pdf, .svg and .png (200 dots per inch), the same bytes each time; returns the paths."""
    undated: dict[str, dict[str, Any]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = []
    with house_style():
        for kind, metadata in undated.items():
            path = stem.with_name(f"{stem.name}.{kind}")
            figure.savefig(path, dpi=200, metadata=metadata)
            paths.append(path)
    return tuple(paths)


def _tint(color: str, place: int) -> tuple[float, float, float]:
    white = min(0.18 * place, 0.6)
    red, green, blue = (c + (1 - c) * white for c in to_rgb(color))
    return red, green, blue


def house_style() -> AbstractContextManager[None]:
    """Inside it, figures get these fonts and lines; matplotlib's own settings come back after it."""
    settings: Any = STYLE  # matplotlib's stub lists every key as a literal
    return matplotlib.rc_context(settings)


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """`draw` in the house style, wherever it is called from."""

    @functools.wraps(draw)
    def within(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with house_style():
            return draw(*args, **kwargs)

    return within


def sheet(width: float, height: float) -> Figure:
    """An empty figure of that size in inches, with a layout that keeps labels apart."""
    figure = Figure(figsize=(width, height), layout="constrained")
    # the layout does not count the label of a tick at an axis' very end: it would hang over the edge
    engine: Any = figure.get_layout_engine()
    engine.set(rect=(0.0, 0.0, 1 - MARGIN / width, 1.0))
    return figure
