"""The data folder of these tests: digits are packed once for all of them."""

from pathlib import Path

import pytest
import torch

from pcsim import datasets


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the prepared digits."""
    root = tmp_path_factory.mktemp("data")
    datasets.load("digits", root=root)
    return root


@pytest.fixture(autouse=True)
def _one_thread_and_own_data(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PCSIM_DATA", str(data))
    torch.set_num_threads(1)
