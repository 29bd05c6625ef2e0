"""The trace writer: one background thread, whole blocks only, `n_written` last."""

import queue
import shutil
import threading
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.errors import ZarrUserWarning
from zarr.storage import LocalStore, MemoryStore

from pcsim.errors import RunError, nearest
from pcsim.record.layout import Layout, Variable, count_before, dims_of, step_dim
from pcsim.record.read import PARTIAL, as_run_error, check_schema, open_root
from pcsim.record.store import fill


def nothing() -> None:
    """Does nothing: a block of plain numpy arrays needs no waiting and no giving back."""


class Block(NamedTuple):
    """Consecutive entries of `step`, starting at index `first`, as the loop made them."""

    first: int
    size: int
    arrays: Mapping[str, NDArray[Any]]
    """Per stepped variable `[entry, row, *shape]` (`[entry, *shape]` without rows), row = image · n_chain + chain;
    a thinned variable brings the entries that it has among these steps, possibly none."""
    wait: Callable[[], None] = nothing
    """Called in the writer's thread before the arrays are read (a copy from the device may be under way)."""
    release: Callable[[], None] = nothing
    """Called in the writer's thread when the arrays may be overwritten, also after a failure."""


class TraceWriter:
    """Writes one recording pass into a trace, created here or continued at the last acknowledged block.

    After a block is in the store, `n_written` (per update) grows: whatever it counts survives `kill -9`, and the rest
    reads as NaN. Nothing is fsynced, so a power failure is not covered. The trace of the same layout is continued,
    of another one refused. A pass that is run again may hand in its blocks from the start (those already there are
    left alone: same seed, same bits) or from `start` on. Errors of the thread surface as `RunError` at the next
    `put` or at `close`; a block that failed is not acknowledged, nor is anything after it.
    """

    def __init__(self, where: Path | str | Store, layout: Layout, *, update: int = 0, depth: int = 2) -> None:
        """`update` is an index into `layout.updates`; `depth` is the number of blocks that may wait for the disk."""
        n_update = 1 if layout.updates is None else len(layout.updates)
        if not 0 <= update < n_update:
            raise RunError(f"update {update} of a trace with {n_update}")
        self.where = str(where) if isinstance(where, Path | str) else "the trace in memory"
        self.layout = layout
        self._update = update
        self._shared = isinstance(where, MemoryStore)
        try:
            self._root = _create_or_continue(where, layout)
            self._arrays = {v.path: _array(self._root, v.path) for v in layout.variables}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise as_run_error(error, self.where, "cannot create the trace") from error
        self._missing = {v.path for v in layout.static if v.per_update or update == 0}
        self._written = self._acknowledged()[update]
        whole = self._written == len(layout.steps)
        self._handed_in = self._written if whole else self._written // layout.block * layout.block
        self.start = self._handed_in
        self._ended = whole
        self._failure: Exception | None = None
        self._blocks: queue.Queue[Block | None] = queue.Queue(maxsize=depth)
        self._thread = threading.Thread(target=self._work, name="pcsim-trace", daemon=True)
        self._thread.start()
        self._closed = False

    @property
    def n_written(self) -> int:
        """Entries of `step` that are in the store for good."""
        return self._written

    def put(self, block: Block) -> None:
        """Queues a block; waits only while `depth` blocks are ahead of it. Raises `RunError` after a failure."""
        self._raise_failure()
        end = block.first + block.size
        if end <= self._written:
            block.release()
            return
        if block.first != self._handed_in or self._ended:
            state = "no more blocks" if self._ended else f"step index {self._handed_in}"
            raise RunError(f"{self.where}: a block at step index {block.first}, expected {state}")
        if block.size > self.layout.block or end > len(self.layout.steps):
            raise RunError(f"{self.where}: {block.size} steps in one block of {self.layout.block}")
        # a chain that stopped early leaves one short block, and then nothing may follow
        self._ended = block.size < self.layout.block or end == len(self.layout.steps)
        self._check(block)
        self._handed_in = end
        self._blocks.put(block)

    def put_static(self, values: Mapping[str, Any]) -> None:
        """Stores variables without a step axis at once: `[image, *shape]`, `[row, *shape]` or `[*shape]`."""
        for path, value in values.items():
            variable = next((v for v in self.layout.static if v.path == path), None)
            if variable is None:
                raise RunError(
                    f"{path!r} is not stored once; {nearest(path, [v.path for v in self.layout.static])}"
                )
            try:
                self._store(variable, np.asarray(value)[None], 0)
            except (OSError, ValueError, RuntimeError) as error:
                raise as_run_error(error, self.where, f"cannot write {path}") from error
            self._missing.discard(path)

    def close(self) -> None:
        """Waits for the thread and consolidates the metadata; raises `RunError` if anything was lost."""
        if self._closed:
            return
        self._closed = True
        self._blocks.put(None)
        self._thread.join()
        self._raise_failure()
        try:
            consolidate(self._root)
        except (OSError, ValueError) as error:
            raise as_run_error(error, self.where, "cannot finish the trace") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes; what is queued is written also when the loop raised, and then the loop's error is the one seen."""
        if error is None:
            self.close()
            if self._missing:
                raise RunError(f"{self.where}: never given: {', '.join(sorted(self._missing))}")
            return
        try:
            self.close()
        except RunError as second:
            error.add_note(f"and the trace could not be closed: {second}")

    def _work(self) -> None:
        while (block := self._blocks.get()) is not None:
            try:
                if self._failure is None:
                    block.wait()
                    self._write(block)
            except Exception as error:
                # whatever it is, the caller must see it: `put` and `close` raise it
                self._failure = error
            finally:
                block.release()

    def _write(self, block: Block) -> None:
        for variable in self.layout.stepped:
            start = count_before(variable, self.layout.steps, block.first)
            if len(data := block.arrays[variable.path]):
                self._store(variable, data, start)
        done = self._acknowledged()
        done[self._update] = block.first + block.size
        self._root.attrs["n_written"] = done if self.layout.updates is not None else done[0]
        self._written = done[self._update]

    def _store(self, variable: Variable, data: NDArray[Any], start: int) -> None:
        """Puts `[entry, row, *shape]` where it belongs; the transposed view is stored without a copy."""
        layout = self.layout
        lead = (layout.n_image, layout.n_chain)[: len(variable.lead)]
        with np.errstate(over="ignore"):
            # a store in memory would keep the loop's own buffer
            data = data.astype(variable.dtype, copy=self._shared).reshape(len(data), *lead, *variable.shape)
        if variable.dtype == "float16" and np.isinf(data).any():
            raise RunError(f"{variable.path}: beyond ±65504 (or infinite); record it with dtype: float32")
        dims = dims_of(variable, layout)
        where: list[Any] = [slice(None)] * len(dims)
        if variable.every is None:
            data = data[0]
        else:
            step = dims.index(step_dim(variable, layout.steps))
            where[step] = slice(start, start + len(data))
            data = np.moveaxis(data, 0, len(lead))
        if dims[:1] == ("update",):
            where[0] = slice(self._update, self._update + 1)
            data = data[None]
        self._arrays[variable.path][tuple(where)] = data

    def _check(self, block: Block) -> None:
        for variable in self.layout.stepped:
            before = count_before(variable, self.layout.steps, block.first)
            count = count_before(variable, self.layout.steps, block.first + block.size) - before
            rows = (self.layout.n_row,) if variable.lead else ()
            expected = (count, *rows, *variable.shape)
            if variable.path not in block.arrays or block.arrays[variable.path].shape != expected:
                got = block.arrays[variable.path].shape if variable.path in block.arrays else "nothing"
                raise RunError(f"{self.where}: {variable.path} of one block is {expected}; got {got}")

    def _acknowledged(self) -> list[int]:
        done = self._root.attrs["n_written"]
        return [int(n) for n in done] if isinstance(done, list) else [int(str(done))]

    def _raise_failure(self) -> None:
        if self._failure is not None:
            steps = f"{self._written} of {len(self.layout.steps)} steps are safe"
            raise as_run_error(self._failure, self.where, f"recording stopped, {steps}") from self._failure


def consolidate(root: zarr.Group) -> None:
    """Copies the metadata of all groups into the root, so that opening reads one file."""
    with warnings.catch_warnings():
        # zarr warns that the zarr 3 specification has no consolidated metadata; xarray reads it all the same
        warnings.simplefilter("ignore", ZarrUserWarning)
        zarr.consolidate_metadata(root.store, zarr_format=3)


def _array(root: zarr.Group, path: str) -> zarr.Array[Any]:
    array = root[path]
    assert isinstance(array, zarr.Array)
    # the default compares every block with the fill value before it writes: 0.2 ms per MB, and no file for all-NaN
    return array.with_config({"write_empty_chunks": True})


def _create_or_continue(where: Path | str | Store, layout: Layout) -> zarr.Group:
    if isinstance(where, Store):
        root = zarr.create_group(where, zarr_format=3)
        fill(root, layout)
        return root
    path = Path(where)
    if not path.exists():
        # built beside its place and renamed: a trace exists complete with its metadata or not at all
        draft = path.with_name(path.name + PARTIAL)
        shutil.rmtree(draft, ignore_errors=True)
        draft.parent.mkdir(parents=True, exist_ok=True)
        fill(zarr.create_group(LocalStore(draft), zarr_format=3), layout)
        draft.rename(path)
    check_schema(path)
    for orphan in path.rglob(f"*{PARTIAL}"):
        orphan.unlink()
    root = open_root(path)
    if root.attrs.get("layout") != layout.fingerprint():
        raise RunError(
            f"{path}: holds a recording of other variables, steps or images; record with --fresh or elsewhere"
        )
    return root
