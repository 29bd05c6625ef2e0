"""Traces: what is recorded, the zarr writer, opening. The torch side stands apart: `buffer` and `probes`."""

from pcsim.record.layout import (
    Coord,
    Layout,
    Variable,
    block_bytes,
    block_size,
    phases,
    recorded_steps,
    trace_bytes,
)
from pcsim.record.memory import memory_tree, memory_writer
from pcsim.record.read import open_trace
from pcsim.record.writer import Block, TraceWriter

__all__ = [
    "Block",
    "Coord",
    "Layout",
    "TraceWriter",
    "Variable",
    "block_bytes",
    "block_size",
    "memory_tree",
    "memory_writer",
    "open_trace",
    "phases",
    "recorded_steps",
    "trace_bytes",
]
