"""Arrays larger than memory: as slabs of whole series, or as blocks of steps."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pcsim.errors import AnalysisError, nearest

Array = NDArray[Any]
Result = TypeVar("Result", xr.DataArray, xr.Dataset)
SLAB, BATCH, BLOCK = 2**31, 2**22, 2**27
"""Bytes of a slab that is loaded, of a batch of it that is worked on (few times that in float64: it should stay near
the processor's cache), and of a block of steps; all in the arrays' own dtype."""


def require(value: xr.DataArray, *dims: str) -> None:
    """Raises `AnalysisError` for a dim that the array lacks, with the nearest one that it has."""
    for dim in dims:
        if dim not in value.dims:
            name = value.name or "the array"
            raise AnalysisError(f"{name}: no dim {dim!r}; {nearest(dim, (str(d) for d in value.dims))}")


def require_entries(value: xr.DataArray, dim: str, least: int) -> None:
    """Raises `AnalysisError` unless the array has the dim, with at least that many entries."""
    require(value, dim)
    if value.sizes[dim] < least:
        raise AnalysisError(
            f"{value.name or 'the array'}: {value.sizes[dim]} entries along {dim!r}; this analysis needs {least}"
        )


def with_chain(value: xr.DataArray) -> xr.DataArray:
    """The array with a dim `chain`: one that has none is a single chain."""
    return value if "chain" in value.dims else value.expand_dims("chain")


def stride(value: xr.DataArray, dim: str) -> float:
    """Distance of two neighbours along the dim, from its coordinate; 1 without a numeric one.

    >>> import numpy as np
    >>> stride(xr.DataArray(np.zeros(3), dims="step", coords={"step": [0, 5, 10]}), "step")
    5.0
    """
    if dim not in value.coords or value.sizes[dim] < 2 or value[dim].dtype.kind not in "iuf":
        return 1.0
    return float(value[dim].values[1] - value[dim].values[0])


def by_slab(
    function: Callable[..., Result], arrays: Sequence[xr.DataArray], whole: Sequence[str], budget: int = SLAB
) -> Result:
    """`function(*arrays)` for a function that treats every position off the dims `whole` by itself.

    The arrays are loaded in slabs of at most `budget` bytes together, each with all entries along `whole`; the function
    sees a loaded slab in batches, and its results are put together again. A store whose chunks hold all units is read
    once for every slab: a trace of 20 GB ten times.
    """

    def loaded(*slab: xr.DataArray) -> Result:
        return _by_parts(function, [a.compute() for a in slab], whole, BATCH)

    return _by_parts(loaded, arrays, whole, budget)


def _by_parts(
    function: Callable[..., Result], arrays: Sequence[xr.DataArray], whole: Sequence[str], budget: int
) -> Result:
    size = sum(math.prod(a.shape) * a.dtype.itemsize for a in arrays)
    free = {str(d): n for a in arrays for d, n in a.sizes.items() if d not in whole and n > 1}
    if size <= budget or not free:
        return function(*arrays)
    dim = max(free, key=lambda d: free[d])
    width = max(1, free[dim] * budget // size)
    parts = []
    for i in range(0, free[dim], width):
        cut = [a.isel({dim: slice(i, i + width)}, missing_dims="ignore") for a in arrays]
        parts.append(_by_parts(function, cut, whole, budget))
    return xr.concat(
        parts, dim, coords="minimal", compat="override", join="override", combine_attrs="override"
    )


def step_blocks(
    arrays: Sequence[xr.DataArray], dim: str, budget: int = BLOCK
) -> Iterator[tuple[xr.DataArray, ...]]:
    """The arrays in consecutive loaded blocks along `dim`, at most `budget` bytes together, for streaming sums."""
    for a in arrays:
        require(a, dim)
    length = arrays[0].sizes[dim]
    size = sum(math.prod(a.shape) * a.dtype.itemsize for a in arrays)
    width = max(1, length * budget // max(size, 1))
    for i in range(0, length, width):
        yield tuple(a.isel({dim: slice(i, i + width)}).compute() for a in arrays)


def last_axes(value: xr.DataArray, dims: Sequence[str]) -> Array:
    """The array's values with `dims` last, in that order, the others flattened in front: `[series, *dims]`."""
    turned = value.transpose(..., *dims).to_numpy()
    return turned.reshape(-1, *(value.sizes[d] for d in dims))


def columns_of(lead: xr.DataArray, names: Sequence[str], rows: Array) -> xr.Dataset:
    """A variable per name, shaped and labelled like `lead` (see `lead_of`), from `rows [series, name]`."""
    columns = np.asarray(rows).reshape(-1, len(names)).T
    return xr.Dataset({n: lead.copy(data=c.reshape(lead.shape)) for n, c in zip(names, columns, strict=True)})


def lead_of(value: xr.DataArray, dims: Sequence[str]) -> xr.DataArray:
    """An array over the dims that are not in `dims`, with their coordinates: the shape of a result per series."""
    first = value.isel(dict.fromkeys(dims, 0), drop=True)
    return first.drop_vars(
        [name for name, c in value.coords.items() if set(c.dims) & set(dims)], errors="ignore"
    )
