"""Which dims of an array are its units, and the same array with all of them in one last dim `unit`."""

import numpy as np
import xarray as xr

from pcsim.analysis.slabs import require
from pcsim.errors import AnalysisError

UNITS = ("unit", "channel", "y", "x")


def unit_dims(value: xr.DataArray) -> tuple[str, ...]:
    """The dims of a node's own shape as a trace names them: unit; channel, y, x; axis_0, axis_1, …"""
    return tuple(str(dim) for dim in value.dims if dim in UNITS or str(dim).startswith("axis_"))


def flat_units(value: xr.DataArray) -> xr.DataArray:
    """The array with its unit dims flattened into a last dim `unit`, without an index; a scalar gets one unit."""
    own = unit_dims(value)
    if own == ("unit",):
        return value.transpose(..., "unit")
    if not own:
        return value.expand_dims("unit", axis=-1)
    names = [name for name in value.coords if set(value[name].dims) & set(own)]
    return value.drop_vars(names).stack(unit=own, create_index=False).transpose(..., "unit")


def whole(array: xr.DataArray, *dims: str) -> xr.DataArray:
    """The array with one chunk along each of these dims where it is lazy: what a core dim needs."""
    return array.chunk(dict.fromkeys(dims, -1)) if array.chunks is not None else array


def steps_from(array: xr.DataArray, step: float, dim: str, where: str) -> xr.DataArray:
    """The part at steps >= `step`; raises `AnalysisError` where nothing lies there."""
    require(array, dim)
    if dim not in array.coords:
        raise AnalysisError(f"{where}: dim {dim!r} has no coordinate, so no step can be found on it")
    kept = np.flatnonzero(array[dim].to_numpy() >= step)
    if not kept.size:
        raise AnalysisError(f"{where}: no step from {step} on; the last is {array[dim].to_numpy()[-1]}")
    return array.isel({dim: slice(int(kept[0]), None)})


def at(array: xr.DataArray, step: float, dim: str, where: str) -> xr.DataArray:
    """The entry at one step; raises `AnalysisError` where it was not recorded."""
    require(array, dim)
    steps = array[dim].to_numpy()
    if step not in steps:
        raise AnalysisError(
            f"{where}: step {step} was not recorded; steps run from {steps[0]} to {steps[-1]}"
        )
    return array.sel({dim: step}, drop=True)
