"""A circuit as a drawing: boxes, error nodes, lines and their words, at places in inches; no picture is made here."""

from collections.abc import Mapping, Sequence
from itertools import combinations

from pcsim.circuit.drawn import (
    RADIUS,
    Box,
    Drawing,
    Kind,
    Line,
    Mark,
    Standing,
    extent_of,
    overlap,
    rectangles,
    text_size,
)
from pcsim.circuit.graph import Circuit
from pcsim.circuit.labels import error_lines, node_lines
from pcsim.circuit.levels import placed
from pcsim.circuit.routes import lanes, predictions
from pcsim.errors import CircuitError, nearest

STALK, LEVEL, GAP = 0.28, 1.0, 0.3
"""Between error and value node, between levels, between columns, in inches."""
TRIES = 5
"""Levels are moved apart so often, by 1.3 each time, until the words of edges have room."""


def drawing(circuit: Circuit, clamped: Mapping[str, str]) -> Drawing:
    """The drawing of a circuit; `clamped` says of held nodes in words at what (`clamped at image`).

    Roots stand on top. Each level is a band of value boxes under their error nodes; predictions run down the gap
    above a band to its error nodes and errors back up the same lines, encoder edges and past values in lanes at
    the sides. Raises `CircuitError` where a clamped node is not in the circuit.
    """
    for name in clamped:
        if name not in circuit.nodes:
            raise CircuitError(f"clamp: no node {name!r}; {nearest(name, circuit.nodes)}")
        if (of := circuit.nodes[name].past) is not None:
            raise CircuitError(f"clamp: node {name} holds the past of node {of}; clamp that one")
    for widened in range(TRIES):
        standing = _standing(circuit, clamped, LEVEL * 1.3**widened)
        lines = predictions(circuit, standing)
        if not _crowded(lines, standing):
            break
    lines = lanes(circuit, standing, lines)
    boxes, marks = tuple(standing.boxes.values()), tuple(standing.marks.values())
    return Drawing(boxes, marks, tuple(lines), extent_of(standing, lines))


def _standing(circuit: Circuit, clamped: Mapping[str, str], between: float) -> Standing:
    words = {name: node_lines(node, clamped.get(name)) for name, node in circuit.nodes.items()}
    beside = {
        name: error_lines(node, name in circuit.roots)
        for name, node in circuit.nodes.items()
        if node.past is None
    }
    sizes = {name: _box_size(lines) for name, lines in words.items()}
    slots = {n: max(sizes[n][0], 2 * (RADIUS + 0.05 + text_size(beside.get(n, ()))[0])) for n in words}
    found = placed(circuit.graph, slots, GAP)
    rows: list[list[str]] = [[] for _ in range(max(found.level.values()) + 1)]
    for name, row in found.level.items():
        rows[row].append(name)
    standing, top = Standing({}, {}, {}, found.via), 0.0
    for names in rows:
        high = max(sizes[name][1] for name in names if name in sizes)
        centre = top - 2 * RADIUS - STALK - high / 2
        for name in names:
            x = found.x[name]
            if name not in words:
                standing.passing[name] = (x, top), (x, centre - high / 2)
                continue
            past = circuit.nodes[name].past is not None
            kind: Kind = "past" if past else "clamped" if name in clamped else "value"
            standing.boxes[name] = Box(name, words[name], kind, x, centre, sizes[name][0], high)
            if not past:
                standing.marks[name] = Mark(name, beside[name], x, top - RADIUS)
        top = centre - high / 2 - between
    return standing


def _box_size(lines: Sequence[str]) -> tuple[float, float]:
    wide, high = text_size(lines[1:])
    return max(0.75, wide + 0.16, len(lines[0]) * 0.095 + 0.16), high + 0.32


def _crowded(lines: Sequence[Line], standing: Standing) -> bool:
    """Whether words of an edge lie on a box, an error node or other words."""
    return any(overlap(one, other) for one, other in combinations(rectangles(standing, lines), 2))
