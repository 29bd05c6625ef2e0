"""Virial and configurational temperature on chains whose temperature is known, and on chains with the wrong one."""

import numpy as np
import pytest
import xarray as xr
from scipy.integrate import quad

from pcsim.analysis.temperature import configurational_temperature, temperature_ablation, virial_temperature
from pcsim.errors import AnalysisError
from tests.analysis.surrogates import Chains, langevin, named, random_precision

PRECISION = random_precision(6, np.random.default_rng(0))
STEP = 0.02


def chains(temperature: float = 1.0, steps: int = 4000, seed: int = 1) -> Chains:
    return langevin(PRECISION, STEP, steps, 16, np.random.default_rng(seed), temperature)


def bogacz(
    temperature: float, steps: int, seed: int = 3, step_size: float = 0.002
) -> tuple[xr.DataArray, ...]:
    """Langevin chains on the two-node circuit z ~ N(3, 1), x = 2 ~ N(z², 1) (Bogacz 2017, exercise 2)."""
    rng = np.random.default_rng(seed)
    z, kept, slopes = np.full(64, 1.5), [], []
    for t in range(steps):
        z = z - step_size * slope(z) + np.sqrt(2 * step_size * temperature) * rng.standard_normal(64)
        if t >= steps // 10 and t % 5 == 0:
            kept.append(z)
            slopes.append(slope(z))
    values, gradients = (np.stack(a, axis=1)[..., None] for a in (kept, slopes))
    return named(values), named(gradients)


def slope(z: np.ndarray) -> np.ndarray:
    return (z - 3) - 2 * z * (2 - z**2)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_virial_of_quadratic_energy(temperature: float) -> None:
    """Oracle: E z_i g_i = T [(I − γΛ/2)⁻¹]_ii in closed form, and design law 3; bound 4 standard errors."""
    run = chains(temperature, steps=16_000)
    found = virial_temperature(run.value, -run.gradient, STEP, temperature)
    truth = temperature * np.diag(np.linalg.inv(np.eye(6) - STEP * PRECISION / 2))
    assert (abs(found["measured"] - truth) < 4 * found["measured_error"]).all()
    assert (abs(found["expected"] - truth) < 4 * found["expected_error"]).all()
    assert (abs(found["deviation"]) < 4 * found["deviation_error"]).all()
    assert (abs(found["mean_gradient"]) < 4 * found["mean_gradient_error"]).all()
    assert (found["deviation_error"] < 0.05 * temperature).all()
    assert found.attrs["cautions"] == []


def test_standard_errors_are_those_of_repetitions() -> None:
    """Oracle: the spread over 60 independent runs; the sd of an sd is 1/√(2·60) = 9 %, bound 4 of them."""
    runs = [chains(steps=600, seed=s) for s in range(60)]
    found = [virial_temperature(r.value, -r.gradient, STEP) for r in runs]
    spread = xr.concat([f["deviation"] for f in found], "run").std("run", ddof=1)
    claimed = xr.concat([f["deviation_error"] for f in found], "run").mean("run")
    np.testing.assert_allclose(spread / claimed, 1, atol=0.37)


def test_virial_of_a_nonlinear_circuit() -> None:
    """Oracle: integration by parts, for any energy; ⟨g²⟩ = E U'' = 10.841 by quadrature on z² at T = 1."""
    value, gradient = bogacz(1.0, 20_000)
    found = virial_temperature(value, -gradient, 0.002)
    assert (abs(found["deviation"]) < 4 * found["deviation_error"]).all()

    def density(z: float) -> float:
        return float(np.exp(-((z - 3) ** 2) / 2 - (2 - z**2) ** 2 / 2))

    norm = quad(density, -6, 6)[0]
    curvature = quad(lambda z: (1 - 4 + 6 * z**2) * density(z), -6, 6)[0] / norm
    assert curvature == pytest.approx(10.841, abs=1e-3)
    square = (found["expected"] - 1) / 0.001
    # the chain's own ⟨g²⟩ exceeds the exact one by O(γ λ): γ E U'' / 2 is 1.1 %, stiffer parts more
    assert square.item() == pytest.approx(curvature, rel=0.05)


def test_mobility_enters_the_expected_value() -> None:
    """Oracle: with diagonal G, ⟨z g⟩ = T + (γ/2) G ⟨g²⟩; the chain is the plain one in coordinates z √G."""
    mobility = np.geomspace(0.2, 5.0, 6)
    root = np.sqrt(mobility)
    run = langevin(PRECISION * np.outer(root, root), STEP / 4, 4000, 16, np.random.default_rng(5))
    value, gradient = run.value * root, run.gradient / root
    right = virial_temperature(value, -gradient, STEP / 4, mobility=xr.DataArray(mobility, dims="unit"))
    assert (abs(right["deviation"]) < 4 * right["deviation_error"]).all()
    wrong = virial_temperature(value, -gradient, STEP / 4, mobility=xr.DataArray(mobility[::-1], dims="unit"))
    assert (abs(wrong["deviation"]) > 4 * wrong["deviation_error"]).any()


def test_wrong_noise_is_seen() -> None:
    """Negative control: noise of T = 2 in a chain that claims T = 1, and values with the drifts of other units."""
    run = chains(2.0)
    found = virial_temperature(run.value, -run.gradient, STEP, 1.0)
    assert (found["deviation"] > 10 * found["deviation_error"]).all()
    shuffled = run.gradient.isel(unit=[1, 2, 3, 4, 5, 0]).drop_vars("unit", errors="ignore")
    apart = virial_temperature(run.value, -shuffled, STEP, 2.0)
    assert (abs(apart["deviation"]) > 10 * apart["deviation_error"]).all()


def test_vanilla_pc_is_cold_and_says_that_it_does_not_move() -> None:
    """T = 0 at the minimum: virial temperature 0, and a caution that it is no sample."""
    run = chains(0.0, steps=100)
    found = virial_temperature(run.value, -run.gradient, STEP, 0.0)
    assert (found["measured"] == 0).all()
    assert "never move" in " ".join(found.attrs["cautions"])


def test_dims_and_laziness() -> None:
    """Images and feature maps are kept; dask and numpy give the same."""
    pytest.importorskip("dask.array")
    run = chains(steps=200)
    value = (
        run.value.expand_dims(image=["a", "b", "c"])
        .rename(unit="channel")
        .assign_coords(channel=list("uvwxyz"))
    )
    drift = -run.gradient.expand_dims(image=["a", "b", "c"]).rename(unit="channel")
    found = virial_temperature(value, drift, STEP)
    assert found["measured"].dims == ("image", "channel")
    assert list(found["channel"].values) == list("uvwxyz")
    lazy = virial_temperature(value.chunk(step=50), drift.chunk(step=50), STEP)
    xr.testing.assert_allclose(found, lazy)


def test_different_steps_are_refused() -> None:
    run = chains(steps=100)
    with pytest.raises(AnalysisError, match="100 values and 50 drifts"):
        virial_temperature(run.value, run.gradient.isel(step=slice(0, 50)), STEP)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_configurational_temperature(temperature: float) -> None:
    """Oracle: E|g|² = T Σλ/(1−γλ/2) over Σλ; bound 4 standard errors."""
    run = chains(temperature)
    norm = np.sqrt((run.gradient**2).sum("unit"))
    rates = np.linalg.eigvalsh(PRECISION)
    found = configurational_temperature(norm, float(rates.sum()))
    truth = temperature * (rates / (1 - STEP * rates / 2)).sum() / rates.sum()
    assert abs(found["measured"].item() - truth) < 4 * found["measured_error"].item()


def test_ablation_of_the_two_node_circuit() -> None:
    """Oracle: mean and variance of exp(−U/T) by quadrature; bound 4 standard errors and 1 % for the step of .002."""
    values, drifts = {}, {}
    for temperature in (0.1, 0.5, 1.0, 2.0):
        value, gradient = bogacz(temperature, 12_000, step_size=0.001 if temperature == 2 else 0.002)
        values[temperature], drifts[temperature] = value, -gradient
    found = temperature_ablation(values, drifts).isel(unit=0)
    for temperature in values:

        def density(z: float, power: int = 0, t: float = temperature) -> float:
            return float(z**power * np.exp(-((z - 3) ** 2 + (2 - z**2) ** 2) / 2 / t))

        norm, first, second = (quad(density, -8, 8, args=(k,))[0] for k in range(3))
        mean, variance = first / norm, second / norm - (first / norm) ** 2
        at = found.sel(temperature=temperature)
        assert abs(at["mean"] - mean) < 4 * at["mean_error"] + 0.01 * mean
        assert abs(at["variance"] - variance) < 4 * at["variance_error"] + 0.02 * variance
        assert abs(at["virial"] - temperature) < 4 * at["virial_error"] + 0.02 * temperature
    assert (found["mean"].diff("temperature") < 0).all()


def test_ablation_of_a_concatenated_dim() -> None:
    """Oracle: the same runs as a mapping; for a quadratic energy the variance is proportional to T."""
    runs = {t: chains(t, steps=1000).value for t in (0.5, 1.0, 2.0)}
    joined = xr.concat(list(runs.values()), xr.Variable("temperature", list(runs)))
    found = temperature_ablation(joined)
    xr.testing.assert_allclose(found, temperature_ablation(runs))
    ratio = found["variance"].sel(temperature=2.0) / found["variance"].sel(temperature=0.5)
    relative = found["variance_error"] / found["variance"]
    assert (
        abs(ratio / 4 - 1) < 4 * np.sqrt((relative.sel(temperature=[0.5, 2.0]) ** 2).sum("temperature"))
    ).all()
