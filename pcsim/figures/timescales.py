"""How chains move in time: autocorrelation and effective draws, intrinsic timescales by level, spectra."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from pcsim.figures.caution import caution
from pcsim.figures.colours import colour
from pcsim.figures.marks import DASHED, DOTTED, flat
from pcsim.figures.style import COLUMN, REFERENCE, sheet, styled

Arrays = Mapping[str, xr.DataArray]


@styled
def autocorrelation(
    results: Arrays | xr.DataArray, sizes: Arrays | xr.DataArray, time: str = "steps"
) -> Figure:
    """Autocorrelation over lags (median and range over units), and effective sample sizes of all units, sorted.

    The line at 400 draws is what reported averages need (Vehtari et al. 2021).
    """
    curves, effective = _each(results), _each(sizes)
    figure = sheet(COLUMN * 1.35, 2.3)
    left, right = figure.subplots(1, 2)
    for place, (name, rho) in enumerate(curves.items()):
        _band(left, rho, "lag", colour(name, place), name)
    left.axhline(0, color=REFERENCE, linewidth=0.9, zorder=1)
    left.set(xlabel=f"lag ({time})", ylabel="autocorrelation")
    for place, (name, ess) in enumerate(effective.items()):
        values = np.sort(flat(ess)[np.isfinite(flat(ess))])
        if not values.size:
            continue
        # from a share of 0 on, or a single unit would have no line
        share = np.arange(len(values) + 1) / len(values)
        right.step([values[0], *values], share, where="post", color=colour(name, place), label=name)
    right.axvline(400, color=REFERENCE, linewidth=0.9, linestyle=DASHED, gid="needed")
    counts = np.concatenate([flat(ess) for ess in effective.values()])
    if np.nanmax(counts) > 30 * np.nanmin(counts):
        right.set_xscale("log")
    else:
        right.set_xlim(left=0)
    right.set(xlabel="effective draws (dashed: 400)", ylabel="share of units below", ylim=(0, 1.02))
    if len(curves) > 1:
        figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=len(curves))
    caution(figure, curves, effective)
    return figure


@styled
def spectrum(results: Mapping[str, xr.Dataset] | xr.Dataset, reference: Arrays, per: str = "step") -> Figure:
    """Power spectra on logarithmic axes (median and range over units), with reference spectra by label in black."""
    named = {"measured": results} if isinstance(results, xr.Dataset) else dict(results)
    figure = sheet(COLUMN, 2.6)
    axes = figure.subplots()
    for place, (name, result) in enumerate(named.items()):
        _band(axes, result["power"], "frequency", colour(name, place), name)
    for place, (name, power) in enumerate(reference.items()):
        dashes = ("-", DASHED, DOTTED)[place % 3]
        axes.plot(
            power["frequency"],
            power,
            color="black",
            linewidth=0.9,
            linestyle=dashes,
            label=name,
            gid="reference",
        )
    axes.set(xscale="log", yscale="log", xlabel=f"frequency (1/{per})", ylabel=f"power (value² · {per})")
    for axis in (axes.xaxis, axes.yaxis):
        # matplotlib's own labels of minor ticks run into each other where the axis spans about a decade
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_locator(NullLocator())
    figure.legend(loc="outside upper center", ncols=2, columnspacing=1.2, handlelength=1.8)
    caution(figure, named)
    return figure


@styled
def timescales(
    levels: Mapping[str, xr.Dataset], implied: Mapping[str, Arrays] | None = None, time: str = "steps"
) -> Figure:
    """Intrinsic timescale by level, bottom to top, a line per phase; quartiles over units, open marks the closed form.

    `levels`: level to the result of `timescales_by_phase`; `implied`: phase to level to the closed form per unit.
    """
    names = list(levels)
    first = levels[names[0]]
    phases = [str(p) for p in first["phase"].values]
    looks = {"spontaneous": ("#7A7A7A", "s"), "evoked": ("#D55E00", "o")}
    figure = sheet(COLUMN, 2.5)
    axes = figure.subplots()
    for place, phase in enumerate(phases):
        ink, marker = looks.get(phase, (colour(phase, place), "o"))
        rows = [flat(result["integrated"].sel(phase=phase)) for result in levels.values()]
        low, mid, high = (np.array([np.nanquantile(row, q) for row in rows]) for q in (0.25, 0.5, 0.75))
        at = np.arange(len(names)) + 0.06 * (place - (len(phases) - 1) / 2)
        axes.errorbar(at, mid, (mid - low, high - mid), fmt=f"{marker}-", color=ink, markersize=4, linewidth=1.0,
                      label=phase)  # fmt: skip
        closed = (implied or {}).get(phase)
        if closed is not None:
            truth = [float(closed[name].median()) for name in names]
            axes.plot(at, truth, marker, markerfacecolor="none", markeredgecolor="black", markersize=7,
                      linestyle="none", gid="implied", label="closed form" if place == 0 else None)  # fmt: skip
    axes.set_xticks(range(len(names)), names)
    # a count that depends on the axis' height changes the labels' width after the layout has measured it
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set(xlabel="level, from the data up", ylabel=f"integrated timescale ({time})", ylim=(0, None))
    figure.legend(loc="outside upper center", ncols=3, columnspacing=1.2)
    caution(figure, levels)
    return figure


@styled
def murray_fit(result: xr.Dataset, time: str = "steps", two: xr.Dataset | None = None) -> Figure:
    """Autocorrelation across trials with Murray's fit for the unit of median timescale, and all timescales.

    `two`: the result of `biexponential_timescale` for the same series, drawn dashed.
    """
    flat_units = list(result["timescale"].dims)
    stacked = result.stack(series=flat_units) if flat_units else result.expand_dims("series")
    found = stacked["timescale"].to_numpy()
    order = np.argsort(np.where(np.isfinite(found), found, np.inf))
    middle = int(order[max(int(np.isfinite(found).sum()) - 1, 0) // 2])
    one = stacked.isel(series=middle)
    figure = sheet(COLUMN * 1.35, 2.3)
    left, right = figure.subplots(1, 2)
    lag = one["autocorrelation"]["lag"]
    left.plot(lag, one["autocorrelation"], "o", color="#56B4E9", markersize=2.5, label="across trials")
    left.plot(
        lag,
        one["fitted"],
        color="black",
        linewidth=1.1,
        label=f"A (exp(−k/τ) + B), τ = {found[middle]:.3g}",
    )
    if two is not None:
        pair = (two.stack(series=flat_units) if flat_units else two.expand_dims("series")).isel(series=middle)
        scales = f"two: τ = {float(pair['fast']):.3g} and {float(pair['slow']):.3g}"
        left.plot(lag, pair["fitted"], color="#D55E00", linestyle=DASHED, linewidth=1.0, label=scales)
    left.axhline(0, color=REFERENCE, linewidth=0.9, zorder=1)
    left.set(xlabel=f"lag ({time})", ylabel="autocorrelation")
    left.legend(loc="upper right", fontsize=6)
    values = found[np.isfinite(found) & ~stacked["at_edge"].to_numpy()]
    right.hist(values, 20, color="#56B4E9", alpha=0.7)
    if values.size:
        right.axvline(float(np.median(values)), color="black", linewidth=1.1, gid="median")
    right.set(xlabel=f"intrinsic timescale τ ({time})\nline: median", ylabel="units")
    caution(figure, result, *([] if two is None else [two]))
    return figure


@styled
def effective_temperature(results: Arrays | xr.DataArray, temperature: float, time: str = "steps") -> Figure:
    """Effective temperature over lags or frequencies (median and range over units), with the set one."""
    curves = _each(results)
    figure = sheet(COLUMN, 2.3)
    axes = figure.subplots()
    for place, (name, curve) in enumerate(curves.items()):
        # at lag 0 both sides of the ratio are 0
        shown = curve.sel(lag=curve["lag"] > 0) if "lag" in curve.dims else curve
        _band(axes, shown, "lag" if "lag" in curve.dims else "frequency", colour(name, place), name)
    axes.axhline(
        temperature,
        color=REFERENCE,
        linewidth=0.9,
        zorder=1,
        label=f"set: T = {temperature:g}",
        gid="set",
    )
    lagged = all("lag" in curve.dims for curve in curves.values())
    axes.set(
        xlabel=f"lag ({time})" if lagged else f"frequency (1/{time})", xscale="linear" if lagged else "log",
        ylabel="effective temperature\n(fluctuation / response)",
    )  # fmt: skip
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    figure.legend(loc="outside upper center", ncols=2, columnspacing=1.2)
    caution(figure, curves)
    return figure


def _each(results: Arrays | xr.DataArray) -> dict[str, xr.DataArray]:
    return {"measured": results} if isinstance(results, xr.DataArray) else dict(results)


def _band(axes: Axes, curves: xr.DataArray, dim: str, ink: str, label: str) -> None:
    rows = curves.transpose(dim, ...).to_numpy().reshape(curves.sizes[dim], -1)
    rows = rows[:, np.isfinite(rows).all(axis=0)]
    if not rows.size:
        return
    x = curves[dim].to_numpy()
    axes.fill_between(x, rows.min(axis=1), rows.max(axis=1), color=ink, alpha=0.2, linewidth=0)
    axes.plot(x, np.median(rows, axis=1), color=ink, label=label)
