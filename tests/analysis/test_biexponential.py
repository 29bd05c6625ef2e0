"""Two timescales: exact curves, a mixture of AR(1) processes, and curves that hold only one."""

import numpy as np
import pytest
import xarray as xr

from pcsim.analysis.biexponential import biexponential_timescale
from pcsim.analysis.timescales import trial_autocorrelation
from pcsim.errors import AnalysisError
from tests.analysis.surrogates import ar1


def curves(*rows: np.ndarray) -> xr.DataArray:
    lag = np.arange(len(rows[0]), dtype=np.float64)
    return xr.DataArray(np.stack(rows), dims=("unit", "lag"), coords={"lag": lag})


def test_exact_curves() -> None:
    """Oracle: the curve itself, with and without a constant; rounding."""
    k = np.arange(120.0)
    found = biexponential_timescale(
        curves(
            0.6 * np.exp(-k / 3) + 0.4 * np.exp(-k / 30), 0.5 * np.exp(-k / 2) + 0.3 * np.exp(-k / 20) + 0.2
        )
    )
    np.testing.assert_allclose(found["fast"], [3, 2], rtol=1e-5)
    np.testing.assert_allclose(found["slow"], [30, 20], rtol=1e-5)
    np.testing.assert_allclose(found["weight"], [0.6, 0.625], rtol=1e-5)
    np.testing.assert_allclose(found["offset"], [0, 0.25], atol=1e-5)
    np.testing.assert_allclose(found["mean"], [13.8, 0.625 * 2 + 0.375 * 20], rtol=1e-5)
    assert found.attrs["cautions"] == []


def test_sum_of_two_processes() -> None:
    """Oracle: z = √.5 (fast + slow) has rho(k) = ½ e^{−k/2} + ½ e^{−k/25}; bound 4 s.e. from 16 independent units."""
    rng, shape = np.random.default_rng(0), (16, 32, 2000)
    both = (ar1(float(np.exp(-1 / 2)), shape, rng) + ar1(float(np.exp(-1 / 25)), shape, rng)) / np.sqrt(2)
    value = xr.DataArray(both, dims=("unit", "chain", "step"))
    found = biexponential_timescale(trial_autocorrelation(value, lags=120))
    for name, truth in (("fast", 2.0), ("slow", 25.0), ("weight", 0.5)):
        units = found[name]
        assert abs(float(units.mean()) - truth) < 4 * float(units.std(ddof=1)) / 4, name
        assert float(units.std(ddof=1)) < 0.2 * truth


def test_one_exponential_is_named() -> None:
    """Negative controls: one exponential gets a caution, noise without decay or a flat curve no timescale."""
    k = np.arange(60.0)
    found = biexponential_timescale(curves(np.exp(-k / 10), np.ones(60), np.full(60, np.nan)))
    assert found["fast"].isnull().to_numpy().tolist() == [False, True, True]
    assert "in 1 of 3 series: one exponential says as much" in found.attrs["cautions"][0]
    np.testing.assert_allclose(found["fitted"].isel(unit=0)[1:], np.exp(-k[1:] / 10), atol=1e-5)
    with pytest.raises(AnalysisError, match="10 lags"):
        biexponential_timescale(curves(np.exp(-k[:9])))
