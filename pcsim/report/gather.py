"""From analyses of several runs to one table and one set of cautions; a run that lacks something is left out, aloud."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import xarray as xr

from pcsim.analysis.result import cautions_of
from pcsim.analysis.slabs import AnalysisError
from pcsim.report.page import Number
from pcsim.report.subject import Missing, Subject

Found = TypeVar("Found")


def each(runs: Sequence[Subject], analysis: Callable[[Subject], Found]) -> tuple[dict[str, Found], list[str]]:
    """`{label: result}` of the runs that have what the analysis needs, and why the others do not.

    Raises `Missing` where none has it.
    """
    found: dict[str, Found] = {}
    reasons: list[str] = []
    for run in runs:
        try:
            found[run.label] = analysis(run)
        except (Missing, AnalysisError) as failure:
            reasons.append(str(failure))
    if not found:
        raise Missing("; ".join(dict.fromkeys(reasons)))
    return found, reasons


def said(results: dict[str, Found], several: bool) -> list[str]:
    """The cautions of the results; with the run's label in front where there are several runs."""
    sentences = []
    for label, result in results.items():
        held = result if isinstance(result, xr.Dataset | xr.DataArray) else xr.Dataset()
        sentences += [f"{label}: {text}" if several else text for text in cautions_of(held)]
    return sentences


def quiet(results: dict[str, xr.Dataset]) -> dict[str, xr.Dataset]:
    """The results with their cautions cut to a pointer: on the page the sentences stand above the figure."""
    pointer = ["see the warnings of this section"]
    return {k: v.assign_attrs(cautions=pointer if cautions_of(v) else []) for k, v in results.items()}


def over_images(array: xr.DataArray, name: str, unit: str = "", expected: float | None = None) -> Number:
    """Mean over all entries with its standard error over images (over units where there is one image)."""
    means = array.mean([d for d in array.dims if d != "image"]) if "image" in array.dims else array
    values = means.to_numpy().astype(np.float64).ravel()
    values = values[np.isfinite(values)]
    error = float(values.std(ddof=1) / np.sqrt(values.size)) if values.size > 1 else None
    value = float(values.mean()) if values.size else float("nan")
    remark = "mean over images" if "image" in array.dims and values.size > 1 else ""
    return Number(name, value, error, unit, expected, remark)


def row(
    name: str, runs: Sequence[Subject], numbers: dict[str, Number]
) -> tuple[str, tuple[Number | None, ...]]:
    """One row of a table: a number per run, None for a run without it."""
    return name, tuple(numbers.get(run.label) for run in runs)
