"""Modes and switching: occupancy against masses, dwell times against theory, rivalry's durations, Levelt's laws."""

import math
from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pcsim.analysis.rivalry import duration_density
from pcsim.figures.caution import caution
from pcsim.figures.colours import NEUTRAL, colour
from pcsim.figures.marks import DASHED, DOTTED
from pcsim.figures.style import COLUMN, REFERENCE, sheet, styled

LAW_DASHES = {"gamma": "-", "lognormal": DASHED, "rate_gamma": DOTTED}
LAW_NAMES = {"gamma": "gamma", "lognormal": "lognormal", "rate_gamma": "gamma of 1/duration"}


@styled
def occupancy(results: Mapping[str, xr.Dataset], names: list[str] | None = None) -> Figure:
    """Share of the draws in each mode ± 2 s.e. (dots) against the posterior's masses (bars)."""
    figure = sheet(COLUMN, 2.4)
    axes = figure.subplots()
    first = next(iter(results.values()))
    modes = np.arange(first.sizes["mode"])
    axes.bar(modes, first["mass"], width=0.7, color="#D9D9D9", label="posterior mass")
    for place, (label, result) in enumerate(results.items()):
        shift = 0.2 * (place - (len(results) - 1) / 2)
        axes.errorbar(
            modes + shift, result["occupancy"], yerr=2 * result["standard_error"], fmt="o", markersize=4, capsize=2,
            color=colour(label, place), label=label,
        )  # fmt: skip
    axes.set_xticks(modes, names or [f"mode {m}" for m in modes])
    axes.set(ylabel="share of draws", ylim=(0, None))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=3)
    caution(figure, results)
    return figure


@styled
def dwell_survival(
    survivals: Mapping[str, xr.Dataset], means: Mapping[str, float] | None = None, unit: str = "step"
) -> Figure:
    """Share of dwells longer than t ± 1 s.e., logarithmic: a straight line is a memoryless switch. Dashed: theory."""
    figure = sheet(COLUMN, 2.6)
    axes = figure.subplots()
    for place, (label, found) in enumerate(survivals.items()):
        ink, time = colour(label, place), found["time"]
        name = f"{label} ({found.attrs['exits']} exits)"
        low, high = (found["survival"] + sign * found["standard_error"] for sign in (-1, 1))
        axes.fill_between(time, low, high, step="post", color=ink, alpha=0.22, linewidth=0)
        axes.step(time, found["survival"], where="post", color=ink, label=name)
    last = max(float(found["time"][-1]) for found in survivals.values())
    lowest = min(1 / found.attrs["exits"] for found in survivals.values())
    ends = np.array([0.0, last])
    for label, mean in (means or {}).items():
        name = f"{label}: exponential, mean {mean:.3g}"
        axes.plot(ends, np.exp(-ends / mean), color=REFERENCE, linestyle=DASHED, label=name)
    axes.set(xlabel=f"dwell time t ({unit})", ylabel="share longer than t", yscale="log")
    axes.set(ylim=(lowest, 1.2), xlim=(0, last))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", fontsize=6.5)
    caution(figure, survivals)
    return figure


@styled
def rivalry(
    dwells: Mapping[str, xr.Dataset], statistics: Mapping[str, xr.Dataset], state: int = 1, unit: str = "step"
) -> Figure:
    """Dominance durations of one percept in each run, with the three fitted laws, shape, CV and serial correlation."""
    columns = 1 if len(dwells) == 1 else 2
    rows = math.ceil(len(dwells) / columns)
    figure = sheet(COLUMN * columns, 2.3 * rows)
    panels = list(np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel())
    for place, (label, table) in enumerate(dwells.items()):
        _durations(panels[place], table, statistics[label], state, colour(label, place))
        panels[place].set(xlabel=f"dominance duration ({unit})", ylabel="density", title=label)
        panels[place].title.set_color(colour(label, place))
    for spare in panels[len(dwells) :]:
        spare.set_axis_off()
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower left", ncols=3)
    caution(figure, statistics)
    return figure


@styled
def levelt(result: xr.Dataset, names: tuple[str, str] = ("state −1", "state 1")) -> Figure:
    """Mean dominance of each percept ± 1 s.e. (left) and the rate of alternation (right) against input strength."""
    figure = sheet(COLUMN, 2.2)
    left, right = figure.subplots(1, 2, width_ratios=[1.3, 1])
    for place, (state, name) in enumerate(zip((-1, 1), names, strict=True)):
        one = result.sel(state=state)
        left.errorbar(
            result["strength"], one["mean"], yerr=one["standard_error"], fmt="o-", markersize=3.5,
            color=NEUTRAL[place], label=name,
        )  # fmt: skip
    right.plot(result["strength"], result["alternation_rate"], "o-", markersize=3.5, color=NEUTRAL[0])
    left.set(xlabel="input strength", ylabel="mean dominance", ylim=(0, None))
    right.set(xlabel="input strength", ylabel="alternation rate", ylim=(0, None))
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper left", ncols=2)
    caution(figure, result)
    return figure


def _durations(axes: Axes, table: xr.Dataset, found: xr.Dataset, state: int, ink: str) -> None:
    complete = (table["censored"].to_numpy() == "") & (table["state"].to_numpy() == state)
    durations = table["duration"].to_numpy()[complete]
    high = float(np.quantile(durations, 0.995))
    axes.hist(durations, bins=40, range=(0, high), density=True, color=ink, alpha=0.25)
    grid = np.linspace(high / 400, high, 400)
    one = found.sel(state=state)
    best = str(one["law"].to_numpy()[one["log_likelihood"].to_numpy().argmax()])
    for law, dashes in LAW_DASHES.items():
        first, second = (float(p) for p in one["parameters"].sel(law=law))
        axes.plot(grid, duration_density(grid, law, first, second), color="#000000", linestyle=dashes, linewidth=1.0,
                  label=LAW_NAMES[law])  # fmt: skip
    text = (
        f"gamma shape {float(one['shape']):.2f} ± {float(one['shape_error']):.2f}\nCV {float(one['cv']):.2f}\n"
        f"serial r {float(found['serial_correlation']):.2f} ± {float(found['serial_error']):.2f}\n"
        f"best: {LAW_NAMES[best]}"
    )
    axes.text(0.97, 0.97, text, transform=axes.transAxes, ha="right", va="top", fontsize=6.5)
    axes.set(xlim=(0, high), ylim=(0, 1.2 * axes.get_ylim()[1]))
