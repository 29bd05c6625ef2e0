"""Responses predicted from fluctuations against responses measured under a push with the same draws."""

import numpy as np
import pytest
import xarray as xr

from pcsim.analysis.fluctuation import effective_temperature, response, static_susceptibility
from pcsim.errors import AnalysisError
from tests.analysis.surrogates import langevin, random_precision

PRECISION = random_precision(3, np.random.default_rng(0), condition=4.0)
STEP = 0.05
LAGS = 60


def measured(push: float = 0.1) -> xr.DataArray:
    """Displacement per unit push of each unit, pushed alone from lag 0 on: noise drops out of the difference."""
    z, rows = np.zeros((3, 3)), []
    for _ in range(LAGS):
        rows.append(np.diag(z) / push)
        z = z - STEP * (z @ PRECISION) + STEP * push * np.eye(3)
    return xr.DataArray(np.array(rows), dims=("lag", "unit"), coords={"lag": STEP * np.arange(LAGS)})


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_effective_temperature_is_that_of_the_chain(temperature: float) -> None:
    """Oracle: T_eff = T (C(0)−C(t))_ii / (T χ(t))_ii in closed form with C(k) = (I−γΛ)^k Σ; bound 4 standard errors of
    a variance, √(2/ESS)."""
    value = langevin(PRECISION, STEP, 20_000, 16, np.random.default_rng(1), temperature).value
    found = effective_temperature(response(value, 1.0, STEP, lags=LAGS), measured()).isel(lag=slice(5, None))
    bound = 4 * np.sqrt(2 / (16 * 20_000 * STEP * 0.5))
    rates = np.linalg.eigvalsh(PRECISION)
    low, high = (temperature / (1 - STEP * rate / 2) for rate in (rates.min(), rates.max()))
    assert (found > low * (1 - bound)).all()
    assert (found < high * (1 + bound)).all()


def test_impulse_response_of_a_linear_chain() -> None:
    """Oracle: R(k) = (I−γΛ)^k (I−γΛ/2)⁻¹ on the diagonal, at half lags; bound 4 √(2/ESS) of the height."""
    value = langevin(PRECISION, STEP, 40_000, 16, np.random.default_rng(2)).value
    found = response(value, 1.0, STEP, lags=40)
    shrink = np.eye(3) - STEP * PRECISION
    half = np.linalg.inv(np.eye(3) - STEP * PRECISION / 2)
    truth = np.array([np.diag(np.linalg.matrix_power(shrink, k) @ half) for k in range(39)])
    np.testing.assert_allclose(
        found["impulse"].transpose("half_lag", "unit"), truth, atol=4 * np.sqrt(2 / 16_000)
    )
    np.testing.assert_allclose(found["half_lag"], STEP * (np.arange(39) + 0.5))


def test_static_susceptibility() -> None:
    """Oracle: d⟨z⟩/dh = Λ⁻¹ at any temperature, times (I−γΛ/2)⁻¹ for a finite step; bound 4 √(2/ESS)."""
    value = langevin(PRECISION, STEP, 20_000, 16, np.random.default_rng(3), 2.0).value
    truth = np.linalg.inv(PRECISION @ (np.eye(3) - STEP * PRECISION / 2))
    np.testing.assert_allclose(static_susceptibility(value, 2.0), truth, atol=4 * np.sqrt(2 / 8000))
    with pytest.raises(AnalysisError, match="temperature 0"):
        static_susceptibility(value, 0.0)


def test_wrong_temperature_is_seen() -> None:
    """Negative control: chains at T = 2 that claim T = 1 have T_eff 2, not 1."""
    value = langevin(PRECISION, STEP, 20_000, 16, np.random.default_rng(4), 2.0).value
    found = effective_temperature(response(value, 1.0, STEP, lags=LAGS), measured()).isel(lag=slice(5, None))
    assert (found > 1.7).all()
