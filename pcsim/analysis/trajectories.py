"""Trajectories in the plane of their principal components, beside what random walks and noise would draw there."""

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pcsim.analysis.convergence import diagnostics, unconverged
from pcsim.analysis.flat import flat_units, steps_from
from pcsim.analysis.result import Meaning, described
from pcsim.analysis.slabs import by_slab, require
from pcsim.errors import AnalysisError

Array = NDArray[np.float64]
PLANE = Meaning(
    "principal plane of a trajectory",
    "leading right singular vectors of z_t − o: o = z_T (`end`, t < T) or the mean over t (`mean`); explained: their "
    "shares of the summed squares",
    "singular value decomposition per image of one chain",
    "shares are of summed squares about o, so about the end they are larger than about the mean (random walk: 81 % "
    "against 61 %); high shares and smooth arcs say nothing by themselves",
    "Antognini & Sohl-Dickstein (2018)",
)
NULLS = Meaning(
    "variance explained, against nulls",
    "shares of the leading components of one path, and of two kinds without descent: Gaussian random walks, "
    "and stationary AR(1) noise with the settled chains' covariance and integrated times",
    "walk: independent increments of one size in every unit; noise: in each eigen-direction of the settled chains' "
    "covariance a = (τ − 1)/(τ + 1); p: (1 + null paths that explain as much)/(1 + null paths)",
    "τ is low where the settled part is shorter than about 50 τ, which makes the noise explain too little; a transient "
    "in the settled part is taken for slow noise, which makes it explain too much",
    "Antognini & Sohl-Dickstein (2018); derived",
)
KINDS = ("walk", "noise")
ORIGINS = ("end", "mean")


def trajectory_plane(
    value: xr.DataArray, chain: int = 0, origin: str = "mean", start: float = 0, dim: str = "step"
) -> xr.Dataset:
    """`origin (…, unit)`, `directions`, `explained (…, component)` and `position (…, step, component)` of one chain.

    The chain's steps from `start` on. origin: `end` takes z_t − z_T for t < T (LPC's Figures 1 and 6), `mean` centres.
    Signs: each direction's largest entry is positive. `project` puts any run onto the plane. Explained variance must
    be read beside `explained_with_nulls`. Other dims (image) are kept.
    """
    require(value, "chain", dim)
    if origin not in ORIGINS:
        raise AnalysisError(f"trajectory_plane: no origin {origin!r}; valid: {', '.join(ORIGINS)}")
    part = flat_units(steps_from(value, start, dim, "trajectory_plane").isel(chain=chain)).compute()
    if part.sizes[dim] < 3:
        raise AnalysisError(f"trajectory_plane: {part.sizes[dim]} steps; a plane needs 3")
    if not np.isfinite(part.to_numpy()).all():
        raise AnalysisError(
            f"trajectory_plane: chain {chain} holds values that are not finite; select the steps before"
        )
    count = min(2, part.sizes["unit"])

    def parts(path: Array) -> tuple[Array, ...]:
        path = path.astype(np.float64)
        moved = _about(path, origin)
        _, singular, directions = np.linalg.svd(moved, full_matrices=False)
        two = directions[..., :count, :]
        largest = np.take_along_axis(two, np.abs(two).argmax(-1)[..., None], -1)
        two = two * np.where(largest < 0, -1.0, 1.0)
        shares = _shares(singular)[..., :count]
        return (path - moved)[..., 0, :], two, shares, moved @ np.swapaxes(two, -1, -2)

    found = xr.apply_ufunc(
        parts, part, input_core_dims=[[dim, "unit"]],
        output_core_dims=[["unit"], ["component", "unit"], ["component"], [dim, "component"]],
    )  # fmt: skip
    plane = xr.Dataset(dict(zip(("origin", "directions", "explained", "position"), found, strict=True)))
    plane = plane.assign_coords(component=np.arange(1, count + 1)).assign_attrs(about=origin)
    return described(plane, PLANE)


def project(value: xr.DataArray, plane: xr.Dataset, dim: str = "step") -> xr.DataArray:
    """Coordinates (…, `dim`, component) of values in a plane, in the value's units; one plane serves several runs."""
    flat = _on_units_of(plane, value, "project").astype(np.float64)
    bare = [
        array.drop_vars("unit", errors="ignore") for array in (flat, plane["origin"], plane["directions"])
    ]
    position: xr.DataArray = xr.dot(bare[0] - bare[1], bare[2], dim="unit")
    return position.transpose(..., dim, "component").rename("position")


def plane_positions(plane: xr.Dataset, half_width: float, points: int) -> xr.DataArray:
    """Points (…, pc2, pc1, unit) on a square grid of a plane about its origin, to evaluate log p(x, z) on.

    With `origin="end"` the grid is centred on z_T, as in LPC's Figures 1 and 6. half_width: in the value's units.
    """
    reach = np.linspace(-half_width, half_width, points)
    one, two = (xr.DataArray(reach, dims=name, coords={name: reach}) for name in ("pc1", "pc2"))
    first, second = (plane["directions"].sel(component=i, drop=True) for i in (1, 2))
    return (
        (plane["origin"] + two * second + one * first).transpose(..., "pc2", "pc1", "unit").rename("position")
    )


def explained_with_nulls(
    value: xr.DataArray, plane: xr.Dataset, settled: float, paths: int, seed: int, dim: str = "step"
) -> xr.Dataset:
    """`explained (…, component)` of a `trajectory_plane`, and `mean, low, high, p (…, null, component)`.

    value: what the plane was made of, all chains; the noise null is matched to its steps from `settled` on. mean, low,
    high (2.5 and 97.5 %) are of `paths` null paths of the trajectory's length and dimension; `example (…, null, step,
    component)` is one of each in its own plane, to look at. Where a null explains as much (p large), the picture shows
    no descent. In high dimension a walk tends to 6/π² = 60.8 % and 15.2 % about the mean. NaN for a chain at rest.
    """
    require(value, "chain", dim)
    flat = _on_units_of(plane, value, "explained_with_nulls")
    late = steps_from(flat, settled, dim, "explained_with_nulls")
    length = plane.sizes[dim]
    rng, count, about = np.random.default_rng(seed), plane.sizes["component"], plane.attrs["about"]
    walks = rng.standard_normal((paths, length, flat.sizes["unit"])).cumsum(1)
    walk_shares, walk = _explained(walks, about)[:, :count], _scores(walks[0], about)[:, :count]

    def against(own: Array, chains: Array) -> tuple[Array, Array]:
        if not np.isfinite(chains).all():
            raise AnalysisError("explained_with_nulls: the settled steps hold values that are not finite")
        noise = noise_paths(np.asarray(chains, np.float64), (paths, length), rng)
        table = [_table(own, shares[:, :count]) for shares in (walk_shares, _explained(noise, about))]
        return np.array(table), np.array([walk, _scores(noise[0], about)[:, :count]])

    def of_slab(shares: xr.DataArray, chains: xr.DataArray) -> xr.Dataset:
        cores = [["null", "component", "number"], ["null", "entry", "component"]]
        both = xr.apply_ufunc(
            against, shares, chains, input_core_dims=[["component"], ["chain", dim, "unit"]],
            output_core_dims=cores, vectorize=True,
        )  # fmt: skip
        return xr.Dataset(dict(zip(("table", "example"), both, strict=True)))

    both = by_slab(of_slab, [plane["explained"], late], ("chain", dim, "unit", "component"))
    table, example = both["table"], both["example"]
    found = xr.Dataset({name: table.isel(number=i) for i, name in enumerate(("mean", "low", "high", "p"))})
    example = example.rename(entry=dim).assign_coords({dim: plane[dim]})
    found = found.assign(explained=plane["explained"], position=plane["position"], example=example)
    doubts = ["must not be read: a trajectory does not move"] if found["explained"].isnull().any() else []
    found = found.assign_coords(null=list(KINDS), component=plane["component"]).assign_attrs(about=about)
    return described(found, NULLS, [*doubts, *unconverged(late, dim)])


def noise_paths(chains: Array, shape: tuple[int, int], rng: np.random.Generator) -> Array:
    """Stationary AR(1) paths `[count, step, direction]` matched to `chains [chain, step, unit]`; shape = (count, step).

    Directions are those of the chains' covariance; each has its variance and a = (τ − 1)/(τ + 1), τ its time.
    """
    centred = chains - chains.mean((0, 1))
    _, singular, directions = np.linalg.svd(centred.reshape(-1, chains.shape[2]), full_matrices=False)
    kept = singular > singular[0] * 1e-10
    if not kept.any():
        return np.zeros((*shape, chains.shape[2]))
    scores = xr.DataArray(centred @ directions[kept].T, dims=("chain", "step", "unit"))
    tau = diagnostics(scores, "step")["integrated_time"].to_numpy()
    tau = np.clip(np.where(np.isfinite(tau), tau, shape[1]), 1.0, shape[1])
    a = (tau - 1) / (tau + 1)
    noise = rng.standard_normal((*shape, int(kept.sum())))
    noise[:, 1:] *= np.sqrt(1 - a**2)
    for t in range(1, shape[1]):
        noise[:, t] += a * noise[:, t - 1]
    return np.asarray(noise * singular[kept] / np.sqrt(centred.shape[0] * centred.shape[1]))


def _on_units_of(plane: xr.Dataset, value: xr.DataArray, where: str) -> xr.DataArray:
    flat = flat_units(value)
    if flat.sizes["unit"] != plane.sizes["unit"]:
        raise AnalysisError(f"{where}: {flat.sizes['unit']} units, but the plane has {plane.sizes['unit']}")
    return flat


def _table(own: Array, null: Array) -> Array:
    """`[component, number]`: mean, low, high, p."""
    low, high = np.quantile(null, [0.025, 0.975], axis=0)
    p = np.where(np.isnan(own), np.nan, (1 + (null >= own).sum(0)) / (1 + len(null)))
    return np.stack([null.mean(0), low, high, p], axis=-1)


def _about(paths: Array, about: str) -> Array:
    return paths - (paths[..., -1:, :] if about == "end" else paths.mean(-2, keepdims=True))


def _explained(paths: Array, about: str) -> Array:
    return _shares(np.linalg.svd(_about(paths, about), compute_uv=False))


def _scores(path: Array, about: str) -> Array:
    left, singular, _ = np.linalg.svd(_about(path, about), full_matrices=False)
    return np.asarray(left * singular)


def _shares(singular: NDArray[np.floating[Any]]) -> Array:
    squares = singular**2
    total = squares.sum(-1, keepdims=True)
    return np.asarray(squares / np.where(total > 0, total, np.nan))
