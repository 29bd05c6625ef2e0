"""Variability and its structure: quenching, Fano factors, correlations, spontaneous against evoked activity."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pcsim.analysis.quenching import relaxation
from pcsim.errors import AnalysisError
from pcsim.figures.caution import caution
from pcsim.figures.colours import NEUTRAL, colour
from pcsim.figures.marks import DASHED, DOTTED, band
from pcsim.figures.style import COLUMN, PAGE, REFERENCE, sheet, styled

CROSS = "#D55E00"


@styled
def quenching(
    courses: Mapping[str, xr.Dataset], fits: Mapping[str, xr.Dataset] | None = None, dim: str = "step"
) -> Figure:
    """Variance across chains (above) and mean (below) of one unit around the onset, ± 1 s.e.; dashed: the fitted laws.

    `courses` from `across_chain_variance`, `fits` from `quenching`, both of one image and unit. Laws have rates 2λ
    and λ; the legend states their fitted ratio with its standard error.
    """
    figure = sheet(COLUMN, 3.8)
    upper, lower = figure.subplots(2, 1, sharex=True)
    fits = fits or {}
    for place, (label, course) in enumerate(courses.items()):
        ink, name = colour(label, place), label
        if label in fits:
            ratio, error = (float(fits[label][part].squeeze()) for part in ("ratio", "ratio_error"))
            name = (
                f"{label}: rates {ratio:.2f} ± {error:.2f} : 1"
                if error < 1
                else f"{label}: rates not told apart"
            )
        for axes, what in ((upper, "variance"), (lower, "mean")):
            line = _line(course, what, dim)
            band(axes, line[dim], line, _line(course, f"{what}_error", dim), ink, name)
            if label in fits:
                _law(axes, fits[label], what, line[dim].to_numpy(), ink)
    for axes in (upper, lower):
        axes.axvline(0, color=REFERENCE, linewidth=0.8, linestyle=DOTTED)
    upper.set(ylabel="variance\nacross chains", ylim=(0, None))
    lower.set(xlabel=f"inference {dim} (0 = stimulus onset)", ylabel="mean over chains")
    if fits:
        lower.plot([], [], color=REFERENCE, linestyle=DASHED, linewidth=1.0, label="fitted exponentials")
    figure.legend(*lower.get_legend_handles_labels(), loc="outside upper left", fontsize=6.5)
    caution(figure, courses, fits)
    return figure


@styled
def fano(
    results: Mapping[str, xr.Dataset], theory: Mapping[str, xr.DataArray] | None = None, dim: str = "step",
    xlabel: str = "inference step",
) -> Figure:  # fmt: skip
    """Fano factor along `dim` (steps or windows) ± 1 s.e.; dotted: not mean-matched; dashed: theory; grey: Poisson.

    `results` from `mean_matched_fano`, or from `fano_factor` reduced to `dim`.
    """
    figure = sheet(COLUMN, 2.5)
    axes = figure.subplots()
    theory = theory or {}
    for place, (label, result) in enumerate(results.items()):
        ink, line = colour(label, place), _line(result, "fano", dim)
        axes.errorbar(
            line[dim], line, yerr=_line(result, "standard_error", dim), fmt="o-", color=ink, markersize=3, label=label
        )  # fmt: skip
        if "unmatched" in result:
            axes.plot(
                line[dim],
                result["unmatched"],
                color=ink,
                linestyle=DOTTED,
                label=f"{label}, not mean-matched",
            )
        if label in theory:
            axes.plot(
                theory[label][dim], theory[label], color=ink, linestyle=DASHED, linewidth=1.0, label="theory"
            )
    axes.axhline(1, color=REFERENCE, linewidth=0.8, label="Poisson: 1")
    axes.set(xlabel=xlabel, ylabel="Fano factor")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=2)
    caution(figure, results)
    return figure


@styled
def correlation_agreement(
    results: Mapping[str, xr.Dataset], one: str = "signal correlation", other: str = "noise correlation"
) -> Figure:
    """Correlations of all pairs of units against each other, with the fitted line, its slope and permutation p."""
    figure = sheet(COLUMN, 3.0)
    axes = figure.subplots()
    for place, (label, result) in enumerate(results.items()):
        ink = colour(label, place)
        name = f"{label}: slope {float(result['slope']):.2f}, {_p(result)}"
        axes.plot(
            result["one"],
            result["other"],
            "o",
            markersize=3,
            color=ink,
            alpha=0.6,
            markeredgewidth=0,
            label=name,
        )
        ends = np.array([float(result["one"].min()), float(result["one"].max())])
        axes.plot(ends, float(result["intercept"]) + float(result["slope"]) * ends, color=ink)
    axes.axhline(0, color=REFERENCE, linewidth=0.6)
    axes.axvline(0, color=REFERENCE, linewidth=0.6)
    axes.set(xlabel=f"{one} of a pair of units", ylabel=other)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", fontsize=6.5)
    caution(figure, results)
    return figure


@styled
def correlation_matrix(result: xr.Dataset, name: str = "noise correlation") -> Figure:
    """All pairs of units; the colour's range is the largest correlation off the diagonal, which is left blank."""
    figure = sheet(COLUMN, 3.2)
    axes = figure.subplots()
    matrix = np.array(result["correlation"].transpose("unit", "unit_2"), np.float64)
    np.fill_diagonal(matrix, np.nan)
    most = float(np.nanmax(np.abs(matrix)))
    shade = axes.pcolormesh(
        np.arange(len(matrix)),
        np.arange(len(matrix)),
        matrix,
        cmap="PuOr_r",
        vmin=-most,
        vmax=most,
        rasterized=True,
    )
    axes.set(xlabel="unit", ylabel="unit", aspect="equal")
    axes.invert_yaxis()
    figure.colorbar(shade, ax=axes, label=name, location="bottom", aspect=30)
    caution(figure, result)
    return figure


@styled
def contrast(law: xr.Dataset, measured: xr.Dataset | None = None, pair: tuple[int, int] = (0, 1)) -> Figure:
    """Posterior variance and correlation against contrast: closed form (lines) and `measured` ± s.e. (dots).

    `measured` may hold `variance`, `variance_error`, `correlation`, `correlation_error` along `contrast`.
    """
    figure = sheet(COLUMN, 2.3)
    axes = figure.subplots()
    first, second = pair
    lines = {
        "variance": law["variance"].isel(unit=first),
        "correlation": law["correlation"].isel(unit=first, unit_2=second),
    }
    for place, (what, line) in enumerate(lines.items()):
        ink = NEUTRAL[place]
        axes.plot(
            law["contrast"], line, color=ink, linewidth=1.0, linestyle=DASHED, label=f"{what}, closed form"
        )
        if measured is not None and what in measured:
            axes.errorbar(
                measured["contrast"], measured[what], yerr=measured[f"{what}_error"], fmt="o",
                markersize=3.5, color=ink, label=f"{what}, measured",
            )  # fmt: skip
    axes.set(xlabel="contrast c", ylabel="posterior variance,\nnoise correlation", ylim=(0, None))
    axes.legend()
    caution(figure, law, *([] if measured is None else [measured]))
    return figure


@styled
def spontaneous_evoked(results: Mapping[str, xr.Dataset]) -> Figure:
    """Left: KL(evoked ‖ spontaneous) with its floor (open). Right: the estimator on a known case (cross: truth)."""
    figure = sheet(PAGE, 1.1 + 0.28 * len(results))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1.4, 1])
    heights = np.arange(len(results))[::-1]
    shared = {"color": NEUTRAL[0], "markersize": 5.0}
    for height, result in zip(heights, results.values(), strict=True):
        floor, found, known, truth = (
            float(result[n]) for n in ("floor", "divergence", "known", "known_truth")
        )
        left.plot(
            floor,
            height,
            "o",
            markerfacecolor="white",
            label="floor: halves of the spontaneous draws",
            **shared,
        )
        left.plot(found, height, "o", label="estimate", **shared)
        right.plot(known, height, "o", **shared)
        right.plot(truth, height, "x", color=CROSS, markersize=7, markeredgewidth=1.6, label="truth")
    for axes in (left, right):
        axes.axvline(0, color=REFERENCE, linewidth=0.8)
        axes.grid(axis="y", linewidth=0.3)
    left.set_yticks(heights, list(results))
    left.set(xlabel="KL of evoked from spontaneous (nats)", ylim=(-0.6, len(results) - 0.4))
    right.set(xlabel="known case, N(0, I) from N(0, ½I) (nats)")
    handles = {
        str(h.get_label()): h for h in (*right.lines, *left.lines) if not str(h.get_label()).startswith("_")
    }
    figure.legend(handles.values(), handles.keys(), loc="outside upper left", ncols=3)
    caution(figure, results)
    return figure


def _p(result: xr.Dataset) -> str:
    p = float(result["p"])
    return f"p = {p:.2g}" if p > 0.001 else "p ≤ 0.001"


def _line(result: xr.Dataset, name: str, dim: str) -> xr.DataArray:
    line = result[name].squeeze(drop=True)
    if line.dims != (dim,):
        raise AnalysisError(
            f"{name} has dims {line.dims}; select one entry of all but {dim!r} before drawing it"
        )
    return line


def _law(axes: Axes, fit: xr.Dataset, what: str, steps: np.ndarray, ink: str) -> None:
    after = steps[steps >= 0].astype(np.float64)
    start, end, rate = (float(fit[f"{what}_{part}"].squeeze()) for part in ("start", "end", "rate"))
    axes.plot(
        after,
        relaxation(after - after[0], start, end, rate),
        color=REFERENCE,
        linestyle=DASHED,
        linewidth=1.0,
    )
