"""Error units under oddballs and omissions, and attention as precision."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from pcsim.figures.caution import caution
from pcsim.figures.colours import NEUTRAL, colour
from pcsim.figures.marks import DASHED, DOTTED
from pcsim.figures.style import COLUMN, PAGE, REFERENCE, sheet, styled


@styled
def standard_decay(results: Mapping[str, xr.Dataset], theory: Mapping[str, float] | None = None) -> Figure:
    """Mean amplitude of one unit to each standard (dots); dashed: the first times theory's ratioⁿ."""
    figure = sheet(COLUMN, 2.4)
    axes = figure.subplots()
    theory = theory or {}
    for place, (label, result) in enumerate(results.items()):
        ink, amplitude = colour(label, place), result["amplitude"].squeeze(drop=True)
        number = np.arange(amplitude.size)
        ratio, error = (float(result[name].squeeze()) for name in ("ratio", "standard_error"))
        spread = f" ± {error:.3f}" if np.isfinite(error) else ""  # one chain has no error
        axes.plot(
            number, amplitude, "o", markersize=4, color=ink, label=f"{label}: ratio {ratio:.3f}{spread}"
        )
        if label in theory:
            law = float(amplitude[0]) * theory[label] ** number
            axes.plot(
                number, law, color=ink, linestyle=DASHED, linewidth=1.0, label=f"1 − αK = {theory[label]:.3f}"
            )
    axes.axhline(0, color=REFERENCE, linewidth=0.8)
    axes.set(xlabel="standards before this one", ylabel="error amplitude\n(precision-weighted)")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left")
    caution(figure, results)
    return figure


@styled
def mismatch(results: Mapping[str, xr.Dataset]) -> Figure:
    """Amplitudes to deviant and control (left) and their difference ± 2 s.e. (right), one row per comparison."""
    figure = sheet(PAGE, 0.9 + 0.35 * len(results))
    left, right = figure.subplots(1, 2, sharey=True)
    heights = np.arange(len(results))[::-1]
    for place, (height, result) in enumerate(zip(heights, results.values(), strict=True)):
        one = result.squeeze(drop=True)
        first = place == 0
        left.plot(float(one["deviant"]), height, "o", color=NEUTRAL[0], label="deviant" if first else None)
        left.plot(float(one["control"]), height, "o", color=NEUTRAL[0], markerfacecolor="white",
                  label="control" if first else None)  # fmt: skip
        right.errorbar(
            float(one["mismatch"]),
            height,
            xerr=2 * float(one["standard_error"]),
            fmt="o",
            capsize=2,
            color=NEUTRAL[0],
        )
    right.axvline(0, color=REFERENCE, linewidth=0.8)
    left.set_yticks(heights, list(results))
    left.set(xlabel="error amplitude (precision-weighted)", ylim=(-0.6, len(results) - 0.4))
    right.set(xlabel="mismatch: deviant − control")
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper left", ncols=2)
    caution(figure, results)
    return figure


@styled
def populations(
    result: xr.Dataset, onsets: Sequence[int] = (), omitted: Sequence[int] = (), dim: str = "step"
) -> Figure:
    """Positive (up) and negative (down) error populations over time; dotted: onsets; grey: omitted stimuli.

    `result` from `error_populations` of one unit, averaged over chains before (what a population shows) or after.
    """
    figure = sheet(PAGE, 2.2)
    axes = figure.subplots()
    period = float(np.diff(sorted([*onsets, *omitted])).min()) if len(onsets) + len(omitted) > 1 else 0.0
    for start in omitted:
        axes.axvspan(
            start,
            start + period,
            color="#E3E3E3",
            linewidth=0,
            label="stimulus omitted" if start == omitted[0] else None,
        )
    for start in onsets:
        axes.axvline(
            start,
            color=REFERENCE,
            linewidth=0.6,
            linestyle=DOTTED,
            label="onset" if start == onsets[0] else None,
        )
    for sign, name, ink in ((1, "positive", NEUTRAL[0]), (-1, "negative", NEUTRAL[1])):
        line = sign * result[name].squeeze(drop=True)
        axes.fill_between(line[dim], 0, line, color=ink, alpha=0.3, linewidth=0)
        axes.plot(line[dim], line, color=ink, linewidth=0.9, label=f"{name} population")
    axes.axhline(0, color=REFERENCE, linewidth=0.6)
    axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    axes.set(xlabel="inference step", ylabel="rectified error\n(negative ↓   positive ↑)")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=4)
    caution(figure, result)
    return figure


@styled
def response_times(
    courses: Mapping[str, xr.DataArray], times: Mapping[str, xr.DataArray], threshold: float,
    theory: Mapping[str, float] | None = None, dim: str = "step", xlabel: str = "inference step",
) -> Figure:  # fmt: skip
    """Mean value after the cue for each attention, where it crosses the threshold (dots), theory's times (dashed)."""
    figure = sheet(COLUMN, 2.5)
    axes = figure.subplots()
    for place, (label, course) in enumerate(courses.items()):
        ink, time = colour(label, place), float(times[label])
        name = f"{label}: {time:.3g}" if np.isfinite(time) else f"{label}: never"
        axes.plot(course[dim], course, color=ink, label=name)
        axes.plot(time, threshold, "o", color=ink, markersize=4.5)
        if theory and label in theory and np.isfinite(theory[label]):
            axes.plot([theory[label]] * 2, [0, threshold], color=ink, linewidth=0.9, linestyle=DASHED)
    axes.axhline(threshold, color=REFERENCE, linewidth=0.8, label="threshold")
    if theory:
        axes.plot([], [], color=REFERENCE, linewidth=0.9, linestyle=DASHED, label="(1/λ) ln(m/(m − θ))")
    axes.set(xlabel=xlabel, ylabel="mean value over chains")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=2)
    caution(figure, times)
    return figure


@styled
def gain(
    results: Mapping[str, xr.Dataset], means: Mapping[str, xr.DataArray], stimulus: xr.DataArray
) -> Figure:
    """Stationary means against the stimulus for each attention, with the fitted gain."""
    figure = sheet(COLUMN, 2.4)
    axes = figure.subplots()
    ends = np.array([float(stimulus.min()), float(stimulus.max())])
    for place, (label, result) in enumerate(results.items()):
        ink, slope = colour(label, place), float(result["gain"])
        axes.plot(stimulus, means[label], "o", markersize=4, color=ink)
        name = f"{label}: gain {slope:.2f} ± {float(result['standard_error']):.2f}"
        axes.plot(ends, float(result["intercept"]) + slope * ends, color=ink, label=name)
    axes.axhline(0, color=REFERENCE, linewidth=0.6)
    axes.set(xlabel="stimulus x", ylabel="stationary mean value")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left")
    caution(figure, results)
    return figure
