"""The torch side: what the loop hands in per step is what the trace holds, and the loop is left alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pcsim.errors import RunError
from pcsim.record import (
    Block,
    Layout,
    TraceWriter,
    Variable,
    memory_tree,
    memory_writer,
    open_trace,
    recorded_steps,
)
from pcsim.record.buffer import BlockBuffer

STEPS = recorded_steps(-4, 15)
VARIABLES = (
    Variable("energy"),
    Variable("acceptance", lead=()),
    Variable("z/value", (7,)),
    Variable("a/value", (3,), select=(0, 5, 6)),
    Variable("b/value", (4,), every=5, select=(0, 2, 4, 6)),
    Variable("x/error", (2, 2, 5), select=(1, 2), every=5),
)
PLAN = Layout(VARIABLES, 2, 3, STEPS, 5)


def states(device: str = "cpu") -> dict[int, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device)

    return {
        s: {
            "energy": draw(6),
            "acceptance": draw(),
            "z/value": draw(6, 7),
            "a/value": draw(6, 7),
            "b/value": draw(6, 7),
            "x/error": draw(6, 3, 2, 5),
        }
        for s in range(-6, 18)
    }


def expected(path: str, steps: range) -> np.ndarray:
    every = {"b/value": 5, "x/error": 5}.get(path, 1)
    rows = np.stack([states()[s][path].numpy() for s in steps if s % every == 0])
    rows = (
        rows[:, :, list({"a/value": (0, 5, 6), "b/value": (0, 2, 4, 6), "x/error": (1, 2)}[path])]
        if path
        in (
            "a/value",
            "b/value",
            "x/error",
        )
        else rows
    )
    return rows if path == "acceptance" else np.moveaxis(rows.reshape(len(rows), 2, 3, *rows.shape[2:]), 0, 2)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_every_step_arrives(device: str) -> None:
    """Steps outside the layout are passed over; the tensors that were handed in stay as they were."""
    writer, store = memory_writer(PLAN)
    given = states(device)
    with writer, BlockBuffer(writer, device=device) as buffer:
        for step, values in given.items():
            buffer.put(step, {path: values[path] for path in buffer.due(step)})
    tree = memory_tree(store)
    for v in VARIABLES:
        np.testing.assert_array_equal(tree[v.path].values, expected(v.path, STEPS))
    for step, values in states().items():
        assert all(torch.equal(given[step][path].cpu(), x) for path, x in values.items())


def test_due_names_what_a_step_records() -> None:
    buffer = BlockBuffer(memory_writer(PLAN)[0])
    assert buffer.due(-5) == buffer.due(16) == ()
    assert buffer.due(-4) == ("energy", "acceptance", "z/value", "a/value")
    assert buffer.due(5) == tuple(v.path for v in VARIABLES)


def test_loop_that_raises_leaves_its_last_steps(tmp_path: Path) -> None:
    def loop() -> None:
        with TraceWriter(tmp_path / "t.zarr", PLAN) as writer, BlockBuffer(writer) as buffer:
            for step, values in states().items():
                if step == 9:
                    raise FloatingPointError
                buffer.put(step, values)

    with pytest.raises(FloatingPointError):
        loop()
    tree = open_trace(tmp_path / "t.zarr")
    assert tree["step"].values.tolist() == list(range(-4, 9))
    for v in VARIABLES:
        np.testing.assert_array_equal(tree[v.path].values, expected(v.path, range(-4, 9)))
    with TraceWriter(tmp_path / "t.zarr", PLAN) as writer, BlockBuffer(writer) as buffer:
        assert buffer.next_step == 6
        for step in range(6, 18):
            buffer.put(step, states()[step])
        assert buffer.next_step is None
    for v in VARIABLES:
        np.testing.assert_array_equal(open_trace(tmp_path / "t.zarr")[v.path].values, expected(v.path, STEPS))


def test_skipped_step_is_an_error() -> None:
    writer, _ = memory_writer(PLAN)
    buffer = BlockBuffer(writer)
    with pytest.raises(RunError, match="step 3 arrived before step -4"):
        buffer.put(3, states()[3])


def test_memory_is_the_pool() -> None:
    """Thirty blocks pass through three buffers: every array that reaches the sink lies in one of them."""
    plan = Layout((Variable("energy"),), 2, 3, range(150), 5)
    writer, _ = memory_writer(plan)
    seen = set()
    put = writer.put

    class Spy:
        layout, start = plan, 0

        def put(self, block: Block) -> None:
            seen.add(block.arrays["energy"].ctypes.data)
            put(block)

    buffer = BlockBuffer(Spy())
    for step in range(150):
        buffer.put(step, {"energy": torch.full((6,), float(step))})
    writer.close()
    assert writer.n_written == 150
    assert len(seen) <= 3
