"""From analyses of several runs to one table and one set of cautions; a run that lacks something is left out, aloud."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import xarray as xr

from pcsim.analysis.result import cautions_of
from pcsim.errors import AnalysisError
from pcsim.report.cautions import Caution
from pcsim.report.page import Number, Picture, Section, table
from pcsim.report.subject import Missing, Subject

Found = TypeVar("Found")
Numbers = Mapping[str, Number]
Row = tuple[str, tuple[Number | None, ...]]
GROUPS = 8
"""Groups of chains (or images) of a jackknife."""
OF_NOISE = ("split R-hat", "effective draws", "never move")
"""Words of cautions that only a chain with noise can earn: a chain at T = 0 draws nothing."""


class Part(NamedTuple):
    """What one analysis adds to a section."""

    rows: tuple[Row, ...] = ()
    pictures: tuple[Picture, ...] = ()
    cautions: tuple[Caution, ...] = ()
    notes: tuple[str, ...] = ()


def section(question: str, answers: Sequence[str], runs: Sequence[Subject], parts: Sequence[Part]) -> Section:
    """The parts one after another as one section; raises `Missing`, with their notes, where none has a row."""
    rows = [entry for part in parts for entry in part.rows]
    notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
    if not rows:
        raise Missing("; ".join(notes))
    pictures = tuple(drawn for part in parts for drawn in part.pictures)
    cautions = tuple(dict.fromkeys(caution for part in parts for caution in part.cautions))
    shown = table([run.label for run in runs], rows)
    return Section(question, " ".join(filter(None, answers)), (shown,), pictures, cautions, notes)


def each(
    runs: Sequence[Subject], analysis: Callable[[Subject], Found]
) -> tuple[dict[str, Found], tuple[str, ...]]:
    """`{label: result}` of the runs that have what the analysis needs, and why the others do not."""
    found: dict[str, Found] = {}
    reasons: list[str] = []
    for run in runs:
        try:
            found[run.label] = analysis(run)
        except (Missing, AnalysisError) as failure:
            reasons.append(f"{failure}" if str(failure).startswith(run.label) else f"{run.label}: {failure}")
    return found, tuple(dict.fromkeys(reasons))


def said(runs: Sequence[Subject], results: Mapping[str, xr.Dataset | xr.DataArray]) -> tuple[Caution, ...]:
    """The cautions of the results, with the run's label where the page is about several runs."""
    found = []
    for run in runs:
        if run.label in results:
            texts = cautions_of(results[run.label])
            if run.temperature == 0:
                texts = [text for text in texts if not any(words in text for words in OF_NOISE)]
            found += [Caution(run.label if run.several else "", text) for text in texts]
    return tuple(found)


def quiet(results: Mapping[str, xr.Dataset]) -> dict[str, xr.Dataset]:
    """The results with their cautions cut to a pointer: on the page the sentences stand above the figure."""
    pointer = ["see the warnings of this section"]
    return {k: v.assign_attrs(cautions=pointer if cautions_of(v) else []) for k, v in results.items()}


def over_images(
    array: xr.DataArray, unit: str = "", expected: float | None = None, error: float | None = None
) -> Number:
    """Mean over all entries with its standard error over images; `error` stands in where there is one image."""
    means = array.mean([d for d in array.dims if d != "image"]) if "image" in array.dims else array
    values = np.atleast_1d(means.to_numpy().astype(np.float64)).ravel()
    values = values[np.isfinite(values)]
    if not values.size:
        return Number(float("nan"), None, unit)
    if "image" in array.dims and values.size > 1:
        error = float(values.std(ddof=1) / np.sqrt(values.size))
    return Number(float(values.mean()), error, unit, expected)


def combined(error: xr.DataArray) -> float:
    """Standard error of the plain mean of estimates with these errors, taken as independent."""
    values = error.to_numpy().astype(np.float64).ravel()
    values = values[np.isfinite(values)]
    return float(np.sqrt((values**2).sum()) / values.size) if values.size else float("nan")


def jackknife(statistic: Callable[..., float], *arrays: xr.DataArray) -> float:
    """Standard error of `statistic(*arrays)` by leaving out one group of chains after another (Quenouille, Tukey).

    The chains of one image are independent; neighbouring chains form a group. NaN with fewer than 4 chains.
    """
    chains = arrays[0].sizes.get("chain", 1)
    if chains < 4:
        return float("nan")
    groups = np.array_split(np.arange(chains), min(GROUPS, chains))
    kept = [np.setdiff1d(np.arange(chains), group) for group in groups]
    values = np.array([statistic(*(a.isel(chain=places) for a in arrays)) for places in kept])
    return float(np.sqrt((len(groups) - 1) * values.var()))


def row(name: str, runs: Sequence[Subject], numbers: Numbers) -> Row:
    """One row of a table: a number per run, None for a run without it."""
    return name, tuple(numbers.get(run.label) for run in runs)
