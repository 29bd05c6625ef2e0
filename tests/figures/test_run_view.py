"""Run directories that are missing, killed or damaged are read as far as possible, or refused with the file's name."""

from pathlib import Path

import numpy as np
import pytest

from pcsim.errors import RunError
from pcsim.figures.run_view import free_units, view
from tests.figures import synthetic


def a_run(folder: Path, **manifest: str) -> Path:
    return synthetic.write_run(
        folder / "mnist_lpc" / "abc", synthetic.study_of("lpc"), {10: synthetic.evaluation(1.0)}, **manifest
    )


def test_no_such_run_names_the_nearest(tmp_path: Path) -> None:
    path = a_run(tmp_path)
    (path.parent / "abe").mkdir()  # a folder that is no run
    with pytest.raises(RunError, match=r"abd: no such run directory; did you mean 'abc'\?$"):
        view(path.parent / "abd")
    with pytest.raises(
        RunError, match=r"not a run directory \(it has no manifest.json\); runs in there: abc"
    ):
        view(path.parent)


@pytest.mark.parametrize("name", ["manifest.json", "study.yaml"])
@pytest.mark.parametrize("content", ["{", "[1, 2]"])
def test_damaged_files_are_named(name: str, content: str, tmp_path: Path) -> None:
    path = a_run(tmp_path)
    (path / name).write_text(content)
    with pytest.raises(RunError, match=rf"{name}: (cannot be read|expected)"):
        view(path)


def test_a_line_cut_by_a_kill_is_left_out_but_damage_is_not(tmp_path: Path) -> None:
    path = a_run(tmp_path)
    whole = view(path)
    text = (path / "metrics.jsonl").read_text()
    (path / "metrics.jsonl").write_text(text + text.splitlines()[-1][:20])
    assert view(path).metrics == whole.metrics
    lines = text.splitlines()
    (path / "metrics.jsonl").write_text("\n".join([lines[0], "{broken", *lines[1:]]))
    with pytest.raises(RunError, match=r"metrics.jsonl:2: damaged line"):
        view(path)


def test_an_update_written_twice_counts_once(tmp_path: Path) -> None:
    path = a_run(tmp_path)
    with (path / "metrics.jsonl").open("a") as handle:
        handle.write('{"kind": "evaluation", "update": 10, "seconds": 7.0, "gradient_evaluations": 1}\n')
    rows = view(path).rows("evaluation")
    assert [(row["update"], row["seconds"]) for row in rows] == [(10, 7.0)]


def test_missing_and_damaged_evaluations(tmp_path: Path) -> None:
    run = view(a_run(tmp_path))
    assert run.evaluated() == (10,)
    with pytest.raises(RunError, match="no evaluation at update 11; evaluated updates: 10"):
        run.evaluation(11)
    content = run.evaluation_path(10).read_bytes()
    run.evaluation_path(10).write_bytes(content[: len(content) // 2])
    with pytest.raises(RunError, match=r"00000010.npz: damaged evaluation"):
        run.evaluation(10)
    np.savez(run.evaluation_path(10), image=np.array([None, "x"], dtype=object))
    with pytest.raises(RunError, match="damaged evaluation"):
        run.evaluation(10)


def test_missing_and_damaged_traces(tmp_path: Path) -> None:
    path = a_run(tmp_path)
    with pytest.raises(RunError, match=r"has no trace; give its study a `record:` section"):
        view(path).trace()
    synthetic.write_trace(path, 1.0, last=10)
    assert view(path).trace().sizes["step"] == 71
    (path / "trace.zarr" / "zarr.json").write_text("{")
    with pytest.raises(RunError, match=r"trace.zarr"):
        view(path).trace()


@pytest.mark.parametrize(
    ("kernel", "learner", "method"),
    [
        ({"name": "langevin", "step_size": 0.1}, "em", "LPC"),
        ({"name": "langevin", "temperature": 0}, "em", "PC"),
        ("mala", "em", "LPC"),
        ({"name": "adam", "step_size": 0.1}, "em", "PC"),
        ({"name": "langevin"}, "elbo", "VAE"),
    ],
)
def test_method_of_a_study(kernel: object, learner: str, method: str, tmp_path: Path) -> None:
    study = synthetic.study_of("lpc") | {"inference": {"kernel": kernel}, "learning": {"learner": learner}}
    assert view(synthetic.write_run(tmp_path / "s" / "a", study, {})).method == method


def test_free_units_count_what_no_data_hold(tmp_path: Path) -> None:
    path = synthetic.write_trace(a_run(tmp_path), 1.0, last=5)
    run = view(path)
    assert free_units(run, run.trace()) == synthetic.D
    masked = run.__class__(run.path, run.study_name, {**run.study, "mask": {"x": "top"}}, run.manifest, ())
    assert free_units(masked, run.trace()) is None
