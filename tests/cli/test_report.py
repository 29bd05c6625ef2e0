"""`pcsim report`: where it writes, what it prints, and what it says of a path that is no run."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from pcsim.cli import app
from pcsim.cli.reporting import circuits_of
from pcsim.figures.run_view import view
from tests.report.made import Plan, write_run

RUNNER = CliRunner()
SMALL = Plan(images=2, chains=4, spontaneous=100, steps=200)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small complete run."""
    return write_run(tmp_path_factory.mktemp("runs") / "small", SMALL)


def test_one_run_is_reported_in_its_own_directory(run: Path) -> None:
    done = RUNNER.invoke(app, ["report", str(run)])
    assert done.exit_code == 0, done.output
    assert (run / "report.html").is_file()
    assert "Did the chains reach equilibrium?" in done.output
    assert "report.html" in done.output.splitlines()[-1] + done.output
    assert "at the top of the page" in done.output
    # the circuit stands with what was run
    assert "The circuit of small." in (run / "report.html").read_text(encoding="utf-8")


def test_several_runs_are_reported_where_one_stands(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    other = write_run(tmp_path / "other", SMALL._replace(temperature=0.0))
    done = RUNNER.invoke(app, ["report", str(other), str(run)])
    assert done.exit_code == 0, done.output
    assert "What does the noise change?" in (tmp_path / "report.html").read_text(encoding="utf-8")
    named = RUNNER.invoke(app, ["report", str(run), "--out", "pages/a.html"])
    assert named.exit_code == 0, named.output
    assert (tmp_path / "pages" / "a.html").is_file()


def test_equal_circuits_are_drawn_once(run: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", SMALL._replace(temperature=0.0))
    wider = write_run(tmp_path / "wider", SMALL._replace(units=5))
    drawn = circuits_of([view(run), view(other), view(wider)])
    assert [caption for caption, _ in drawn] == ["The circuit of small and other.", "The circuit of wider."]


def test_a_path_that_is_no_run_ends_with_2_and_a_message(run: Path, tmp_path: Path) -> None:
    nowhere = RUNNER.invoke(app, ["report", str(tmp_path / "nowhere")])
    assert nowhere.exit_code == 2
    assert "no such run directory" in nowhere.output
    assert "Traceback" not in nowhere.output
    folder = RUNNER.invoke(app, ["report", str(run.parent)])
    assert folder.exit_code == 2
    assert "small" in folder.output  # the run that lies in there
    assert not (run.parent / "report.html").exists()


def test_the_command_is_in_the_help() -> None:
    assert "report" in RUNNER.invoke(app, ["--help"]).output
    assert "--out" in RUNNER.invoke(app, ["report", "--help"]).output
