"""Traces larger than memory: a sparse store of 20 GB within 4 GB, and a trace of 1 GB in well under a minute."""

import json
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from pcsim.analysis.convergence import effective_sample_size
from pcsim.analysis.energy import energy_statistics
from pcsim.analysis.irreversibility import irreversibility
from pcsim.analysis.temperature import virial_temperature

SPARSE = """
    import json, resource, sys, time
    import numpy as np, xarray as xr, zarr
    from pcsim.analysis.covariance import covariance
    from pcsim.analysis.temperature import virial_temperature

    shape, chunks = (2, 8, 5000, 31_250), (2, 8, 8, 31_250)
    store = zarr.open_group(sys.argv[1], mode="w")
    for name in ("value", "drift"):
        array = store.create_array(name, shape=shape, chunks=chunks, dtype="float32", fill_value=0.5,
                                   dimension_names=("image", "chain", "step", "unit"))
        # one block that moves, the rest are chunks that do not exist and read as the fill value
        array[:, :, 2504:2512] = np.random.default_rng(0).standard_normal((2, 8, 8, 31_250), dtype=np.float32)
    trace = xr.open_zarr(sys.argv[1], consolidated=False, chunks=None)
    if sys.argv[2] == "dask":
        trace = trace.chunk(step=80)
    value, drift = trace["value"], trace["drift"]
    size, seconds, before = value.nbytes + drift.nbytes, {}, time.time()

    def lap(name):
        global before
        seconds[name], before = round(time.time() - before, 1), time.time()

    virial = virial_temperature(value, drift, 0.01)
    lap("virial")
    matrix = covariance(value.isel(unit=slice(0, 200)))
    lap("covariance")
    mean = float(virial["mean_gradient"].isel(image=0, unit=7))
    truth = -float(drift.isel(image=0, unit=7).astype(np.float64).mean())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"bytes": size, "peak": peak, "seconds": seconds, "mean": mean, "truth": truth,
                      "units": virial["ess"].sizes["unit"], "matrix": matrix.shape[-1]}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lazy", "dask"])
def test_twenty_gigabytes_within_four(kind: str, tmp_path: Path) -> None:
    """Oracle: ru_maxrss of the process, against 4 GB for 20 GB of values and drifts; a mean against a direct one."""
    command = [sys.executable, "-c", textwrap.dedent(SPARSE), str(tmp_path / "trace.zarr"), kind]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    print(found)
    assert found["bytes"] == 20e9
    assert found["peak"] < 4e9
    assert found["units"] == 31_250
    assert found["matrix"] == 200
    assert found["mean"] == pytest.approx(found["truth"], rel=1e-9)


@pytest.mark.slow
def test_one_gigabyte_in_well_under_a_minute() -> None:
    """The analyses of a report on 1 GB: 500 MB each of values and drifts, 16 chains of 8 images, 1000 steps.

    Seconds of one core, so that a busy machine does not fail the test.
    """
    rng = np.random.default_rng(0)
    dims, shape = ("image", "chain", "step", "unit"), (8, 16, 1000, 1000)
    value, drift = (xr.DataArray(rng.standard_normal(shape, dtype=np.float32), dims=dims) for _ in range(2))
    start = time.process_time()
    virial_temperature(value, drift, 0.01)
    effective_sample_size(value)
    energy_statistics((value.isel(unit=0) ** 2).astype(np.float64), 0.0, 2)
    irreversibility(value.isel(unit=slice(0, 100)))
    seconds = time.process_time() - start
    print(f"{seconds:.0f} s of one core")
    assert seconds < 45
