"""What the figures take from a trace: entries along the steps, bands over chains, one node's trajectories."""

import json
from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pcsim.errors import RunError, nearest

Array = NDArray[np.float64]


class Band(NamedTuple):
    """Median and quartile range over images and chains at each step."""

    step: NDArray[Any]
    low: Array
    median: Array
    high: Array


def variable(trace: xr.DataTree, path: str, where: str) -> xr.DataArray:
    """The variable `group/name` (or `name` at the root); raises `RunError` with what was recorded."""
    group, _, name = path.rpartition("/")
    recorded = sorted(
        f"{node.path.strip('/')}/{item}".lstrip("/") for node in trace.subtree for item in node.data_vars
    )
    if path not in recorded:
        raise RunError(f"{where}: {path} was not recorded; {nearest(path, recorded)}")
    array = (trace[group] if group else trace)[name]
    assert isinstance(array, xr.DataArray)
    return array


def step_dim(array: xr.DataArray, where: str) -> str:
    """Name of the dim along the steps: `step`, or `step_<k>` for a thinned variable."""
    for dim in array.dims:
        if str(dim) == "step" or str(dim).startswith("step_"):
            return str(dim)
    raise RunError(f"{where}: {array.name} was recorded once, not along the steps")


def band(array: xr.DataArray, where: str) -> Band:
    """Median and quartiles over everything but the steps; steps without any value are left out."""
    dim = step_dim(array, where)
    flat = array.transpose(dim, ...).to_numpy().reshape(array.sizes[dim], -1).astype(np.float64)
    kept = np.isfinite(flat).any(axis=1)
    if not kept.any():
        raise RunError(f"{where}: {array.name} holds no finite value")
    low, median, high = np.nanquantile(
        np.where(np.isfinite(flat), flat, np.nan)[kept], [0.25, 0.5, 0.75], axis=1
    )
    return Band(array[dim].to_numpy()[kept], low, median, high)


def trajectories(trace: xr.DataTree, node: str, image: int, where: str) -> tuple[Array, NDArray[Any]]:
    """Values of a node from the sweep on, `[chain, step, unit]` with its axes flattened, and the steps.

    Cut at the first step that any chain of that image has not reached.
    """
    array = variable(trace, f"{node}/value", where)
    dim = step_dim(array, where)
    if not 0 <= image < array.sizes["image"]:
        raise RunError(f"{where}: no image {image}; the trace has images 0 to {array.sizes['image'] - 1}")
    one = array.isel(image=image).transpose("chain", dim, ...)
    steps = one[dim].to_numpy()
    after = steps >= 0
    values = one.to_numpy().astype(np.float64).reshape(one.sizes["chain"], len(steps), -1)[:, after]
    finite = np.asarray(np.isfinite(values).all(axis=(0, 2)))
    last = int(finite.size if finite.all() else np.argmin(finite))
    if last < 3:
        raise RunError(f"{where}: {node}/value has {last} recorded steps after the stimulus; a plane needs 3")
    return values[:, :last], steps[after][:last]


def latent(trace: xr.DataTree, held: Collection[str], where: str) -> str:
    """The first node of the circuit that is not held at data and whose values were recorded."""
    known = json.loads(trace.attrs["circuit"])["nodes"] if "circuit" in trace.attrs else trace.children
    for name in known:
        if name not in held and name in trace.children and "value" in trace[name].data_vars:
            return str(name)
    raise RunError(
        f"{where}: no node's value was recorded; add {{read: value, nodes: [...]}} to record.probes"
    )
