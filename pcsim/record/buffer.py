"""The torch side of recording: tensors of single steps gathered into whole blocks."""

import queue
from collections.abc import Callable, Mapping
from itertools import pairwise
from types import TracebackType
from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor

from pcsim.errors import RunError
from pcsim.record.layout import Layout, Variable, chunk_of
from pcsim.record.writer import Block

TORCH_DTYPES = {
    "float16": torch.float16,
    "float32": torch.float32,
    "float64": torch.float64,
    "uint8": torch.uint8,
    "int32": torch.int32,
    "int64": torch.int64,
    "bool": torch.bool,
}


class Sink(Protocol):
    """Where blocks go: `TraceWriter` or `MemorySink`."""

    @property
    def layout(self) -> Layout: ...

    @property
    def start(self) -> int: ...

    def put(self, block: Block) -> None: ...


class _Probe(NamedTuple):
    """One variable as the loop sees it: numbers and callables only, looked up once."""

    path: str
    every: int
    pick: Callable[[Tensor], Tensor]


class BlockBuffer:
    """Gathers steps into blocks; costs the loop one `copy_` per variable and step, and only reads its tensors.

    On a CPU the blocks of a small pool are handed to the writer as they are (no copy) and come back when they are
    written, so the loop waits only if the disk is slower than the chain. On CUDA a block stays on the device and
    leaves it in one asynchronous copy to pinned memory, in the order of the loop's stream; the writer's thread waits
    for that copy, the loop does not.
    """

    def __init__(self, sink: Sink, *, device: torch.device | str = "cpu", pool: int = 3) -> None:
        """`pool` blocks of memory; recording begins at step index `sink.start`."""
        self._sink, self._layout = sink, sink.layout
        self._device = torch.device(device)
        self._on_device = self._device.type == "cuda"
        self._probes = tuple(
            _Probe(v.path, v.every, _picker(v, self._device))
            for v in self._layout.stepped
            if v.every is not None
        )
        self._free: queue.SimpleQueue[dict[str, Tensor]] = queue.SimpleQueue()
        for _ in range(pool):
            self._free.put(_blank(self._layout, torch.device("cpu"), pin=self._on_device))
        self._staging = _blank(self._layout, self._device, pin=False) if self._on_device else None
        self._first = self._index = sink.start
        self._target = self._fresh()

    @property
    def next_step(self) -> int | None:
        """The step number that `put` expects next; None when the recording is complete."""
        return self._layout.steps[self._index] if self._index < len(self._layout.steps) else None

    def due(self, step: int) -> tuple[str, ...]:
        """Paths of the variables that this step records; the loop need not compute any other."""
        if step not in self._layout.steps[self._first :]:
            return ()
        return tuple(p.path for p in self._probes if step % p.every == 0)

    def put(self, step: int, values: Mapping[str, Tensor]) -> None:
        """Copies one step, `[row, *node shape]` per variable (all units: the selection happens here).

        A step that the layout does not record is passed over; a missing one is a `RunError`.
        """
        if step != self.next_step:
            if step in self._layout.steps[self._index :]:
                raise RunError(f"recording: step {step} arrived before step {self.next_step}")
            return
        for path, every, pick in self._probes:
            if step % every == 0:
                slots = self._slots[path]
                slots[self._filled[path]].copy_(pick(values[path]))
                self._filled[path] += 1
        self._index += 1
        if self._index - self._first == self._layout.block or self._index == len(self._layout.steps):
            self.flush()

    def flush(self) -> None:
        """Hands over what there is; before the end of the steps only when no step follows (a chain that stopped)."""
        count = self._index - self._first
        if count == 0:
            return
        host, wait = self._target, _nothing
        if self._staging is not None:
            for path, n in self._filled.items():
                host[path][:n].copy_(self._staging[path][:n], non_blocking=True)
            wait = torch.cuda.current_stream(self._device).record_event().synchronize
        arrays = {path: host[path][:n].numpy() for path, n in self._filled.items()}
        free = self._free
        self._sink.put(Block(self._first, count, arrays, wait, lambda: free.put(host)))
        self._first = self._index
        if self._index < len(self._layout.steps):
            self._target = self._fresh()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Flushes, also when the loop raised: the steps before a divergence are the ones to look at."""
        try:
            self.flush()
        except RunError as second:
            if error is None:
                raise
            error.add_note(f"and the trace could not be written: {second}")

    def _fresh(self) -> dict[str, Tensor]:
        block = self._free.get()
        # one list of views per block, so that a step costs an index into a list and not a slicing of tensors
        self._slots = {path: list(t.unbind(0)) for path, t in (self._staging or block).items()}
        self._filled = dict.fromkeys(block, 0)
        return block


def _nothing() -> None:
    """A block on the CPU is ready as soon as it is handed over."""


def _blank(layout: Layout, device: torch.device, *, pin: bool) -> dict[str, Tensor]:
    """Uninitialised block tensors `[entry, row, *shape]` per stepped variable."""
    rows = {v.path: (layout.n_row,) if v.lead else () for v in layout.stepped}
    return {
        v.path: torch.empty(
            (chunk_of(v, layout), *rows[v.path], *v.shape),
            dtype=TORCH_DTYPES[v.dtype],
            device=device,
            pin_memory=pin,
        )
        for v in layout.stepped
    }


def _picker(variable: Variable, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The selection of units: a view where the indices are evenly spaced, an index tensor otherwise."""
    select = variable.select
    if select is None:
        return _whole
    axis = len(variable.lead) > 0
    gaps = {b - a for a, b in pairwise(select)}
    if len(gaps) <= 1 and min(gaps, default=1) > 0:
        stride = gaps.pop() if gaps else 1
        part = slice(select[0], select[-1] + 1, stride)
        return (lambda x: x[:, part]) if axis else (lambda x: x[part])
    index = torch.tensor(select, device=device)
    return lambda x: x.index_select(int(axis), index)


def _whole(x: Tensor) -> Tensor:
    return x
