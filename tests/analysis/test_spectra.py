"""Spectra of Langevin chains and OU surrogates against their closed forms."""

import numpy as np
import pytest
import xarray as xr

from pcsim.analysis.spectra import (
    knee_and_slope,
    langevin_spectrum,
    ou_spectrum,
    power_spectrum,
    vector_ou_spectrum,
)
from pcsim.errors import AnalysisError
from tests.analysis.surrogates import langevin, named, ou, random_precision, random_walk

PRECISION = random_precision(3, np.random.default_rng(0), condition=20.0)


def within(found: xr.Dataset, truth: xr.DataArray) -> None:
    """At most 1 in 1000 frequencies beyond 4 standard errors (a mean of chi-squares has longer tails than a Gaussian),
    and the mean ratio within 4 of its own."""
    ratio = (found["power"] / truth).values.ravel()
    relative = (found["power_error"] / found["power"]).values.ravel()
    assert (np.abs(ratio - 1) > 4 * relative).mean() <= 1e-3
    # neighbouring bins of a Hann window share half their power
    assert ratio.mean() == pytest.approx(1, abs=4 * relative.mean() * np.sqrt(3 / ratio.size))


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_langevin_step_has_the_ar1_spectrum(temperature: float) -> None:
    """Oracle: 4Tγ²/(1 + a² − 2a cos 2πfγ) up to the Nyquist frequency, aliasing included."""
    value = langevin(np.diag([2.0, 10.0]), 0.02, 20_000, 16, np.random.default_rng(1), temperature).value
    found = power_spectrum(value, interval=0.02, segment=2000)
    frequency = found["frequency"]
    truth = xr.concat([langevin_spectrum(frequency, rate, 0.02, temperature) for rate in (2.0, 10.0)], "unit")
    within(found, truth.transpose("unit", "frequency"))
    assert found.attrs["cautions"] == []


def test_area_is_the_variance() -> None:
    """Oracle: Parseval for the closed forms: ∫S df = T/λ for OU, T/(λ(1−γλ/2)) for the step."""
    frequency = np.linspace(0, 25, 200_001)
    step = langevin_spectrum(frequency, 3.0, 0.02, 1.5)
    assert np.trapezoid(step, frequency) == pytest.approx(1.5 / (3 * (1 - 0.03)), rel=1e-4)
    wide = np.geomspace(1e-4, 1e5, 200_001)
    assert np.trapezoid(ou_spectrum(wide, 3.0, 1.5), wide) == pytest.approx(0.5, rel=1e-3)
    total = vector_ou_spectrum(wide, PRECISION).transpose("frequency", "unit")
    np.testing.assert_allclose(
        np.trapezoid(total, wide, axis=0), np.diag(np.linalg.inv(PRECISION)), rtol=1e-3
    )


def test_units_of_a_circuit_are_sums_of_lorentzians() -> None:
    """Oracle: 4T(Λ²+ω²)⁻¹ on the diagonal; at γλ ≤ .02 and below a tenth of the Nyquist frequency, aliasing and the
    finite step move it by less than 2 %, within 4 standard errors of segments."""
    value = langevin(PRECISION, 0.001, 60_000, 16, np.random.default_rng(2)).value
    found = power_spectrum(value, interval=0.001, segment=15_000).sel(frequency=slice(1, 40))
    truth = vector_ou_spectrum(found["frequency"], PRECISION).transpose("unit", "frequency")
    ratio = (found["power"] / truth).values
    relative = (found["power_error"] / found["power"]).values
    assert (np.abs(ratio - 1) > 4 * relative + 0.03).mean() <= 1e-3


def test_knee_and_slope_of_ou() -> None:
    """Oracle: knee λ/2π and slope 2 of exact OU samples; bound 4 times the spread over 8 units."""
    rate = 2.0
    values = ou(rate, 0.01, (16, 8, 20_000), np.random.default_rng(3)).swapaxes(1, 2)
    found = knee_and_slope(power_spectrum(named(values), interval=0.01, segment=4000), below=5.0)
    for name, truth in (("knee", rate / (2 * np.pi)), ("slope", 2.0)):
        # 1 % for the power that aliasing adds below a tenth of the Nyquist frequency
        assert abs(found[name].mean() - truth) < 4 * found[name].std() / np.sqrt(8) + 0.01 * truth
    assert found.attrs["cautions"] == []


def test_fit_of_an_exact_curve() -> None:
    frequency = np.geomspace(0.01, 10, 400)
    power = xr.DataArray(
        3 / (1 + (frequency / 0.5) ** 1.5), dims="frequency", coords={"frequency": frequency}
    )
    found = knee_and_slope(xr.Dataset({"power": power}), below=10)
    np.testing.assert_allclose(
        [found[n].item() for n in ("plateau", "knee", "slope")], [3, 0.5, 1.5], rtol=1e-5
    )


def test_white_noise_and_walks_have_no_knee() -> None:
    """Negative controls: a slow series in random order is flat, and a random walk is unconverged."""
    slow = named(ou(0.05, 1.0, (8, 1, 20_000), np.random.default_rng(4)).swapaxes(1, 2))
    order = np.random.default_rng(5).permutation(20_000)
    white = power_spectrum(slow.copy(data=slow.values[:, order]), segment=500)
    within(white, xr.full_like(white["power"], 2.0 * float(slow.var())))
    walk = named(random_walk((8, 1, 4000), np.random.default_rng(6)).swapaxes(1, 2))
    found = knee_and_slope(power_spectrum(walk, segment=500))
    text = " ".join(found.attrs["cautions"])
    assert "R-hat" in text
    assert found["slope"].item() > 1.5


def test_refusals() -> None:
    value = named(np.zeros((2, 100, 1)))
    with pytest.raises(AnalysisError, match="segments of 200 entries in chains of 100"):
        power_spectrum(value, segment=200)
