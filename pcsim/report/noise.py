"""Is the noise principled sampling?"""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from pcsim.analysis import energy, temperature
from pcsim.analysis.result import cautions_of
from pcsim.figures import sampling as sampling_figures
from pcsim.report.gather import Part, combined, each, over_images, quiet, row, said, section
from pcsim.report.page import Number, Section, picture
from pcsim.report.sampling import side_by_side
from pcsim.report.subject import Missing, Subject

CLEAR = 4.0
"""Standard errors beyond which a deviation is called one."""
HOT = 1.05
"""How far above the set temperature a step size may heat before the answer says so."""
SHOWN = 40
"""Units of which the figure shows each; of more it shows the distribution."""


def principled(runs: Sequence[Subject]) -> Section:
    """Virial temperature against what the step size must give, and the energy against D T/2."""
    noisy = [s for s in runs if s.temperature > 0]
    if not noisy:
        raise Missing("no run has noise (T = 0)")
    found, notes = each(noisy, virial_of)
    whole = {k: side_by_side(list(v.values())).assign_attrs(cautions=_all(v)) for k, v in found.items()}
    answers = [sampling_answer(s, whole[s.label]) for s in noisy if s.label in whole]
    answers += [f"{s.label} has no noise (T = 0)." for s in runs if s.temperature == 0]
    parts = [_temperatures(noisy, found, whole), _excess(noisy), Part(notes=notes)]
    return section("Is the noise principled sampling?", answers, noisy, parts)


def _all(nodes: Mapping[str, xr.Dataset]) -> list[str]:
    return cautions_of(*nodes.values())


EXCESS = "How far the draws lie above the minimum of the energy. D·T/2 is exact for a quadratic energy and small steps."


def virial_caption(units: int) -> str:
    """What the figure of virial temperatures shows, which depends on how many units it has."""
    if units > SHOWN:
        return (
            "Virial temperatures of all units and images. Grey line: the temperature set. Dashed: what a Langevin step "
            "of this size must give (median)."
        )
    return (
        "Virial temperature of every unit ± 2 standard errors. Line: the temperature set. Dashes: what a Langevin step "
        "of this size must give, exactly."
    )


def virial_of(run: Subject) -> dict[str, xr.Dataset]:
    """Virial temperature of the units of every latent node that recorded values and drift."""
    found: dict[str, xr.Dataset] = {}
    reasons = []
    for node in run.latents():
        try:
            found[node] = _virial(run, node)
        except Missing as reason:
            reasons.append(str(reason))
    if not found:
        raise Missing("; ".join(reasons))
    return found


def _virial(run: Subject, node: str) -> xr.Dataset:
    value, drift = run.stationary(f"{node}/value"), run.stationary(f"{node}/drift")
    mobility: float | xr.DataArray = 1.0
    if run.preconditioner != "none":
        if "mobility" not in run.variables(node):
            raise Missing(
                f"{run.label}: it has a preconditioner, and {node}/mobility was not recorded (probe `mobility`)"
            )
        mobility = run.stationary(f"{node}/mobility")
    return temperature.virial_temperature(value, drift, run.step_size, run.temperature, mobility)


def _temperatures(
    runs: Sequence[Subject], found: Mapping[str, dict[str, xr.Dataset]], whole: Mapping[str, xr.Dataset]
) -> Part:
    if not found:
        return Part()
    nodes = list(dict.fromkeys(node for nodes in found.values() for node in nodes))
    rows = []
    for node in nodes:
        of = f" of {node}" if len(nodes) > 1 else ""
        here = {k: v[node] for k, v in found.items() if node in v}
        rows.append(row(f"virial temperature{of}", runs, {k: virial_number(v) for k, v in here.items()}))
        rows.append(
            row(f"its deviation from the expected one{of}", runs, {k: deviation(v) for k, v in here.items()})
        )  # fmt: skip
    units = max(v["measured"].size for v in whole.values())
    drawn = picture(sampling_figures.virial_temperature(quiet(whole)), virial_caption(units))
    return Part(tuple(rows), (drawn,), said(runs, whole))


def virial_number(found: xr.Dataset) -> Number:
    """Mean virial temperature over units and images, with what the step size must give."""
    expected = float(found["expected"].mean())
    return over_images(found["measured"], "", expected, combined(found["measured_error"]))


def deviation(found: xr.Dataset) -> Number:
    """Mean over units and images of the deviation from the exact law of this step size; 0 for Langevin noise."""
    return over_images(found["deviation"], "", 0.0, combined(found["deviation_error"]))


def sampling_answer(run: Subject, found: xr.Dataset) -> str:
    """What the virial temperature allows to say, and no more where the chains have not converged."""
    number = deviation(found)
    error = number.error or float("nan")
    if not np.isfinite(number.value) or not np.isfinite(error):
        return f"{run.label}: the virial temperature is not defined."
    size = abs(number.value) / error
    heated = float(found["expected"].mean())
    if size > CLEAR:
        return (
            f"{run.label}: no. The virial temperature is off that of a Langevin step of this size by {size:.0f} "
            "standard errors: the chain has not settled, or its noise is not that of a Langevin step."
        )
    open_ = any("stationary" in text for text in found.attrs["cautions"])
    start = "nothing speaks against it, but the chains have not converged" if open_ else "yes"
    told = (
        f"{run.label}: {start}. The virial temperature agrees with that of a Langevin step of this size (deviation "
        f"{number.shown})."
    )
    if heated > HOT * run.temperature:
        told += (
            f" It is {heated:.3g} on average, not {run.temperature:g}: steps of this size heat stiff directions, so "
            "that the draws are wider than the posterior."
        )
    return told


def _excess(runs: Sequence[Subject]) -> Part:
    found, notes = each(runs, energy_of)
    if not found:
        return Part(notes=notes)
    numbers = {k: excess_number(v) for k, v in found.items()}
    drawn = picture(sampling_figures.energy(quiet(found)), EXCESS)
    return Part((row("energy above the minimum", runs, numbers),), (drawn,), said(runs, found), notes)


def energy_of(run: Subject) -> xr.Dataset:
    """Statistics of the energy above the minimum that a descent found for each image."""
    whole, minimum = run.stationary("energy"), run.read("energy_minimum")
    return energy.energy_statistics(whole, minimum, run.free_units, run.temperature)


def excess_number(found: xr.Dataset) -> Number:
    """Mean energy above the minimum, with D T/2."""
    expected = float(found.attrs["expected_excess"])
    number = over_images(found["excess"], "nats", expected, combined(found["excess_error"]))
    return number.noted("D·T/2, for a quadratic energy")
