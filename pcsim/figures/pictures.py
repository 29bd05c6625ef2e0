"""Sample grids and reconstructions."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pcsim.errors import RunError
from pcsim.figures.run_view import RunView
from pcsim.figures.style import PAGE, looks, sheet

Array = NDArray[np.float64]
GAP = 1
"""White pixels between pictures."""


def samples(runs: Sequence[RunView], count: int = 64) -> Figure:
    """Samples of every run's model after its last evaluation, one square grid per run."""
    styles = looks(runs)
    stacks = [_pictures(run, "samples")[:count] for run in runs]
    width = min(PAGE, 1.9 * len(runs) + 0.2)
    figure = sheet(width, width / len(runs) + 0.3)
    for run, stack, look, axes in zip(runs, stacks, styles, _row(figure, len(runs)), strict=True):
        columns = math.ceil(math.sqrt(len(stack)))
        _show(axes, tiled(stack, columns))
        axes.set_title(f"{look.label}\n{run.evaluated()[-1]} updates", color=look.color)
    return figure


def reconstructions(runs: Sequence[RunView], count: int = 10) -> Figure:
    """Held-out images above what every run makes of them; originals again where runs had other images."""
    rows: list[tuple[str, object, Array]] = []
    shown: Array | None = None
    for run, look in zip(runs, looks(runs), strict=True):
        original = _pictures(run, "original")[:count]
        if shown is None or original.shape != shown.shape or not np.allclose(original, shown):
            rows.append(("held-out image", "black", original))
            shown = original
        rows.append((look.label, look.color, _pictures(run, "reconstruction")[:count]))
    columns = max(len(stack) for _, _, stack in rows)
    figure = sheet(PAGE, ((PAGE - 1.2) / columns + 0.1) * len(rows))
    grid = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for axes, (label, color, stack) in zip(grid, rows, strict=True):
        _show(axes, tiled(stack, columns))
        axes.set_ylabel(label, color=color, rotation=0, ha="right", va="center")
    return figure


def tiled(stack: Array, columns: int) -> Array:
    """Pictures `[n, channel, y, x]` in [0, 1] as one picture `[y, x]` or `[y, x, 3]`, white between them."""
    n, channels, height, width = stack.shape
    if channels not in (1, 3):
        raise RunError(f"pictures have 1 or 3 channels, these have {channels}")
    rows = math.ceil(n / columns)
    canvas = np.ones((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, channels))
    for i, picture in enumerate(np.clip(stack, 0.0, 1.0)):
        y, x = (i // columns) * (height + GAP), (i % columns) * (width + GAP)
        canvas[y : y + height, x : x + width] = np.moveaxis(picture, 0, -1)
    return canvas[..., 0] if channels == 1 else canvas


def _pictures(run: RunView, name: str) -> Array:
    arrays = run.last_evaluation()
    if name not in arrays or not len(arrays[name]):
        raise RunError(
            f"{run.path}: its last evaluation kept no {name}; ask for them in the study's evaluation"
        )
    return np.nan_to_num(np.asarray(arrays[name], np.float64), nan=0.5)


def _row(figure: Figure, count: int) -> Sequence[Axes]:
    return list(figure.subplots(1, count, squeeze=False)[0])


def _show(axes: Axes, picture: Array) -> None:
    """One image pixel stays a square; nearest-neighbour, so that nothing is smoothed over."""
    axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
