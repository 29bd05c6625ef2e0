"""Conduction delays: how many steps a prediction, and the message that answers it, are under way.

A delay is a shift register in the parent's value group: `past_k` holds z of k steps ago, `came_c_k` the message of
child c of k steps ago. Both are exact, for they move one place at every step. At the start the parent has always
stood where it starts, and no message is on its way.
"""

import math
from collections.abc import Sequence

from pcsim.circuit.graph import Circuit, Edge
from pcsim.circuit.times import seconds
from pcsim.errors import CircuitError

LONGEST = 1000
"""Steps; each is one variable per unit and one assignment per step."""


def delay_steps(edge: Edge, dt: float) -> int:
    """The edge's delay in steps of dt (in seconds); 0 where there is none.

    Raises `CircuitError` unless it is a whole number of steps, of which there are not too many.
    """
    if edge.delay is None:
        return 0
    exact = seconds(edge.delay) / dt
    steps = round(exact)
    if steps < 1 or abs(exact - steps) > 1e-6 * steps:
        raise CircuitError(
            f"edge {edge.key}: a delay of {edge.delay} is {exact:g} steps of dt = {dt * 1e3:g} ms; expected a "
            "whole number"
        )
    if steps > LONGEST:
        raise CircuitError(
            f"edge {edge.key}: a delay of {edge.delay} is {steps} steps of dt = {dt * 1e3:g} ms, more than {LONGEST}; "
            "take a longer dt"
        )
    return steps


def check_lines(edges: Sequence[Edge], circuit: Circuit, rows: int, dt: float, limit: float) -> None:
    """Raise `CircuitError` for a delay that is no number of steps, or where delay lines exceed `limit` bytes."""
    places = {e.key: math.prod(circuit.nodes[e.parent].shape) * delay_steps(e, dt) for e in edges}
    total = 2.0 * 8 * rows * sum(places.values())
    if total > limit:
        largest = max(places, key=lambda key: places[key])
        raise CircuitError(
            f"edge {largest}: delay lines of all edges take about {total / 1e9:.1f} GB for {rows} rows, more than "
            f"{limit / 1e9:.1f} GB; use a longer dt, or fewer images and chains"
        )
