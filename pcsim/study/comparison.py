"""Several runs side by side: at equal parameter updates, equal gradient evaluations and equal training seconds."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pcsim.errors import RunError
from pcsim.figures.run_view import RunView, labels, view
from pcsim.study.comparable import METRICS, Evaluated, check_data, checked, notes_on, same_images
from pcsim.study.paired import Estimate, estimate

Basis = Literal["update", "gradient_evaluations", "seconds"]
BASES: dict[Basis, str] = {
    "update": "equal parameter updates",
    "gradient_evaluations": "equal gradient evaluations",
    "seconds": "equal training seconds",
}
UNITS: dict[Basis, str] = {
    "update": "updates",
    "gradient_evaluations": "gradient evaluations",
    "seconds": "s",
}
EARLY = 0.9
"""A reading below this share of the budget is marked in its row."""
NOT_COMPUTED = ("seed", "description", "figures", "device", "threads", "checkpoint_seconds")
"""Keys of a study in which its seeds may differ and still be seeds of one study."""


class Reading(NamedTuple):
    """Which evaluation of a run stands in a table, and what the run had spent by then."""

    run: str
    seed: int
    update: int
    gradient_evaluations: float
    seconds: float


class Cell(NamedTuple):
    """One metric of one row."""

    value: Estimate
    difference: Estimate | None
    """Paired with the first row, image by image within each seed; None for that row itself and without pairs."""


class Row(NamedTuple):
    """One study (all its seeds) in one table."""

    label: str
    readings: tuple[Reading, ...]
    cells: Mapping[str, Cell]
    note: str


class Table(NamedTuple):
    """All studies at one equal budget; `budget` is None where there is none in common."""

    basis: Basis
    title: str
    budget: float | None
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Comparison:
    """The tables, the metrics that any of them holds, and what a reader has to know beside them."""

    reference: str
    tables: tuple[Table, ...]
    metrics: tuple[str, ...]
    notes: tuple[str, ...]
    data: Mapping[str, Any]


class Group(NamedTuple):
    """The runs of one study, one per seed, in the order of the seeds."""

    label: str
    runs: tuple[RunView, ...]


def compare(runs: Sequence[Path]) -> Comparison:
    """The comparison of at least two run directories with the first of them.

    Every run is read at its last evaluation that fits the budget. The budget of updates is the largest update at
    which every run was evaluated; the budget of gradient evaluations (of training seconds) is the least that any of
    the runs spent in all. Where a run has no evaluation within the budget its row says so and stays empty.
    Runs of one study with different seeds form one row. Differences are paired image by image with the same seed of
    the first study (`pcsim.study.paired` says how intervals are made).

    Raises `RunError` for runs that cannot be read, without any evaluation, on other data, or whose held-out
    images differ.
    """
    views = [view(Path(path)) for path in runs]
    if len(views) < 2:
        raise RunError(f"a comparison needs at least two runs, got {len(views)}")
    if len({v.path.resolve() for v in views}) < len(views):
        raise RunError("the same run directory was given twice")
    for one in views:
        if not one.evaluated():
            raise RunError(f"{one.path}: no evaluation yet (status: {one.status}); nothing to compare")
    check_data(views)
    groups = _grouped(views)
    budgets: dict[Basis, float | None] = {
        "update": _common_update(views),
        "gradient_evaluations": _least(views, "gradient_evaluations"),
        "seconds": _least(views, "seconds"),
    }
    tables = tuple(_table(basis, budget, groups) for basis, budget in budgets.items())
    shown = tuple(m for m in METRICS if any(m in row.cells for table in tables for row in table.rows))
    return Comparison(groups[0].label, tables, shown, notes_on(views), views[0].manifest.get("data") or {})


def last_within(run: RunView, basis: Basis, budget: float) -> Reading | None:
    """The run's last evaluation not beyond the budget; None if it has none."""
    on_disk = set(run.evaluated())
    fitting = [
        row for row in run.rows("evaluation") if int(row["update"]) in on_disk and float(row[basis]) <= budget
    ]
    if not fitting:
        return None
    row = fitting[-1]
    return Reading(
        str(run.path), run.seed, int(row["update"]), float(row["gradient_evaluations"]), float(row["seconds"])
    )


def _common_update(runs: Sequence[RunView]) -> float | None:
    common = set.intersection(*(set(run.evaluated()) for run in runs))
    return float(max(common)) if common else None


def _least(runs: Sequence[RunView], basis: Basis) -> float:
    """The least that any run spent in all, by the furthest line of its metrics."""
    return min(
        max(float(row[basis]) for row in (*run.rows("train"), *run.rows("evaluation"))) for run in runs
    )


def _grouped(runs: Sequence[RunView]) -> tuple[Group, ...]:
    def identity(run: RunView) -> str:
        kept = {key: value for key, value in run.study.items() if key not in NOT_COMPUTED}
        return json.dumps([run.study_name, kept], sort_keys=True, default=str)

    found: dict[str, list[RunView]] = {}
    for run in runs:
        found.setdefault(identity(run), []).append(run)
    groups = []
    for members in found.values():
        if len({run.seed for run in members}) == len(members):
            groups.append(sorted(members, key=lambda run: run.seed))
        else:  # one study, one seed, twice: another version or machine, which must not be averaged
            groups += [[run] for run in members]
    names = labels([members[0] for members in groups])
    return tuple(
        Group(name if len(members) == 1 else f"{name} ({len(members)} seeds)", tuple(members))
        for name, members in zip(names, groups, strict=True)
    )


def _table(basis: Basis, budget: float | None, groups: Sequence[Group]) -> Table:
    if budget is None:
        empty = tuple(Row(g.label, (), {}, "no update at which every run was evaluated") for g in groups)
        return Table(basis, BASES[basis], None, empty)
    first = _loaded(groups[0], basis, budget)
    return Table(basis, BASES[basis], budget, tuple(_row(g, basis, budget, first) for g in groups))


class Loaded(NamedTuple):
    """What a study's runs had reached within a budget."""

    group: Group
    readings: tuple[Reading, ...]
    evaluated: Mapping[int, Evaluated]
    """Per seed; empty when a run has no evaluation within the budget."""
    missing: tuple[RunView, ...]


def _loaded(group: Group, basis: Basis, budget: float) -> Loaded:
    found = {run.seed: (run, last_within(run, basis, budget)) for run in group.runs}
    missing = tuple(run for run, reading in found.values() if reading is None)
    readings = tuple(reading for _, reading in found.values() if reading is not None)
    kept = {} if missing else {s: checked(run, r.update) for s, (run, r) in found.items() if r is not None}
    return Loaded(group, readings, kept, missing)


def _row(group: Group, basis: Basis, budget: float, first: Loaded) -> Row:
    own = first if group is first.group else _loaded(group, basis, budget)
    if own.missing:
        return Row(group.label, own.readings, {}, _too_late(own.missing, basis, budget))
    pairs = _pairs(first, own)
    every = list(own.evaluated.values())
    cells = {}
    for metric in METRICS:
        if not all(metric in e.arrays for e in every):
            continue
        value = estimate([e.arrays[metric] for e in every], same_images(every))
        shared = [(a, b) for a, b in pairs if metric in a.arrays and metric in b.arrays]
        difference = None
        if shared and group is not first.group:
            paired = [_minus(b.arrays[metric], a.arrays[metric]) for a, b in shared]
            difference = estimate(paired, same_images([a for a, _ in shared]))
        cells[metric] = Cell(value, difference)
    note = "; ".join([*_early(own.readings, basis, budget), *_row_notes(first, own, pairs, cells)])
    return Row(group.label, own.readings, cells, note)


def _early(readings: Sequence[Reading], basis: Basis, budget: float) -> list[str]:
    """Says where a run is read well before the budget is spent, because it was not evaluated more often."""
    least = min(float(getattr(reading, basis)) for reading in readings)
    if least >= EARLY * budget:
        return []
    return [f"read at {least:.4g} of {budget:.4g} {UNITS[basis]}, its last evaluation within the budget"]


def _row_notes(first: Loaded, own: Loaded, pairs: Sequence[Any], cells: Mapping[str, Cell]) -> list[str]:
    notes = []
    if not pairs and not first.missing:
        notes.append(f"no seed in common with {first.group.label}: no paired difference")
    odd = [m for m in cells for e in own.evaluated.values() if not np.isfinite(e.arrays[m]).all()]
    if odd:
        notes.append(f"not finite on some image: {', '.join(sorted(set(odd)))}")
    return notes


def _minus(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    """Differences on the images that both have: the first ones."""
    n = min(len(one), len(other))
    with np.errstate(invalid="ignore"):  # inf − inf: the row's note says which metric is not finite
        return np.asarray(one[:n], np.float64) - np.asarray(other[:n], np.float64)


def _pairs(first: Loaded, own: Loaded) -> list[tuple[Evaluated, Evaluated]]:
    """(evaluation of the first study, of this one) per common seed; two single runs pair whatever their seeds."""
    if len(first.evaluated) == 1 and len(own.evaluated) == 1:
        together = [(next(iter(first.evaluated.values())), next(iter(own.evaluated.values())))]
    else:
        together = [(first.evaluated[s], own.evaluated[s]) for s in own.evaluated if s in first.evaluated]
    for one, other in together:
        if not same_images([one, other]):
            raise RunError(
                f"{first.group.label} and {own.group.label} were evaluated on different held-out images, so their"
                " differences cannot be paired: give both studies the same `data`, `evaluation` and `seed`"
            )
    return together


def _too_late(missing: Sequence[RunView], basis: Basis, budget: float) -> str:
    """Why a row is empty: the first evaluation of each run that has none within the budget."""
    units = UNITS[basis]
    told = []
    for run in missing:
        row = next(row for row in run.rows("evaluation") if int(row["update"]) in run.evaluated())
        told.append(f"{float(row[basis]):.4g} {units}")
    return (
        f"no evaluation within {budget:.4g} {units} (the first came after {', '.join(told)});"
        " evaluation.every or evaluation.at_updates can give one"
    )
