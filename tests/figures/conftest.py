"""One set of synthetic runs for all figure tests."""

import numpy as np
import pytest

from pcsim.figures.landscape import grid, save
from pcsim.figures.run_view import RunView, view
from tests.figures import synthetic


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[RunView]:
    """Vanilla PC and Langevin PC with traces and landscapes, and a VAE with neither."""
    views = [view(path) for path in synthetic.three_runs(tmp_path_factory.mktemp("runs"))]
    for one in views[:2]:
        landscape = grid(one.trace(), "z", [0, 1], points=21)
        squares = (np.geomspace(1, 12, synthetic.D) * landscape["position"].to_numpy() ** 2).sum(-1)
        landscape["energy"] = (("image", "pc2", "pc1"), squares / 2)
        save(landscape, one.path)
    return views
