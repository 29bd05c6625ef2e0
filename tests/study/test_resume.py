"""Laws 9 and 10: a run that was killed, stopped or timed out resumes to the same bits; same study, same numbers.

Oracle: the uninterrupted run of the same study, in a process of its own.
"""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pcsim.study import build, load, run, stopping, training
from pcsim.study.directory import RunDirectory, read_manifest
from pcsim.study.reporter import Silent
from tests.study.cases import STUDY, call, command, differences, environment, results, write_study

VARIANTS = {
    "langevin": [],
    "previous": ["inference.start=previous", "inference.preconditioner=none",
                 "learning.encoder={objective: none}", "learning.chains=2"],
    "incremental": ["learning.update=step", "inference.preconditioner=none", "inference.start=prior",
                    "learning.encoder={objective: none}"],
    "elbo": ["learning.learner=elbo"],
    "ancestral draws": ["record.at_updates=[5, 9, last]",
                        "record.probes=[{read: [value, error]}, {read: energy}]"],
    "map": ["inference.start={name: map, steps: 5, step_size: 0.1}", "inference.kernel={name: mala, step_size: 0.05}",
            "inference.preconditioner=none"],
}  # fmt: skip


def in_process(file: Path, overrides: list[str], out: Path, stopper: stopping.Stopper) -> None:
    """`pcsim run` without its process."""
    plan = build.build(load.load_study(file, overrides))
    run.run(plan, RunDirectory(out), training.materials_of(plan), Silent(), stopper)


class Impatient(stopping.Stopper):
    """A stopper that is asked after so many questions: it stops at every place where a run can."""

    def __init__(self, patience: int) -> None:
        super().__init__()
        self.patience = patience

    def asked(self) -> bool:
        """One question more."""
        self.patience -= 1
        if self.patience < 0:
            self.reason = "SIGTERM"
        return self.reason is not None


@pytest.mark.parametrize("variant", VARIANTS)
def test_stopping_at_every_update_changes_no_bit(tmp_path: Path, variant: str) -> None:
    file, overrides = write_study(tmp_path), VARIANTS[variant]
    in_process(file, overrides, tmp_path / "whole", stopping.Stopper())
    stops = 0
    while True:
        try:
            in_process(file, overrides, tmp_path / "pieces", Impatient(1))
            break
        except stopping.Stopped:
            stops += 1
            assert read_manifest(RunDirectory(tmp_path / "pieces"))["status"] == "stopped"
    assert stops >= 6
    assert differences(results(tmp_path / "whole"), results(tmp_path / "pieces")) == []


def test_same_study_same_numbers_another_seed_others(tmp_path: Path) -> None:
    file = write_study(tmp_path)
    for out, seed in (("a", 3), ("b", 3), ("c", 4)):
        in_process(file, [f"seed={seed}"], tmp_path / out, stopping.Stopper())
    assert differences(results(tmp_path / "a"), results(tmp_path / "b")) == []
    changed = differences(results(tmp_path / "a"), results(tmp_path / "c"))
    assert {"weights", "metrics", "trace/z/value", "00000005/log_likelihood"} <= set(changed)


class _Killed(BaseException):
    """A kill that leaves everything as it stands: no handler catches it, `finally` blocks aside."""


@pytest.mark.parametrize("place", ["arrays", "metrics", "weights", "trace"])
def test_killed_between_two_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """A run that ends between two of its files: neither is lost, and nothing stands there twice."""
    file = write_study(tmp_path)
    in_process(file, [], tmp_path / "whole", stopping.Stopper())

    def die(*args: object, **kwargs: object) -> None:
        raise _Killed

    with monkeypatch.context() as patch:
        if place == "arrays":  # before the arrays of the first evaluation are there
            patch.setattr(run, "save_arrays", die)
        elif place == "metrics":  # between the arrays and their line
            append = run.Metrics.append
            patch.setattr(
                run.Metrics,
                "append",
                lambda self, row: die() if row["kind"] == "evaluation" else append(self, row),
            )
        elif place == "weights":  # between the checkpoint and the weights
            patch.setattr("pcsim.study.checkpoint.save_weights", _second(run.checkpoint.save_weights, die))
        else:  # the trace is whole, the manifest is not
            patch.setattr("pcsim.study.run.directory.update_manifest", _only_running(die))
        with pytest.raises(_Killed):
            in_process(file, [], tmp_path / "killed", stopping.Stopper())
    in_process(file, [], tmp_path / "killed", stopping.Stopper())
    assert differences(results(tmp_path / "whole"), results(tmp_path / "killed")) == []


def _second(save: Callable[..., None], die: Callable[..., None]) -> Callable[..., None]:
    """Saves once, after update 5, and dies after the last update."""
    calls: list[object] = []

    def patched(path: Path, params: object) -> None:
        calls.append(path)
        (save if len(calls) == 1 else die)(path, params)

    return patched


def _only_running(die: object) -> object:
    update = run.directory.update_manifest

    def patched(directory: RunDirectory, **changes: object) -> None:
        if changes.get("status") != "running":
            raise _Killed
        update(directory, **changes)

    return patched


def _interrupt(words: list[str], data: Path, delay: float, number: signal.Signals) -> int:
    with subprocess.Popen(
        words, env=environment(data), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        time.sleep(delay)
        if process.poll() is None:
            os.kill(process.pid, number)
        return process.wait(timeout=240)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["langevin", "previous", "incremental", "ancestral draws"])
def test_sigkill_at_random_moments(tmp_path: Path, data: Path, variant: str) -> None:
    """Four kills each at moments from a fixed seed, after the imports: training, evaluating, recording."""
    long = STUDY.replace("updates: 12", "updates: 200").replace("temperatures: 8", "temperatures: 100")
    file = write_study(tmp_path, long.replace("  steps: 12", "  steps: 600") + "checkpoint_seconds: 0.2\n")
    words = ["run", file, *VARIANTS[variant], "--threads", "1"]
    begin = time.monotonic()
    whole = call(data, *words, "--out", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    length = time.monotonic() - begin
    draws = random.Random(variant)
    for _ in range(4):
        delay = draws.uniform(min(3.0, 0.5 * length), 0.98 * length)
        _interrupt(command(*words, "--out", tmp_path / "killed"), data, delay, signal.SIGKILL)
    last = call(data, *words, "--out", tmp_path / "killed")
    assert last.returncode == 0, last.stderr
    assert differences(results(tmp_path / "whole"), results(tmp_path / "killed")) == []


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_stop_a_run_and_say_how_to_go_on(
    tmp_path: Path, data: Path, number: signal.Signals, code: int
) -> None:
    file = write_study(tmp_path, STUDY.replace("updates: 12", "updates: 300"))
    words = ["run", file, "--threads", "1"]
    assert call(data, *words, "--out", tmp_path / "whole").returncode == 0
    out = tmp_path / "stopped"
    with subprocess.Popen(
        command(*words, "--out", out), env=environment(data), stderr=subprocess.PIPE, text=True
    ) as process:
        while not (out / "metrics.jsonl").is_file() or not (out / "metrics.jsonl").read_text():
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert f"stopped ({number.name}); the same command goes on from here" in said
    assert "Traceback" not in said
    assert read_manifest(RunDirectory(out))["status"] == "stopped"
    assert call(data, *words, "--out", out).returncode == 0
    assert differences(results(tmp_path / "whole"), results(out)) == []


@pytest.mark.slow
def test_max_time_stops_again_and_again(tmp_path: Path, data: Path) -> None:
    """Exit code 75 until the run is complete; no time at all still makes one update."""
    file = write_study(tmp_path)
    words = ["run", file, "--threads", "1"]
    assert call(data, *words, "--out", tmp_path / "whole").returncode == 0
    first = call(data, *words, "--max-time", "0s", "--out", tmp_path / "timed")
    assert first.returncode == 75
    assert "stopped (max-time); the same command goes on from here" in first.stderr
    assert call(data, *words, "--out", tmp_path / "timed").returncode == 0
    assert differences(results(tmp_path / "whole"), results(tmp_path / "timed")) == []


def test_batches_depend_on_seed_and_number_alone() -> None:
    """Every image once per epoch, batches across the border of epochs included; another seed, another order."""
    from pcsim.study.stimuli import Order

    order = Order(10, 4, seed=1)
    seen = [row for update in range(5) for row in order.rows(update)]
    assert sorted(seen[:10]) == list(range(10)) == sorted(seen[10:])
    assert seen[:10] != seen[10:]
    assert [*order.rows(3)] == seen[12:16]
    assert [*Order(10, 4, seed=2).rows(0)] != seen[:4]
