"""Receptive fields, and how error units answer bars of growing length (Rao and Ballard, 1999, Figs 2 and 5)."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from pcsim.errors import RunError
from pcsim.figures.run_view import RunView
from pcsim.figures.style import COLUMN, PAGE, looks, sheet

Array = NDArray[np.float64]
BACKGROUND = 0.02
"""Above the grey that stands for 0 (128 of 255) and below the faintest bar, in the units of the node x."""
FIELDS, FEEDBACK = "r->x.0.weight", "top->r.0.weight"


def receptive_fields(runs: Sequence[RunView]) -> Figure:
    """The fields U of every run, one square per unit, each scaled to its own largest weight; grey is 0."""
    stacks = [fields(run) for run in runs]
    columns = 8
    rows = math.ceil(max(len(stack) for stack in stacks) / columns)
    figure = sheet(PAGE, (PAGE / columns * rows + 0.3) * len(runs))
    parts = figure.subfigures(len(runs), 1, squeeze=False)[:, 0]
    for part, stack, look in zip(parts, stacks, looks(runs), strict=True):
        part.suptitle(look.label, color=look.color)
        for axes, field in zip(part.subplots(rows, columns, squeeze=False).flat, stack, strict=False):
            bound = np.abs(field).max()
            axes.imshow(field, cmap="gray", vmin=-bound, vmax=bound, interpolation="nearest")
        for axes in part.axes:
            axes.set_axis_off()
    return figure


def end_stopping(runs: Sequence[RunView]) -> Figure:
    """|r − r_td| of the middle module against the length of a bar, one line per run; shade: ± 1 s.e. over units.

    Each unit at the row of the bar that drives it most in the last run (the one without feedback, if there is
    one), each scaled to its own largest answer there; the median unit and above in drive.
    """
    answers = [responses(run) for run in runs]
    last = answers[-1].max("length")
    driven = last.max("row") >= last.max("row").median()
    best, scale = last.argmax("row"), last.max("row")
    figure = sheet(COLUMN, COLUMN * 0.8)
    axes = figure.subplots()
    for answer, run, look in zip(answers, runs, looks(runs), strict=True):
        curve = (answer.isel(row=best) / scale).isel(unit=np.flatnonzero(driven.to_numpy()))
        mean, error = curve.mean("unit"), curve.std("unit") / math.sqrt(curve.sizes["unit"])
        index = stopping(answer.isel(row=best)).isel(unit=np.flatnonzero(driven.to_numpy()))
        held = "top" in (run.study.get("clamp") or {})
        label = f"{'without' if held else 'with'} feedback, index {float(index.mean()):.2f}"
        line = axes.plot(curve["length"], mean, label=label, linestyle=look.dashes)[0]
        axes.fill_between(
            curve["length"], mean - error, mean + error, alpha=0.2, color=line.get_color(), lw=0
        )
    axes.set(xlabel="length of the bar (pixels)", ylabel="error units |r − r_td|", ylim=(0, None))
    axes.legend()
    return figure


def stopping(answer: xr.DataArray) -> xr.DataArray:
    """1 − R(longest)/max R along `length`: 0 without end-stopping, 1 where the longest bar leaves no answer."""
    return 1 - answer.isel(length=-1) / answer.max("length")


def responses(run: RunView) -> xr.DataArray:
    """|r − r_td| of the middle module at the end of the chains, mean over chains, `[length, row, unit]`.

    From a run on the data set `bars` that recorded the values of `r` and `top`; r_td is what `top` predicts.
    """
    trace = run.trace()
    try:
        r, top = (_final(trace[name]["value"]) for name in ("r", "top"))
        length, observed = trace["label"].to_numpy(), trace["x"]["observed"].to_numpy()
    except KeyError as missing:
        raise RunError(
            f"{run.path}: no {missing} in its trace; end-stopping needs a run on the data set bars that records "
            "the values of r and top"
        ) from None
    units, _, modules = r.shape[2:]
    predicted = (top @ weights(run)[FEEDBACK].T).reshape(r.shape)
    middle = np.abs(r - predicted)[..., 0, modules // 2].mean(1)
    row = (observed[:, 0].max(-1) > BACKGROUND).argmax(-1)
    lengths, rows = np.unique(length), np.unique(row)
    found = np.full((len(lengths), len(rows), units), np.nan)
    found[np.searchsorted(lengths, length), np.searchsorted(rows, row)] = middle
    return xr.DataArray(found, {"length": lengths, "row": rows}, ("length", "row", "unit"))


def _final(value: xr.DataArray | xr.DataTree) -> Array:
    """The last recorded step of each chain, `[image, chain, …]`."""
    assert isinstance(value, xr.DataArray)
    step = next(str(dim) for dim in value.dims if str(dim).startswith("step"))
    return np.asarray(value.isel({step: -1}).to_numpy(), np.float64)


def fields(run: RunView) -> Array:
    """The weights from each unit of r to its patch, `[unit, y, x]`."""
    found: Array = weights(run)[FIELDS][:, 0]
    return found


def weights(run: RunView) -> dict[str, Any]:
    """The weights of a run of `rao_ballard_1999`; raises `RunError` where they are missing or another circuit's."""
    path = Path(run.path) / "checkpoints" / "weights.safetensors"
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as failure:
        raise RunError(f"{path}: no readable weights ({failure})") from failure
    if lacking := [name for name in (FIELDS, FEEDBACK) if name not in found]:
        raise RunError(f"{path}: no weights {lacking[0]}; these figures are of the circuit rao_ballard_1999")
    return {name: np.asarray(value, np.float64) for name, value in found.items()}
