"""Chains that diverged or were not written are NaN in a trace: what they enter must be NaN or named, never smoothed."""

import numpy as np
import pytest
import xarray as xr

from pcsim.analysis.correlations import noise_correlation
from pcsim.analysis.covariance import covariance
from pcsim.analysis.decoding import running_mean
from pcsim.analysis.deviance import mismatch_index
from pcsim.analysis.irreversibility import irreversibility
from pcsim.analysis.modes import dominant_state, dwell_times, mode_occupancy, nearest_mode
from pcsim.analysis.quenching import across_chain_variance
from pcsim.analysis.spontaneous import spontaneous_divergence
from pcsim.errors import AnalysisError
from tests.analysis.surrogates import ar1


@pytest.fixture
def broken() -> xr.DataArray:
    """Two units of six chains, of which the last stops being finite half-way in unit 1."""
    data = ar1(0.5, (1, 6, 64, 2), np.random.default_rng(0))
    data[0, 5, 32:, 1] = np.nan
    return xr.DataArray(
        data, dims=("image", "chain", "step", "unit"), coords={"step": np.arange(64)}, name="z"
    )


def test_averages_are_not_smoothed(broken: xr.DataArray) -> None:
    """Oracle: unit 0 has no gap and stays finite; whatever unit 1's gap enters is NaN."""
    course = across_chain_variance(broken)["variance"].isel(image=0)
    assert course.isel(unit=0).notnull().all()
    assert course.isel(unit=1).isnull().to_numpy().tolist() == [False] * 32 + [True] * 32
    mean = running_mean(broken).isel(image=0, chain=5, unit=1)
    assert mean.isnull().to_numpy().tolist() == [False] * 32 + [True] * 32
    late = broken.isel(image=0, step=slice(32, None)).mean("step", skipna=False)
    assert mismatch_index(late, late)["deviant"].isnull().to_numpy().tolist() == [False, True]
    assert noise_correlation(broken)["correlation"].isel(unit=0, unit_2=1).isnull().all()
    assert covariance(broken).isel(unit=1, unit_2=1).isnull().all()
    assert irreversibility(broken)["asymmetry"].isel(unit=0, unit_2=1).isnull().all()


def test_states_are_not_made_up(broken: xr.DataArray) -> None:
    """Oracle: 32 draws have no nearest mode and are counted; a state is refused rather than carried through a gap."""
    label = nearest_mode(broken.isel(image=0), np.array([[-1.0, -1.0], [1.0, 1.0]]))
    assert int((label == -1).sum()) == 32
    assert any("32 of 384 draws" in text for text in mode_occupancy(label, [0.5, 0.5]).attrs["cautions"])
    with pytest.raises(AnalysisError, match="not finite"):
        dominant_state(broken.isel(unit=1), -0.1, 0.1)


def test_dwells_of_a_thinned_trace_are_in_steps() -> None:
    """Oracle: three entries five steps apart last 15 steps; with a time per entry, three times that."""
    state = xr.DataArray(
        np.array([[-1, 1, 1, 1, -1, -1]], np.int8), dims=("chain", "step"), coords={"step": 5 * np.arange(6)}
    )
    dwells = dwell_times(state)
    assert dwells["duration"].to_numpy().tolist() == [5, 15, 10]
    assert dwells["duration"].attrs["units"] == "step"
    assert dwell_times(state, step_time=0.05)["duration"].to_numpy() == pytest.approx([0.05, 0.15, 0.1])


def test_correlated_draws_are_named() -> None:
    """Oracle: integrated time (1 + a)/(1 − a) = 19 of AR(1) at .9, 1 of white noise."""
    rng, dims = np.random.default_rng(1), ("chain", "step", "unit")
    slow, fast = (
        xr.DataArray(np.moveaxis(ar1(a, (2, 8, 400), rng), 0, -1), dims=dims, name="z") for a in (0.9, 0.0)
    )
    doubts = " ".join(spontaneous_divergence(slow, fast).attrs["cautions"])
    assert "evoked: must not be read as independent" in doubts
    assert "spontaneous: must not be read as independent" not in doubts
