"""Opening a trace: lazily, trimmed to what was acknowledged, with an error that says what is wrong."""

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.abc.store import Store
from zarr.storage import LocalStore

from pcsim.errors import RunError
from pcsim.record.layout import SCHEMA_NAME, SCHEMA_VERSION

PARTIAL = ".partial"
"""How zarr ends the name of a file that is still being written; a killed run leaves it behind."""


def open_trace(where: Path | str | Store) -> xr.DataTree:
    """The trace as an `xarray.DataTree`, read from disk only where it is used (no dask needed).

    Steps after `n_written` are cut off; of several updates, those not yet begun are dropped and the one under way
    ends in NaN where another is longer. Raises `RunError` for a path without a trace, a newer schema, and a store
    with missing or shortened files.
    """
    name = str(where) if isinstance(where, Path | str) else "the trace in memory"
    if isinstance(where, Path | str):
        check_schema(Path(where))
        check_blocks(Path(where))
    try:
        # xarray takes any zarr store; its annotation does not say so
        store: Any = LocalStore(Path(where), read_only=True) if isinstance(where, Path | str) else where
        # not from the consolidated copy: a trace that is being written, or was killed, has none
        tree = xr.open_datatree(store, engine="zarr", chunks=None, consolidated=False, decode_timedelta=False)
        return trim(tree)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise as_run_error(error, name, "damaged trace") from error


def trim(tree: xr.DataTree) -> xr.DataTree:
    """The tree without the steps (and updates) that were never acknowledged."""
    written = np.atleast_1d(tree.attrs["n_written"])
    steps = tree.coords["step"].values
    n = int(written.max())
    if n == len(steps) and written.min() > 0:
        return tree
    last = steps[n - 1] if n else steps[0] - 1
    cuts: dict[str, Any] = {}
    for dim in tree.dims:
        if str(dim) == "step" or str(dim).startswith("step_"):
            cuts[str(dim)] = slice(0, int((tree.coords[str(dim)].values <= last).sum()))
    if "update" in tree.dims:
        cuts["update"] = np.flatnonzero(written > 0)
    return tree.isel(cuts, missing_dims="ignore")


def check_schema(path: Path) -> None:
    """Raises `RunError` unless the path holds a trace of a schema that this version reads."""
    if not path.exists():
        others = sorted(p.name for p in path.parent.glob("*.zarr")) if path.parent.is_dir() else []
        raise RunError(f"{path}: no such trace" + (f"; here are: {', '.join(others)}" if others else ""))
    document = path / "zarr.json"
    if not document.is_file():
        raise RunError(f"{path}: not a trace of pcsim (a directory with zarr.json was expected)")
    try:
        attrs = json.loads(document.read_text())["attributes"]
        name, _, version = str(attrs.get("schema", "")).partition("/")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise as_run_error(error, str(path), "damaged trace, zarr.json cannot be read") from error
    if name != SCHEMA_NAME or not version.isdecimal():
        raise RunError(
            f"{path}: a zarr store, but not a trace of pcsim (no attribute schema = {SCHEMA_NAME}/…)"
        )
    if int(version) > SCHEMA_VERSION:
        raise RunError(
            f"{path}: written by a newer pcsim (schema {version}; this one reads up to {SCHEMA_VERSION}): upgrade pcsim"
        )


def open_root(path: Path) -> zarr.Group:
    """The root group for writing, past the consolidated copy."""
    return zarr.open_group(LocalStore(path), mode="r+", use_consolidated=False)


def check_blocks(path: Path) -> None:
    """Raises `RunError` if a file of an acknowledged block is missing or short: zarr would read NaN there."""
    try:
        root = json.loads((path / "zarr.json").read_text())["attributes"]
        steps = zarr.open_array(LocalStore(path, read_only=True), path="step", mode="r")[...]
        written, coords = np.atleast_1d(root["n_written"]), root["coordinates"].split()
        arrays = [(p.parent, json.loads(p.read_text())) for p in sorted(path.rglob("zarr.json"))]
        for folder, meta in arrays:
            if meta["node_type"] == "array" and folder.name not in coords:
                _check_files(folder, meta, np.asarray(steps), written)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise as_run_error(error, str(path), "damaged trace") from error


def _check_files(folder: Path, meta: dict[str, Any], steps: Any, written: Any) -> None:
    dims = list(meta.get("dimension_names") or ())
    along = next((d for d in dims if d == "step" or d.startswith("step_")), None)
    if along is None:
        return
    chunk = meta["chunk_grid"]["configuration"]["chunk_shape"]
    size = int(np.prod(chunk)) * np.dtype(meta["data_type"]).itemsize
    plain = not any(c["name"] == "blosc" for c in meta["codecs"])
    every = 1 if along == "step" else int(along.removeprefix("step_"))
    for update in range(len(written) if dims[0] == "update" else 1):
        n = written[update] if along == "step" else int((steps[: written[update]] % every == 0).sum())
        for block in range(-(-int(n) // chunk[dims.index(along)])):
            index = [block if d == along else update if d == "update" else 0 for d in dims]
            file = folder.joinpath("c", *map(str, index))
            found = file.stat().st_size if file.is_file() else -1
            if found < (size if plain else 1):
                state = "is missing" if found < 0 else f"has {found} of {size} bytes"
                raise RunError(f"{file}: {state}, although its block was acknowledged: the trace is damaged")


def as_run_error(error: Exception, where: str, what: str) -> RunError:
    """A `RunError` that names the trace, the cause and, where there is one, the remedy."""
    if isinstance(error, RunError) and str(error).startswith(where):
        return error
    remedies = {
        errno.ENOSPC: "the disk is full: free space and run the same command again, it goes on from there",
        errno.EDQUOT: "the disk quota is used up: free space and run the same command again",
        errno.EACCES: "no permission to write there: choose another directory with --out",
        errno.EPERM: "no permission to write there: choose another directory with --out",
        errno.EROFS: "a read-only file system: choose another directory with --out",
    }
    code = error.errno if isinstance(error, OSError) else None
    cause = remedies.get(code, "") if code else ""
    plain = str(error) if isinstance(error, RunError) else f"{type(error).__name__}: {error}"
    return RunError(f"{where}: {what}; {cause or plain}")
