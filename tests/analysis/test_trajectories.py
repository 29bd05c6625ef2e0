"""Planes against scikit-learn, nulls against published shares, and descents told from random walks and noise."""

import numpy as np
import pytest
import xarray as xr

from pcsim.analysis.trajectories import (
    explained_with_nulls,
    noise_paths,
    plane_positions,
    project,
    trajectory_plane,
)
from pcsim.errors import AnalysisError

T, D = 300, 40


def chains(a: np.ndarray | float, start: float, seed: int, count: int = 16, length: int = T) -> xr.DataArray:
    """AR(1) in every unit with unit stationary variance, dims (chain, step, unit), `start` sd away in every unit."""
    rng = np.random.default_rng(seed)
    z = start + rng.standard_normal((count, D))
    path = [z]
    for _ in range(length - 1):
        z = a * z + np.sqrt(1 - np.square(a)) * rng.standard_normal(z.shape)
        path.append(z)
    return labelled(np.stack(path, 1))


def walks(seed: int, count: int = 16) -> xr.DataArray:
    return labelled(np.random.default_rng(seed).standard_normal((count, T, D)).cumsum(1))


def labelled(data: np.ndarray) -> xr.DataArray:
    return xr.DataArray(data, dims=("chain", "step", "unit"), coords={"step": np.arange(data.shape[1])})


def test_plane_agrees_with_scikit_learn() -> None:
    from sklearn.decomposition import PCA

    value = chains(0.9, 3.0, seed=0)
    plane = trajectory_plane(value, chain=2)
    known = PCA(2).fit(value.isel(chain=2).to_numpy())
    np.testing.assert_allclose(plane["explained"], known.explained_variance_ratio_, rtol=1e-10)
    np.testing.assert_allclose(plane["origin"], known.mean_, atol=1e-12)
    np.testing.assert_allclose(
        np.abs(plane["directions"].to_numpy() @ known.components_.T), np.eye(2), atol=1e-8
    )
    position = project(value, plane).isel(chain=2)
    np.testing.assert_allclose(
        np.abs(position), np.abs(known.transform(value.isel(chain=2).to_numpy())), atol=1e-8
    )


def test_plane_about_the_end_is_the_uncentred_one() -> None:
    """z_t − z_T: the last point lies at the origin, and the shares are those of the uncentred differences."""
    value = chains(0.95, 5.0, seed=1)
    plane = trajectory_plane(value, origin="end")
    np.testing.assert_allclose(project(value, plane).isel(chain=0, step=-1), 0, atol=1e-12)
    singular = np.linalg.svd((value[0] - value[0, -1]).to_numpy(), compute_uv=False)
    np.testing.assert_allclose(plane["explained"], singular[:2] ** 2 / (singular**2).sum(), rtol=1e-10)


def test_one_plane_for_several_runs_keeps_distances_in_it() -> None:
    cold, warm = chains(0.99, 4.0, seed=2), chains(0.99, 4.0, seed=3)
    plane = trajectory_plane(cold)
    both = project(xr.concat([cold, warm], dim="run"), plane)
    assert both.dims == ("run", "chain", "step", "component")
    inside = plane["origin"] + 2.0 * plane["directions"].sel(component=1)
    np.testing.assert_allclose(project(inside.expand_dims(step=[0]), plane).to_numpy(), [[2, 0]], atol=1e-12)


def test_grid_points_lie_in_the_plane() -> None:
    """Projected back, each point has its own coordinates; the middle one is z_T."""
    value = chains(0.99, 4.0, seed=2)
    plane = trajectory_plane(value, origin="end")
    points = plane_positions(plane, half_width=3.0, points=5)
    back = project(points.rename(pc1="step"), plane).rename(step="pc1")
    np.testing.assert_allclose(back.sel(component=1), np.tile(points["pc1"], (5, 1)), atol=1e-12)
    np.testing.assert_allclose(back.sel(component=2), np.tile(points["pc2"], (5, 1)).T, atol=1e-12)
    np.testing.assert_allclose(points.sel(pc1=0, pc2=0), value.isel(chain=0, step=-1), atol=1e-12)


def test_walk_null_has_the_published_shares() -> None:
    """6/π² and 6/(4π²) about the mean; about the end 8/π² = 81 %: T = 300, D = 40, 60 walks, 2 points (4 s.e.)."""
    value = walks(seed=4)
    for origin, shares in (
        ("mean", (6 / np.pi**2, 1.5 / np.pi**2)),
        ("end", (8 / np.pi**2, 8 / (9 * np.pi**2))),
    ):
        plane = trajectory_plane(value, origin=origin)
        null = explained_with_nulls(value, plane, settled=150, paths=60, seed=0)["mean"].sel(null="walk")
        np.testing.assert_allclose(null, shares, atol=0.02 + 1 / D / 4)


@pytest.mark.parametrize(("a", "shares"), [(0.99, (0.39, 0.21)), (0.9, (0.12, 0.10))])
def test_noise_null_matches_the_process_that_it_imitates(a: float, shares: tuple[float, float]) -> None:
    """γλ = .01: 39 % and 21 %; .1: 12 % and 10 % (known simulations, ± 2 points), from long chains of the process."""
    long = chains(a, 0.0, seed=5, length=2400).isel(step=slice(0, 2400))
    noise = noise_paths(long.to_numpy(), (60, T), np.random.default_rng(0))
    centred = noise - noise.mean(1, keepdims=True)
    squares = np.linalg.svd(centred, compute_uv=False) ** 2
    found = (squares / squares.sum(1, keepdims=True))[:, :2]
    np.testing.assert_allclose(found.mean(0), shares, atol=0.03)
    # and against the process itself, which is the definition: 4 standard errors of both means
    own = np.array(
        [np.asarray(trajectory_plane(long.isel(step=slice(0, T)), chain=c)["explained"]) for c in range(16)]
    )
    error = np.sqrt(own.var(0, ddof=1) / 16 + found.var(0, ddof=1) / 60)
    assert (np.abs(own.mean(0) - found.mean(0)) < 4 * error).all()


def test_noise_paths_have_the_chains_variances_and_times() -> None:
    """Unequal variances and times: total variance within 4 s.e., lag-one correlation of the leading direction."""
    a = np.linspace(0.2, 0.95, D)
    value = chains(a, 0.0, seed=6, length=2000) * xr.DataArray(np.linspace(0.5, 5, D), dims="unit")
    noise = noise_paths(value.to_numpy(), (200, T), np.random.default_rng(1))
    total = float((value.var(("chain", "step"))).sum())
    sizes = noise.var((0, 1)).sum()
    ess = 200 * T * (1 - 0.95) / (1 + 0.95)
    assert abs(sizes / total - 1) < 4 * np.sqrt(2 / ess)
    first = noise[..., 0]
    lagged = (first[:, 1:] * first[:, :-1]).mean() / (first**2).mean()
    assert abs(lagged - 0.95) < 0.02  # τ = 39 within a third


def test_descent_is_told_from_noise_and_walks() -> None:
    """A fall from 6 sd away in every unit explains more than either null; a walk and settled noise do not."""
    fall = chains(0.9, 6.0, seed=7, length=4000)
    short = fall.isel(step=slice(0, 1000))
    found = explained_with_nulls(fall, trajectory_plane(short), settled=200, paths=60, seed=0)
    assert float(found["p"].sel(null="noise", component=1)) == pytest.approx(1 / 61)
    assert found.attrs["cautions"] == []
    still = fall.isel(step=slice(200, 1200))
    calm = explained_with_nulls(still, trajectory_plane(still, start=200), settled=200, paths=60, seed=0)
    assert float(calm["p"].sel(null="noise", component=1)) > 0.01
    walk = walks(seed=8)
    drifting = explained_with_nulls(walk, trajectory_plane(walk), settled=0, paths=60, seed=0)
    assert float(drifting["p"].sel(null="walk", component=1)) > 0.01
    assert drifting.attrs["cautions"]  # a walk does not converge
    assert drifting["example"].dims == ("null", "step", "component")


def test_images_are_kept_and_chains_at_rest_have_no_shares() -> None:
    value = xr.concat([chains(0.9, 2.0, seed=9), 0 * chains(0.9, 0.0, seed=9)], dim="image")
    plane = trajectory_plane(value)
    found = explained_with_nulls(value, plane, settled=50, paths=20, seed=0)
    assert found["mean"].dims == ("image", "null", "component")
    assert bool(found["explained"].isel(image=1).isnull().all())
    assert "must not be read: a trajectory does not move" in found.attrs["cautions"]


def test_wrong_planes_are_refused() -> None:
    value = walks(seed=0)
    with pytest.raises(AnalysisError, match="no origin 'middle'"):
        trajectory_plane(value, origin="middle")
    with pytest.raises(AnalysisError, match="the plane has 40"):
        project(value.isel(unit=slice(3)), trajectory_plane(value))
    with pytest.raises(AnalysisError, match="needs 3"):
        trajectory_plane(value, start=T - 2)


def test_paths_that_are_not_finite_are_refused() -> None:
    value = walks(seed=0)
    value[0, 200:] = np.nan
    with pytest.raises(AnalysisError, match="chain 0 holds values that are not finite"):
        trajectory_plane(value)
    plane = trajectory_plane(value, chain=1)
    with pytest.raises(AnalysisError, match="settled steps"):
        explained_with_nulls(value, plane, settled=100, paths=5, seed=0)
