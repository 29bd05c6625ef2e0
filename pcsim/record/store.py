"""The empty trace: groups, arrays, coordinates and attributes, all created before the first step."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, TransposeCodec

from pcsim.record.layout import (
    SCHEMA_NAME,
    SCHEMA_VERSION,
    Coord,
    Layout,
    Variable,
    chunk_of,
    dims_of,
    shape_of,
    step_dim,
    steps_of,
)


def fill(root: zarr.Group, layout: Layout) -> None:
    """Lays the whole trace out in an empty group, every step still missing (NaN)."""
    for group in sorted({v.group for v in layout.variables} - {""}):
        root.require_group(group)
    for variable in layout.variables:
        _array(root, variable, layout)
    coords = _root_coords(layout)
    for coord in coords:
        _coordinate(root, "", coord)
    for group, coord in _own_coords(layout):
        _coordinate(root, group, coord)
    root.attrs.update(
        {
            **layout.attrs,
            "schema": f"{SCHEMA_NAME}/{SCHEMA_VERSION}",
            "layout": layout.fingerprint(),
            "coordinates": " ".join(c.name for c in coords),
            "n_written": 0 if layout.updates is None else [0] * len(layout.updates),
        }
    )


def _array(root: zarr.Group, variable: Variable, layout: Layout) -> None:
    """One chunk is one block, stored step first: the bytes of the loop's buffer as they are.

    Measured for 64 rows × 552 units, float32, blocks of 300 steps: 4.0 GB/s this way, 1.8 GB/s when the chunk
    is stored in the order of its dims, 1.5 GB/s as a shard, 0.7 GB/s with lz4, 0.4 GB/s with zstd.
    """
    dims, shape = dims_of(variable, layout), shape_of(variable, layout)
    chunks, order = list(shape), list(range(len(shape)))
    if dims[:1] == ("update",):
        chunks[0] = 1
    if variable.every is not None:
        step = dims.index(step_dim(variable, layout.steps))
        chunks[step] = chunk_of(variable, layout)
        first = 1 if dims[0] == "update" else 0
        order.insert(first, order.pop(step))
    floating = np.dtype(variable.dtype).kind == "f"
    root.create_array(
        variable.path,
        shape=shape,
        chunks=tuple(max(c, 1) for c in chunks),
        dtype=variable.dtype,
        fill_value=np.nan if floating else 0,
        filters=[TransposeCodec(order=tuple(order))] if order != sorted(order) else None,
        compressors=_compressor(layout.compression, np.dtype(variable.dtype).itemsize),
        dimension_names=dims,
        attributes={
            "units": variable.units,
            "long_name": variable.long_name or variable.name.replace("_", " "),
        },
    )


def _compressor(name: str, typesize: int) -> BloscCodec | None:
    if name == "none":
        return None
    if name == "lz4":
        return BloscCodec(cname="lz4", clevel=1, shuffle="bitshuffle", typesize=typesize)
    return BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle", typesize=typesize)


def _root_coords(layout: Layout) -> list[Coord]:
    given = {c.name: c for c in layout.coords}
    own = [
        Coord("image", ("image",), np.arange(layout.n_image), long_name="held-out image"),
        Coord("chain", ("chain",), np.arange(layout.n_chain), long_name="chain: same image, other noise"),
        Coord("step", ("step",), np.asarray(layout.steps), long_name="inference step; 0 = the sweep"),
    ]
    if layout.updates is not None:
        own.append(
            Coord("update", ("update",), np.asarray(layout.updates), long_name="training updates so far")
        )
    thinned = {step_dim(v, layout.steps): steps_of(v, layout.steps) for v in layout.stepped}
    thinned.pop("step", None)
    own += [
        Coord(dim, (dim,), np.asarray(s), long_name="inference step") for dim, s in sorted(thinned.items())
    ]
    return [c for c in own if c.name not in given] + list(layout.coords)


def _own_coords(layout: Layout) -> list[tuple[str, Coord]]:
    """The true index of every recorded unit (or channel), once per group."""
    found: dict[tuple[str, str], NDArray[Any]] = {}
    for v in layout.variables:
        if v.shape and (v.own_axes[0] == "unit" or v.select is not None):
            index: Sequence[int] = range(v.shape[0]) if v.select is None else v.select
            found[v.group, v.own_axes[0]] = np.asarray(index)
    return [
        (g, Coord(axis, (axis,), index, long_name=f"index of the {axis}"))
        for (g, axis), index in found.items()
    ]


def _coordinate(root: zarr.Group, group: str, coord: Coord) -> None:
    text = coord.values.dtype.kind in "UT"
    array = root.create_array(
        f"{group}/{coord.name}".lstrip("/"),
        shape=coord.values.shape,
        chunks=tuple(max(n, 1) for n in coord.values.shape),
        dtype=str if text else coord.values.dtype,
        compressors=None,
        dimension_names=coord.dims,
        attributes={"units": coord.units, "long_name": coord.long_name or coord.name},
    )
    array[...] = coord.values.astype(object) if text else coord.values
