"""Planes, grids and the random-walk null, against scikit-learn and the closed form."""

import math
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from sklearn.decomposition import PCA

from pcsim.errors import RunError
from pcsim.figures.landscape import grid, null_explained, plane, principal, random_walk, save
from pcsim.figures.run_view import RunView, view
from pcsim.figures.trace_reading import trajectories
from tests.figures import synthetic


def test_random_walks_have_the_published_shares() -> None:
    """6/π² and 6/(4π²) in high dimension: within 2 percentage points (Antognini & Sohl-Dickstein 2018)."""
    first, second = null_explained(steps=500, dimension=1000, walks=3)
    assert first == pytest.approx(6 / math.pi**2, abs=0.02)
    assert second == pytest.approx(6 / (4 * math.pi**2), abs=0.02)


def test_random_walk_increments_are_standard_normal() -> None:
    increments = np.diff(random_walk(2000, 50, seed=3), axis=0)
    n = increments.size
    assert abs(increments.mean()) < 5 / math.sqrt(n)
    assert abs(increments.var() - 1) < 5 * math.sqrt(2 / n)
    np.testing.assert_array_equal(random_walk(10, 4, seed=1), random_walk(10, 4, seed=1))


def test_principal_agrees_with_scikit_learn() -> None:
    path = random_walk(60, 12, seed=2) @ np.diag(np.arange(1, 13.0))
    origin, directions, explained = principal(path)
    reference = PCA(2).fit(path)
    np.testing.assert_allclose(origin, reference.mean_, rtol=1e-12)
    np.testing.assert_allclose(explained, reference.explained_variance_ratio_, rtol=1e-10)
    np.testing.assert_allclose(np.abs(directions @ reference.components_.T), np.eye(2), atol=1e-10)


@pytest.mark.parametrize("path", [np.zeros((5, 3)), np.arange(6.0)[:, None]], ids=["still", "one unit"])
def test_principal_of_degenerate_paths_is_finite(path: np.ndarray) -> None:
    _, directions, explained = principal(path)
    assert directions.shape == (2, path.shape[1])
    assert np.isfinite(directions).all()
    assert explained == ((0.0, 0.0) if path.shape[1] == 3 else (1.0, 0.0))


def test_plane_holds_every_chain_and_ignores_the_end_point(runs: list[RunView]) -> None:
    trace = runs[1].trace()
    found = plane(trace, "z", 1)
    paths, steps = trajectories(trace, "z", 1, "here")
    assert steps[0] == 0
    assert paths.shape == (synthetic.CHAINS, 201, synthetic.D)
    np.testing.assert_allclose(found.directions @ found.directions.T, np.eye(2), atol=1e-12)
    projected = np.abs((paths - found.origin) @ found.directions.T).max(axis=(0, 1))
    assert (projected <= found.extent).all()
    _, relative, shares = principal(paths[0] - paths[0, -1])
    np.testing.assert_allclose(relative, found.directions, atol=1e-9)
    np.testing.assert_allclose(shares, found.explained, rtol=1e-9)


def test_grid_positions_span_the_plane_and_survive_the_disk(runs: list[RunView], tmp_path: Path) -> None:
    landscape = grid(runs[0].trace(), "z", [0, 2], points=11)
    assert landscape["position"].dims == ("image", "pc2", "pc1", "unit")
    middle = landscape["position"].sel(pc1=0, pc2=0)
    np.testing.assert_allclose(middle, landscape["origin"], atol=1e-12)
    along = landscape["position"].isel(pc2=3) - landscape["origin"]
    np.testing.assert_allclose(
        (along * landscape["direction_1"]).sum("unit"), np.tile(landscape["pc1"], (2, 1)), atol=1e-12
    )
    path = synthetic.write_run(tmp_path / "s" / "a", synthetic.study_of("pc"), {})
    assert view(path).landscape() is None
    save(landscape.assign(energy=landscape["position"].sum("unit")), path)
    stored = view(path).landscape()
    assert stored is not None
    xr.testing.assert_allclose(stored["energy"], landscape["position"].sum("unit").rename("energy"))
    assert "position" not in stored


def test_a_trajectory_stops_where_recording_stopped(runs: list[RunView]) -> None:
    trace = runs[0].trace().load()
    trace["z"]["value"][0, 3, 60 + 50 :] = np.nan
    paths, steps = trajectories(trace, "z", 0, "here")
    assert paths.shape[1] == len(steps) == 50
    with pytest.raises(RunError, match="no image 9; the trace has images 0 to 3"):
        trajectories(trace, "z", 9, "here")
    with pytest.raises(RunError, match="y/value was not recorded; did you mean 'z/value'"):
        trajectories(trace, "y", 0, "here")
