"""Timescales of OU surrogates and of a four-level chain whose integrated timescales are known in closed form."""

import numpy as np
import pytest
import xarray as xr

from pcsim.analysis.timescales import (
    implied_timescale,
    intrinsic_timescale,
    timescales_by_phase,
    trial_autocorrelation,
)
from pcsim.errors import AnalysisError
from tests.analysis.surrogates import Array, langevin, named, ou, random_walk


def hierarchy(evoked: bool) -> Array:
    """Precision of four levels z1 → … → z4 (z4 the root), z_l = z_(l+1) + noise of variance .3, root variance 1; with
    evoked, the datum hangs on z1 by noise of the same variance."""
    precision = np.zeros((4, 4))
    for level in range(3):
        precision[level : level + 2, level : level + 2] += np.array([[1, -1], [-1, 1]]) / 0.3
    precision[3, 3] += 1
    precision[0, 0] += evoked / 0.3
    return precision


def white_trials(rate: float, steps: int, seed: int, chains: int = 64, units: int = 4) -> xr.DataArray:
    values = ou(rate, 1.0, (chains, units, steps), np.random.default_rng(seed)).swapaxes(1, 2)
    return named(values)


def test_implied_timescales_of_four_levels() -> None:
    """Oracle: the values of the reference circuit, evoked and spontaneous, from an independent script, and the
    definition ∫(e^{−GΛt}Λ⁻¹)_ii dt by quadrature where mobilities differ."""
    evoked, spontaneous = implied_timescale(hierarchy(True)), implied_timescale(hierarchy(False))
    np.testing.assert_allclose(evoked, [0.636, 1.004, 1.142, 1.023], atol=5e-4)
    np.testing.assert_allclose(spontaneous, [4.66, 4.88, 4.67, 4.00], atol=5e-3)
    from scipy.linalg import expm

    mobility = np.array([1.0, 0.5, 0.25, 0.1])
    precision = hierarchy(True)
    time, covariance = np.linspace(0, 200, 40_001), np.linalg.inv(precision)
    once = expm(-(time[1] - time[0]) * mobility[:, None] * precision)
    curve, state = np.empty((len(time), 4)), covariance.copy()
    for t in range(len(time)):
        curve[t] = np.diag(state)
        state = once @ state
    area = np.trapezoid(curve, time, axis=0) / np.diag(covariance)
    np.testing.assert_allclose(implied_timescale(precision, mobility), area, rtol=1e-3)
    assert (evoked < spontaneous).all()


@pytest.mark.parametrize("tau", [5.0, 20.0])
def test_murray_fit_of_ou(tau: float) -> None:
    """Oracle: OU of time constant tau. The fit's error from repetitions: over 4 units of 64 trials × 2000 steps the
    mean of tau has a relative error below √(2 tau/(64·2000)) · 2; bound 4 of these."""
    found = intrinsic_timescale(trial_autocorrelation(white_trials(1 / tau, 2000, seed=1), lags=int(6 * tau)))
    bound = 4 * 2 * np.sqrt(2 * tau / (64 * 2000))
    assert float(found["timescale"].mean()) == pytest.approx(tau, rel=bound)
    np.testing.assert_allclose(found["offset"], 0, atol=0.1)
    assert (found["r2"] > 0.98).all()
    assert found.attrs["cautions"] == []


def test_fit_of_an_exact_curve() -> None:
    """Oracle: the curve itself, with an offset and a rise before the fall."""
    lag = np.arange(0, 60, 2.0)
    curve = 0.6 * (np.exp(-lag / 7.0) + 0.3)
    curve[:2] = [1.0, 0.4]
    rho = xr.DataArray(curve, dims="lag", coords={"lag": lag})
    found = intrinsic_timescale(rho)
    assert found["timescale"].item() == pytest.approx(7.0, rel=0.01)
    assert found["amplitude"].item() == pytest.approx(0.6, rel=0.02)
    assert found["offset"].item() == pytest.approx(0.3, rel=0.05)
    assert found["first_lag"].item() == 4.0
    assert np.isnan(found["fitted"].values[:2]).all()


def test_trials_leave_no_finite_length_bias() -> None:
    """Oracle: trials of 3 tau. Across trials the correlation at lag tau is 1/e within 4 standard errors; with each
    trial's own mean taken off it is lower by the bias that the other estimator is known for."""
    from pcsim.analysis.convergence import autocorrelation

    value = white_trials(1 / 20, 60, seed=2, chains=1000, units=8)
    rho = trial_autocorrelation(value, lags=30)
    error = 4 / np.sqrt(1000 * 8)
    assert float(rho.sel(lag=20).mean()) == pytest.approx(np.exp(-1), abs=error)
    own_mean = (value - value.mean("step")).isel(unit=0, chain=slice(0, 200))
    assert float(autocorrelation(own_mean, lags=30).sel(lag=20)) < np.exp(-1) - 0.2


def test_a_common_mean_response_leaves_no_trace() -> None:
    """Negative control: the same evoked response in all trials changes nothing, to rounding."""
    value = white_trials(0.2, 200, seed=3)
    evoked = value + 10 * np.exp(-value["step"] / 30.0)
    xr.testing.assert_allclose(trial_autocorrelation(value), trial_autocorrelation(evoked), atol=1e-9)


def test_phases_of_a_linear_hierarchy() -> None:
    """Oracle: for the Langevin step ∫ is exactly (Λ⁻²)_ii / (Λ⁻¹(I−γΛ/2)⁻¹)_ii, the continuous form as γ → 0. Relative
    error √(2(2M+1)/N) with a window M of 3 integrated times (Sokal 1997), N all draws; bound 4 of them."""
    step = 0.1
    rng = np.random.default_rng(4)
    spontaneous = langevin(hierarchy(False), step, 30_000, 16, rng).value
    evoked = langevin(hierarchy(True), step, 30_000, 16, rng).value
    value = xr.concat([spontaneous, evoked], "step").assign_coords(step=np.arange(-30_000, 30_000))
    phase = np.where(value["step"] < 0, "spontaneous", "evoked")
    found = timescales_by_phase(value.assign_coords(phase=("step", phase)), lags=200)
    for name, precision in (("spontaneous", hierarchy(False)), ("evoked", hierarchy(True))):
        shrunk = np.linalg.inv(precision @ (np.eye(4) - step * precision / 2))
        truth = np.diag(np.linalg.inv(precision @ precision)) / np.diag(shrunk)
        window = 3 * 2 * truth / step
        got = found["integrated"].sel(phase=name) * step
        assert (abs(got / truth - 1) < 4 * np.sqrt(2 * (2 * window + 1) / (16 * 30_000))).all()
    assert (found["timescale"].sel(phase="spontaneous") > found["timescale"].sel(phase="evoked")).all()


def test_walks_and_noise_have_no_timescale() -> None:
    """Negative controls: a random walk's and white noise's tau lie at the edge of what lags can tell."""
    walk = named(random_walk((32, 3, 400), np.random.default_rng(5)).swapaxes(1, 2))
    found = intrinsic_timescale(trial_autocorrelation(walk, lags=50))
    assert (found["timescale"] > 50).all()
    shuffled = white_trials(0.05, 2000, seed=6)
    order = np.random.default_rng(7).permutation(2000)
    white = intrinsic_timescale(trial_autocorrelation(shuffled.copy(data=shuffled.values[:, order]), lags=50))
    assert (abs(white["amplitude"] * np.exp(-1 / white["timescale"])).fillna(0) < 0.05).all()


def test_refusals() -> None:
    value = white_trials(0.2, 100, seed=8)
    with pytest.raises(AnalysisError, match="at least 2 chains"):
        trial_autocorrelation(value.isel(chain=[0]))
    with pytest.raises(AnalysisError, match="no coordinate `phase`"):
        timescales_by_phase(value)
