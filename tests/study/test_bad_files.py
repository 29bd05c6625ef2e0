"""Run directories, checkpoints, weights and disks in a bad state: told in words, and nothing worse happens."""

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

from pcsim.errors import Divergence, RunError
from pcsim.record import TraceWriter, open_trace
from pcsim.study import build, directory, load, run, stopping, training
from pcsim.study.directory import RunDirectory, read_manifest, write_atomically
from pcsim.study.reporter import Silent
from tests.study.cases import CIRCUIT, STUDY, differences, results, write_study
from tests.study.test_bad_studies import LINEAR, LOOK

QUICK = ("learning.updates=2", "evaluation={}", "record=")
"""Learning alone."""


def go(file: Path, out: Path, *overrides: str, stopper: stopping.Stopper | None = None) -> None:
    """`pcsim run` without its process."""
    plan = build.build(load.load_study(file, overrides))
    run.run(plan, RunDirectory(out), training.materials_of(plan), Silent(), stopper or stopping.Stopper())


def test_another_study_in_the_same_directory(tmp_path: Path) -> None:
    file, out = write_study(tmp_path), tmp_path / "out"
    go(file, out, *QUICK)
    with pytest.raises(
        RunError, match=r"out: holds a run of another study, data or version \(identity \w{8}"
    ):
        go(file, out, *QUICK, "seed=4")
    run.fresh(RunDirectory(out))
    assert sorted(p.name for p in out.iterdir()) == [".lock"]
    go(file, out, *QUICK, "seed=4")


def test_what_is_not_computed_does_not_change_the_identity(tmp_path: Path) -> None:
    """Threads, device, figures, description and where the data lie are not what a study computes."""
    file, out = write_study(tmp_path), tmp_path / "out"
    go(file, out, *QUICK)
    go(file, out, *QUICK, "threads=1", "device=cpu", "figures=[energy]", "description=other",
       f"data.root={os.environ['PCSIM_DATA']}", "checkpoint_seconds=5.0")  # fmt: skip
    for other in ("data.binarise=100", "inference.steps=9", "data.train=100", "dtype=float64"):
        with pytest.raises(RunError, match="another study"):
            go(file, out, *QUICK, other)


HOLDER = """
import sys, time
from pathlib import Path
from pcsim.study.directory import RunDirectory, locked
with locked(RunDirectory(Path(sys.argv[1]))):
    print("held", flush=True)
    time.sleep(60)
"""


def test_second_run_in_one_directory_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    """Two processes; the lock goes with the process that held it, however it ends."""
    file, out = write_study(tmp_path), tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(out)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        message = rf"out: another run is at work there \(process {holder.pid}\); wait for it or use --out"
        with pytest.raises(RunError, match=message):
            go(file, out, *QUICK)
        with pytest.raises(RunError, match=message):
            run.fresh(RunDirectory(out))
        holder.kill()
    go(file, out, *QUICK)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 64] = bytes(64 * [0xA5])
    path.write_bytes(bytes(content))


def _garbage(path: Path) -> None:
    path.write_bytes(b"not what it was")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [_truncate, _garbage, _empty, _flip])
def test_corrupt_checkpoint(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    file, out = write_study(tmp_path), tmp_path / "out"
    go(file, out, *QUICK)
    damage(RunDirectory(out).checkpoint)
    with pytest.raises(RunError, match=r"state\.pt: .*--fresh starts anew"):
        go(file, out, *QUICK)


@pytest.mark.parametrize("damage", [_truncate, _garbage, _empty])
def test_corrupt_weights(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    file, out = write_study(tmp_path), tmp_path / "out"
    go(file, out, *QUICK)
    damage(RunDirectory(out).weights)
    with pytest.raises(RunError, match=r"weights\.safetensors: not a readable safetensors file"):
        go(file, tmp_path / "new", *QUICK, f"weights={out}")


@pytest.mark.parametrize("text", ["{", "[]", "\udcff"])
def test_corrupt_manifest(tmp_path: Path, text: str) -> None:
    file, out = write_study(tmp_path), tmp_path / "out"
    go(file, out, *QUICK)
    (out / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(RunError, match=r"manifest\.json: cannot be read .*--fresh starts anew"):
        go(file, out, *QUICK)


def test_metrics_cut_short_are_mended_and_damaged_ones_refused(tmp_path: Path) -> None:
    """A kill leaves at most half a last line; half a line in the middle is something else."""
    file, out = write_study(tmp_path), tmp_path / "out"
    go(file, out, *QUICK)
    whole = results(out)
    metrics = out / "metrics.jsonl"
    text = metrics.read_text()
    metrics.write_text(text + '{"kind": "train", "upd')
    go(file, out, *QUICK)
    assert differences(whole, results(out)) == []
    for wrong in ("no json", "5", '{"kind": "train"}'):
        metrics.write_text(f"{wrong}\n{text}")
        with pytest.raises(RunError, match=r"metrics\.jsonl:1: not a line of metrics"):
            go(file, out, *QUICK)


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "free some space and run the same command again"),
        (errno.EROFS, "choose another directory"),
    ],
)
def test_full_and_read_only_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, advice: str
) -> None:
    """The old file stays, no half of the new one is left, and the message says what to do."""
    target = tmp_path / "a.json"
    write_atomically(target, b"old")

    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(RunError, match=f"a.json: cannot write .*{os.strerror(number)}.*{advice}"):
            write_atomically(target, b"new")
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_disk_that_fills_in_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After space is freed the same command goes on, to the same bits."""
    file, out = write_study(tmp_path), tmp_path / "out"
    go(file, tmp_path / "whole")
    real, calls = os.fsync, [0]

    def fail(descriptor: int) -> None:
        calls[0] += 1
        if calls[0] > 8:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(RunError, match=r"No space left on device.*free some space"):
            go(file, out)
    go(file, out)
    assert differences(results(tmp_path / "whole"), results(out)) == []


def test_disk_that_fills_while_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is acknowledged stays; the same command records the rest, unclamped pixels (ancestral draws) included."""
    everything = STUDY.replace("read: [value, error], nodes: [z]", "read: [value, error]")
    file, out = write_study(tmp_path, everything), tmp_path / "out"
    go(file, tmp_path / "whole")
    real = TraceWriter._store

    def fail(self: TraceWriter, variable: Any, data: Any, start: int) -> None:
        if start >= 4:  # steps -6 to -3 are in the first block, -2 and -1 are spontaneous too
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(self, variable, data, start)

    with monkeypatch.context() as patch:
        patch.setattr(TraceWriter, "_store", fail)
        with pytest.raises(
            RunError, match=r"trace\.zarr: recording stopped, 4 of 19 steps are safe; the disk is full"
        ):
            go(file, out)
    assert open_trace(out / "trace.zarr").sizes["step"] == 4
    go(file, out)
    assert differences(results(tmp_path / "whole"), results(out)) == []


def test_directory_that_cannot_be_written(tmp_path: Path) -> None:
    """A file stands where a directory should: nothing a process may do helps, whoever runs it."""
    file, blocked = write_study(tmp_path), tmp_path / "file"
    blocked.write_text("")
    for out in (blocked, blocked / "below"):
        with pytest.raises(RunError, match=f"{re.escape(str(out))}: cannot write there"):
            go(file, out, *QUICK)
    for name in ("checkpoints", "evaluation"):
        out = tmp_path / name
        out.mkdir()
        (out / name).write_text("")
        with pytest.raises(RunError, match=rf"{name}/.*: cannot write"):
            go(file, out)


def test_trace_that_cannot_be_written(tmp_path: Path) -> None:
    file, out = write_study(tmp_path), tmp_path / "out"
    out.mkdir()
    (out / "trace.zarr").write_text("")
    with pytest.raises(
        RunError, match=r"trace\.zarr: not a trace of pcsim \(a directory with zarr\.json was expected\)"
    ):
        go(file, out, "learning.updates=2", "evaluation={}")


def test_divergence_while_recording_leaves_the_trace_readable(tmp_path: Path) -> None:
    """γ λ_max = 0.4 · 7 = 2.8: the error grows by |1 − 2.8| = 1.8 per step, and the guard sees it at step 25."""
    file, out = write_study(tmp_path, LOOK.replace("STEP", "0.4"), LINEAR), tmp_path / "out"
    with pytest.raises(Divergence) as caught:
        go(file, out)
    assert re.match(r"diverged at step 25: node 'z', energy \S+; .*step size", str(caught.value), re.S)
    assert read_manifest(RunDirectory(out))["status"] == "failed"
    trace = open_trace(out / "trace.zarr")
    assert trace.sizes["step"] >= 25
    energy = trace["energy"].isel(image=0, chain=0).to_numpy()
    growth = energy[20] / energy[15]
    assert growth == pytest.approx(1.8**10, rel=0.05)
    assert "energy" in xr.open_datatree(out / "trace.zarr", engine="zarr", consolidated=False)


def test_divergence_while_learning(tmp_path: Path) -> None:
    file, out = write_study(tmp_path), tmp_path / "out"
    with pytest.raises(Divergence, match=r"diverged at step \d+: node 'z', energy"):
        go(file, out, *QUICK, "inference.kernel.step_size=100.0", "inference.preconditioner=none",
           "inference.steps=400")  # fmt: skip
    assert read_manifest(RunDirectory(out))["status"] == "failed"


def test_weights_are_loaded_and_stay_as_they_are_without_learning(tmp_path: Path) -> None:
    file, first, second = write_study(tmp_path), tmp_path / "first", tmp_path / "second"
    go(file, first, *QUICK)
    look = ("learning=", "evaluation={elbo: {images: 4}}", "record.steps=4")
    go(file, second, *look, f"weights={first}")
    assert RunDirectory(second).weights.read_bytes() == RunDirectory(first).weights.read_bytes()
    go(file, tmp_path / "third", *look, f"weights={first / 'checkpoints' / 'weights.safetensors'}")
    assert differences(results(second), results(tmp_path / "third")) == []
    go(file, tmp_path / "unloaded", *look)
    assert "metrics" in differences(results(second), results(tmp_path / "unloaded"))


def test_weights_of_another_content_are_another_study(tmp_path: Path) -> None:
    file, first = write_study(tmp_path), tmp_path / "first"
    look = ("learning=", "evaluation={}", "record.steps=4", f"weights={first}")
    go(file, first, *QUICK)
    go(file, tmp_path / "look", *look)
    run.fresh(RunDirectory(first))
    go(file, first, *QUICK, "seed=9")
    with pytest.raises(RunError, match="another study, data or version"):
        go(file, tmp_path / "look", *look)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "z: {shape: [4]",
            "z: {shape: [5]",
            "parameter 'z.mean' has another shape: [4] there, [5] in the circuit",
        ),
        (
            "from: z, to: x",
            "from: w, to: x",
            "it has no parameter 'w.mean' of this circuit; did you mean 'z.mean'?",
        ),
        ("{linear: 8}, tanh, ", "", "parameter 'z->x.0.weight' has another shape: [8, 4] there, [64, 4]"),
    ],
)
def test_weights_of_another_circuit(tmp_path: Path, old: str, new: str, message: str) -> None:
    file, first = write_study(tmp_path), tmp_path / "first"
    go(file, first, *QUICK)
    circuit = CIRCUIT.partition("encoder:")[0].replace(old, new, 1)
    if "w" in new:
        circuit = circuit.replace("  z:", "  w:")
    other = write_study(tmp_path / "other", circuit=circuit)
    with pytest.raises(RunError) as caught:
        go(other, tmp_path / "second", "learning=", "evaluation={samples: 2}", "record=", "inference.start=prior",
           f"weights={first}")  # fmt: skip
    assert message in str(caught.value)


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    file = write_study(tmp_path)
    with pytest.raises(
        RunError, match=r"weights: .*nowhere: no such file; name a run directory or a \.safetensors"
    ):
        go(file, tmp_path / "out", *QUICK, "weights=nowhere")


def test_resolved_study_runs_again_as_it_stands(tmp_path: Path) -> None:
    """study.yaml in the run directory, from elsewhere: the same numbers."""
    file, first = write_study(tmp_path / "deep"), tmp_path / "first"
    go(file, first)
    assert json.loads((first / "manifest.json").read_text())["status"] == "complete"
    go(first / "study.yaml", tmp_path / "second")
    assert differences(results(first), results(tmp_path / "second")) == []
    assert (
        read_manifest(RunDirectory(first))["identity"]
        == read_manifest(RunDirectory(tmp_path / "second"))["identity"]
    )


def test_locked_directory_without_flock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some network file systems have no locks: an error in words, not two runs in one directory."""

    def fail(handle: object, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(directory.fcntl, "flock", fail)
    with pytest.raises(RunError, match="cannot be locked against a second run"):
        go(write_study(tmp_path), tmp_path / "out", *QUICK)
