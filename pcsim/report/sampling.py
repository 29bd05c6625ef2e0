"""Did the chains reach equilibrium, and is their noise principled sampling?"""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from pcsim.analysis import convergence, energy, progress, temperature
from pcsim.figures import fast_slow as fast_slow_figures
from pcsim.figures import registry
from pcsim.figures import sampling as sampling_figures
from pcsim.figures import timescales as timescale_figures
from pcsim.report.gather import each, over_images, quiet, row, said
from pcsim.report.page import Number, Section, picture, table
from pcsim.report.subject import Missing, Subject

CLEAR = 4.0
"""Standard errors beyond which a deviation is called one."""


def equilibrium(runs: Sequence[Subject]) -> Section:
    """R-hat, effective draws and integrated time of every latent unit; energy and gradient along the chain.

    A run without noise has no law to reach: it is asked whether it came to rest.
    """
    noisy = [s for s in runs if s.temperature > 0]
    found, cautions = each(noisy, _diagnostics) if noisy else ({}, [])
    plateaus, _ = each(runs, lambda s: progress.gradient_plateau(s.evoked("gradient_norm"), s.late))
    resting = {s.label: _resting(s) for s in runs if s.temperature == 0 and s.trace is not None}
    rows = [
        row("worst split R-hat", runs, {k: Number("", float(v["rhat"].max())) for k, v in found.items()}),
        row("fewest effective draws", runs, {k: Number("", float(v["ess"].min())) for k, v in found.items()}),
        row(
            "median integrated time", runs,
            {k: Number("", float(v["integrated_time"].median()), None, "steps") for k, v in found.items()},
        ),
        row("chains at rest at the end", runs, {k: Number("", v, None, "of all") for k, v in resting.items()}),
        row(
            "squared gradient norm, second half", runs,
            {k: over_images(v["plateau"], "", "nat²/unit²") for k, v in plateaus.items()},
        ),
    ]  # fmt: skip
    traced = [s.run for s in runs if s.trace is not None]
    pictures = [picture(registry.draw("energy", traced), ENERGY, wide=True)]
    pictures.append(picture(fast_slow_figures.gradient_plateau(quiet(plateaus)), GRADIENT))
    if found:
        kept = [s for s in noisy if s.label in found]
        rho = {s.label: convergence.autocorrelation(_one(s.stationary(_latent(s))), lags=100) for s in kept}
        rho = {k: v.assign_attrs(cautions=[]) for k, v in rho.items()}
        pictures.append(
            picture(timescale_figures.autocorrelation(rho, {k: found[k]["ess"] for k in rho}), MEMORY)
        )
    return Section(
        "Did the chains reach equilibrium?", _verdict(found, resting), (table([s.label for s in runs], rows),),
        tuple(pictures), tuple(cautions + said(found, len(runs) > 1)),
    )  # fmt: skip


AT_REST = 1e-2
"""A chain rests when its gradient has fallen below this share of what it was at the start."""


def _resting(run: Subject) -> float:
    norm = run.evoked("gradient_norm")
    return float((norm.isel(step=-1) < AT_REST * norm.isel(step=0)).mean())


ENERGY = (
    "Energy above its minimum along the chain. A sampler at T = 1 levels off D/2 above it, vanilla PC at 0."
)
GRADIENT = (
    "Squared norm of ∂U/∂z. A flat plateau above zero is the right sign of a sampler; without noise it falls."
)
MEMORY = "Autocorrelation of the units, and effective draws per unit; averages want 400."


def _diagnostics(run: Subject) -> xr.Dataset:
    value = run.stationary(_latent(run))
    found = convergence.diagnostics(value)
    return found.assign_attrs(cautions=convergence.cautions_from(found, value))


def _verdict(found: dict[str, xr.Dataset], resting: dict[str, float]) -> str:
    parts = []
    for label, result in found.items():
        share = float((result["rhat"] <= convergence.RHAT).mean())
        if not said({label: result}, False):
            parts.append(f"{label}: yes, by split R-hat and effective draws of every unit.")
        else:
            parts.append(
                f"{label}: not everywhere; {share:.0%} of the units have a split R-hat of at most 1.01."
            )
    for label, share in resting.items():
        swing = "" if share > 0.99 else "; the others still move, by too large a step or too few of them"
        parts.append(f"{label}: without noise, {share:.0%} of the chains came to rest{swing}.")
    return " ".join(parts)


def _latent(run: Subject) -> str:
    """The latent node nearest to the data among those recorded: the last."""
    return f"{run.latents()[-1]}/value"


def _one(value: xr.DataArray) -> xr.DataArray:
    return value.isel(image=0) if "image" in value.dims else value


def principled(runs: Sequence[Subject]) -> Section:
    """Virial temperature against what the step size must give, and the energy against D T/2."""
    noisy = [s for s in runs if s.temperature > 0]
    if not noisy:
        raise Missing("no run has noise (T = 0)")
    found, cautions = each(noisy, _virial)
    rows = [
        row(
            "virial temperature", runs,
            {k: over_images(v["measured"], "", expected=float(v["expected"].mean())) for k, v in found.items()},
        ),
        row(
            "deviation from the exact law of this step size", runs,
            {k: _deviation(v) for k, v in found.items()},
        ),
    ]  # fmt: skip
    energies: dict[str, xr.Dataset] = {}
    try:
        energies, _ = each(noisy, _energy)
        rows.append(
            row(
                "energy above the minimum", runs,
                {k: over_images(v["excess"], "", "nat", v.attrs["expected_excess"]) for k, v in energies.items()},
            )
        )  # fmt: skip
    except Missing as reason:
        cautions.append(str(reason))
    figures = [picture(sampling_figures.virial_temperature(quiet(found)), VIRIAL)]
    if energies:
        figures.append(picture(sampling_figures.energy(quiet(energies)), EXCESS))
    answers = [_sampling_answer(s, found[s.label]) for s in noisy if s.label in found]
    answers += [f"{s.label} has no noise (T = 0)." for s in runs if s.temperature == 0]
    return Section(
        "Is the noise principled sampling?", " ".join(answers), (table([s.label for s in runs], rows),), tuple(figures),
        tuple(dict.fromkeys(cautions + said(found, len(runs) > 1))),
    )  # fmt: skip


VIRIAL = (
    "Virial temperature per unit. The line is the set temperature, open marks are what a Langevin step of this size "
    "must give, exactly; where dots and marks agree, the noise samples the law that the step size allows."
)
EXCESS = "How far the energy lies above its minimum; D·T/2 holds for quadratic energies."


def _virial(run: Subject) -> xr.Dataset:
    node = run.latents()[-1]
    try:
        mobility: float | xr.DataArray = run.stationary(f"{node}/mobility")
    except Missing:
        if run.preconditioner != "none":
            raise Missing(
                f"{run.label}: has a preconditioner, and {node}/mobility was not recorded (probe `mobility`)"
            ) from None
        mobility = 1.0
    value, drift = run.stationary(f"{node}/value"), run.stationary(f"{node}/drift")
    return temperature.virial_temperature(value, drift, run.step_size, run.temperature, mobility)


def _deviation(found: xr.Dataset) -> Number:
    """Mean over units and images, its error from the units' own."""
    error = float(np.sqrt((found["deviation_error"] ** 2).sum()) / found["deviation_error"].size)
    return Number("", float(found["deviation"].mean()), error, "", 0.0)


def _sampling_answer(run: Subject, found: xr.Dataset) -> str:
    number = _deviation(found)
    size = abs(number.value) / number.error if number.error else np.inf
    heated = float(found["expected"].mean())
    if size <= CLEAR:
        heats = f", {heated:.2f} on average: the step size heats stiff directions"
        hot = heats if heated > 1.05 * run.temperature else ""
        return (
            f"{run.label}: yes. The virial temperature is what a Langevin step of this size must have{hot}."
        )
    return (
        f"{run.label}: no. The virial temperature is off its exact value by {size:.0f} standard errors: the chain has "
        "not settled, or its noise is not that of a Langevin step."
    )


def _energy(run: Subject) -> xr.Dataset:
    whole = run.stationary("energy")
    minimum = run.read("energy_minimum")
    return energy.energy_statistics(whole, minimum, run.free_units, run.temperature)
