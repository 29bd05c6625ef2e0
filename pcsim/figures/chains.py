"""What chains do along the inference steps: energy and gradient norm."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter
from numpy.typing import NDArray

from pcsim.errors import RunError
from pcsim.figures.run_view import RunView, free_units
from pcsim.figures.style import DASHES, PAGE, REFERENCE, Look, looks, sheet
from pcsim.figures.trace_reading import Band, band, step_dim, variable

WIDE = 30
"""Norms that span more than this factor get a logarithmic axis."""
BAND_TEXT = "line: median, band: quartiles over images × chains"


def energy(runs: Sequence[RunView]) -> Figure:
    """Energy over inference steps, above each image's minimum where every trace knows it.

    Left of the sweep (step 0), where nothing is clamped, U is another function and keeps its own axis. For a quadratic
    energy the chain at small steps sits at T·D/2 above the minimum, D the free latent units (equipartition).
    """
    traced = _traced(runs)
    above = all("energy_minimum" in trace.data_vars for _, trace, _ in traced)
    before = any((_steps(trace, "energy", run) < 0).any() for run, trace, _ in traced)
    figure = sheet(PAGE, 2.7)
    ratios = [1, 2.4] if before else [1]
    panels = list(figure.subplots(1, len(ratios), width_ratios=ratios, squeeze=False)[0])
    for run, trace, look in traced:
        whole = variable(trace, "energy", str(run.path))
        dim = step_dim(whole, str(run.path))
        spontaneous = whole.isel({dim: whole[dim].to_numpy() < 0})
        evoked = whole.isel({dim: whole[dim].to_numpy() >= 0})
        if spontaneous.sizes[dim]:
            _draw(panels[0], band(spontaneous, str(run.path)), look)
        if evoked.sizes[dim]:
            _draw(
                panels[-1], band(evoked - trace["energy_minimum"] if above else evoked, str(run.path)), look
            )
    if above:
        _closed_lines(panels[-1], traced)
    _finish_energy(panels, above)
    _key(figure, panels[-1])
    return figure


def gradient_norm(runs: Sequence[RunView]) -> Figure:
    """Norm of the energy's gradient over inference steps, for every run that recorded it.

    Runs whose norms agree lie on each other: the later are thinner and dashed, so that the earlier show through.
    """
    figure = sheet(PAGE, 2.4)
    axes = figure.subplots()
    for place, (run, trace, look) in enumerate(_traced(runs)):
        over = look._replace(dashes=DASHES[place % len(DASHES)])
        entries = band(variable(trace, "gradient_norm", str(run.path)), str(run.path))
        _draw(axes, entries, over, width=max(2.0 - 0.6 * place, 0.8), alpha=0.15)
    heights = np.concatenate([np.asarray(line.get_ydata(), np.float64) for line in axes.get_lines()])
    if heights.min() > 0 and heights.max() > WIDE * heights.min():
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    _onset(axes)
    axes.set(
        xlabel="inference step (0 = stimulus and sweep)",
        ylabel="gradient norm |∂U/∂z|\n(nats per latent unit)",
    )
    _key(figure, axes)
    return figure


def _traced(runs: Sequence[RunView]) -> list[tuple[RunView, xr.DataTree, Look]]:
    found = [(run, run.trace(), look) for run, look in zip(runs, looks(runs), strict=True) if run.has_trace]
    if not found:
        raise RunError(f"none of the runs has a trace: {', '.join(str(run.path) for run in runs)}")
    return found


def _steps(trace: xr.DataTree, path: str, run: RunView) -> np.ndarray:
    array = variable(trace, path, str(run.path))
    return array[step_dim(array, str(run.path))].to_numpy()


def _draw(axes: Axes, entries: Band, look: Look, width: float = 1.3, alpha: float = 0.22) -> None:
    axes.fill_between(entries.step, entries.low, entries.high, color=look.color, alpha=alpha, linewidth=0)
    axes.plot(
        entries.step, entries.median, color=look.color, linestyle=look.dashes, linewidth=width, label=look.label
    )  # fmt: skip


def _closed_lines(axes: Axes, traced: Sequence[tuple[RunView, xr.DataTree, Look]]) -> None:
    """T = 0 rests at the minimum, T = 1 at D/2 above it; one line for every D among the runs."""
    axes.axhline(0, color=REFERENCE, linewidth=0.9, zorder=1, label="T = 0: the minimum")
    sizes = {d for run, trace, _ in traced if (d := free_units(run, trace)) is not None}
    for d in sorted(sizes):
        label = f"T = 1: D/2 = {d / 2:g} nats (for quadratic U, D = {d} latents)"
        axes.axhline(d / 2, color=REFERENCE, linewidth=0.9, linestyle=(0, (5, 2)), zorder=1, label=label)


def _finish_energy(panels: Sequence[Axes], above: bool) -> None:
    axes = panels[-1]
    what = "energy above its minimum" if above else "energy U = −log p(x, z)"
    axes.set(xlabel="inference step (0 = sweep)", ylabel=f"{what} (nats)", title="stimulus clamped")
    if above:
        # linear about the closed lines, logarithmic for the fall from the start, without a kink between
        width = _linear_width(axes)
        low, high = min(-0.1 * width, *_extremes(axes, np.min)), max(_extremes(axes, np.max))
        axes.set_yscale("asinh", linear_width=width)
        axes.set_ylim(low, 1.1 * high)
        axes.yaxis.set_major_locator(FixedLocator(asinh_ticks(high, width)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    if len(panels) > 1:
        panels[0].set(xlabel="inference step", ylabel="energy U, stimulus free (nats)", title="spontaneous")


def asinh_ticks(high: float, width: float) -> list[float]:
    """0 and numbers 1, 2 or 5 times a power of ten up to `high`, at least a seventh of the axis apart.

    >>> asinh_ticks(400.0, 10.0)
    [0.0, 10.0, 50.0, 100.0, 200.0]
    """
    if not (math.isfinite(high) and high > 0):
        return [0.0]
    apart = math.asinh(high / width) / 7
    decades = range(math.floor(math.log10(min(width, high))) - 2, math.ceil(math.log10(high)) + 1)
    ticks = [0.0]
    for value in (float(f"{digit}e{decade}") for decade in decades for digit in (1, 2, 5)):
        if value <= high and math.asinh(value / width) - math.asinh(ticks[-1] / width) >= apart:
            ticks.append(value)
    return ticks


def _linear_width(axes: Axes) -> float:
    """The highest closed line, D/2; 10 nats where none is known."""
    closed = [line for line in axes.get_lines() if str(line.get_label()).startswith("T =")]
    return max(float(np.max(line.get_ydata())) for line in closed) or 10.0


def _extremes(axes: Axes, extreme: Callable[[NDArray[np.float64]], float]) -> list[float]:
    return [float(extreme(np.asarray(line.get_ydata(), np.float64))) for line in axes.get_lines()]


def _onset(axes: Axes) -> None:
    axes.axvline(0, color=REFERENCE, linewidth=0.8, linestyle=(0, (1, 1.5)))


def _key(figure: Figure, axes: Axes) -> None:
    handles, names = axes.get_legend_handles_labels()
    figure.legend(
        handles, names, loc="outside upper center", ncols=len(names), columnspacing=1.2, handlelength=1.8
    )
    figure.supxlabel(BAND_TEXT, fontsize=6.5, color=REFERENCE)
