"""Where the nodes of a layered drawing stand: levels from the roots down, few crossings, nothing on top of another."""

from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise
from typing import NamedTuple

import networkx as nx

SWEEPS = 12
VIA = 0.5
"""Width that an edge takes where it passes a level without stopping."""


class Placement(NamedTuple):
    """Level and horizontal place of every node, and the places where long edges pass the levels between."""

    level: Mapping[str, int]
    x: Mapping[str, float]
    via: Mapping[tuple[str, str], tuple[str, ...]]
    """Per edge the names of its passing places, level by level; they stand in `level` and `x` like nodes."""


def placed(graph: "nx.DiGraph[str]", widths: Mapping[str, float], gap: float) -> Placement:
    """A layered layout: roots just above their highest child, every other node below its lowest parent.

    Nodes of a level are at least `gap` apart and an edge that skips a level has a slot of its own there, so that
    no node lies on an edge. Sugiyama, Tagawa & Toda (1981), with the barycentre order of Eades & Wormald (1994).
    """
    level = levels(graph)
    rows: list[list[str]] = [[] for _ in range(max(level.values()) + 1)]
    for name in graph:
        rows[level[name]].append(name)
    links: list[tuple[str, str]] = []
    via: dict[tuple[str, str], tuple[str, ...]] = {}
    for parent, child in graph.edges:
        names = tuple(f"{parent}->{child}@{row}" for row in range(level[parent] + 1, level[child]))
        for name, row in zip(names, range(level[parent] + 1, level[child]), strict=True):
            level[name] = row
            rows[row].append(name)
        via[parent, child] = names
        links += pairwise((parent, *names, child))
    rows = _ordered(rows, links)
    wide = {name: widths.get(name, VIA) for row in rows for name in row}
    return Placement(level, _columns(rows, links, wide, gap), via)


def levels(graph: "nx.DiGraph[str]") -> dict[str, int]:
    """0 for the topmost level; every edge leads downwards."""
    level = {name: row for row, names in enumerate(nx.topological_generations(graph)) for name in names}
    for name in graph:
        children = list(graph.successors(name))
        if graph.in_degree(name) == 0 and children:
            level[name] = min(level[child] for child in children) - 1
    return level


def crossings(rows: Sequence[Sequence[str]], links: Sequence[tuple[str, str]]) -> int:
    """How many pairs of links cross between neighbouring rows."""
    place = {name: (row, column) for row, names in enumerate(rows) for column, name in enumerate(names)}
    ends = [(place[a], place[b]) for a, b in links]
    return sum(a[0] == c[0] and (a[1] - c[1]) * (b[1] - d[1]) < 0 for (a, b), (c, d) in combinations(ends, 2))


def _ordered(rows: list[list[str]], links: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Rows by the mean place of their neighbours, downwards and upwards in turn; the best that was seen."""
    above, below = _neighbours(links)
    best, least = rows, crossings(rows, links)
    for sweep in range(SWEEPS):
        near, order = (
            (above, range(1, len(rows))) if sweep % 2 == 0 else (below, range(len(rows) - 2, -1, -1))
        )
        rows = [list(row) for row in rows]
        for index in order:
            place = {name: column for row in rows for column, name in enumerate(row)}
            rows[index].sort(key=lambda name: _mean([place[n] for n in near.get(name, ())], place[name]))
        if (count := crossings(rows, links)) < least:
            best, least = rows, count
    return best


def _columns(
    rows: Sequence[Sequence[str]], links: Sequence[tuple[str, str]], wide: Mapping[str, float], gap: float
) -> dict[str, float]:
    """Horizontal places: each near the mean of its neighbours, in the order of its row, never closer than allowed."""
    above, below = _neighbours(links)
    x = {name: float(column) for row in rows for column, name in enumerate(row)}
    for sweep in range(4 * SWEEPS):
        for row in rows if sweep % 2 == 0 else list(reversed(rows)):
            wanted = [
                _mean([x[n] for n in (*above.get(name, ()), *below.get(name, ()))], x[name]) for name in row
            ]
            apart = [(wide[a] + wide[b]) / 2 + gap for a, b in pairwise(row)]
            x.update(zip(row, spread(wanted, apart), strict=True))
    return x


def spread(wanted: Sequence[float], apart: Sequence[float]) -> list[float]:
    """The places closest to `wanted` (least squares), in order, neighbours at least `apart` from each other.

    Isotonic regression on the places less the distances; pool-adjacent-violators (Barlow et al. 1972).

    >>> spread([0.0, 0.0, 5.0], [1.0, 1.0])
    [-0.5, 0.5, 5.0]
    """
    taken = [0.0]
    for distance in apart:
        taken.append(taken[-1] + distance)
    pools: list[list[float]] = []
    for place, before in zip(wanted, taken, strict=True):
        pools.append([place - before])
        while len(pools) > 1 and _mean(pools[-2], 0.0) > _mean(pools[-1], 0.0):
            last = pools.pop()
            pools[-1] += last
    level = [_mean(pool, 0.0) for pool in pools for _ in pool]
    return [a + b for a, b in zip(level, taken, strict=True)]


def _neighbours(links: Sequence[tuple[str, str]]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    above: dict[str, list[str]] = {}
    below: dict[str, list[str]] = {}
    for parent, child in links:
        above.setdefault(child, []).append(parent)
        below.setdefault(parent, []).append(child)
    return above, below


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default
