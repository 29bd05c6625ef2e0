"""What readouts know over the inference steps: decodability, generalisation, solution times, masking."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pcsim.figures.caution import caution
from pcsim.figures.colours import NEUTRAL, colour
from pcsim.figures.marks import DASHED, DOTTED, STEP, band
from pcsim.figures.style import COLUMN, PAGE, REFERENCE, sheet, styled

ACCURACY = "accuracy (mean over classes)"
TIME = "inference step"
OVER = {"period": "steps per picture", "soa": "onset asynchrony (steps)"}


@styled
def decodability(results: Mapping[str, xr.Dataset], dim: str = "step") -> Figure:
    """Held-out accuracy over steps: trained at t (line, ± 1 s.e.), trained at T (dashed), chance ± 2 s.e. (grey).

    A result without steps (the encoder's mean) is a dotted level. The open dots are the label-shuffled control.
    """
    figure = sheet(PAGE, 2.5)
    axes = figure.subplots()
    for place, (label, result) in enumerate(results.items()):
        color = colour(label, place)
        if dim not in result["same"].dims:
            axes.axhline(float(result["same"]), color=color, linestyle=DOTTED, label=label)
            continue
        steps = result[dim].to_numpy()
        band(axes, steps, result["same"], result["same_se"], color, label)
        axes.plot(steps, result["last"], color=color, linestyle=DASHED, linewidth=1.0)
        axes.plot(
            steps,
            result["shuffled"],
            "o",
            color=color,
            markersize=2.2,
            markerfacecolor="white",
            markeredgewidth=0.6,
        )
    first = next(iter(results.values()))
    _chance(axes, first)
    axes.plot([], [], color=REFERENCE, linestyle=DASHED, linewidth=1.0, label="trained at the last step")
    axes.plot([], [], "o", color=REFERENCE, markersize=2.2, markerfacecolor="white", label="labels shuffled")
    axes.set(xlabel=STEP, ylabel=ACCURACY, ylim=(None, 1.02))
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    caution(figure, results)
    return figure


@styled
def temporal_generalisation(result: xr.Dataset, dim: str = "step") -> Figure:
    """Accuracy by step of training (up) and of testing (across); white is chance, orange above it."""
    figure = sheet(COLUMN, 3.4)
    axes = figure.subplots()
    trained, tested = (result[f"{dim}_{name}"].to_numpy() for name in ("trained", "tested"))
    accuracy = result["accuracy"].transpose(f"{dim}_trained", f"{dim}_tested").to_numpy()
    chance, error = float(result["chance"]), float(result["chance_se"])
    low = min(accuracy.min(), chance - 4 * error)
    norm = TwoSlopeNorm(vcenter=chance, vmin=low, vmax=1.0)
    shade = axes.pcolormesh(tested, trained, accuracy, cmap="PuOr_r", norm=norm, rasterized=True)
    axes.plot(tested[[0, -1]], tested[[0, -1]], color=REFERENCE, linewidth=0.6, linestyle=(0, (1, 2)))
    axes.set(xlabel=f"tested at {TIME}", ylabel=f"trained at {TIME}", aspect="equal")
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(shade, ax=axes, label=ACCURACY, location="bottom", aspect=30)
    ticks = [low, chance, (1 + chance) / 2, 1.0]
    bar.set_ticks(ticks, labels=[f"{low:.2f}", f"chance {chance:.2g}", f"{ticks[2]:.2f}", "1"])
    caution(figure, result)
    return figure


@styled
def solution_times(results: Mapping[str, xr.Dataset]) -> Figure:
    """Left: images solved by each step, challenge and control, of the first result. Right: ΔOST ± s.e. of every one."""
    figure = sheet(PAGE, 2.4)
    left, right = figure.subplots(1, 2, width_ratios=[1.5, 1])
    label, first = next(iter(results.items()))
    last = float(np.nanmax([first["challenge_time"].max(), first["control_time"].max()]))
    for name, color in (("control", NEUTRAL[2]), ("challenge", NEUTRAL[0])):
        times = np.sort(first[f"{name}_time"].to_numpy())
        share = np.arange(1, len(times) + 1) / len(times)
        solved = np.isfinite(times)
        left.step(
            np.r_[0, times[solved], last],
            np.r_[0, share[solved], solved.mean()],
            where="post",
            color=color,
            label=f"{name} images",
        )
    left.set(xlabel="object solution time (steps)", ylabel="share of images solved", ylim=(0, 1.02))
    left.legend(loc="lower right", title=label)
    heights = np.arange(len(results))[::-1]
    for height, result in zip(heights, results.values(), strict=True):
        right.errorbar(float(result["difference"]), height, xerr=float(result["difference_se"]), fmt="o", markersize=4,
                       color=NEUTRAL[0])  # fmt: skip
    right.axvline(0, color=REFERENCE, linewidth=0.9)
    right.set_yticks(heights, [f"{name}\n{_pairs(result)} pairs" for name, result in results.items()])
    right.set(xlabel="ΔOST, challenge − control (steps)", ylim=(-0.6, len(results) - 0.4))
    caution(figure, results)
    return figure


@styled
def masking(curves: Mapping[str, xr.DataArray], theory: Mapping[str, xr.DataArray] | None = None) -> Figure:
    """A component (or accuracy) after the mask against the onset asynchrony; dashed: the closed form."""
    figure = sheet(COLUMN, 2.4)
    axes = figure.subplots()
    for place, (label, curve) in enumerate(curves.items()):
        axes.plot(curve["soa"], curve, "o", color=colour(label, place), markersize=4, label=label)
    for place, label in enumerate(theory or {}):
        curve = (theory or {})[label]
        axes.plot(curve["soa"], curve, color=colour(label, place), linewidth=0.9, linestyle=DASHED)
    if theory:
        axes.plot(
            [],
            [],
            color=REFERENCE,
            linewidth=0.9,
            linestyle=DASHED,
            label="aᵏ (1 − aⁿ), or 0 after a reset",
        )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="stimulus onset asynchrony n (steps)", ylabel="target component\n(steady response = 1)")
    axes.legend()
    caution(figure, curves)
    return figure


@styled
def component_course(
    measure: xr.DataArray, times: xr.Dataset | None = None, over: str = "period", dim: str = "step"
) -> Figure:
    """A component over the steps, one line per presentation rate; right: its peak and end against the rate."""
    figure = sheet(PAGE if times is not None else COLUMN, 2.4)
    panels = figure.subplots(1, 2 if times is not None else 1, squeeze=False)[0]
    axes, values = panels[0], measure[over].to_numpy()
    shades = _shades(len(values))
    mean = measure.mean("image") if "image" in measure.dims else measure
    for color, value in zip(shades, values, strict=True):
        axes.plot(mean[dim], mean.sel({over: value}), color=color, label=f"{value:g}")
    axes.axvline(0, color=REFERENCE, linewidth=0.8, linestyle=DOTTED)
    axes.axhline(0, color=REFERENCE, linewidth=0.6)
    axes.set(xlabel="step from the target's onset", ylabel="target component\n(steady response = 1)")
    axes.legend(title=OVER.get(over, over), ncols=2)
    if times is not None:
        _latencies(panels[1], times, over)
        caution(figure, measure, times)
    else:
        caution(figure, measure)
    return figure


def _latencies(axes: Axes, times: xr.Dataset, over: str) -> None:
    for name, marker, color in (("peak", "o", NEUTRAL[0]), ("end", "s", NEUTRAL[1])):
        error: Any = times[f"{name}_se"].to_numpy() if f"{name}_se" in times else None
        axes.errorbar(times[over], times[name], yerr=error, fmt=f"{marker}-", color=color, markersize=4,
                      linewidth=1.0, label=f"{name} of the component")  # fmt: skip
    axes.set(
        xlabel=OVER.get(over, over),
        ylabel="time from onset (steps)",
        ylim=(0, None),
    )
    axes.legend()


def _chance(axes: Axes, result: xr.Dataset) -> None:
    chance, error = float(result["chance"]), float(result["chance_se"])
    axes.axhspan(chance - 2 * error, chance + 2 * error, color=REFERENCE, alpha=0.15, linewidth=0)
    axes.axhline(chance, color=REFERENCE, linewidth=0.9, label=f"chance {chance:.2g} ± 2 s.e.")


def _pairs(result: xr.Dataset) -> int:
    return int((result["challenge_time"].notnull() & result["control_time"].notnull()).sum())


def _shades(count: int) -> Any:
    from matplotlib import colormaps

    return colormaps["viridis"](np.linspace(0.0, 0.85, count))
