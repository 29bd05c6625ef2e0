"""What the traces are like as neural time series: timescales, spectra, variability, spontaneous activity."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from pcsim.analysis import correlations, irreversibility, quenching, spectra, spontaneous, timescales
from pcsim.figures import sampling as sampling_figures
from pcsim.figures import timescales as timescale_figures
from pcsim.figures import variability as variability_figures
from pcsim.report.gather import each, over_images, quiet, row, said
from pcsim.report.page import Number, Section, picture, table
from pcsim.report.subject import Missing, Subject

SEED = 0
"""Of permutations and known cases; a report of the same run is the same report."""
MOST_DRAWS = 20_000


def in_time(runs: Sequence[Subject]) -> Section:
    """Integrated timescale before and during the stimulus, power spectrum, and time asymmetry."""
    moving = [s for s in runs if s.temperature > 0]
    if not moving:
        raise Missing("no run has noise: a chain at rest has no timescale")
    found, cautions = each(moving, lambda s: _timescales(s))
    spectrum, _ = each(moving, lambda s: spectra.power_spectrum(_one(s.stationary(_latent(s)))))
    arrows, _ = each(moving, lambda s: irreversibility.irreversibility(_one(s.stationary(_latent(s)))))
    phases = list(dict.fromkeys(str(p) for v in found.values() for p in v["phase"].to_numpy()))
    rows = [
        row(
            f"integrated timescale, {phase}", moving,
            {k: over_images(v["integrated"].sel(phase=phase, drop=True), "", "steps") for k, v in found.items()
             if phase in v["phase"]},
        )
        for phase in phases
    ]  # fmt: skip
    rows.append(
        row(
            "time asymmetry of pairs of units", moving,
            {k: _with_null(v) for k, v in arrows.items()},
        )
    )  # fmt: skip
    pictures = [
        picture(
            timescale_figures.spectrum(quiet(spectrum), {}), "Power spectra of the units (median and range)."
        )
    ]
    pictures += [
        picture(
            sampling_figures.irreversibility(v), f"{k}: time asymmetry of pairs of units, in standard errors."
        )
        for k, v in quiet(arrows).items()
    ]
    return Section(
        "How fast is the activity, and does time have a direction?", _arrow_answer(arrows),
        (table([s.label for s in moving], rows),), tuple(pictures),
        tuple(dict.fromkeys(cautions + said(found, len(runs) > 1) + said(arrows, len(runs) > 1))),
    )  # fmt: skip


def variability(runs: Sequence[Subject]) -> Section:
    """Quenching at the onset, noise correlations, and spontaneous against average evoked activity."""
    found, cautions = each(runs, _quenched)
    numbers: dict[str, Number] = {}
    relative: dict[str, Number] = {}
    for label, result in found.items():
        after = result["variance_end"]
        numbers[label] = over_images(after, "", "")
        relative[label] = over_images(after / result["before"], "")
    rows = [
        row("variance across chains, end of the response", runs, numbers),
        row("the same, relative to before the stimulus", runs, relative),
    ]
    pictures = [
        picture(
            variability_figures.quenching(quiet({k: _course(s) for s in runs if (k := s.label) in found})),
            "Variance across chains (above) and mean (below) of one unit and image around the onset.",
        )
    ]
    told = [_quenching_answer(label, number) for label, number in relative.items()]
    cautions += said(found, len(runs) > 1)
    evoked, reasons = _optional(runs, _spontaneous)
    cautions += reasons + said(evoked, len(runs) > 1)
    if evoked:
        rows.append(
            row("KL of average evoked to spontaneous", runs, {k: _divergence(v) for k, v in evoked.items()})
        )
        pictures.append(
            picture(variability_figures.spontaneous_evoked(quiet(evoked)), SPONTANEOUS, wide=True)
        )
    noise, reasons = _optional(runs, lambda s: correlations.noise_correlation(s.stationary(_latent(s))))
    rows.append(row("mean absolute noise correlation", runs, {k: _size(v) for k, v in noise.items()}))
    return Section(
        "What does a stimulus do to variability, and is spontaneous activity its average?", " ".join(told),
        (table([s.label for s in runs], rows),), tuple(pictures), tuple(dict.fromkeys(cautions)),
    )  # fmt: skip


SPONTANEOUS = (
    "Divergence of the average evoked from the spontaneous law, with the floor of the estimator (open); right: "
    "the same estimator on a case whose answer is known."
)


def _optional(runs: Sequence[Subject], analysis: object) -> tuple[dict[str, xr.Dataset], list[str]]:
    assert callable(analysis)
    try:
        return each(runs, analysis)
    except Missing as reason:
        return {}, [str(reason)]


def _latent(run: Subject) -> str:
    return f"{run.latents()[-1]}/value"


def _one(value: xr.DataArray) -> xr.DataArray:
    return value.isel(image=0) if "image" in value.dims else value


def _timescales(run: Subject) -> xr.Dataset:
    value = run.read(_latent(run))
    phases = {"evoked": slice(run.late, None)}
    if int((value["step"] < 0).sum()) >= 80:
        first = int(value["step"].to_numpy()[0])
        phases = {"spontaneous": slice(first // 2, -1), **phases}
    return timescales.timescales_by_phase(value, phases)


def _with_null(found: xr.Dataset) -> Number:
    total, null = float(found["total"].mean()), float(found["null_total"].mean())
    return Number("", total, None, "", null, "expected: what reversible chains of this length show")


def _arrow_answer(arrows: dict[str, xr.Dataset]) -> str:
    parts = []
    for label, found in arrows.items():
        worst = float(abs(found["z"]).max())
        pairs = found["z"].size
        bound = float(np.sqrt(2 * np.log(max(pairs, 2)))) + 2
        clear = "shows an arrow of time" if worst > bound else "shows no arrow of time"
        parts.append(f"{label} {clear} (largest of {pairs} asymmetries: {worst:.1f} standard errors).")
    return " ".join(parts)


def _quenched(run: Subject) -> xr.Dataset:
    value = run.read(_latent(run))
    run.spontaneous(_latent(run))  # raises Missing where there is nothing before the stimulus
    return quenching.quenching(value)


def _course(run: Subject) -> xr.Dataset:
    value = run.read(_latent(run))
    unit = value.isel(unit=0)
    return quenching.across_chain_variance(_one(unit))


def _quenching_answer(label: str, number: Number) -> str:
    if not np.isfinite(number.value):
        return f"{label}: no variance to speak of."
    word = "falls" if number.value < 1 else "rises"
    return f"{label}: with the stimulus the variance across chains {word} to {number.value:.2f} of what it was before."


def _spontaneous(run: Subject) -> xr.Dataset:
    evoked, before = run.stationary(_latent(run)), run.spontaneous(_latent(run))
    before = before.isel(step=slice(before.sizes["step"] // 2, None))
    return spontaneous.spontaneous_divergence(_thin(evoked), _thin(before), "gaussian", SEED)


def _thin(value: xr.DataArray) -> xr.DataArray:
    """At most so many draws, evenly spread over the steps."""
    draws = value.size // value.sizes["unit"]
    return value.isel(step=slice(None, None, max(1, draws // MOST_DRAWS)))


def _divergence(found: xr.Dataset) -> Number:
    return Number(
        "", float(found["divergence"]), None, "nats", None,
        f"floor {float(found['floor']):.2g}; on a known case {float(found['known']):.3g} for "
        f"{float(found['known_truth']):.3g}",
    )  # fmt: skip


def _size(found: xr.Dataset) -> Number:
    matrix = found["correlation"].to_numpy()
    upper = np.abs(matrix[..., *np.triu_indices(matrix.shape[-1], 1)])
    upper = upper[np.isfinite(upper)]
    return Number(
        "", float(upper.mean()) if upper.size else float("nan"), None, "", None, "mean over pairs of units"
    )
