"""Series of frames from CSV files, put in place of the files' names, so that a study says all that it shows."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pcsim.circuit.source import Path_, Source
from pcsim.errors import nearest


def with_series(
    source: Source, path: Path_, items: Sequence[Mapping[str, Any]], folder: Path
) -> list[dict[str, Any]]:
    """A stimulus in which every `series: file.csv` is `series: {node: frames}`; raises `StudyError`."""
    result = []
    for index, item in enumerate(items):
        here, made = (*path, index), dict(item)
        if isinstance(made.get("phases"), list) and all(isinstance(p, dict) for p in made["phases"]):
            made["phases"] = with_series(source, (*here, "phases"), made["phases"], folder)
        show = made.get("show")
        if isinstance(show, dict) and isinstance(show.get("series"), str):
            file = folder / Path(show["series"]).expanduser()
            made["show"] = {**show, "series": read_series(source, (*here, "show", "series"), file)}
        result.append(made)
    return result


def read_series(source: Source, path: Path_, file: Path) -> dict[str, list[Any]]:
    """`{node: frames}` of a table with a line of names; raises `StudyError`.

    A column `x` is a node of one unit, columns `x.0, x.1, …` are the units of a vector (of an image, in the order
    channel, y, x).
    """
    if not file.is_file():
        others = [p.name for p in file.parent.glob("*.csv")] if file.parent.is_dir() else []
        near = nearest(file.name, others) if others else f"{file.parent} holds no CSV files"
        source.fail(path, f"{file}: no such file; {near}")
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            rows = [row for row in csv.reader(stream) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as failure:
        source.fail(path, f"{file}: cannot read the series ({getattr(failure, 'strerror', None) or failure})")
    if len(rows) < 2:
        source.fail(path, f"{file}: expected a line of names and at least one frame")
    header = [name.strip() for name in rows[0]]
    result: dict[str, list[Any]] = {}
    for name in dict.fromkeys(column.partition(".")[0] for column in header):
        mine = [column for column in header if column.partition(".")[0] == name]
        columns = [name] if mine == [name] else [f"{name}.{i}" for i in range(len(mine))]
        if missing := [column for column in columns if column not in mine]:
            source.fail(path, f"{file}: the columns of node {name} are {mine}; no column {missing[0]!r}")
        places = [header.index(column) for column in columns]
        try:
            result[name] = [[float(row[i]) for i in places] for row in rows[1:]]
        except (ValueError, IndexError) as failure:
            source.fail(path, f"{file}: a cell of node {name} is no number ({failure})")
    return result
