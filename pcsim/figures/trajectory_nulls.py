"""A trajectory in its principal plane, beside what a random walk and matched noise draw in theirs."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pcsim.figures.caution import caution
from pcsim.figures.colours import colour
from pcsim.figures.style import COLUMN, PAGE, REFERENCE, sheet, styled

NULLS = {"walk": "random walk", "noise": "matched noise"}
CONTOURS = np.arange(0, 11) ** 2 / 2
"""Energies at 0, 1, 2 … standard deviations from the minimum of a quadratic energy, in nats."""


@styled
def trajectory_nulls(result: xr.Dataset, label: str = "LPC") -> Figure:
    """Three planes (the chain; an example of each null in its own) and the variance that components explain.

    result: `explained_with_nulls` of one image. Bars: nulls' means with 95 % ranges; coloured lines: the chain. A chain
    whose lines lie within a null's range shows nothing that the null would not.
    """
    figure = sheet(PAGE, 2.3)
    panels = figure.subplots(1, 4, width_ratios=[1, 1, 1, 1.15])
    color = colour(label, 0)
    _path(panels[0], result["position"], color)
    panels[0].set_title(label, color=color)
    for axes, (name, title) in zip(panels[1:], NULLS.items(), strict=False):
        _path(axes, result["example"].sel(null=name), REFERENCE)
        axes.set_title(title, color=REFERENCE)
    panels[0].set_ylabel("PC2")
    _shares(panels[3], result, color)
    caution(figure, result)
    return figure


@styled
def common_plane(positions: Mapping[str, xr.DataArray], log_joint: xr.DataArray | None = None) -> Figure:
    """Chains of several runs (`project` onto one plane) of one image, on the energy of that plane where it is given.

    positions: label -> (chain, step, component). log_joint: dims pc2, pc1, in nats; contours at 0, 1, 2 … standard
    deviations of a quadratic energy below its maximum. Open dots: starts; filled: ends.
    """
    figure = sheet(COLUMN, 3.2)
    axes = figure.subplots()
    if log_joint is not None:
        below = (log_joint.max() - log_joint).transpose("pc2", "pc1")
        grid = [below[name].to_numpy() for name in ("pc1", "pc2")]
        shade = axes.contourf(*grid, below, levels=CONTOURS, cmap="Greys_r", extend="max", alpha=0.45)
        figure.colorbar(shade, ax=axes, label="below the plane's maximum (nat)", location="bottom", aspect=30)
    for place, (label, position) in enumerate(positions.items()):
        for i in range(position.sizes["chain"]):
            x, y = (position.isel(chain=i).sel(component=c).to_numpy() for c in (1, 2))
            axes.plot(x, y, color=colour(label, place), linewidth=0.7, label=label if i == 0 else None)
            axes.plot(x[0], y[0], "o", color="black", markerfacecolor="white", markersize=4, zorder=4)
            axes.plot(x[-1], y[-1], "o", color="black", markersize=3, zorder=4)
    axes.set(xlabel="PC1 (latent units)", ylabel="PC2 (latent units)")
    axes.set_box_aspect(1)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=3)
    caution(figure, positions)
    return figure


def _path(axes: Axes, position: xr.DataArray, color: str) -> None:
    x, y = (position.sel(component=i).to_numpy() for i in (1, 2))
    axes.plot(x, y, color=color, linewidth=0.6)
    axes.plot(x[0], y[0], "o", color="black", markerfacecolor="white", markersize=4, zorder=4)
    axes.plot(x[-1], y[-1], "o", color="black", markersize=4, zorder=4)
    axes.set(xlabel="PC1", xticks=[], yticks=[])
    axes.set_box_aspect(1)


def _shares(axes: Axes, result: xr.Dataset, color: str) -> None:
    places = np.arange(result.sizes["component"])
    for shift, (name, tint) in enumerate((("walk", "#BBBBBB"), ("noise", "#777777"))):
        null = result.sel(null=name)
        mean = null["mean"].to_numpy()
        reach = np.abs(np.stack([mean - null["low"].to_numpy(), null["high"].to_numpy() - mean]))
        axes.bar(
            places + 0.3 * shift, mean, 0.28, color=tint, yerr=reach, label=NULLS[name],
            error_kw={"elinewidth": 0.8, "capsize": 1.5},
        )  # fmt: skip
    axes.hlines(
        result["explained"].to_numpy(),
        places - 0.18,
        places + 0.48,
        color=color,
        linewidth=2,
        label="the chain",
    )
    axes.set(
        xticks=places + 0.15, xticklabels=[f"PC{i}" for i in result["component"].to_numpy()],
        ylim=(0, 1.25), yticks=[0, 0.25, 0.5, 0.75, 1], ylabel="share of variance",
    )  # fmt: skip
    axes.legend(loc="upper right")
