"""Is the noise principled sampling: temperature of units, energy, covariance, temperature ablation, time asymmetry."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pcsim.figures.caution import caution
from pcsim.figures.colours import colour
from pcsim.figures.marks import DASHED, Results, each, flat, shorten
from pcsim.figures.style import COLUMN, REFERENCE, sheet, styled

Array = NDArray[np.float64]
DIVERGING, SEQUENTIAL = "RdBu_r", "viridis"
BULK, BINS = 0.98, 41
"""Share of the units that a histogram's axis must hold, and the edges of its bins."""
SHOWN = 40
"""Units drawn one by one; of more, the distribution."""


@styled
def virial_temperature(results: Results) -> Figure:
    """Virial temperature per unit with ±2 standard errors, the set temperature, and what the step size must give.

    Dots are measured, open marks expected at this step size; T = 1 samples the posterior, vanilla PC has 0. Of more
    than 40 units the distribution is drawn.
    """
    named, ends = each(results), [0.0]
    figure = sheet(COLUMN, 2.5)
    axes = figure.subplots()
    for place, (name, result) in enumerate(named.items()):
        ink, values = colour(name, place), flat(result["measured"])
        if values.size <= SHOWN:
            units = np.arange(values.size) + 0.22 * (place - (len(named) - 1) / 2)
            error = 2 * np.nan_to_num(flat(result["measured_error"]))
            axes.plot(
                units,
                flat(result["expected"]),
                "_",
                color=ink,
                markersize=9,
                markeredgewidth=1.2,
                zorder=2,
            )
            axes.errorbar(units, values, error, fmt="o", color=ink, markersize=2.8, linewidth=0.9, label=name)
        else:
            finite = values[np.isfinite(values)]
            ends.append(float(np.quantile(finite, BULK)) if finite.size else 0.0)
            edges = np.linspace(finite.min(), max(1.1 * ends[-1], finite.min() + 1e-9), BINS).tolist()
            axes.hist(finite, edges, color=ink, alpha=0.5, density=True, label=name)
            expected = float(np.nanmedian(flat(result["expected"])))
            axes.axvline(expected, color=ink, linestyle=DASHED, linewidth=1.0)
    many = max(flat(r["measured"]).size for r in named.values()) > SHOWN
    for temperature in sorted({float(r.attrs["temperature"]) for r in named.values()}):
        line = axes.axvline if many else axes.axhline
        line(temperature, color=REFERENCE, linewidth=0.9, zorder=1, gid="temperature")
    axes.plot([], [], color=REFERENCE, linewidth=0.9, label="set temperature T")
    mark = {"linestyle": DASHED, "marker": ""} if many else {"linestyle": "", "marker": "_"}
    axes.plot([], [], color=REFERENCE, label="T + (γ/2) G ⟨g²⟩, at this step", **mark)
    if many:
        axes.set(xlabel="virial temperature ⟨(z − z̄) ∂U/∂z⟩", ylabel="density of units")
        upper = 1.1 * max(ends)
        whole = np.concatenate([flat(r["measured"]) for r in named.values()])
        shorten(axes, upper, float((whole > upper).mean()))
    else:
        axes.set(xlabel="unit", ylabel="virial temperature\n⟨(z − z̄) ∂U/∂z⟩")
        low, high = axes.get_ylim()
        axes.set_ylim(min(0.0, low), high + 0.08 * (high - min(0.0, low)))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside upper center", ncols=2, columnspacing=1.2, handlelength=1.6)
    caution(figure, named)
    return figure


@styled
def energy(results: Results) -> Figure:
    """Histogram of the energy above its minimum, its mean, and the closed line D T/2 of a quadratic energy."""
    named = each(results)
    figure = sheet(COLUMN, 2.4)
    axes = figure.subplots()
    for place, (name, result) in enumerate(named.items()):
        ink, density = colour(name, place), result["density"]
        axes.fill_between(density["bin"], density, color=ink, alpha=0.25, linewidth=0, step="mid")
        mean = float(result["excess"].mean())
        axes.axvline(mean, color=ink, linewidth=1.3, label=f"{name}: mean {mean:.3g} nats", gid="mean")
    seen: set[float] = set()
    for result in named.values():
        line, d, t = (float(result.attrs[n]) for n in ("expected_excess", "free_units", "temperature"))
        if line not in seen:
            label = f"D T/2 = {line:g} (D = {d:g}, T = {t:g})"
            axes.axvline(line, color=REFERENCE, linewidth=0.9, linestyle=DASHED, label=label, gid="DT/2")
        seen.add(line)
    axes.set(xlabel="energy above its minimum, U − U_min (nats)", ylabel="density (1/nat)", ylim=(0, None))
    axes.set_xlim(left=min(0.0, *(float(r["density"]["bin"].min()) for r in named.values())))
    upper = max(_bulk(r["density"]) for r in named.values())
    shorten(axes, upper, max(_above(r["density"], upper) for r in named.values()))
    figure.legend(loc="outside upper center", ncols=1, handlelength=1.6)
    caution(figure, named)
    return figure


def _bulk(density: xr.DataArray) -> float:
    """Where the share `BULK` of a histogram ends, and a tenth more."""
    mass = density / density.sum()
    place = int((mass.cumsum("bin") >= BULK).to_numpy().argmax())
    return float(1.1 * density["bin"][place])


def _above(density: xr.DataArray, upper: float) -> float:
    return float(density.where(density["bin"] > upper, 0.0).sum() / density.sum())


@styled
def covariance(result: xr.Dataset) -> Figure:
    """Entries of the chains' covariance against the posterior's, with the line where they are equal."""
    measured, reference = result["covariance"], result["reference"]
    lead = [d for d in measured.dims if d not in ("unit", "unit_2")]
    own = measured.mean(lead) if lead else measured
    found, known = own.transpose("unit", "unit_2").to_numpy(), reference.to_numpy()
    off = ~np.eye(len(known), dtype=bool)
    figure = sheet(COLUMN, 3.1)
    axes = figure.subplots()
    ends = [float(min(known.min(), found.min())), float(max(known.max(), found.max()))]
    axes.plot(ends, ends, color=REFERENCE, linewidth=0.9, zorder=1, label="equal", gid="equal")
    size = 2.5 if len(known) <= SHOWN else 1.0
    axes.plot(known[off], found[off], "o", color="#0072B2", markersize=size, alpha=0.6, label="covariances",
              markeredgewidth=0, rasterized=off.sum() > 5000)  # fmt: skip
    axes.plot(np.diag(known), np.diag(found), "s", color="#D55E00", markersize=size + 0.8, markeredgewidth=0,
              label="variances")  # fmt: skip
    axes.set(xlabel="posterior covariance (value²)", ylabel="covariance of the chains (value²)")
    axes.set_aspect("equal", adjustable="datalim")
    error, floor, ratio = (
        float(result[n].mean()) for n in ("relative_error", "sampling_error", "trace_ratio")
    )
    axes.set_title(
        f"relative error {error:.1%} (sampling alone: {floor:.1%})\ntr(Λ Σ)/D = {ratio:.3f}", fontsize=7.5
    )
    figure.legend(loc="outside upper center", ncols=3, handlelength=1.6, columnspacing=1.2)
    caution(figure, result)
    return figure


@styled
def temperature_ablation(result: xr.Dataset) -> Figure:
    """Variance relative to T = 1 (or the highest T), and virial temperature, against the set temperature; units' range.

    The diagonal is what quadratic energies give (variance) and what every sampler gives (virial temperature).
    """
    given = result["temperature"].to_numpy()
    base = 1.0 if 1.0 in given else float(given.max())
    panels = {"variance": f"variance, relative to T = {base:g}"}
    if "virial" in result:
        panels["virial"] = "virial temperature"
    figure = sheet(COLUMN * (1 if len(panels) == 1 else 1.35), 2.3)
    for axes, (name, label) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        values = result[name] / result[name].sel(temperature=base) if name == "variance" else result[name]
        rows = values.transpose("temperature", ...).to_numpy().reshape(len(given), -1)
        top = max(1.05 * float(given.max()), 1e-3)
        line = [0, top / base] if name == "variance" else [0, top]
        axes.plot([0, top], line, color=REFERENCE, linewidth=0.9, zorder=1, gid="theory")
        axes.fill_between(given, rows.min(axis=1), rows.max(axis=1), color="#D55E00", alpha=0.2, linewidth=0)
        axes.plot(given, np.median(rows, axis=1), "o-", color="#D55E00", markersize=3)
        if name == "virial":
            expected = (
                result["virial_expected"].transpose("temperature", ...).to_numpy().reshape(len(given), -1)
            )
            axes.plot(given, np.median(expected, axis=1), color="black", linewidth=0.9, gid="at this step",
                      linestyle=DASHED)  # fmt: skip
        axes.set(xlabel="set temperature T", ylabel=label, xlim=(0, top), ylim=(0, None))
    note = "dots: median over units, band: their range; grey: theory, dashed: at this step"
    figure.supxlabel(note, fontsize=6.5, color=REFERENCE)
    caution(figure, result)
    return figure


@styled
def irreversibility(result: xr.Dataset) -> Figure:
    """Matrix of the time asymmetry in units of its standard error, with the total against a reversible chain's."""
    own = result["z"]
    lead = [d for d in own.dims if d not in ("unit", "unit_2")]
    shown = own.isel(dict.fromkeys(lead, 0)).transpose("unit", "unit_2").to_numpy()
    total, null = (float(result[n].mean()) for n in ("total", "null_total"))
    figure = sheet(COLUMN, 3.0)
    axes = figure.subplots()
    bound = max(4.0, float(np.nanmax(np.abs(shown))))
    image = axes.imshow(shown, cmap=DIVERGING, vmin=-bound, vmax=bound, interpolation="nearest")
    figure.colorbar(image, ax=axes, label=f"asymmetry / its error, lag {result.attrs['lag']:g}", shrink=0.85)
    axes.set(xlabel="unit, later", ylabel="unit, earlier")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(f"total {total:.3g}; a reversible chain: {null:.3g}", fontsize=7.5)
    caution(figure, result)
    return figure
