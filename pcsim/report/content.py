"""What the states hold: when the class can be read, and what the path looks like beside chance."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from pcsim.analysis import decoding, trajectories
from pcsim.analysis.readout import Readout
from pcsim.figures import decoding as decoding_figures
from pcsim.figures import trajectory_nulls as null_figures
from pcsim.report.cautions import Caution
from pcsim.report.gather import Part, each, quiet, row, said, section
from pcsim.report.page import Number, Section, picture
from pcsim.report.subject import Missing, Subject, first_image, thin

SEED, PATHS = 0, 20
PER_CLASS = 10
"""Images of each class below which nothing is decoded."""
MOST_CHAINS = 4
"""Chains whose planes are averaged."""
MOST_STEPS = 300
"""Points of a path; of longer chains every k-th step is taken."""
STEPS = 60
"""Steps at which a readout is fitted."""
READOUTS = ("single draw", "running mean", "encoder mean")
DECODED = "Held-out accuracy of a linear readout over the steps; chance with its error in grey."
PLANE = (
    "a chain in its first two principal components (first panel), beside a random walk and noise of the same "
    "correlations: smooth arcs and a large first component come from chance alone."
)


def decoded(runs: Sequence[Subject]) -> Section:
    """Class decoded from single draws, from the running mean and from the encoder, over the steps."""
    found, notes = each(runs, decoded_of)
    several = len(found) > 1
    results = {
        f"{label}: {name}" if several else name: r
        for label, part in found.items()
        for name, r in part.items()
    }
    rows = [
        row(
            f"accuracy at the end, {name}",
            runs,
            {k: _accuracy(v[name]) for k, v in found.items() if name in v},
        )
        for name in READOUTS
        if any(name in part for part in found.values())
    ]
    cautions = [caution for name in READOUTS for caution in _said(runs, found, name)]
    drawn = (picture(decoding_figures.decodability(quiet(results)), DECODED),) if results else ()
    part = Part(tuple(rows), drawn, tuple(cautions), notes)
    return section("When is the content there to be read?", _answers(found), runs, [part])


def _said(runs: Sequence[Subject], found: dict[str, dict[str, xr.Dataset]], name: str) -> tuple[Caution, ...]:
    return said(runs, {k: v[name] for k, v in found.items() if name in v})


def _answers(found: dict[str, dict[str, xr.Dataset]]) -> list[str]:
    told = []
    for label, part in found.items():
        ends = [f"{name} {_accuracy(part[name]).shown}" for name in READOUTS if name in part]
        told.append(f"{label}: accuracy at the end: {', '.join(ends)}.")
    return told


def decoded_of(run: Subject) -> dict[str, xr.Dataset]:
    """Decodability of the labels from single draws, their running mean and the encoder's mean."""
    value = run.evoked(f"{run.nearest}/value")
    if "label" not in value.coords:
        raise Missing(f"{run.label}: the images have no labels to decode")
    label = value["label"].compute()
    counts = np.unique(label.to_numpy(), return_counts=True)[1]
    if counts.size < 2 or counts.min() < PER_CLASS:
        raise Missing(
            f"{run.label}: {label.size} images of {counts.size} classes were recorded; decoding needs {PER_CLASS} of "
            "each of at least two"
        )
    part, readout = thin(value), Readout(seed=SEED)
    every = slice(None, None, max(1, part.sizes["step"] // STEPS))
    found = {
        "single draw": decoding.decodability(part.isel(step=every), label, readout),
        "running mean": decoding.decodability(decoding.running_mean(part).isel(step=every), label, readout),
    }
    if "mean" in run.variables(f"encoder/{run.nearest}"):
        mean = run.read(f"encoder/{run.nearest}/mean").expand_dims(step=[0])
        found["encoder mean"] = decoding.decodability(mean, label, readout).isel(step=0)
    return found


def _accuracy(found: xr.Dataset) -> Number:
    last = found.isel(step=-1) if "step" in found.dims else found
    return Number(
        float(last["accuracy"]), float(last["accuracy_se"]), remark=f"chance {float(last['chance']):.2f}"
    )


def pictured(runs: Sequence[Subject]) -> Section:
    """Each run's trajectory of the first image, beside what a random walk and matched noise would show."""
    found, notes = each(runs, nulls_of)
    numbers = {s.label: _explained(s, found[s.label]) for s in runs if s.label in found}
    rows = (row("variance on the first component", runs, numbers),) if found else ()
    drawn = tuple(
        picture(null_figures.trajectory_nulls(v, k), f"{k}: {PLANE}") for k, v in quiet(found).items()
    )
    part = Part(rows, drawn, said(runs, found), notes)
    return section("What does the path look like, and what would chance look like?", [], runs, [part])


def nulls_of(run: Subject) -> xr.Dataset:
    """Variance explained by the components of the first chain, and of random walks and matched noise."""
    value = _path(run)
    plane = trajectories.trajectory_plane(value)
    return trajectories.explained_with_nulls(value, plane, run.late, PATHS, SEED)


def _path(run: Subject) -> xr.DataArray:
    value = first_image(run.evoked(f"{run.nearest}/value"))
    if value.sizes["unit"] < 2:
        raise Missing(f"{run.label}: {run.nearest} has one unit; a plane needs two")
    every = -(-value.sizes["step"] // MOST_STEPS)
    return value.isel(step=slice(None, None, every)).load()


def _explained(run: Subject, found: xr.Dataset) -> Number:
    """Mean over chains with its standard error over them, beside what the nulls show."""
    value = _path(run)
    chains = range(min(MOST_CHAINS, value.sizes["chain"]))
    planes = [trajectories.trajectory_plane(value, i)["explained"].isel(component=0) for i in chains]
    shares = np.array([float(share) for share in planes])
    error = float(shares.std(ddof=1) / np.sqrt(shares.size)) if shares.size > 1 else float("nan")
    first = found["mean"].isel(component=0)
    nulls = ", ".join(f"{name} {float(first.sel(null=name)):.2f}" for name in first["null"].to_numpy())
    return Number(float(shares.mean()), error, remark=f"mean over {shares.size} chains; by chance: {nulls}")
