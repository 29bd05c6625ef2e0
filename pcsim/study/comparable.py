"""Which runs may be compared: the same data, the same held-out images, whole evaluations."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pcsim.errors import RunError
from pcsim.figures.run_view import RunView

Arrays = Mapping[str, NDArray[Any]]
SAME_DATA = ("name", "binarise", "size", "crop")
"""Keys of a study's `data` that decide what an image is."""


class Metric(NamedTuple):
    """One number per held-out image."""

    title: str
    units: str
    better: Literal["higher", "lower"]


METRICS: dict[str, Metric] = {
    "log_likelihood": Metric("log-likelihood", "nats/image", "higher"),
    "reconstruction_error": Metric("reconstruction error", "squared error/pixel", "lower"),
    "elbo": Metric("ELBO", "nats/image", "higher"),
}


def check_data(runs: Sequence[RunView]) -> None:
    """Raises `RunError` unless every run used the data of the first one."""
    first = runs[0]
    for run in runs[1:]:
        here, there = (_fingerprint(r) for r in (run, first))
        if here != there:
            raise RunError(
                f"{run.path} and {first.path} used different data (fingerprints {here} and {there}):"
                " their log-likelihoods cannot be compared"
            )
        for key in SAME_DATA:
            here, there = ((r.study.get("data") or {}).get(key) for r in (run, first))
            if here != there:
                raise RunError(
                    f"{run.path} has data.{key}: {here}, {first.path} has {there}: they cannot be compared"
                )


def _fingerprint(run: RunView) -> Any:
    return (run.manifest.get("data") or {}).get("fingerprint")


class Evaluated(NamedTuple):
    """A run with the per-image arrays of one of its evaluations."""

    run: RunView
    arrays: Arrays


def checked(run: RunView, update: int) -> Evaluated:
    """One evaluation; raises `RunError` if its per-image arrays do not fit together.

    A metric may have been measured on fewer images than another: always on the first ones.
    """
    arrays = run.evaluation(update)
    path = run.evaluation_path(update)
    if "image" not in arrays:
        raise RunError(f"{path}: damaged evaluation (no array `image`)")
    for metric in METRICS:
        if metric in arrays and not (
            arrays[metric].ndim == 1 and 0 < len(arrays[metric]) <= len(arrays["image"])
        ):
            raise RunError(
                f"{path}: damaged evaluation ({metric} has shape {arrays[metric].shape}, image {arrays['image'].shape})"
            )
    return Evaluated(run, arrays)


def same_images(several: Sequence[Evaluated]) -> bool:
    """Whether all evaluations used the same held-out images, by all that they left to tell it."""
    return all(_agree(several[0], other) for other in several[1:])


def _agree(one: Evaluated, other: Evaluated) -> bool:
    """Same part of the data, same indices, and same pictures; where none were kept, the same seed of the split."""
    if _part(one.run) != _part(other.run):
        return False
    n = min(len(one.arrays["image"]), len(other.arrays["image"]))
    if not np.array_equal(one.arrays["image"][:n], other.arrays["image"][:n]):
        return False
    here, there = one.arrays.get("original"), other.arrays.get("original")
    if here is None or there is None:
        return one.run.seed == other.run.seed
    n = min(len(here), len(there))
    return here.shape[1:] == there.shape[1:] and np.array_equal(_levels(here[:n]), _levels(there[:n]))


def _levels(pictures: NDArray[Any]) -> NDArray[np.float64]:
    """256 grey levels, so that rounding on another device makes no other picture."""
    return np.rint(np.asarray(pictures, np.float64) * 255)


def _part(run: RunView) -> tuple[Any, Any]:
    """Which held-out part, and how many images it has."""
    on = (run.study.get("evaluation") or {}).get("on", "test")
    return on, (run.study.get("data") or {}).get(on)


def notes_on(runs: Sequence[RunView]) -> tuple[str, ...]:
    """Unfinished runs, and machines that make seconds incomparable."""
    notes = [f"{run.path}: {run.status}, not complete" for run in runs if run.status != "complete"]
    machines = {
        tuple(str(run.manifest.get(key)) for key in ("host", "machine", "device", "threads")) for run in runs
    }
    if len(machines) > 1:
        told = " | ".join(sorted(", ".join(m) for m in machines))
        notes.append(
            f"the runs had different machines, devices or threads, so equal seconds mean little: {told}"
        )
    return tuple(notes)
