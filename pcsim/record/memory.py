"""A trace without a disk, for notebooks: the same writer into a store in memory."""

import xarray as xr
from zarr.storage import MemoryStore

from pcsim.record.layout import Layout
from pcsim.record.read import open_trace
from pcsim.record.writer import TraceWriter


def memory_writer(layout: Layout) -> tuple[TraceWriter, MemoryStore]:
    """A `TraceWriter` into memory and its store; `memory_tree(store)` is the trace."""
    store = MemoryStore()
    return TraceWriter(store, layout), store


def memory_tree(store: MemoryStore) -> xr.DataTree:
    """The trace of a closed writer as a tree of ordinary numpy arrays, independent of the store."""
    return open_trace(store).load()
