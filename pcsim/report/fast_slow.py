"""How inference divides between the encoder's sweep and the chain."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from pcsim.analysis import decoding, divergence, equilibrium, fast_slow, progress, trajectories
from pcsim.analysis.readout import Readout
from pcsim.analysis.result import cautions_of
from pcsim.figures import decoding as decoding_figures
from pcsim.figures import fast_slow as fast_slow_figures
from pcsim.figures import recurrence as recurrence_figures
from pcsim.figures import trajectory_nulls as null_figures
from pcsim.report.gather import each, over_images, quiet, row, said
from pcsim.report.page import Number, Picture, Section, picture, table
from pcsim.report.subject import LEAST, Missing, Subject

SEED, RESAMPLES, PATHS = 0, 200, 20
WINDOW = 20
"""Steps of the running mean by which equilibrium is dated."""
PER_CLASS = 10
"""Images of each class below which nothing is decoded."""


def sweep_and_chain(runs: Sequence[Subject]) -> Section:
    """Change of the log joint, drift against noise, divergences to the end of the chain, the Fast-Slow Index."""
    changes, cautions = each(runs, _change)
    rows = [
        row(
            "log p(x, z) gained by the chain", runs,
            {k: over_images(v["change"].isel(step=slice(-LEAST, None)), "", "nats", float(v["stationary_mean"]))
             for k, v in changes.items()},
        )
    ]  # fmt: skip
    pictures = [picture(fast_slow_figures.log_joint(quiet(changes)), CHANGE)]
    cautions += said(changes, len(runs) > 1)
    noisy = [s for s in runs if s.temperature > 0]
    for add in (_ratio, _divergences, _index, _arrival):
        try:
            more_rows, picture_or_none, doubts = add(noisy if add is not _index else runs)
        except Missing as reason:
            cautions.append(str(reason))
            continue
        rows += [row(name, runs, numbers) for name, numbers in more_rows]
        pictures += [picture_or_none] if picture_or_none is not None else []
        cautions += doubts
    return Section(
        "What does the sweep do, and what is left to the chain?", _answer(changes),
        (table([s.label for s in runs], rows),), tuple(pictures), tuple(dict.fromkeys(cautions)),
    )  # fmt: skip


CHANGE = (
    "log p(x, z) relative to the sweep; dashed: the level on which a chain that samples must end. A sweep that "
    "lands on a mode makes the chain lose log p, and rightly."
)
Rows = list[tuple[str, dict[str, Number]]]


def _line(run: Subject) -> xr.Dataset:
    """Where log p(x, z) must end: by other chains of the same image."""
    energy = run.read("energy")
    return progress.long_run_line(energy, run.late)


def _change(run: Subject) -> xr.Dataset:
    return progress.log_joint_change(run.evoked("energy"), _line(run))


def _answer(changes: dict[str, xr.Dataset]) -> str:
    parts = []
    for label, found in changes.items():
        gain, error = float(found["mean"][-1]), float(found["mean_error"][-1])
        if not np.isfinite(error) or abs(gain) <= 2 * error:
            parts.append(f"{label}: the chain ends where it began, within {2 * error:.1f} nats.")
        else:
            word = "gains" if gain > 0 else "gives up"
            parts.append(f"{label}: after its start the chain {word} {abs(gain):.1f} nats of log p(x, z).")
    return " ".join(parts)


def _ratio(runs: Sequence[Subject]) -> tuple[Rows, Picture, list[str]]:
    found, reasons = each(runs, _drift_to_noise)
    rows: Rows = [
        (
            "drift-to-noise ratio at the start",
            {k: over_images(v["ratio"].isel(step=0), "") for k, v in found.items()},
        ),
        ("drift-to-noise ratio, stationary", {k: over_images(v["stationary"], "") for k, v in found.items()}),
    ]
    drawn = picture(
        fast_slow_figures.drift_to_noise(quiet(found)),
        "Energy of the drift over that of the noise, per step.",
    )
    return rows, drawn, reasons + said(found, len(runs) > 1)


def _drift_to_noise(run: Subject) -> xr.Dataset:
    if run.preconditioner != "none":
        raise Missing(f"{run.label}: the drift-to-noise ratio needs the mobility of a preconditioned chain")
    squared = run.evoked("gradient_norm").astype(np.float64) ** 2
    return progress.drift_to_noise(squared, run.step_size, run.free_units, run.late, run.temperature)


def _divergences(runs: Sequence[Subject]) -> tuple[Rows, Picture | None, list[str]]:
    found, reasons = each(runs, _sweep_law)
    rows: Rows = [
        ("KL(q‖p) of the sweep", {k: over_images(v["reverse"], "", "nats") for k, v in found.items()}),
        ("KL(p‖q) of the sweep", {k: over_images(v["forward"], "", "nats") for k, v in found.items()}),
    ]
    try:
        over, more = each(runs, lambda s: divergence.split_divergence(s.evoked(_latent(s)), s.late))
        over = {k: v for k, v in over.items() if bool(v["reverse"].notnull().any())}
        drawn = picture(fast_slow_figures.divergences(quiet(over)), KL) if over else None
        reasons += more
    except Missing as reason:
        drawn, reasons = None, [*reasons, str(reason)]
    return rows, drawn, reasons + said(found, len(runs) > 1)


KL = "Gaussian divergences between the chains at each step and the end of other chains; what the sweep leaves to do."


def _sweep_law(run: Subject) -> xr.Dataset:
    node = run.latents()[-1]
    mean, scale = run.read(f"encoder/{node}/mean"), run.read(f"encoder/{node}/scale")
    return divergence.divergence(
        divergence.factorised_law(mean, scale),
        divergence.stationary_moments(run.read(_latent(run)), run.late),
    )


def _latent(run: Subject) -> str:
    return f"{run.latents()[-1]}/value"


def _index(runs: Sequence[Subject]) -> tuple[Rows, Picture, list[str]]:
    found, reasons = each(runs, _fast_slow_index)
    numbers = {}
    for label, result in found.items():
        value = result["overall_index"] if "overall_index" in result else result["index"].mean()
        error = result.get("overall_standard_error")
        numbers[label] = Number(
            "",
            float(value),
            None if error is None else float(error),
            "",
            None,
            "share of the way from the prior that the sweep goes",
        )
    drawn = picture(recurrence_figures.fast_slow_index(quiet(found)), INDEX)
    return [("Fast-Slow Index", numbers)], drawn, reasons + said(found, len(runs) > 1)


INDEX = (
    "Fast-Slow Index by the distance to where other chains end: 1 where the sweep goes all the way from the prior, "
    "0 where the chain does."
)


def _fast_slow_index(run: Subject) -> xr.Dataset:
    """The index of minus half the squared Mahalanobis distance to where the other half of the chains ends.

    It rises as chains arrive, also where log p(x, z) falls because the sweep starts at a mode.
    """
    run.spontaneous(_latent(run))  # raises Missing where there is no level before the stimulus
    if run.temperature == 0:
        raise Missing(f"{run.label}: without noise there is no law at the end to measure distances by")
    value = run.read(_latent(run)).astype(np.float64)
    tested, others = value.isel(chain=slice(0, None, 2)), value.isel(chain=slice(1, None, 2))
    law = divergence.stationary_moments(others, run.late)
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


def _arrival(runs: Sequence[Subject]) -> tuple[Rows, Picture | None, list[str]]:
    found, reasons = each(runs, lambda s: equilibrium.equilibrium_time(s.evoked("energy"), _line(s), WINDOW))
    return (
        [("steps to equilibrium of the energy", {k: over_images(v, "", "steps") for k, v in found.items()})],
        None,
        (reasons + said(found, len(runs) > 1)),
    )


def decoded(runs: Sequence[Subject]) -> Section:
    """Class decoded from single draws, from the running mean and from the encoder, over the steps."""
    found, cautions = each(runs, _decoded)
    results = {
        f"{label}: {name}" if len(found) > 1 else name: r
        for label, part in found.items()
        for name, r in part.items()
    }
    rows = [
        row(
            f"accuracy at the end, {name}",
            runs,
            {k: _accuracy(part[name]) for k, part in found.items() if name in part},
        )
        for name in ("single draw", "running mean", "encoder mean")
    ]
    return Section(
        "When is the content there to be read?", "", (table([s.label for s in runs], rows),),
        (picture(decoding_figures.decodability(quiet(results)), DECODED, wide=True),),
        tuple(dict.fromkeys(cautions + [c for part in found.values() for c in said(part, False)])),
    )  # fmt: skip


DECODED = "Held-out accuracy of a linear readout; chance with its error in grey."


def _decoded(run: Subject) -> dict[str, xr.Dataset]:
    value = run.evoked(_latent(run))
    if "label" not in value.coords:
        raise Missing(f"{run.label}: the images have no labels to decode")
    label = value["label"].compute()
    counts = np.unique(label.to_numpy(), return_counts=True)[1]
    if counts.min() < PER_CLASS:
        raise Missing(
            f"{run.label}: {label.size} images of {counts.size} classes were recorded; decoding needs "
            f"{PER_CLASS} of each"
        )
    every = max(1, value.sizes["step"] // 60)
    part, readout = value.isel(step=slice(None, None, every)), Readout(seed=SEED)
    found = {
        "single draw": decoding.decodability(part, label, readout),
        "running mean": decoding.decodability(decoding.running_mean(part), label, readout),
    }
    try:
        mean = run.read(f"encoder/{run.latents()[-1]}/mean").expand_dims(step=[0])
        found["encoder mean"] = decoding.decodability(mean, label, readout).isel(step=0)
    except Missing:
        pass
    return found


def _accuracy(found: xr.Dataset) -> Number:
    last = found.isel(step=-1) if "step" in found.dims else found
    error = last.get("accuracy_se")
    return Number("", float(last["accuracy"]), None if error is None else float(error), "", None,
                  f"chance {float(last['chance']):.2f}")  # fmt: skip


def pictured(runs: Sequence[Subject]) -> Section:
    """Each run's trajectory of the first image, beside what a random walk and matched noise would show."""
    found, cautions = each(runs, _nulls)
    rows = [
        row(
            "variance on the first component", runs,
            {k: Number("", float(v["explained"].isel(component=0)), remark=_null_words(v)) for k, v in found.items()},
        )
    ]  # fmt: skip
    pictures = [
        picture(null_figures.trajectory_nulls(v, k), f"{k}: {PLANE}", wide=True)
        for k, v in quiet(found).items()
    ]
    return Section(
        "What does the path look like, and what would chance look like?", "", (table([s.label for s in runs], rows),),
        tuple(pictures), tuple(dict.fromkeys(cautions + said(found, len(runs) > 1))),
    )  # fmt: skip


PLANE = "the chain in its first two principal components, beside a random walk and noise of the same correlations."


def _nulls(run: Subject) -> xr.Dataset:
    value = run.evoked(_latent(run))
    one = value.isel(image=0) if "image" in value.dims else value
    return trajectories.explained_with_nulls(
        one, trajectories.trajectory_plane(one.isel(chain=0)), run.late, PATHS, SEED
    )


def _null_words(found: xr.Dataset) -> str:
    first = found["mean"].isel(component=0)
    return ", ".join(f"{name}: {float(first.sel(null=name)):.2f}" for name in first["null"].to_numpy())
