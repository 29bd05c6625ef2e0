"""The same observables of runs without and with noise, side by side, with what each should show."""

from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr

from pcsim.analysis import quenching
from pcsim.report.gather import Part, combined, each, jackknife, over_images, row, section
from pcsim.report.noise import energy_of, virial_number, virial_of
from pcsim.report.page import Number, Section
from pcsim.report.sampling import plateau_number, plateau_of, side_by_side
from pcsim.report.subject import Missing, Subject, thin

SMALL = 2**24
"""Bytes of values that variances are averaged over."""
OWN = "Each run has learned its own weights: differences come from learning and from inference together."


def contrast(runs: Sequence[Subject]) -> Section:
    """What a circuit at T = 0 and one at T > 0 should differ in, as one table."""
    traced = [s for s in runs if s.trace is not None]
    if len({s.temperature > 0 for s in traced}) < 2:
        raise Missing("it takes a run without noise (T = 0) and one with noise, both with a trace")
    parts = []
    for name, observable in OBSERVABLES.items():
        found, notes = each(traced, observable)
        parts.append(Part((row(name, traced, found),) if found else (), notes=notes))
    notes = (OWN,) if any(s.run.study.get("learning") for s in traced) else ()
    return section("What does the noise change?", [_answer(traced)], traced, [*parts, Part(notes=notes)])


def _answer(runs: Sequence[Subject]) -> str:
    """What the variance under a stimulus says; the rest of the table needs its expectations beside it."""
    found, _ = each(runs, late_variance)
    told = [f"{label} {number.shown}" for label, number in found.items()]
    return f"Variance across chains in the response: {', '.join(told)}." if told else ""


def virial(run: Subject) -> Number:
    """Mean virial temperature of all latent units."""
    return virial_number(side_by_side(list(virial_of(run).values())))


def log_joint(run: Subject) -> Number:
    """How far below its maximum log p(x, z) lies: −D T/2 for a quadratic energy."""
    found = energy_of(run)
    expected = 0.0 - float(found.attrs["expected_excess"])
    number = over_images(-found["excess"], "nats", expected, combined(found["excess_error"]))
    return number.noted("where it is at rest" if run.temperature == 0 else "−D·T/2, for a quadratic energy")


def log_joint_spread(run: Subject) -> Number:
    """Standard deviation of log p(x, z) over the draws of an image: T √(D/2) for a quadratic energy."""
    found = energy_of(run)
    spread = found["variance"] ** 0.5
    error = combined(found["variance_error"] / (2 * spread.where(spread > 0)))
    return over_images(spread, "nats", float(np.sqrt(found.attrs["expected_variance"])), error)


def gradient(run: Subject) -> Number:
    """Squared gradient norm in the second half of the chain: 0 at rest, T tr Λ under noise."""
    number = plateau_number(plateau_of(run))
    return (
        number._replace(expected=0.0) if run.temperature == 0 else number.noted("expected: T tr Λ, above 0")
    )


def variance_before(run: Subject) -> Number:
    """Variance across chains in the second half of the steps before the stimulus."""
    value = run.spontaneous(f"{run.nearest}/value")
    number = _variance(value.isel(step=slice(value.sizes["step"] // 2, None)))
    return number.noted("silent" if run.temperature == 0 else "expected: that of the prior")


def late_variance(run: Subject) -> Number:
    """Variance across chains in the second half of the response."""
    return _variance(run.stationary(f"{run.nearest}/value"))


def _variance(value: xr.DataArray) -> Number:
    kept = thin(value, SMALL).load()
    found = quenching.across_chain_variance(kept)["variance"]
    if found.sizes.get("image", 1) > 1:
        return over_images(found)
    error = jackknife(lambda part: float(quenching.across_chain_variance(part)["variance"].mean()), kept)
    return over_images(found, error=error)


OBSERVABLES: dict[str, Callable[[Subject], Number]] = {
    "virial temperature": virial,
    "log p(x, z) relative to its maximum": log_joint,
    "standard deviation of log p(x, z)": log_joint_spread,
    "squared gradient norm": gradient,
    "variance across chains before the stimulus": variance_before,
    "variance across chains in the response": late_variance,
}
"""In the order of the table."""
