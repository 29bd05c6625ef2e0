"""Did the chains reach equilibrium?"""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from pcsim.analysis import convergence, progress
from pcsim.figures import fast_slow as fast_slow_figures
from pcsim.figures import registry
from pcsim.figures import timescales as timescale_figures
from pcsim.report.gather import Part, combined, each, over_images, quiet, row, said, section
from pcsim.report.page import Number, Section, picture
from pcsim.report.subject import Subject, first_image

AT_REST = 1e-2
"""A chain rests when its gradient has fallen below this share of what it was at the start."""


def equilibrium(runs: Sequence[Subject]) -> Section:
    """R-hat, effective draws and integrated time of every latent unit; energy and gradient along the chain.

    A run without noise has no law to reach: it is asked whether it came to rest.
    """
    noisy = [s for s in runs if s.temperature > 0]
    found, notes = each(noisy, diagnostics_of)
    resting, more = each([s for s in runs if s.temperature == 0], _resting)
    answers = [_verdict(s, found[s.label]) for s in noisy if s.label in found]
    answers += [_rest_words(label, float(share.mean())) for label, share in resting.items()]
    parts = [_converged(runs, found), _energies(runs), _gradient(runs, resting)]
    return section("Did the chains reach equilibrium?", answers, runs, [*parts, Part(notes=notes + more)])


ENERGY = (
    "Energy above its minimum along the chain. For a quadratic energy a sampler at T = 1 with small steps levels off "
    "D/2 above the minimum; vanilla PC goes to the minimum."
)
GRADIENT = (
    "Squared norm of ∂U/∂z. Under noise it levels off above zero; without noise it falls to zero at rest."
)
MEMORY = (
    "Left: autocorrelation of the units under one image (median and range). Right: effective draws of the units; an "
    "average wants 400."
)


def diagnostics_of(run: Subject) -> xr.Dataset:
    """R-hat, integrated time and effective draws of the units of all recorded latent nodes, with cautions."""
    nodes = [run.stationary(f"{node}/value") for node in run.latents()]
    found = side_by_side([convergence.diagnostics(value) for value in nodes])
    return found.assign_attrs(
        cautions=convergence.cautions_from(found, nodes[-1]), steps=nodes[-1].sizes["step"]
    )


def side_by_side(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """The units of several nodes along one dim `unit`."""
    bare = [part.drop_vars("unit", errors="ignore") for part in parts]
    return bare[0] if len(bare) == 1 else xr.concat(bare, "unit", combine_attrs="override")


def _converged(runs: Sequence[Subject], found: Mapping[str, xr.Dataset]) -> Part:
    if not found:
        return Part()
    fewest = {
        k: Number(float(v["ess"].min()), remark="wanted: at least 400", digits=2) for k, v in found.items()
    }
    rows = (
        row("worst split R-hat", runs, {k: _worst(v) for k, v in found.items()}),
        row("fewest effective draws", runs, fewest),
        row("median integrated time of the units", runs, {k: _quartiles(v) for k, v in found.items()}),
    )
    lags = int(np.clip(max(6 * float(v["integrated_time"].median()) for v in found.values()), 30, 400))
    rho = {
        s.label: convergence.autocorrelation(first_image(s.stationary(f"{s.nearest}/value")), lags=lags)
        for s in runs if s.label in found
    }  # fmt: skip
    rho = {k: v.assign_attrs(cautions=[]) for k, v in rho.items()}
    drawn = timescale_figures.autocorrelation(rho, {k: found[k]["ess"].drop_attrs() for k in rho})
    return Part(rows, (picture(drawn, MEMORY),), said(runs, found))


def _worst(found: xr.Dataset) -> Number:
    rhat = found["rhat"].to_numpy().ravel()
    share = float((rhat <= convergence.RHAT).mean())
    remark = f"wanted: at most {convergence.RHAT}; so in {share:.0%} of {rhat.size} series"
    return Number(float(np.nanmax(rhat, initial=-np.inf)), remark=remark, digits=3)


def _quartiles(found: xr.Dataset) -> Number:
    low, middle, high = np.nanquantile(found["integrated_time"].to_numpy(), [0.25, 0.5, 0.75])
    return Number(float(middle), None, "entries", remark=f"quartiles {low:.3g} to {high:.3g}", digits=3)


def _energies(runs: Sequence[Subject]) -> Part:
    """Mean energy of every node over the second half of the chain, and the course of the whole."""
    traced, notes = each(runs, lambda s: s.evoked("energy"))
    if not traced:
        return Part(notes=notes)
    lines, reasons = each([s for s in runs if s.label in traced], _node_energies)
    names = list(dict.fromkeys(name for found in lines.values() for name in found))
    rows = [
        row(f"energy of {name}, second half", runs, {k: v[name] for k, v in lines.items() if name in v})
        for name in names
    ]
    drawn = registry.draw("energy", [s.run for s in runs if s.label in traced])
    return Part(tuple(rows), (picture(drawn, ENERGY),), (), notes + reasons)


def _node_energies(run: Subject) -> dict[str, Number]:
    """Mean −log p of every node that recorded its energy, from the roots to the data."""
    found = {}
    for name in run.recorded("energy"):
        line = progress.long_run_line(run.stationary(f"{name}/energy"), run.late)
        found[name] = over_images(-line["mean"], "nats", error=combined(line["mean_error"]))
    return found


def _gradient(runs: Sequence[Subject], resting: Mapping[str, xr.DataArray]) -> Part:
    found, notes = each(runs, plateau_of)
    if not found:
        return Part(notes=notes)
    rows = (
        row("chains at rest at the end", runs, {k: over_images(100 * v, "%") for k, v in resting.items()}),
        row("squared gradient norm, second half", runs, {k: plateau_number(v) for k, v in found.items()}),
    )
    drawn = picture(fast_slow_figures.gradient_plateau(quiet(found)), GRADIENT)
    return Part(rows, (drawn,), said(runs, found), notes)


def plateau_of(run: Subject) -> xr.Dataset:
    """Squared gradient norm along the chain and its mean over the second half."""
    return progress.gradient_plateau(run.evoked("gradient_norm"), run.late)


def plateau_number(found: xr.Dataset) -> Number:
    """The plateau of the squared gradient norm, with its error over images or from the effective draws."""
    return over_images(found["plateau"], "nat²/unit²", error=combined(found["plateau_error"]))


def _resting(run: Subject) -> xr.DataArray:
    norm = run.evoked("gradient_norm")
    return (norm.isel(step=-1) < AT_REST * norm.isel(step=0)).astype(np.float64)


def _verdict(run: Subject, found: xr.Dataset) -> str:
    if not found.attrs["cautions"]:
        return f"{run.label}: yes, by split R-hat and the effective draws of every unit."
    good = float((found["rhat"] <= convergence.RHAT).mean())
    if good == 1:
        return f"{run.label}: the chains agree, but some units have fewer than 400 effective draws."
    told = (
        f"{run.label}: not shown. Split R-hat is at most 1.01 in {good:.0%} of the units (worst "
        f"{float(found['rhat'].max()):.3g}): chains of {found.attrs['steps']} entries are short against a memory of "
        f"{float(found['integrated_time'].median()):.3g} (median), or have not settled"
    )
    if (least := float(found["ess"].min())) >= convergence.ESS:
        return f"{told}. All chains together amount to at least {least:.0f} effective draws of every unit."
    return f"{told}."


def _rest_words(label: str, share: float) -> str:
    swing = (
        "" if share > 0.99 else "; the others still move: the step is too large for them, or they need more"
    )
    return f"{label}: without noise, {share:.0%} of the chains came to rest{swing}."
