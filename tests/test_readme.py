"""The README's Python and commands run as they stand (long commands as dry runs)."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """Fenced code of one language."""
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def commands() -> list[str]:
    """Lines of the shell blocks, without comments."""
    lines = [line.split("#")[0].strip() for block in blocks("bash") for line in block.splitlines()]
    return [line for line in lines if line]


@pytest.mark.parametrize("code", blocks("python"))
def test_python_example_runs(code: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "DataArray" in done.stdout


WRITES = {"draw": "circuit.pdf", "report": "report.html", "compare": "comparison"}
"""Commands that write into the working directory, and what the test has them write elsewhere."""


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("make")])
def test_make_targets_exist(command: str) -> None:
    done = subprocess.run(
        ["make", "-n", *shlex.split(command)[1:]], cwd=ROOT, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


WRITES = {"draw": "circuit.pdf", "report": "report.html", "compare": "comparison"}
"""Commands that write into the working directory, and what the test has them write elsewhere."""


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("pcsim")])
def test_commands_are_understood(command: str, tmp_path: Path) -> None:
    """Exit code 0, or 2 with words where the demo's runs or the user's archive are not there; never a traceback."""
    words = shlex.split(command)[1:]
    if words[0] == "run" and "--dry-run" not in words:
        words.append("--dry-run")
    if words[0] in WRITES:
        words += ["--out", str(tmp_path / WRITES[words[0]])]
    done = subprocess.run(
        [sys.executable, "-c", "from pcsim.cli import app; app()", *words],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    needs_files = words[0] in ("compare", "report") or words[:2] == ["data", "prepare"]
    assert done.returncode == 0 or (needs_files and done.returncode == 2), done.stderr
    assert "Traceback" not in done.stderr
    assert "Usage" not in done.stderr


def test_python_example_is_short() -> None:
    """A three-layer net with its chain in at most twelve statements' lines."""
    for code in blocks("python"):
        assert len([line for line in code.splitlines() if line.strip()]) <= 12


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (ROOT / target).exists(), target
