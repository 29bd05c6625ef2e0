"""Planes through the latent space for energies on a grid, and what a random walk would show in such a plane.

The landscape of a run is an `xarray.Dataset` in `landscape.zarr`. Dims: `image, pc2, pc1`. Coordinates: `pc1` and
`pc2` in latent units from the origin, and `image`. Variables: `energy (image, pc2, pc1)` in nats, `origin`,
`direction_1` and `direction_2 (image, unit)`, the directions orthonormal. Attribute: `node`.
`grid` gives all of it but the energy, which needs the circuit.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pcsim.figures.trace_reading import trajectories

Array = NDArray[np.float64]
LANDSCAPE_DIMS = ("image", "pc2", "pc1")


class Plane(NamedTuple):
    """The plane of the first two principal components of one trajectory."""

    origin: Array
    """Mean of the trajectory, `[unit]`."""
    directions: Array
    """Orthonormal, `[2, unit]`; the sign makes each component's largest entry positive."""
    extent: tuple[float, float]
    """Half-widths that hold every chain, in latent units, as seen from the origin."""
    explained: tuple[float, float]
    """Shares of the variance along the trajectory."""


def plane(trace: xr.DataTree, node: str, image: int, chain: int = 0) -> Plane:
    """The plane of one chain's trajectory z_0 … z_T; centred, so z_t and z_t − z_T give the same components.

    One chain, because only then is a random walk's variance known (6/π² and 3/(2π²)); the extent holds all chains.
    """
    paths, _ = trajectories(trace, node, image, str(trace.attrs.get("study", "trace")))
    origin, directions, explained = principal(paths[chain])
    furthest = np.abs(np.einsum("ctu,du->dct", paths - origin, directions)).max(axis=(1, 2))
    extent = float(furthest[0]) * 1.1 or 1.0, float(furthest[1]) * 1.1 or 1.0
    return Plane(origin, directions, extent, explained)


def principal(path: Array) -> tuple[Array, Array, tuple[float, float]]:
    """Mean, first two directions `[2, unit]` and their shares of the variance of a path `[step, unit]`."""
    origin = path.mean(axis=0)
    _, singular, directions = np.linalg.svd(path - origin, full_matrices=False)
    if len(directions) < 2:
        directions = np.vstack([directions, np.zeros_like(directions)])
        singular = np.append(singular, 0.0)
    two = directions[:2]
    two = two * np.where(np.take_along_axis(two, np.abs(two).argmax(1)[:, None], 1) < 0, -1.0, 1.0)
    total = float((singular**2).sum())
    share = singular[:2] ** 2 / total if total > 0 else np.zeros(2)
    return origin, two, (float(share[0]), float(share[1]))


def grid(trace: xr.DataTree, node: str, images: Sequence[int], points: int = 61) -> xr.Dataset:
    """The landscape's dataset without `energy`, with `position (image, pc2, pc1, unit)`: where to evaluate it.

    All images share one grid, as wide as the widest needs. The caller adds `energy`, drops `position` and stores the
    rest. Node axes are flattened into `unit`.
    """
    planes = [plane(trace, node, image) for image in images]
    wide, high = (max(p.extent[i] for p in planes) for i in (0, 1))
    pc1, pc2 = np.linspace(-wide, wide, points), np.linspace(-high, high, points)
    origin = np.stack([p.origin for p in planes])
    one, two = (np.stack([p.directions[i] for p in planes]) for i in (0, 1))
    across, up = pc1[None, None, :, None], pc2[None, :, None, None]
    position = origin[:, None, None] + across * one[:, None, None] + up * two[:, None, None]
    return xr.Dataset(
        {
            "position": ((*LANDSCAPE_DIMS, "unit"), position),
            "origin": (("image", "unit"), origin),
            "direction_1": (("image", "unit"), one),
            "direction_2": (("image", "unit"), two),
        },
        coords={
            "image": np.asarray(images),
            "pc1": ("pc1", pc1, {"units": "latent units", "long_name": "first principal component"}),
            "pc2": ("pc2", pc2, {"units": "latent units", "long_name": "second principal component"}),
        },
        attrs={"node": node},
    )


def random_walk(steps: int, dimension: int, seed: int = 0) -> Array:
    """A Gaussian random walk `[step, unit]` from 0 with unit increments: a path without any landscape."""
    increments = np.random.default_rng(seed).standard_normal((steps - 1, dimension))
    return np.vstack([np.zeros((1, dimension)), np.cumsum(increments, axis=0)])


def null_explained(steps: int, dimension: int, walks: int = 20, seed: int = 0) -> tuple[float, float]:
    """Mean shares of variance of the first two components over random walks of that length and dimension.

    In high dimension they tend to 6/π² = 60.8 % and 6/(4π²) = 15.2 % (Antognini & Sohl-Dickstein 2018).
    """
    shares = np.array([principal(random_walk(steps, dimension, seed + i))[2] for i in range(walks)])
    first, second = shares.mean(axis=0)
    return float(first), float(second)


def save(landscape: xr.Dataset, run: Path) -> None:
    """Stores `run/landscape.zarr`, without `position`, in the place of an earlier one."""
    landscape.drop_vars("position", errors="ignore").to_zarr(
        run / "landscape.zarr", mode="w", consolidated=False, zarr_format=3
    )
