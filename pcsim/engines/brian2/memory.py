"""How much memory a network will take, asked before anything is built."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from pcsim.circuit.distributions.base import LocalText
from pcsim.circuit.graph import Circuit, Edge
from pcsim.circuit.layers.chain import Split
from pcsim.engines.brian2.unroll import synapse_count
from pcsim.errors import CircuitError

LIMIT = 2e9
PER_SYNAPSE = 80
"""Bytes at the peak, 69 measured over 4 million: indices and weight stay, copies come and go in every step."""

COPIES = 3
"""Of every number that a compiled program records: in the program, in its result file and here."""


class MemoryLimitError(CircuitError):
    """A network, or what a compiled program keeps of it, that is larger than the limit."""


class Sized(Protocol):
    """What is known of a network's size: a `Plan`, or before it is planned an `Extent`."""

    @property
    def rows(self) -> int: ...

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]: ...

    @property
    def errors(self) -> tuple[str, ...]: ...

    @property
    def free(self) -> tuple[str, ...]: ...


class Extent(NamedTuple):
    """The size of a network that is not planned yet."""

    rows: int
    shapes: Mapping[str, tuple[int, ...]]
    errors: tuple[str, ...]
    free: tuple[str, ...]


def check_memory(network: Sized, steps: int, limit: float) -> None:
    """Raise `MemoryLimitError` where values, errors and draws of all steps of cpp_standalone exceed `limit` bytes."""
    units = {name: math.prod(shape) for name, shape in network.shapes.items()}
    kept = sum(units.values()) + sum(units[n] for n in (*network.errors, *network.free))
    total = 8.0 * network.rows * kept * (steps + 1) * COPIES
    if total > limit:
        raise MemoryLimitError(
            f"codegen: cpp_standalone keeps every step in memory: {steps} steps of {network.rows} rows take about "
            f"{total / 1e9:.1f} GB, more than {limit / 1e9:.1f} GB; record fewer steps or rows, or use codegen: cython"
        )


def check(
    edges: Sequence[Edge],
    split: Mapping[str, Split],
    circuit: Circuit,
    texts: Mapping[str, LocalText],
    rows: int,
    limit: float,
) -> None:
    """Raise `MemoryLimitError` with the numbers where synapses of all rows would exceed `limit` bytes."""
    counts = {e.key: synapse_count(e, split[e.key], circuit.nodes[e.parent].shape) for e in edges}
    for name, text in texts.items():
        if text.weights is not None:
            counts[f"within {name}"] = int(text.weights.count_nonzero())
    total = rows * sum(counts.values())
    if total * PER_SYNAPSE <= limit:
        return
    largest = max(counts, key=lambda key: counts[key])
    raise MemoryLimitError(
        f"{sum(counts.values()):,} synapses for each of {rows} rows take about {total * PER_SYNAPSE / 1e9:.1f} GB, "
        f"more than the limit of {limit / 1e9:.1f} GB; edge {largest} alone has {counts[largest]:,}: use fewer "
        "images and chains, smaller feature maps, or engine: torch"
    )
