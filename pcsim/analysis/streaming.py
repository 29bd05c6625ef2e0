"""Reductions of arrays that are lazy in dask, or read from a store slab by slab."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import xarray as xr

from pcsim.analysis.slabs import by_slab

Result = TypeVar("Result", xr.DataArray, xr.Dataset)


def streamed(function: Callable[[xr.DataArray], Result], value: xr.DataArray, whole: Sequence[str]) -> Result:
    """`function(value)` for one that needs all entries along `whole` and nothing across the other dims.

    A dask array stays lazy; an opened trace, which xarray would load as a whole, is read in slabs (`by_slab`).
    """
    return function(value) if value.chunks is not None else by_slab(function, [value], whole)
