"""How the work divides between sweep and chain: times, gaps, warm-up, the Fast-Slow Index, latencies by level."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from pcsim.figures.caution import caution
from pcsim.figures.colours import colour
from pcsim.figures.marks import DASHED, DOTTED, STEP
from pcsim.figures.style import COLUMN, PAGE, REFERENCE, sheet, styled

GAPS = {
    "approximation": ("#8C6D1F", "approximation: the family"),
    "amortisation": ("#CC79A7", "amortisation: the encoder"),
    "chain": ("#56B4E9", "chain: what its end leaves"),
}


@styled
def equilibrium_times(time: xr.DataArray, difficulty: xr.Dataset, correlation: xr.Dataset) -> Figure:
    """Time to equilibrium against each measure of difficulty, one dot per image, with Spearman's ρ and its interval.

    Images that never arrive are crosses at the top.
    """
    names = [str(name) for name in correlation["measure"].to_numpy()]
    figure = sheet(PAGE if len(names) > 1 else COLUMN, 2.5)
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    arrived = time.notnull().to_numpy()
    top = float(time.max()) * 1.12 if arrived.any() else 1.0
    for axes, name in zip(panels, names, strict=True):
        x = difficulty[name].sel(image=time["image"]).to_numpy()
        axes.plot(x[arrived], time.to_numpy()[arrived], "o", color="black", markersize=3, alpha=0.6)
        if not arrived.all():
            axes.plot(x[~arrived], np.full((~arrived).sum(), top), "x", color=REFERENCE, markersize=4)
        row = correlation.sel(measure=name)
        text = f"ρ = {float(row['spearman']):.2f} [{float(row['low']):.2f}, {float(row['high']):.2f}]"
        if bool(np.isfinite(row["partial"])):
            text += f"\npartial {float(row['partial']):.2f}"
        units = difficulty[name].attrs.get("units")
        axes.set(title=text, xlabel=name.replace("_", " ") + (f" ({units})" if units else ""))
    panels[0].set(
        ylabel="time to equilibrium (steps)", ylim=(min(0.0, float(time.min())) - 0.04 * top, 1.06 * top)
    )
    caution(figure, time, correlation)
    return figure


@styled
def gaps(results: Mapping[str, xr.Dataset]) -> Figure:
    """Mean gaps over images, one row per model: family and encoder stacked to the total, the chain's end below them.

    Bars: means over images; whiskers: ± 1 s.e.
    """
    figure = sheet(COLUMN, 1.2 + 0.55 * len(results))
    axes = figure.subplots()
    for row, result in enumerate(results.values()):
        left = 0.0
        for name, (color, _) in GAPS.items():
            if f"{name}_mean" not in result:
                continue
            mean, error = float(result[f"{name}_mean"]), float(result[f"{name}_error"])
            low = row + 0.42 if name == "chain" else row
            start = 0.0 if name == "chain" else left
            axes.barh(
                low, mean, left=start, height=0.3 if name == "chain" else 0.45, color=color, xerr=error,
                error_kw={"elinewidth": 0.8, "ecolor": "black"},
            )  # fmt: skip
            left += 0.0 if name == "chain" else mean
    shown = [name for name in GAPS if any(f"{name}_mean" in result for result in results.values())]
    for name in shown:
        axes.bar([0], [0], color=GAPS[name][0], label=GAPS[name][1])
    axes.set(yticks=np.arange(len(results)) + 0.15, yticklabels=list(results), xlabel="gap (nat per image)")
    axes.set_ylim(len(results) - 0.3, -0.45)
    figure.legend(loc="outside upper center", ncols=1)
    caution(figure, results)
    return figure


@styled
def warm_up(results: Mapping[str, xr.Dataset], exact: Mapping[str, xr.Dataset] | None = None) -> Figure:
    """Mean squared error of the time average against the discarded steps (± 1 s.e.), with bias² (dotted) beneath it.

    exact: closed forms under the same labels, as grey dashes.
    """
    figure = sheet(COLUMN, 2.6)
    axes = figure.subplots()
    for place, (label, result) in enumerate(results.items()):
        color, steps = colour(label, place), result["discard"]
        axes.errorbar(
            steps, result["mse"], result["mse_error"], color=color, marker="o", markersize=3, label=label
        )
        axes.plot(steps, result["bias2"], color=color, linestyle=DOTTED, linewidth=1.0)
    for curve in (exact or {}).values():
        axes.plot(curve["discard"], curve["mse"], color=REFERENCE, linestyle=DASHED, linewidth=0.9, zorder=3)
    if exact:
        axes.plot([], [], color=REFERENCE, linestyle=DASHED, linewidth=0.9, label="exact")
    axes.plot([], [], color=REFERENCE, linestyle=DOTTED, linewidth=1.0, label="bias² alone")
    axes.set(xlabel="discarded steps B", ylabel="squared error of the time average", ylim=(0, None))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=2)
    caution(figure, results)
    return figure


@styled
def fast_slow_index(results: Mapping[str, xr.Dataset]) -> Figure:
    """One row per result (a model or a level): its images' indices as ticks, the overall index with its 95 % interval.

    1: the sweep does it all; 0: the chain does. A result without images shows its own index.
    """
    figure = sheet(COLUMN, 0.9 + 0.4 * len(results))
    axes = figure.subplots()
    for value in (0, 1):
        axes.axvline(value, color=REFERENCE, linewidth=0.7)
    for row, (label, result) in enumerate(results.items()):
        color, prefix = colour(label, row), "overall_" if "overall_index" in result else ""
        middle, low, high = (float(result[f"{prefix}{part}"]) for part in ("index", "low", "high"))
        if prefix:
            each = result["index"].to_numpy()
            axes.plot(each, np.full(each.shape, row + 0.22), "|", color=color, markersize=5, alpha=0.5)
        axes.plot([low, high], [row, row], color=color, linewidth=1.6)
        axes.plot(middle, row, "o", color=color, markersize=5)
        axes.annotate(
            f"{middle:.2f}", (middle, row), (0, 4), textcoords="offset points", ha="center", fontsize=7
        )
    axes.set(yticks=np.arange(len(results)), yticklabels=list(results), xlabel="Fast-Slow Index")
    axes.set_ylim(len(results) - 0.5, -0.6)
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, -0.05), max(high, 1.05))
    caution(figure, results)
    return figure


@styled
def latencies(result: xr.Dataset, dim: str = "step") -> Figure:
    """By level (lowest at the bottom): departure from the baseline (grey) and from the sweep (black).

    Curves are the test's statistic (mean t²), each panel on its own axis; dots: first step of the first significant
    cluster; dashes: the threshold for clusters.
    """
    names = [str(name) for name in result["level"].to_numpy()]
    figure = sheet(COLUMN, 0.8 + 0.95 * len(names))
    panels = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    kinds = {
        "baseline": ("#9A9A9A", "from before the stimulus"),
        "sweep": ("black", "from the sweep's state"),
    }
    for axes, name in zip(panels, names[::-1], strict=True):
        one = result.sel(level=name)
        for kind, (color, label) in kinds.items():
            statistic = one[f"{kind}_statistic"].clip(min=0.1)
            axes.plot(one[dim], statistic, color=color, linewidth=1.0, label=label)
            axes.axhline(float(one[f"{kind}_threshold"]), color=color, linewidth=0.7, linestyle=(0, (4, 2)))
            when = float(one[f"{kind}_latency"])
            if np.isfinite(when):
                axes.plot(when, float(statistic.sel({dim: when})), "o", color=color, markersize=5, zorder=4)
                first = kind == "sweep"
                axes.annotate(
                    f"{when:g}", (when, float(statistic.sel({dim: when}))), (-5, 4) if first else (5, -9),
                    ha="right" if first else "left", textcoords="offset points", fontsize=7,
                    color=color if first else REFERENCE,
                )  # fmt: skip
        axes.set(yscale="log", ylabel=name)
    panels[-1].set_xlabel(STEP)
    figure.supylabel("mean t² over units", fontsize=8)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2)
    caution(figure, result)
    return figure
