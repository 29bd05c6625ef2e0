"""Exports read back by the other library: same numbers, same times, same names."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import pcsim
from pcsim.analysis.convergence import effective_sample_size, split_rhat
from pcsim.analysis.exports import to_neo, to_nwb, to_pynapple
from pcsim.analysis.inference_data import to_arviz
from pcsim.errors import AnalysisError
from pcsim.study.session import Wanted
from tests.analysis.surrogates import ar1

PERIOD = 0.002


@pytest.fixture
def value() -> xr.DataArray:
    """2 images × 3 chains × steps −10 … 39 × 4 units, float32 as in a trace."""
    data = ar1(0.8, (2, 3, 4, 50), np.random.default_rng(0)).swapaxes(2, 3).astype(np.float32)
    steps = np.arange(-10, 40)
    phase = np.where(steps < 0, "spontaneous", np.where(steps > 0, "evoked", "sweep"))
    coords = {"step": steps, "phase": ("step", phase), "unit": [3, 5, 8, 9]}
    return xr.DataArray(data, dims=("image", "chain", "step", "unit"), coords=coords, name="value")


def test_arviz_sees_the_same_chains(value: xr.DataArray) -> None:
    """Oracle: ArviZ's own diagnostics of the exported data; dims, phase and numbers of draws."""
    arviz = pytest.importorskip("arviz")
    held = to_arviz({"z": value})
    posterior = held.posterior["z"]
    assert posterior.dims == ("chain", "draw", "image", "z_unit")
    assert posterior.dtype == np.float64
    np.testing.assert_array_equal(posterior["draw"], np.arange(1, 40))
    evoked = value.sel(step=slice(1, None))
    mine = effective_sample_size(evoked).rename(unit="z_unit")
    np.testing.assert_allclose(
        arviz.ess(held, method="mean")["z"], mine.transpose("image", "z_unit"), rtol=1e-9
    )
    rhat = arviz.rhat(held, method="split")["z"]
    np.testing.assert_allclose(rhat, split_rhat(evoked).transpose("image", "unit"), rtol=1e-9)
    assert to_arviz({"z": value}, phase=None).posterior.sizes["draw"] == 50


def test_arviz_from_a_run_of_the_package() -> None:
    """A trace of `pcsim.sample`: latent values are the posterior, clamped data are not, lp is minus the energy."""
    pytest.importorskip("arviz")
    description = {
        "nodes": {"z": {"shape": [2], "distribution": {"gaussian": {"precision": 1.0}}},
                  "x": {"shape": [1], "distribution": {"gaussian": {"precision": 1.0}}}},
        "edges": [{"from": "z", "to": "x", "layers": [{"linear": {"weight": [[1.0, 2.0]], "bias": [0.0]}}]}],
    }  # fmt: skip
    trace = sampled(description)
    held = to_arviz(trace)
    assert list(held.posterior.data_vars) == ["z"]
    energy = trace["energy"].isel(step=trace["phase"].values == "evoked")
    lp = held.sample_stats["lp"].transpose("image", "chain", "draw")
    np.testing.assert_allclose(lp, -energy.transpose("image", "chain", "step").astype(np.float64))
    at = {"image": 0, "chain": 0, "step": 25}
    z, drift = (trace["z"][name].isel(at).values.astype(float) for name in ("value", "drift"))
    x = trace["x"]["value"].isel(at).item()
    # values and drifts of a step are of the same draw, on which the virial temperature rests
    np.testing.assert_allclose(drift, -z + np.array([1.0, 2.0]) * (x - z @ [1.0, 2.0]), rtol=1e-4, atol=1e-5)


def test_neo_trials(value: xr.DataArray) -> None:
    """Oracle: the array itself; time runs in seconds from before the stimulus."""
    pytest.importorskip("neo")
    block = to_neo({"z": value}, PERIOD)
    assert len(block.segments) == 6
    segment = block.segments[4]
    assert segment.annotations == {"image": 1, "chain": 1}
    signal = segment.analogsignals[0]
    np.testing.assert_array_equal(signal.magnitude, value.isel(image=1, chain=1))
    assert signal.t_start.rescale("s").item() == pytest.approx(-0.02)
    # neo's duration is in 1/Hz, or 1/kHz: the rescaled one is 50 entries of 2 ms
    assert str(signal.sampling_rate.dimensionality) == "Hz"
    assert signal.duration.rescale("s").item() == pytest.approx(0.1)
    assert signal.annotations["units_of_trace"] == ["3", "5", "8", "9"]


def test_pynapple_frame(value: xr.DataArray) -> None:
    """Oracle: the array itself, restricted to an interval by pynapple."""
    nap = pytest.importorskip("pynapple")
    timed = value.assign_coords(time=("step", value["step"].values * PERIOD))
    frame = to_pynapple(timed.isel(image=0, chain=2))
    np.testing.assert_allclose(frame.values, value.isel(image=0, chain=2))
    np.testing.assert_allclose(frame.times(), timed["time"], atol=1e-9)
    after = frame.restrict(nap.IntervalSet(start=-1e-6, end=0.0181))
    assert after.shape == (10, 4)
    with pytest.raises(AnalysisError, match="2 along 'image'"):
        to_pynapple(value, PERIOD)


def test_nwb_file(value: xr.DataArray, tmp_path: Path) -> None:
    """Oracle: pynwb's own reader and validator."""
    pynwb = pytest.importorskip("pynwb")
    maps = value.rename(unit="channel").expand_dims(y=[0], x=[0], axis=(-2, -1))
    start = datetime(2026, 1, 1, tzinfo=UTC)
    path = to_nwb({"z": value, "h": maps}, tmp_path / "trace.nwb", start, "run", "a test", PERIOD)
    assert not pynwb.validate(path=path)
    with pynwb.NWBHDF5IO(path, "r") as io:
        series = io.read().processing["pcsim"]["z"]
        np.testing.assert_array_equal(series.data[:], value.transpose("step", "image", "chain", "unit"))
        assert series.rate == pytest.approx(500)
        assert series.starting_time == pytest.approx(-0.02)
        assert io.read().processing["pcsim"]["h"].data.shape == (50, 2, 3, 4)
    with pytest.raises(AnalysisError, match="exists"):
        to_nwb({"z": value}, path, start, "run", "a test", PERIOD)
    with pytest.raises(AnalysisError, match="time zone"):
        to_nwb({"z": value}, tmp_path / "b.nwb", datetime(2026, 1, 1), "run", "a test", PERIOD)


def test_time_must_be_known(value: xr.DataArray) -> None:
    """A step on torch has no duration: without a period or a time coordinate there is no export."""
    pytest.importorskip("pynapple")
    with pytest.raises(AnalysisError, match="give the period"):
        to_pynapple(value.isel(image=0, chain=0))
    uneven = value.isel(image=0, chain=0).assign_coords(time=("step", np.arange(50.0) ** 2))
    with pytest.raises(AnalysisError, match="not evenly spaced"):
        to_pynapple(uneven)


def sampled(description: dict[str, object]) -> xr.DataTree:
    """A short recorded run in memory: 10 spontaneous and 30 evoked steps, 3 chains of 2 images."""
    probes = (Wanted(("value", "error", "drift")), Wanted(("energy",)))
    data, kernel = {"x": np.array([[1.0], [2.0]], dtype=np.float32)}, pcsim.langevin(0.01)
    return pcsim.sample(description, data, kernel, steps=30, chains=3, spontaneous=10, probes=probes)
