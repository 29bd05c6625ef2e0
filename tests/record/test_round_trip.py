"""What was put in comes out, to the bit, and in the shape that example.md shows."""

import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from zarr.errors import ZarrUserWarning

from pcsim.record import Block, Layout, TraceWriter, memory_tree, memory_writer, open_trace, trace_bytes
from tests.record.cases import block, layout, recording, static


def write(path: Path, plan: Layout, update: int = 0, seed: int = 0) -> None:
    data = recording(plan, seed)
    with TraceWriter(path, plan, update=update) as writer:
        writer.put_static(static(plan, data))
        for first in range(writer.start, len(plan.steps), plan.block):
            writer.put(block(plan, data, first))


def expect_equal(tree: xr.DataTree, plan: Layout, seed: int = 0, but: str = "") -> None:
    """Oracle: numpy's own indexing of the blocks that went in, one (image, chain) at a time."""
    data = recording(plan, seed)
    for v in (v for v in plan.variables if v.path != but):
        got = tree[v.path]
        assert got.dtype == v.dtype
        for image in range(plan.n_image):
            for chain in range(plan.n_chain):
                row = image * plan.n_chain + chain
                where = {"image": image, "chain": chain}
                there = got.isel({k: i for k, i in where.items() if k in got.dims}).values
                entries = () if v.every is None else (slice(None),)
                index = {(): (), ("image",): (image,), ("image", "chain"): (row,)}[v.lead]
                np.testing.assert_array_equal(there, data[v.path][(*entries, *index)])


@pytest.mark.parametrize(("compression", "size"), [("none", 4), ("none", 20), ("lz4", 8), ("zstd", 8)])
def test_bits_come_back(tmp_path: Path, compression: str, size: int) -> None:
    plan = layout(block=size, compression=compression)
    write(tmp_path / "trace.zarr", plan)
    expect_equal(open_trace(tmp_path / "trace.zarr"), plan)


def test_opens_without_pcsim_as_documented(tmp_path: Path) -> None:
    """A fresh interpreter with xarray alone sees the dims and coordinates of example.md."""
    plan = layout()
    write(tmp_path / "trace.zarr", plan)
    code = (
        "import sys, warnings, xarray as xr; warnings.simplefilter('error'); t = xr.open_datatree(sys.argv[1]);"
        "assert t['z/value'].dims == ('image', 'chain', 'step', 'unit'), t;"
        "assert t['x/error'].dims == ('image', 'chain', 'step_2', 'channel', 'y', 'x'), t;"
        "assert t['x/observed'].dims == ('image', 'channel', 'y', 'x') and t['z/precision'].dims == ('unit',);"
        "assert t['encoder/z/mean'].dims == ('image', 'unit') and t['temperature'].dims == ();"
        "assert t['energy'].dims == t['x/energy'].dims == ('image', 'chain', 'step');"
        "assert set(t.coords) == {'image', 'chain', 'step', 'step_2', 'step_4', 'phase', 'label'}, t.coords;"
        "assert t['z'].unit.values.tolist() == [0, 5, 6] and t['z/value'].sel(unit=5, step=0).shape == (3, 2);"
        "assert t.step.values.tolist() == list(range(-6, 12)) and t.step_4.values.tolist() == [-4, 0, 4, 8];"
        "assert t.phase.values.tolist() == ['spontaneous'] * 6 + ['sweep'] + ['evoked'] * 11;"
        "assert t.label.values.tolist() == [7, 1, 4] and t['z/value'].attrs['long_name'] == 'value';"
        "assert t.attrs['schema'] == 'pcsim-trace/1' and t.attrs['seed'] == 3 and t.attrs['n_written'] == 18;"
        "assert not any(m == 'pcsim' or m.startswith('pcsim.') for m in sys.modules)"
    )
    path = str(tmp_path / "trace.zarr")
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_reading_side_needs_no_torch() -> None:
    code = "import sys, pcsim.record; assert 'torch' not in sys.modules and 'dask' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_updates_come_one_after_the_other(tmp_path: Path) -> None:
    """A trace of two updates after the first, during the second, and after both."""
    path, plan = tmp_path / "trace.zarr", layout(updates=(300, 600))
    write(path, plan, update=0, seed=1)
    tree = open_trace(path)
    assert tree["update"].values.tolist() == [300]
    expect_equal(tree.sel(update=300), plan, seed=1)
    data = recording(plan, 2)
    writer = TraceWriter(path, plan, update=1)
    writer.put(block(plan, data, 0))
    writer.close()
    tree = open_trace(path)
    assert tree.attrs["n_written"] == [18, 8]
    assert np.isnan(tree["energy"].sel(update=600).isel(step=slice(8, None))).all()
    write(path, plan, update=1, seed=2)
    tree = open_trace(path)
    assert tree["z/value"].dims == ("update", "image", "chain", "step", "unit")
    assert tree["x/observed"].dims == ("image", "channel", "y", "x")
    expect_equal(tree.sel(update=600), plan, seed=2, but="x/observed")
    expect_equal(tree.sel(update=300), plan, seed=1, but="x/observed")


def spoil(used: Block) -> None:
    """What the loop does to a buffer that came back."""
    for array in used.arrays.values():
        array.fill(0)


def test_memory_equals_disk(tmp_path: Path) -> None:
    """The same blocks in memory, although the loop overwrites its buffers after they are released."""
    plan, data = layout(), recording(layout())
    write(tmp_path / "trace.zarr", plan)
    writer, store = memory_writer(plan)
    with writer:
        writer.put_static(static(plan, data))
        for first in range(0, len(plan.steps), plan.block):
            mine = block(plan, {k: v.copy() for k, v in data.items()}, first)
            writer.put(mine._replace(release=partial(spoil, mine)))
    tree = memory_tree(store)
    expect_equal(tree, plan)
    xr.testing.assert_identical(tree, open_trace(tmp_path / "trace.zarr").load())


def test_bytes_on_disk_are_the_estimate(tmp_path: Path) -> None:
    """Oracle: file sizes, for a layout whose blocks fit the steps exactly (a last short block is padded)."""
    plan = layout(block=18)
    write(tmp_path / "trace.zarr", plan)
    for path, size in trace_bytes(plan).items():
        found = sum(
            f.stat().st_size for f in (tmp_path / "trace.zarr" / path / "c").rglob("*") if f.is_file()
        )
        if path == "temperature":
            found = (tmp_path / "trace.zarr" / path / "c").stat().st_size
        assert found == size, path


def test_arviz_takes_it_by_renaming(tmp_path: Path) -> None:
    """Oracle: the effective sample size of the same draws handed to ArviZ as a plain array."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arviz = pytest.importorskip("arviz")
    plan = layout()
    write(tmp_path / "trace.zarr", plan)
    group = open_trace(tmp_path / "trace.zarr")["z"].to_dataset().isel(image=1)[["value"]]
    posterior = group.rename({"step": "draw"}).transpose("chain", "draw", "unit")
    draws = recording(plan)["z/value"][:, 2:4].swapaxes(0, 1)
    got = arviz.ess(arviz.convert_to_inference_data(posterior))["value"]
    expected = arviz.ess(arviz.convert_to_inference_data({"value": draws}))["value"]
    np.testing.assert_array_equal(got.values, expected.values)


def test_consolidation_warns_nobody(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", ZarrUserWarning)
        write(tmp_path / "trace.zarr", layout())
