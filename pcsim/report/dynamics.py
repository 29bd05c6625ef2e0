"""What the traces are like as neural time series: timescales, spectra, variability, spontaneous activity."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from pcsim.analysis import correlations, irreversibility, quenching, spectra, spontaneous, timescales
from pcsim.analysis.divergence_estimators import gaussian_divergence
from pcsim.figures import sampling as sampling_figures
from pcsim.figures import timescales as timescale_figures
from pcsim.figures import variability as variability_figures
from pcsim.report.contrast import late_variance, variance_before
from pcsim.report.gather import Part, each, jackknife, over_images, quiet, row, said, section
from pcsim.report.page import Number, Section, picture
from pcsim.report.subject import Missing, Subject, first_image, thin

SEED = 0
"""Of known cases; a report of the same run is the same report."""
MOST_DRAWS = 20_000
DRAWS = 2**22
"""Bytes of values that divergences and correlations are estimated from."""
UNITS = 64
"""Units whose pairs are compared."""
RARE = 0.01
"""Chance with which reversible chains would be called irreversible."""
LONG = 50
"""Integrated times that a stretch must have for its time not to read low (Vehtari et al. 2021)."""
SPECTRA = "Power spectra of the units under one image (median and range)."
ARROW = "time asymmetry of pairs of units in standard errors; without a direction of time these are noise about 0."
COURSE = "Variance across chains (above) and mean (below) of one unit under one image, around the onset."
SPONTANEOUS = (
    "Divergence of the average evoked law from the spontaneous law, with the floor of the estimator (open); right: the "
    "same estimator on a case whose answer is known."
)


def in_time(runs: Sequence[Subject]) -> Section:
    """Integrated timescale before and during the stimulus, power spectrum, and time asymmetry."""
    moving = [s for s in runs if s.temperature > 0]
    if not moving:
        raise Missing("no run has noise: a chain at rest has no timescale")
    arrows, notes = each(moving, arrow_of)
    parts = [_timescales(moving), _spectra(moving), _arrows(moving, arrows), Part(notes=notes)]
    question = "How fast is the activity, and does time have a direction?"
    return section(question, [_arrow_answer(k, v) for k, v in arrows.items()], moving, parts)


def _latent(run: Subject) -> str:
    return f"{run.nearest}/value"


def timescales_of(run: Subject) -> xr.Dataset:
    """Intrinsic and integrated timescales of the units nearest to the data, before the stimulus and late after it."""
    value = run.read(_latent(run))
    phases = {"evoked": slice(run.late, None)}
    first = int(value["step"].to_numpy()[0])
    if int((value["step"] < 0).sum()) >= 80:
        phases = {"spontaneous": slice(first // 2, -1), **phases}
    return timescales.timescales_by_phase(thin(value), phases)


def _timescales(runs: Sequence[Subject]) -> Part:
    found, notes = each(runs, timescales_of)
    rows = []
    for phase in ("spontaneous", "evoked"):
        here = {
            s.label: _timescale(s, found[s.label].sel(phase=phase), phase)
            for s in runs if s.label in found and phase in found[s.label]["phase"]
        }  # fmt: skip
        rows += [row(f"integrated timescale, {phase}", runs, here)] if here else []
    return Part(tuple(rows), (), said(runs, found), notes)


def _timescale(run: Subject, found: xr.Dataset, phase: str) -> Number:
    number = over_images(found["integrated"], "steps", error=_over_units(found["integrated"]))
    steps = run.read(_latent(run))["step"].to_numpy()
    length = -steps[0] / 2 if phase == "spontaneous" else steps[-1] - run.late
    if length < LONG * 2 * number.value:
        # an integrated time is twice the timescale
        return number._replace(least=True).noted(
            f"stretches of {length:.0f} steps are too short to tell more"
        )
    return number


def _over_units(found: xr.DataArray) -> float | None:
    values = found.to_numpy().astype(np.float64).ravel()
    return float(np.nanstd(values, ddof=1) / np.sqrt(values.size)) if values.size > 1 else None


def _spectra(runs: Sequence[Subject]) -> Part:
    found, notes = each(runs, spectrum_of)
    drawn = (picture(timescale_figures.spectrum(quiet(found), {}), SPECTRA),) if found else ()
    return Part((), drawn, (), notes)


def spectrum_of(run: Subject) -> xr.Dataset:
    """Power spectra of the units under the first image; chains are averaged, so that windows can be long."""
    value = first_image(run.stationary(_latent(run)))
    return spectra.power_spectrum(value, segment=min(max(64, value.sizes["step"] // 4), value.sizes["step"]))


def arrow_of(run: Subject) -> xr.Dataset:
    """Time asymmetry of pairs of units at a lag of one entry, under the first image."""
    value = run.stationary(_latent(run))
    if value.sizes["unit"] < 2:
        raise Missing(f"{run.label}: {run.nearest} has one unit; a direction of time shows between two")
    return irreversibility.irreversibility(first_image(value).isel(unit=slice(0, UNITS)))


def _arrows(runs: Sequence[Subject], found: Mapping[str, xr.Dataset]) -> Part:
    rows = (row("time asymmetry of pairs of units", runs, {k: asymmetry(v) for k, v in found.items()}),)
    drawn = [picture(sampling_figures.irreversibility(v), f"{k}: {ARROW}") for k, v in quiet(found).items()]
    return Part(rows if found else (), tuple(drawn), said(runs, found))


def asymmetry(found: xr.Dataset) -> Number:
    """Root mean square over pairs; its error under reversibility is that of a mean of squares of Gaussians."""
    total, null = float(found["total"]), float(found["null_total"])
    error = null / np.sqrt(_pairs(found) * 2)
    return Number(total, error, "", null, "what reversible chains of this length show")


def _pairs(found: xr.Dataset) -> int:
    units = found["z"].sizes["unit"]
    return units * (units - 1) // 2


def _arrow_answer(label: str, found: xr.Dataset) -> str:
    from scipy import stats

    worst, pairs = float(abs(found["z"]).max()), _pairs(found)
    bound = float(stats.t.isf(RARE / (2 * pairs), irreversibility.PIECES - 1))
    clear = "time has a direction" if worst > bound else "no direction of time is seen"
    return (
        f"{label}: {clear} (largest of {pairs} asymmetries {worst:.1f} standard errors; by chance it stays below "
        f"{bound:.1f})."
    )


def variability(runs: Sequence[Subject]) -> Section:
    """Quenching at the onset, noise correlations, and spontaneous against average evoked activity."""
    levels, notes = each(runs, lambda s: (variance_before(s), late_variance(s)))
    relative = {label: quotient(*pair) for label, pair in levels.items()}
    answers = [_quenching_answer(s, relative[s.label]) for s in runs if s.label in relative]
    parts = [
        _quenching(runs, levels, relative),
        _spontaneous([s for s in runs if s.temperature > 0], runs),
        _noise(runs),
    ]
    question = "What does a stimulus do to variability, and is spontaneous activity its average?"
    if not relative:
        question = "How do units vary together?"
    return section(question, answers, runs, [*parts, Part(notes=notes)])


def quotient(before: Number, after: Number) -> Number:
    """after / before, with the error of a quotient of independent estimates."""
    if before.value <= 0:
        return Number(float("nan"))
    value, errors = after.value / before.value, (after.error or 0.0, before.error or 0.0)
    return Number(value, math.hypot(errors[0], value * errors[1]) / before.value)


def _quenching(
    runs: Sequence[Subject], levels: Mapping[str, tuple[Number, Number]], relative: Mapping[str, Number]
) -> Part:
    if not relative:
        return Part()
    able = [s for s in runs if s.label in relative]
    rows = (
        row("variance across chains before the stimulus", runs, {k: pair[0] for k, pair in levels.items()}),
        row("variance in the response", runs, {k: pair[1] for k, pair in levels.items()}),
        row("their quotient", runs, relative),
    )
    courses = {
        s.label: quenching.across_chain_variance(first_image(s.read(_latent(s))).isel(unit=0)) for s in able
    }
    drawn = picture(variability_figures.quenching(quiet(courses)), COURSE)
    return Part(rows, (drawn,), said(runs, courses))


def _quenching_answer(run: Subject, number: Number) -> str:
    label = run.label
    if run.temperature == 0:
        return (
            f"{label}: without noise the chains of an image end at points; their variance is no variability."
        )
    if not np.isfinite(number.value):
        return f"{label}: no variance to speak of."
    if abs(number.value - 1) <= 2 * (number.error or 0):
        return f"{label}: a stimulus does not clearly change the variance across chains (quotient {number.shown})."
    word = "falls" if number.value < 1 else "rises"
    return f"{label}: under a stimulus the variance across chains {word} to {number.shown} of that before."


def _spontaneous(noisy: Sequence[Subject], runs: Sequence[Subject]) -> Part:
    found, notes = each(noisy, spontaneous_of)
    if not found:
        return Part(notes=notes)
    numbers = {s.label: _divergence(s, found[s.label]) for s in noisy if s.label in found}
    drawn = picture(variability_figures.spontaneous_evoked(quiet(found)), SPONTANEOUS)
    return Part(
        (row("KL of average evoked from spontaneous", runs, numbers),), (drawn,), said(runs, found), notes
    )


def spontaneous_of(run: Subject) -> xr.Dataset:
    """Gaussian divergence of the average evoked from the spontaneous law."""
    return spontaneous.spontaneous_divergence(*_laws(run), "gaussian", SEED)


def _laws(run: Subject) -> tuple[xr.DataArray, xr.DataArray]:
    evoked, before = run.stationary(_latent(run)), run.spontaneous(_latent(run))
    before = before.isel(step=slice(before.sizes["step"] // 2, None))
    return thin(evoked, DRAWS).load(), thin(before, DRAWS).load()


def _divergence(run: Subject, found: xr.Dataset) -> Number:
    evoked, before = _laws(run)

    def again(p: xr.DataArray, q: xr.DataArray) -> float:
        return gaussian_divergence(spontaneous.draws(p), spontaneous.draws(q))

    remark = (
        f"floor {float(found['floor']):.2g}; on a known case {float(found['known']):.3g} for "
        f"{float(found['known_truth']):.3g}"
    )
    return Number(float(found["divergence"]), jackknife(again, evoked, before), "nats", None, remark)


def _noise(runs: Sequence[Subject]) -> Part:
    found, notes = each(runs, correlation_size)
    rows = (row("mean absolute noise correlation", runs, found),) if found else ()
    return Part(rows, (), (), notes)


def correlation_size(run: Subject) -> Number:
    """Mean size of the noise correlations of pairs of units in the second half of the response."""
    value = run.stationary(_latent(run)).isel(unit=slice(0, UNITS))
    if value.sizes["unit"] < 2:
        raise Missing(f"{run.label}: {run.nearest} has one unit; a correlation needs two")
    if run.temperature == 0:
        raise Missing(f"{run.label}: without noise there are no noise correlations")
    kept = thin(value, DRAWS).load()
    return Number(_mean_size(kept), jackknife(_mean_size, kept), "", None, "mean over pairs of units")


def _mean_size(value: xr.DataArray) -> float:
    matrix = correlations.noise_correlation(value)["correlation"].to_numpy()
    upper = np.abs(matrix[..., *np.triu_indices(matrix.shape[-1], 1)])
    return float(np.nanmean(upper))
