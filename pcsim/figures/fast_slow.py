"""What inference gains over its steps: divergences, log-joint, drift against noise, gradient norm."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from pcsim.figures.caution import caution
from pcsim.figures.colours import colour
from pcsim.figures.marks import DASHED, STEP, band
from pcsim.figures.style import COLUMN, PAGE, REFERENCE, sheet, styled


@styled
def divergences(
    results: Mapping[str, xr.Dataset], exact: xr.Dataset | None = None, dim: str = "step"
) -> Figure:
    """KL(q_t‖p) and KL(p‖q_t) over steps, bias-corrected, mean over images ± 1 s.e. of the fit; dashed: the exact law.

    Linear below the fit's own error, logarithmic above it, so that a corrected estimate may lie below zero. Curves
    leave the axes at ten times the largest start: chains at T = 0 shrink to a point, infinitely far from p.
    """
    figure = sheet(PAGE, 2.6)
    panels = figure.subplots(1, 2, sharey=True)
    titles = {"reverse": "reverse: KL($q_t$ ‖ p)", "forward": "forward: KL(p ‖ $q_t$)"}
    for axes, (name, title) in zip(panels, titles.items(), strict=True):
        axes.axhline(0, color=REFERENCE, linewidth=0.7)
        for place, (label, result) in enumerate(results.items()):
            band(axes, result[dim], over_images(result[name]), _joint(result[f"{name}_error"]),
                  colour(label, place), label)  # fmt: skip
        if exact is not None:
            axes.plot(
                exact[dim], exact[name], color=REFERENCE, linestyle=DASHED, linewidth=1.0, label="exact"
            )
        axes.set(xlabel=STEP, title=title)
    errors = [float(_joint(result["reverse_error"]).median()) for result in results.values()]
    panels[0].set_yscale("symlog", linthresh=_power(np.nanmax([*errors, 1e-3])), linscale=0.6)
    starts = [float(over_images(result[name])[0]) for result in results.values() for name in titles]
    known = [start for start in starts if np.isfinite(start)]
    if known:
        panels[0].set_ylim(top=10 * max(known))
    panels[0].set_ylabel("divergence from the posterior (nat)")
    panels[1].legend()
    caution(figure, results)
    return figure


@styled
def log_joint(results: Mapping[str, xr.Dataset], dim: str = "step") -> Figure:
    """L_t − L_0, mean over images with its standard deviation, and dashed the stationary line that it must end on."""
    figure = sheet(COLUMN, 2.7)
    axes = figure.subplots()
    axes.axhline(0, color=REFERENCE, linewidth=0.7)
    for place, (label, result) in enumerate(results.items()):
        color = colour(label, place)
        band(axes, result[dim], result["mean"], result["sd"], color, label)
        if "stationary_mean" in result:
            axes.axhline(float(result["stationary_mean"]), color=color, linestyle=DASHED, linewidth=0.9)
    axes.plot([], [], color=REFERENCE, linestyle=DASHED, linewidth=0.9, label="stationary")
    axes.set(xlabel=STEP, ylabel="Δ log p(x, z) since the sweep (nat)\nmean ± sd over images")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=3)
    caution(figure, results)
    return figure


@styled
def drift_to_noise(results: Mapping[str, xr.Dataset], dim: str = "step") -> Figure:
    """The drift-to-noise ratio over steps (mean over images), its stationary value (dashed), and the line of 1."""
    figure = sheet(COLUMN, 2.5)
    axes = figure.subplots()
    axes.axhline(1, color=REFERENCE, linewidth=0.7)
    # in words beside the line: a grey line alone would not say which side is which
    axes.annotate(
        "drift dominates ↑", (1, 1), (-2, 2), xycoords=("axes fraction", "data"), textcoords="offset points",
        ha="right", fontsize=6.5, color=REFERENCE,
    )  # fmt: skip
    for place, (label, result) in enumerate(results.items()):
        color = colour(label, place)
        axes.plot(result[dim], over_images(result["ratio"]), color=color, label=label)
        axes.axhline(float(over_images(result["stationary"])), color=color, linestyle=DASHED, linewidth=0.9)
    axes.plot([], [], color=REFERENCE, linestyle=DASHED, linewidth=0.9, label="stationary")
    axes.set(yscale="log", xlabel=STEP, ylabel="drift-to-noise ratio of a step")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=3)
    caution(figure, results)
    return figure


@styled
def gradient_plateau(results: Mapping[str, xr.Dataset], dim: str = "step") -> Figure:
    """Mean squared gradient norm over steps and, dashed, the plateau that the posterior's curvature asks for at T > 0.

    Curves that fall below the smallest expectation by more than 10⁴ are cut off there: at T = 0 they go to zero.
    """
    figure = sheet(COLUMN, 2.6)
    axes = figure.subplots()
    levels = []
    for place, (label, result) in enumerate(results.items()):
        color = colour(label, place)
        axes.plot(result[dim], over_images(result["square"]), color=color, label=label)
        if "expected" in result:
            levels.append(float(over_images(result["expected"])))
            axes.axhline(levels[-1], color=color, linestyle=DASHED, linewidth=0.9)
    if levels:
        axes.plot([], [], color=REFERENCE, linestyle=DASHED, linewidth=0.9, label="expected at equilibrium")
    axes.set(yscale="log", xlabel=STEP, ylabel="|∂U/∂z|² (nat² per squared unit)")
    positive = [level for level in levels if level > 0]
    if positive and axes.get_ylim()[0] < min(positive) * 1e-4:
        axes.set_ylim(bottom=min(positive) * 1e-4)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=3)
    caution(figure, results)
    return figure


def over_images(array: xr.DataArray) -> xr.DataArray:
    """Mean over images where there are any."""
    return array.mean("image") if "image" in array.dims else array


def _joint(error: xr.DataArray) -> xr.DataArray:
    """Standard error of a mean over images from those of the images, whose chains are independent."""
    if "image" not in error.dims:
        return error
    return (error**2).sum("image") ** 0.5 / error.sizes["image"]


def _power(value: float) -> float:
    return float(10.0 ** np.ceil(np.log10(value)))
