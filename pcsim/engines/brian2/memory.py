"""How much memory a network will take, asked before anything is built."""

from collections.abc import Mapping, Sequence

from pcsim.circuit.distributions.base import LocalText
from pcsim.circuit.graph import Circuit, Edge
from pcsim.circuit.layers.chain import Split
from pcsim.engines.brian2.unroll import synapse_count
from pcsim.errors import CircuitError

LIMIT = 2e9
PER_SYNAPSE = 80
"""Bytes at the peak, 69 measured over 4 million: indices and weight stay, copies come and go in every step."""


def check(
    edges: Sequence[Edge],
    split: Mapping[str, Split],
    circuit: Circuit,
    texts: Mapping[str, LocalText],
    rows: int,
    limit: float,
) -> None:
    """Raise `CircuitError` with the numbers where synapses of all rows would exceed `limit` bytes."""
    counts = {e.key: synapse_count(e, split[e.key], circuit.nodes[e.parent].shape) for e in edges}
    for name, text in texts.items():
        if text.weights is not None:
            counts[f"within {name}"] = int(text.weights.count_nonzero())
    total = rows * sum(counts.values())
    if total * PER_SYNAPSE <= limit:
        return
    largest = max(counts, key=lambda key: counts[key])
    raise CircuitError(
        f"{sum(counts.values()):,} synapses for each of {rows} rows take about {total * PER_SYNAPSE / 1e9:.1f} GB, "
        f"more than the limit of {limit / 1e9:.1f} GB; edge {largest} alone has {counts[largest]:,}: use fewer "
        "images and chains, smaller feature maps, or engine: torch"
    )
