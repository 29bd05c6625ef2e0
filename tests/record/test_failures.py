"""What can go wrong while a trace is written or opened, and that the user is told."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

from pcsim.errors import RunError, StudyError
from pcsim.record import Layout, TraceWriter, Variable, block_bytes, block_size, open_trace, recorded_steps
from tests.record.cases import block, layout, recording, static
from tests.record.test_round_trip import expect_equal, write

ENDLESS = """
import sys, time
from tests.record.cases import block, layout, recording, static
from pcsim.record import TraceWriter
plan = layout(block=4)
data = recording(plan)
with TraceWriter(sys.argv[1], plan) as writer:
    writer.put_static(static(plan, data))
    print("ready", flush=True)
    for first in range(writer.start, 16, 4):
        writer.put(block(plan, data, first))
        time.sleep(0.01)
    time.sleep(60)
"""


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.04, 0.06, 0.2])
def test_killed_run_keeps_acknowledged_blocks_and_resumes(tmp_path: Path, delay: float) -> None:
    """SIGKILL at several moments: everything that `n_written` counts is there to the bit, the rest is NaN."""
    path, plan = tmp_path / "trace.zarr", layout(block=4)
    data = recording(plan)
    command = [sys.executable, "-c", ENDLESS, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
    tree = open_trace(path)
    n = tree.attrs["n_written"]
    assert n % 4 == 0
    assert tree.sizes["step"] == n
    expected = data["z/value"][:n].reshape(n, 3, 2, 3).transpose(1, 2, 0, 3)
    np.testing.assert_array_equal(tree["z/value"].values, expected)
    raw = xr.open_datatree(path, engine="zarr", consolidated=False)["energy"].values
    assert np.isnan(raw[..., n + 4 :]).all()
    (path / "z" / "value" / "3.0123456789abcdef.partial").touch()
    write(path, plan)
    assert not list(path.rglob("*.partial"))
    expect_equal(open_trace(path), plan)


def test_rerun_from_the_start_leaves_acknowledged_blocks_alone(tmp_path: Path) -> None:
    path, plan = tmp_path / "trace.zarr", layout()
    data = recording(plan)
    writer = TraceWriter(path, plan)
    writer.put(block(plan, data, 0))
    writer.close()
    written = path / "energy" / "c" / "0" / "0" / "0"
    stamp = written.stat().st_mtime_ns
    with TraceWriter(path, plan) as writer:
        assert writer.start == writer.n_written == 8
        writer.put_static(static(plan, data))
        for first in (0, 8, 16):
            writer.put(block(plan, data, first))
    assert written.stat().st_mtime_ns == stamp
    expect_equal(open_trace(path), plan)


def test_chain_that_stopped_leaves_its_steps(tmp_path: Path) -> None:
    path, plan = tmp_path / "trace.zarr", layout()
    data = recording(plan)
    short = {p: a[:5] if len(a) > 2 else a[:1] for p, a in block(plan, data, 0).arrays.items()}
    short["x/error"] = data["x/error"][:3]
    writer = TraceWriter(path, plan)
    writer.put(block(plan, data, 0)._replace(size=5, arrays=short))
    with pytest.raises(RunError, match="no more blocks"):
        writer.put(block(plan, data, 8))
    writer.close()
    tree = open_trace(path)
    assert (tree.sizes["step"], tree.sizes["step_2"], tree.sizes["step_4"]) == (5, 3, 1)
    np.testing.assert_array_equal(tree["acceptance"].values, data["acceptance"][:5])
    assert TraceWriter(path, plan).start == 0


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second block meets ENOSPC: the caller learns it, the first block stays, buffers come back."""
    path, plan = tmp_path / "trace.zarr", layout()
    data, released = recording(plan), []
    original = zarr.Array.__setitem__

    def full(array: Any, where: Any, value: Any) -> None:
        if array.path == "x/error" and where[2].start:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(array, where, value)

    monkeypatch.setattr(zarr.Array, "__setitem__", full)
    writer = TraceWriter(path, plan)
    for first in (0, 8):
        writer.put(block(plan, data, first, release=lambda: released.append(1)))
    with pytest.raises(RunError, match=r"trace.zarr: .*8 of 18 steps are safe; the disk is full"):
        writer.close()
    assert len(released) == 2
    assert open_trace(path).sizes["step"] == 8


def test_failure_surfaces_at_the_next_put_and_never_deadlocks(tmp_path: Path) -> None:
    plan = layout()
    data = recording(plan)

    def fail() -> None:
        raise ValueError("the copy from the device failed")

    writer = TraceWriter(tmp_path / "trace.zarr", plan)
    gone = threading.Event()
    writer.put(block(plan, data, 0, wait=fail, release=gone.set))
    assert gone.wait(10)
    with pytest.raises(RunError, match="copy from the device failed"):
        writer.put(block(plan, data, 8))


def test_error_of_the_loop_comes_first(tmp_path: Path) -> None:
    plan = layout()

    def fail() -> None:
        raise ValueError("lost")

    def loop() -> None:
        with TraceWriter(tmp_path / "trace.zarr", plan) as writer:
            writer.put(block(plan, recording(plan), 0, wait=fail))
            raise KeyError("loop")

    with pytest.raises(KeyError) as caught:
        loop()
    assert "lost" in caught.value.__notes__[0]


def test_queue_is_bounded(tmp_path: Path) -> None:
    """While the disk stands still, the loop gets as far as one block in hand and `depth` waiting."""
    plan = layout(block=4)
    data, gate, handed_in = recording(plan), threading.Event(), []
    writer = TraceWriter(tmp_path / "trace.zarr", plan, depth=1)

    def loop() -> None:
        for first in (0, 4, 8, 12):
            writer.put(block(plan, data, first, wait=gate.wait))
            handed_in.append(first)

    thread = threading.Thread(target=loop)
    thread.start()
    thread.join(0.5)
    assert thread.is_alive()
    assert len(handed_in) == 2
    gate.set()
    thread.join()
    writer.close()
    assert writer.n_written == 16


def test_float16_overflow_is_an_error(tmp_path: Path) -> None:
    plan = layout()
    data = recording(plan)
    data["x/error"] = data["x/error"].astype("float32")
    data["x/error"][1, 0] = 65520.0
    writer = TraceWriter(tmp_path / "trace.zarr", plan)
    writer.put(block(plan, data, 0))
    with pytest.raises(RunError, match=r"x/error: beyond ±65504.*float32"):
        writer.close()


def test_directory_not_writable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot create the trace"):
        TraceWriter(tmp_path / "file" / "trace.zarr", layout())
    if os.geteuid() == 0:
        pytest.skip("the superuser may write anywhere: only the path below a file was tried")
    tmp_path.chmod(0o500)
    with pytest.raises(RunError, match="no permission to write there"):
        TraceWriter(tmp_path / "trace.zarr", layout())


def test_permission_error_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("pcsim.record.writer.fill", refuse)
    with pytest.raises(RunError, match=r"trace.zarr: cannot create the trace; no permission.*--out"):
        TraceWriter(tmp_path / "trace.zarr", layout())
    assert not (tmp_path / "trace.zarr").exists()


def test_opening_says_what_is_wrong(tmp_path: Path) -> None:
    path, plan = tmp_path / "trace.zarr", layout()
    write(path, plan)
    document = json.loads((path / "zarr.json").read_text())
    with pytest.raises(RunError, match=r"no such trace; here are: trace.zarr"):
        open_trace(tmp_path / "trac.zarr")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="not a trace of pcsim"):
        open_trace(tmp_path / "empty")
    zarr.create_group(tmp_path / "other.zarr")
    with pytest.raises(RunError, match="a zarr store, but not a trace of pcsim"):
        open_trace(tmp_path / "other.zarr")
    document["attributes"]["schema"] = "pcsim-trace/2"
    (path / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(RunError, match=r"newer pcsim .schema 2; this one reads up to 1"):
        open_trace(path)
    (path / "zarr.json").write_text(json.dumps(document)[:100])
    with pytest.raises(RunError, match="damaged trace"):
        open_trace(path)


@pytest.mark.parametrize("damage", ["gone", "short", "metadata"])
def test_damaged_block(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "trace.zarr"
    write(path, layout())
    chunk = path / "z" / "value" / "c" / "0" / "0" / "1" / "0"
    if damage == "gone":
        chunk.unlink()
    elif damage == "short":
        chunk.write_bytes(chunk.read_bytes()[:-1])
    else:
        (path / "z" / "value" / "zarr.json").write_text("{")
    with pytest.raises(RunError, match=re.escape(str(path))):
        open_trace(path)


def test_other_layout_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "trace.zarr", layout())
    with pytest.raises(RunError, match="other variables, steps or images"):
        TraceWriter(tmp_path / "trace.zarr", layout(block=4))


def test_what_was_never_given_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(RunError, match="never given: encoder/z/mean, temperature, x/observed, z/precision"),
        TraceWriter(tmp_path / "trace.zarr", layout()),
    ):
        pass


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            (Variable("z/value", (2,), select=(0, 1)), Variable("z/error", (2,), select=(0, 2))),
            "share the dim",
        ),
        ((Variable("a", every=2), Variable("b", every=3)), "multiple of the finest"),
        ((Variable("a", dtype="float23"),), "did you mean"),
        ((Variable("a"), Variable("a")), "recorded twice"),
        ((Variable("a", (2,), axes=("u", "v")),), "do not name the shape"),
    ],
)
def test_layouts_that_cannot_be_written(variables: tuple[Variable, ...], message: str) -> None:
    every = min(v.every or 1 for v in variables)
    with pytest.raises(StudyError, match=message):
        Layout(variables, 1, 1, recorded_steps(-4, 10, every), 6)


def test_block_size_fits_budget_and_thinning() -> None:
    variables = (Variable("z/value", (552,)), Variable("x/error", (784,), every=7))
    steps = recorded_steps(-100, 3000)
    size = block_size(variables, 64, steps, budget=2**24)
    plan = Layout(variables, 16, 4, steps, size)
    assert size % 7 == 0
    assert 0.9 * 2**24 < block_bytes(plan) <= 2**24
