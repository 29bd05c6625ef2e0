"""`pcsim draw`: circuits and studies as pictures, and what it says of mistakes."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from pcsim.cli import app
from pcsim.cli.drawing import draw_command
from pcsim.errors import CircuitError, StudyError
from tests.study.cases import CIRCUIT, write_study

RUNNER = CliRunner()


def test_a_circuit_is_drawn_where_one_stands_and_the_path_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "circuits"
    folder.mkdir()
    (folder / "small.yaml").write_text(CIRCUIT)
    monkeypatch.chdir(tmp_path)
    done = RUNNER.invoke(app, ["draw", "circuits/small.yaml"])
    assert done.exit_code == 0, done.output
    assert done.output.strip() == "small.pdf"
    assert (tmp_path / "small.pdf").read_bytes().startswith(b"%PDF")
    assert [p.name for p in folder.iterdir()] == ["small.yaml"]


def test_a_study_marks_what_it_holds(tmp_path: Path) -> None:
    path = draw_command(write_study(tmp_path), tmp_path / "pictures" / "study.svg", [])
    told = path.read_text()
    assert "clamped at image" in told
    assert "grey: held" in told
    other = draw_command(tmp_path / "circuit.yaml", tmp_path / "circuit.svg", [])
    assert "clamped" not in other.read_text()
    held = draw_command(tmp_path / "circuit.yaml", tmp_path / "held.svg", ["z"])
    assert "clamped" in held.read_text()


def test_a_study_without_its_images_is_drawn(tmp_path: Path) -> None:
    file = write_study(tmp_path)
    file.write_text(file.read_text().replace("binarise: 127", "binarise: 127, root: nowhere"))
    assert draw_command(file, tmp_path / "study.png", []).is_file()


def test_mistakes_are_told_before_anything_is_written(tmp_path: Path) -> None:
    file = write_study(tmp_path)
    with pytest.raises(CircuitError, match="clamp: no node 'zz'"):
        draw_command(file, tmp_path / "a.png", ["zz"])
    with pytest.raises(StudyError, match="did you mean 'png'"):
        draw_command(file, tmp_path / "a.pngg", [])
    assert not list(tmp_path.glob("a.*"))
    wrong = RUNNER.invoke(app, ["draw", str(tmp_path / "nowhere.yaml")])
    assert wrong.exit_code == 2
