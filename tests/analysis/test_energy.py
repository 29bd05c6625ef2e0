"""The energy of Langevin chains on a quadratic against its closed form, and what must not pass for equipartition."""

import numpy as np
import pytest
import xarray as xr

from pcsim.analysis.energy import energy_statistics, langevin_energy
from tests.analysis.surrogates import langevin, random_precision

PRECISION = random_precision(6, np.random.default_rng(0))
RATES = np.linalg.eigvalsh(PRECISION)


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_quadratic_energy_at_a_finite_step(temperature: float) -> None:
    """Oracle: U = Σ λ y²/2 of independent Gaussian modes with variances T/(λ(1−γλ/2)); bound 4 standard errors."""
    run = langevin(PRECISION, 0.02, 16_000, 16, np.random.default_rng(1), temperature)
    found, exact = (
        energy_statistics(run.energy, 0.0, 6, temperature),
        langevin_energy(RATES, 0.02, temperature),
    )
    for name in ("excess", "variance"):
        assert abs(found[name] - exact[name]) < 4 * found[f"{name}_error"]
        assert found[f"{name}_error"] < 0.03 * exact[name]
    assert found.attrs["expected_excess"] == 3 * temperature
    assert found.attrs["expected_variance"] == 3 * temperature**2
    # the finite step is seen: DT/2 alone is off by more than the error
    assert exact["excess"] - 3 * temperature > 4 * found["excess_error"]
    assert found.attrs["cautions"] == []


def test_finite_step_form_against_the_covariance() -> None:
    """Oracle: E U = tr(ΛΣ)/2 and Var U = tr(ΛΣΛΣ)/2 with Σ solving the chain's Lyapunov equation."""
    from scipy.linalg import solve_discrete_lyapunov

    step, temperature = 0.03, 1.7
    sigma = solve_discrete_lyapunov(np.eye(6) - step * PRECISION, 2 * step * temperature * np.eye(6))
    exact = langevin_energy(RATES, step, temperature)
    assert exact["excess"].item() == pytest.approx(np.trace(PRECISION @ sigma) / 2)
    assert exact["variance"].item() == pytest.approx(np.trace(PRECISION @ sigma @ PRECISION @ sigma) / 2)
    assert np.isnan(langevin_energy(RATES, 0.1, 1.0)["excess"])


def test_images_have_their_own_minimum() -> None:
    """Oracle: constants added to the energy of each image go with the minimum; labels are kept."""
    run = langevin(PRECISION, 0.02, 500, 4, np.random.default_rng(2))
    shift = xr.DataArray([0.0, -40.0], dims="image", coords={"image": ["a", "b"]})
    found = energy_statistics(run.energy + shift, shift, 6)
    assert found["excess"].sel(image="a").item() == pytest.approx(found["excess"].sel(image="b").item())
    width = float(found["bin"].diff("bin")[0])
    assert float(found["density"].sum()) * width == pytest.approx(1.0)


def test_a_minimum_that_was_not_reached_is_a_caution() -> None:
    """Negative control: a wrong minimum above the chains, and a chain that still falls."""
    run = langevin(PRECISION, 0.02, 4000, 16, np.random.default_rng(2))
    assert "lie below the minimum" in " ".join(energy_statistics(run.energy, 10.0, 6).attrs["cautions"])
    falling = run.energy + 30 * np.exp(-run.energy["step"] / 2000.0)
    assert "R-hat" in " ".join(energy_statistics(falling, 0.0, 6).attrs["cautions"])
