"""The lines of a drawing: predictions between the levels, encoder edges and past values in lanes at the sides."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from pcsim.circuit.drawn import (
    LEFT,
    RADIUS,
    RIGHT,
    Box,
    Line,
    Point,
    Rectangle,
    Role,
    Standing,
    extent_of,
    overlap,
    rectangle,
    rectangles,
    text_size,
)
from pcsim.circuit.graph import Circuit
from pcsim.circuit.labels import edge_lines

LANE = 0.15
"""Room between the words of neighbouring lanes."""
FRACTIONS = (0.5, 0.38, 0.62, 0.27, 0.73, 0.18, 0.82)
"""Where along an edge its words may stand, the best place first."""


def predictions(circuit: Circuit, standing: Standing) -> list[Line]:
    """From the bottom of each parent to the error node of its child, in the slots between; words where free."""
    reads = circuit.with_errors()
    routes = {}
    for edge in circuit.edges:
        leaving = [_first(standing, (e.parent, e.child)) for e in circuit.children(edge.parent)]
        arriving = [_last(standing, (e.parent, e.child)) for e in circuit.parents(edge.child)]
        start = _fanned(leaving, _first(standing, (edge.parent, edge.child)))
        end = _fanned(arriving, _last(standing, (edge.parent, edge.child)))
        box, mark = standing.boxes[edge.parent], standing.marks[edge.child]
        across = 0.12 * end
        points = [(box.x + 0.2 * start, box.y - box.height / 2)]
        for name in standing.via[edge.parent, edge.child]:
            points += standing.passing[name]
        points.append((mark.x + across, mark.y + math.sqrt(RADIUS**2 - min(across**2, RADIUS**2 / 2))))
        routes[edge.parent, edge.child] = tuple(points)
    lines: list[Line] = []
    taken = rectangles(standing, [])
    for edge in circuit.edges:
        ends = edge.parent, edge.child
        words = edge_lines(edge, circuit.nodes[edge.parent].shape)
        others = [pair for key, route in routes.items() if key != ends for pair in pairwise(route)]
        line = Line(
            "prediction", ends, routes[ends], reads.has_edge(f"ε({edge.child})", edge.parent), words, (0, 0)
        )
        line = min(
            (line._replace(at=at) for at in _along(line.points)),
            key=lambda one: _crowding(rectangle(one), taken, others),
        )
        lines.append(line)
        taken.append(rectangle(line))
    return lines


def _first(standing: Standing, ends: tuple[str, str]) -> float:
    """Where a line goes when it leaves its parent, from left to right."""
    via = standing.via[ends]
    return standing.passing[via[0]][0][0] if via else standing.boxes[ends[1]].x


def _last(standing: Standing, ends: tuple[str, str]) -> float:
    """Where a line comes from when it reaches its child."""
    via = standing.via[ends]
    return standing.passing[via[-1]][1][0] if via else standing.boxes[ends[0]].x


def _fanned(others: Sequence[float], own: float) -> float:
    """The place of one line among those at a node, from left to right, as steps from the middle."""
    return (sorted(others).index(own) - (len(others) - 1) / 2) * min(1.0, 3 / len(others))


def _along(points: Sequence[Point]) -> Iterator[Point]:
    for (x0, y0), (x1, y1) in pairwise(points):
        for share in FRACTIONS:
            yield x0 + share * (x1 - x0), y0 + share * (y1 - y0)


def _crowding(place: Rectangle, taken: Sequence[Rectangle], others: Sequence[tuple[Point, Point]]) -> float:
    """100 for every box or word that the place would lie on, 1 for every line that it would hide."""
    return 100.0 * sum(overlap(place, other) for other in taken) + sum(
        _hides(place, *pair) for pair in others
    )


def _hides(place: Rectangle, start: Point, end: Point) -> bool:
    steps = [i / 20 for i in range(21)]
    return any(
        place[0] <= start[0] + s * (end[0] - start[0]) <= place[2]
        and place[1] <= start[1] + s * (end[1] - start[1]) <= place[3]
        for s in steps
    )


def lanes(circuit: Circuit, standing: Standing, lines: list[Line]) -> list[Line]:
    """Encoder edges and past values in lanes of their own, at the left and right of everything else."""
    extent = extent_of(standing, lines)
    edge_of = {LEFT: extent[0], RIGHT: extent[2]}
    wanted: list[tuple[Role, tuple[str, str], tuple[str, ...], int]] = [
        ("encoder", (e.parent, e.child), edge_lines(e, circuit.nodes[e.parent].shape), LEFT)
        for e in circuit.encoder
    ]
    wanted += [("past", (of, name), ("next frame",), RIGHT) for name, of in circuit.past.items()]
    added = []
    for role, ends, words, side in wanted:
        if not _free(ends, side, standing) and _free(ends, -side, standing):
            side = -side
        half = text_size(words)[0] / 2
        edge_of[side] += side * (half + LANE)
        added.append(_lane(role, ends, words, (side, edge_of[side]), standing))
        edge_of[side] += side * half
    return lines + added


def _free(ends: tuple[str, str], side: int, standing: Standing) -> bool:
    """Whether nothing stands between that side of both boxes and the lanes."""
    return all(len(_exit(standing.boxes[name], side, standing)) == 1 for name in ends)


def _lane(
    role: Role, ends: tuple[str, str], words: tuple[str, ...], lane: tuple[int, float], standing: Standing
) -> Line:
    """Out of the side of a box (or under its row, where others stand between) to the lane, along it, and back in."""
    side, x = lane
    start, end = (_exit(standing.boxes[name], side, standing) for name in ends)
    points = (*start, (x, start[-1][1]), (x, end[-1][1]), *reversed(end))
    return Line(role, ends, points, False, words, (x, (start[-1][1] + end[-1][1]) / 2))


def _exit(box: Box, side: int, standing: Standing) -> tuple[Point, ...]:
    row = [b.x for b in standing.boxes.values() if b.y == box.y and b.name != box.name]
    row += [top[0] for top, bottom in standing.passing.values() if bottom[1] < box.y < top[1]]
    if all((x - box.x) * side < 0 for x in row):
        return ((box.x + side * box.width / 2, box.y),)
    foot = box.x + side * box.width * 0.4
    return (foot, box.y - box.height / 2), (foot, box.y - box.height / 2 - 0.12)
