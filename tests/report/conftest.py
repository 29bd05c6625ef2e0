"""Runs of exact chains for all tests of the report."""

from pathlib import Path

import pytest

from tests.report.made import Plan, write_run


@pytest.fixture(scope="session")
def langevin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run at T = 1."""
    return write_run(tmp_path_factory.mktemp("made") / "langevin", Plan())


@pytest.fixture(scope="session")
def vanilla(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same circuit at T = 0."""
    return write_run(tmp_path_factory.mktemp("made") / "vanilla", Plan(temperature=0.0))
