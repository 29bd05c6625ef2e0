"""How inference divides between the encoder's sweep and the chain."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from pcsim.analysis import divergence, equilibrium, fast_slow, progress
from pcsim.analysis.gaussian import singular
from pcsim.analysis.result import cautions_of
from pcsim.analysis.slabs import stride
from pcsim.figures import fast_slow as fast_slow_figures
from pcsim.figures import recurrence as recurrence_figures
from pcsim.report.gather import Part, each, jackknife, over_images, quiet, row, said, section
from pcsim.report.page import Number, Section, picture
from pcsim.report.subject import Missing, Subject, thin

SEED, RESAMPLES = 0, 200
WINDOW = 20
"""Steps of the running mean by which equilibrium is dated."""
MOST_STEPS = 200
"""Steps at which divergences are computed; of longer chains every k-th step is taken."""
CLEAR = 2.0
"""Standard errors beyond which a change is called one."""


def sweep_and_chain(runs: Sequence[Subject]) -> Section:
    """Change of the log joint, drift against noise, divergences to the end of the chain, the Fast-Slow Index."""
    noisy = [s for s in runs if s.temperature > 0]
    gains, notes = each(runs, gain)
    answers = [_answer(label, number) for label, number in gains.items()]
    parts = [
        _changes(runs, gains), _ratio(runs, noisy), _divergences(runs, noisy), _index(runs, noisy),
        _arrival(runs, noisy), Part(notes=notes),
    ]  # fmt: skip
    return section("What does the start do, and what is left to the chain?", answers, runs, parts)


CHANGE = (
    "log p(x, z) relative to the start; dashed: the level of the second half of the chain. A sampler that starts at a "
    "mode has to lose log p: most of the posterior's mass lies below its maximum."
)
RATIO = "Squared drift of a step over the variance of its noise. Below 1 the noise dominates a step."
KL = (
    "Gaussian divergences between the chains at each step and the end of the other half of the chains: what is left to "
    "do. The floor is not zero where chains are few."
)
INDEX = (
    "Fast-Slow Index by the distance to where other chains end: 1 where the sweep goes all the way from the prior, 0 "
    "where the chain does. Ticks: single images."
)


def gain(run: Subject) -> Number:
    """log p(x, z) in the second half of the chain less that at its start, mean over images."""
    energy = run.evoked("energy").astype(np.float64)
    late = run.stationary("energy").astype(np.float64).mean("step")
    change = energy.isel(step=0) - late
    error = float(change.std("chain", ddof=1).mean() / np.sqrt(change.sizes["chain"]))
    return over_images(change.mean("chain"), "nats", error=error)


def _answer(label: str, number: Number) -> str:
    if number.error is None or not np.isfinite(number.error) or abs(number.value) <= CLEAR * number.error:
        return f"{label}: the chain ends at the log p(x, z) that it began with ({number.shown})."
    word = "gains" if number.value > 0 else "gives up"
    size = number._replace(value=abs(number.value))
    return f"{label}: after its start the chain {word} {size.shown} of log p(x, z)."


def _line(run: Subject) -> xr.Dataset:
    return progress.long_run_line(run.read("energy"), run.late)


def change_of(run: Subject) -> xr.Dataset:
    """Change of log p(x, z) since the sweep, with the level of the second half."""
    return progress.log_joint_change(run.evoked("energy"), _line(run))


def _changes(runs: Sequence[Subject], gains: Mapping[str, Number]) -> Part:
    found, notes = each(runs, change_of)
    if not found:
        return Part(notes=notes)
    drawn = picture(fast_slow_figures.log_joint(quiet(found)), CHANGE)
    return Part((row("log p(x, z) gained by the chain", runs, gains),), (drawn,), said(runs, found), notes)


def _ratio(runs: Sequence[Subject], noisy: Sequence[Subject]) -> Part:
    found, notes = each(noisy, drift_to_noise)
    if not found:
        return Part(notes=notes)
    first = {s.label: _first(s, found[s.label]["ratio"]) for s in noisy if s.label in found}
    late = {k: over_images(v["stationary"], error=_late_error(v)) for k, v in found.items()}
    rows = (
        row("drift-to-noise ratio, first step", runs, first),
        row("drift-to-noise ratio, second half", runs, late),
    )
    return Part(
        rows, (picture(fast_slow_figures.drift_to_noise(quiet(found)), RATIO),), said(runs, found), notes
    )


def _first(run: Subject, ratio: xr.DataArray) -> Number:
    """At the first step; with one image the error is that over chains."""
    square = run.evoked("gradient_norm").isel(step=0).astype(np.float64) ** 2
    spread = float((square.std("chain", ddof=1) / square.mean("chain")).mean()) / np.sqrt(
        square.sizes["chain"]
    )
    first = ratio.isel(step=0)
    return over_images(first, error=float(first.mean()) * float(spread))


def _late_error(found: xr.Dataset) -> float:
    """Of one image: spread of the ratio over eight stretches of the second half."""
    late = found["ratio"].isel(step=slice(found.sizes["step"] // 2, None)).to_numpy()
    parts = [part.mean() for part in np.array_split(late.reshape(-1, late.shape[-1]).mean(0), 8)]
    return float(np.std(parts, ddof=1) / np.sqrt(len(parts)))


def drift_to_noise(run: Subject) -> xr.Dataset:
    """Drift-to-noise ratio of every step of the chain."""
    if run.preconditioner != "none":
        raise Missing(f"{run.label}: the drift-to-noise ratio needs the mobility of a preconditioned chain")
    squared = run.evoked("gradient_norm").astype(np.float64) ** 2
    return progress.drift_to_noise(squared, run.step_size, run.free_units, run.late, run.temperature)


def _divergences(runs: Sequence[Subject], noisy: Sequence[Subject]) -> Part:
    laws, notes = each(noisy, sweep_law)
    names = {"reverse": "KL(q‖p), sweep to end of chain", "forward": "KL(p‖q), end of chain to sweep"}
    rows = [
        row(title, runs, {s.label: _kl(s, laws[s.label], name) for s in noisy if s.label in laws})
        for name, title in names.items()
        if laws
    ]
    over, reasons = each(noisy, divergences_of)
    drawn = (picture(fast_slow_figures.divergences(quiet(over)), KL),) if over else ()
    return Part(tuple(rows), drawn, (*said(runs, laws), *said(runs, over)), notes + reasons)


def divergences_of(run: Subject) -> xr.Dataset:
    """Divergences between the chains at each of at most `MOST_STEPS` steps and the end of the other half."""
    value = run.evoked(_latent(run))
    half, units = value.sizes["chain"] // 2, value.sizes["unit"]
    if half <= units + 2:
        raise Missing(
            f"{run.label}: divergences over steps need more than {2 * (units + 2)} chains for {units} units; "
            f"{value.sizes['chain']} were recorded"
        )
    every = -(-value.sizes["step"] // MOST_STEPS)
    return divergence.split_divergence(thin(value.isel(step=slice(None, None, every))), run.late)


def sweep_law(run: Subject) -> xr.Dataset:
    """Divergences between the encoder's law and the Gaussian law of the second half of the chain."""
    mean, scale = (run.read(f"encoder/{run.nearest}/{name}") for name in ("mean", "scale"))
    end = divergence.stationary_moments(thin(run.stationary(_latent(run))), run.late)
    return divergence.divergence(divergence.factorised_law(mean, scale), end)


def _kl(run: Subject, law: xr.Dataset, name: str) -> Number:
    """Over images; with one image the error is that of the chain's law, by leaving out chains."""
    if law[name].size > 1:
        return over_images(law[name], "nats")
    mean, scale = (run.read(f"encoder/{run.nearest}/{n}") for n in ("mean", "scale"))
    sweep = divergence.factorised_law(mean, scale)

    def again(value: xr.DataArray) -> float:
        return float(
            divergence.divergence(sweep, divergence.stationary_moments(value, run.late))[name].mean()
        )

    return over_images(law[name], "nats", error=jackknife(again, thin(run.stationary(_latent(run))).load()))


def _latent(run: Subject) -> str:
    return f"{run.nearest}/value"


def _index(runs: Sequence[Subject], noisy: Sequence[Subject]) -> Part:
    found, notes = each(noisy, index_of)
    if not found:
        return Part(notes=notes)
    numbers = {}
    for label, result in found.items():
        over = "overall_index" in result and result.sizes.get("image", 1) > 1
        value, error = (
            (result["overall_index"], result["overall_standard_error"])
            if over
            else (result["index"].mean(), result["standard_error"].mean())
        )
        remark = "share of the way from the prior to the end that the sweep goes"
        numbers[label] = Number(float(value), float(error), "", None, remark)
    drawn = picture(recurrence_figures.fast_slow_index(quiet(found)), INDEX)
    return Part((row("Fast-Slow Index", runs, numbers),), (drawn,), said(runs, found), notes)


def index_of(run: Subject) -> xr.Dataset:
    """The index of minus half the squared Mahalanobis distance to where the other half of the chains ends.

    It rises as chains arrive, also where log p(x, z) falls because the sweep starts at a mode.
    """
    run.spontaneous(_latent(run))  # raises Missing where there is no level before the stimulus
    value = thin(run.read(_latent(run))).astype(np.float64)
    tested, others = value.isel(chain=slice(0, None, 2)), value.isel(chain=slice(1, None, 2))
    law = divergence.stationary_moments(others, run.late)
    if singular(law["covariance"].transpose(..., "unit", "unit_2").to_numpy()).any():
        raise Missing(
            f"{run.label}: the chains do not spread in all directions, so that no distance is defined"
        )
    first = int(value["step"].to_numpy()[0])
    levels = fast_slow.stages(_nearness(tested, law), slice(first // 2, -1), run.late)
    found = fast_slow.fast_slow_index(levels, RESAMPLES, SEED)
    return found.assign_attrs(cautions=[*cautions_of(law), *cautions_of(found)])


def _nearness(value: xr.DataArray, law: xr.Dataset) -> xr.DataArray:
    away = value.drop_vars("unit", errors="ignore") - law["mean"]
    inverse = xr.apply_ufunc(
        np.linalg.inv, law["covariance"],
        input_core_dims=[["unit", "unit_2"]], output_core_dims=[["unit", "unit_2"]],
    )  # fmt: skip
    pulled = xr.dot(inverse, away.rename(unit="unit_2"), dim="unit_2")
    nearness: xr.DataArray = -0.5 * xr.dot(away, pulled, dim="unit")
    return nearness


def _arrival(runs: Sequence[Subject], noisy: Sequence[Subject]) -> Part:
    found, notes = each(noisy, arrival_of)
    numbers = {s.label: _steps(s, found[s.label]) for s in noisy if s.label in found}
    rows = (row("steps to equilibrium of the energy", runs, numbers),) if found else ()
    return Part(rows, (), said(runs, found), notes)


def arrival_of(run: Subject) -> xr.DataArray:
    """The first step from which the running mean of log p(x, z) stays within its stationary band, per image."""
    return equilibrium.equilibrium_time(run.evoked("energy"), _line(run), WINDOW)


def _steps(run: Subject, found: xr.DataArray) -> Number:
    """Mean over images; of one image known to half a window."""
    window = WINDOW * stride(run.read("energy"), "step")
    never = int(found.isnull().sum())
    number = over_images(found, "steps", error=window / 2)
    return number.noted(f"{never} of {found.size} images never settle") if never else number
