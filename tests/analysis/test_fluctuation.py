"""Responses predicted from fluctuations against responses measured under a push with the same draws."""

import numpy as np
import pytest
import xarray as xr

from pcsim.analysis.fluctuation import (
    effective_temperature,
    effective_temperature_spectrum,
    response,
    static_susceptibility,
)
from pcsim.analysis.spectra import langevin_spectrum, power_spectrum
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


def test_effective_temperature_over_frequencies_in_closed_form() -> None:
    """Oracle: T/(1 − γλ/2) at every frequency, from the AR(1) spectrum and the step response (1 − a^k)/λ; rounding."""
    rate, temperature = 2.0, 0.7
    lag = np.arange(400)
    moved = xr.DataArray((1 - (1 - STEP * rate) ** lag) / rate, dims="lag", coords={"lag": STEP * lag})
    power = langevin_spectrum(np.linspace(0.05, 9, 50), rate, STEP, temperature).to_dataset(name="power")
    found = effective_temperature_spectrum(power, moved)
    np.testing.assert_allclose(found, temperature / (1 - STEP * rate / 2), rtol=1e-10)
    assert found.attrs["cautions"] == []
    cut = effective_temperature_spectrum(power, moved.isel(lag=slice(0, 12)))
    assert "has not settled" in cut.attrs["cautions"][0]
    with pytest.raises(AnalysisError, match="half a period"):
        effective_temperature_spectrum(power.assign_coords(frequency=power["frequency"] * 2), moved)


def test_coloured_noise_is_cold_at_high_frequencies() -> None:
    """Negative control: noise with memory 1/κ has T_eff = T κ²/(κ² + ω²), derived from its spectrum, not T.

    Bound 4 standard errors of the Welch spectrum, averaged over 16 frequencies in each band.
    """
    rng, rate, memory, chains, steps = np.random.default_rng(5), 1.0, 0.2, 64, 40_000
    keep = float(np.exp(-memory * STEP))
    noise, z = rng.standard_normal(chains), np.zeros(chains)
    values = np.empty((chains, steps))
    for step in range(steps):
        # spectrum of the force near frequency 0 is that of white noise at T = 1
        force = noise * np.sqrt(2 / STEP * (1 - keep) / (1 + keep))
        z = z + STEP * (force - rate * z)
        noise = keep * noise + np.sqrt(1 - keep**2) * rng.standard_normal(chains)
        values[:, step] = z
    late = xr.DataArray(values[:, 4000:], dims=("chain", "step"))
    lag = np.arange(600)
    moved = xr.DataArray((1 - (1 - STEP * rate) ** lag) / rate, dims="lag", coords={"lag": STEP * lag})
    spectrum = power_spectrum(late, STEP, segment=6000)
    found = effective_temperature_spectrum(spectrum, moved)
    turn = 2 * np.pi * found["frequency"] * STEP
    truth = (1 - keep) ** 2 / (1 + keep**2 - 2 * keep * np.cos(turn)) / (1 - STEP * rate / 2)
    error = float((spectrum["power_error"] / spectrum["power"]).max()) / 4
    for first in (4, 100):
        band = slice(first, first + 16)
        ratio = (found / truth).isel(frequency=band).mean()
        # neighbouring bins of a Hann window are correlated: half of them count
        assert abs(float(ratio) - 1) < 4 * error * np.sqrt(2)
    assert float(found.isel(frequency=slice(100, 116)).mean()) < 0.1
