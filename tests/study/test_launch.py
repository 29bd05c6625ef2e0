"""`pcsim.run`: a study from Python does what `pcsim run` does."""

from pathlib import Path

import pytest

import pcsim
from pcsim.errors import RunError, StudyError
from pcsim.study.directory import RunDirectory, read_manifest
from tests.study.cases import results, write_study
from tests.study.test_bad_files import go

FEW = ("learning.updates=4", "evaluation={}", "record.steps=6")


def test_same_run_as_from_the_shell(tmp_path: Path) -> None:
    """Oracle: the command's run; weights, metrics, trace to the bit."""
    study = write_study(tmp_path)
    go(study, tmp_path / "shell", *FEW)
    run = pcsim.run(study, *FEW, out=tmp_path / "python")
    assert run.directory.path == tmp_path / "python"
    assert run.trace["z"]["value"].sizes["step"] == 13
    here, there = results(tmp_path / "python"), results(tmp_path / "shell")
    assert here.keys() == there.keys()
    assert here["weights"] == there["weights"]
    assert here["metrics"] == there["metrics"]


def test_a_complete_run_is_opened_and_a_fresh_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study = write_study(tmp_path)
    first = pcsim.run(study, *FEW)
    assert first.directory.path.parts[:2] == ("runs", "study")
    before = read_manifest(RunDirectory(first.directory.path))
    assert read_manifest(pcsim.run(study, *FEW).directory) == before
    other = pcsim.run(study, *FEW, "seed=4")
    assert other.directory.path != first.directory.path
    assert read_manifest(pcsim.run(study, *FEW, fresh=True).directory)["end"] >= before["end"]
    assert len(read_manifest(first.directory)["sessions"]) == 1


def test_mistakes_are_those_of_the_command(tmp_path: Path) -> None:
    study = write_study(tmp_path)
    with pytest.raises(StudyError, match="no such file"):
        pcsim.run(tmp_path / "studdy.yaml")
    with pytest.raises(StudyError, match="learnig"):
        pcsim.run(study, "learnig.updates=4")
    pcsim.run(study, *FEW, out=tmp_path / "out")
    with pytest.raises(RunError, match="another study"):
        pcsim.run(study, *FEW, "seed=9", out=tmp_path / "out")
