"""Relaxation of variance and mean after onset, against the Langevin chain's closed form."""

import numpy as np
import pytest
import xarray as xr

from pcsim.analysis.quenching import (
    across_chain_variance,
    discrete_rate,
    fit_relaxation,
    quenching,
    relaxation,
)
from pcsim.analysis.slabs import by_slab
from pcsim.errors import AnalysisError
from tests.analysis.surrogates import ar1, random_walk

LAMBDA, STEP_SIZE, CHAINS, AFTER = 5.0, 0.01, 2000, 100


def onset(chains: int, seed: int, temperature: float = 1.0, target: float = 2.0) -> xr.DataArray:
    """Chains in the prior N(0, 1) until step 0, then on the posterior N(target, 1/λ): V falls from 1 to about .2."""
    rng = np.random.default_rng(seed)
    before = ar1(1 - STEP_SIZE, (chains, 41), rng)
    z, path = before[:, -1], [before]
    for _ in range(AFTER):
        noise = np.sqrt(2 * STEP_SIZE * temperature) * rng.standard_normal(chains)
        z = z - STEP_SIZE * LAMBDA * (z - target) + noise
        path.append(z[:, None])
    data = np.concatenate(path, axis=1)[:, :, None]
    return xr.DataArray(
        data, dims=("chain", "step", "unit"), coords={"step": np.arange(-40, AFTER + 1)}, name="value"
    )


def test_fit_finds_an_exact_exponential() -> None:
    steps = np.arange(200.0)
    laws = [(1.0, 0.2, 0.05), (0.1, 3.0, 0.5), (2.0, -1.0, 0.011)]
    courses = np.stack([relaxation(steps, *law) for law in laws])
    np.testing.assert_allclose(fit_relaxation(steps, courses), laws, rtol=1e-3)
    np.testing.assert_allclose(fit_relaxation(steps[::4], courses[:, ::4]), laws, rtol=1e-3)
    assert np.isnan(fit_relaxation(steps, np.ones((1, 200)))).all()


def test_variance_relaxes_twice_as_fast_as_the_mean() -> None:
    found = quenching(onset(CHAINS, 1)).isel(unit=0)
    per_step = discrete_rate(STEP_SIZE, LAMBDA)
    for name, truth in (("mean_rate", per_step), ("variance_rate", 2 * per_step), ("ratio", 2.0)):
        assert abs(float(found[name]) - truth) < 4 * float(found[f"{name}_error"]), name
    assert float(found["ratio_error"]) < 0.3  # the ratio is told apart from 1
    posterior = 1 / (LAMBDA * (1 - STEP_SIZE * LAMBDA / 2))
    assert abs(float(found["variance_end"]) - posterior) < 4 * posterior * np.sqrt(2 / CHAINS)
    assert abs(float(found["variance_start"]) - 1) < 4 * np.sqrt(2 / CHAINS)
    assert abs(float(found["before"]) - 1) < 4 * np.sqrt(2 / CHAINS)
    assert found.attrs["cautions"] == []


def test_course_follows_the_law_at_every_step() -> None:
    value = onset(CHAINS, 2)
    found = across_chain_variance(value).sel(step=slice(0, None)).isel(unit=0)
    a = 1 - STEP_SIZE * LAMBDA
    posterior = 1 / (LAMBDA * (1 - STEP_SIZE * LAMBDA / 2))
    variance = posterior + (1 - posterior) * a ** (2 * found["step"])
    mean = 2 * (1 - a ** found["step"])
    # 101 correlated steps: 4.5 standard errors is 4 with a Bonferroni allowance for about ten independent ones
    assert (np.abs(found["variance"] - variance) < 4.5 * variance * np.sqrt(2 / (CHAINS - 1))).all()
    assert (np.abs(found["mean"] - mean) < 4.5 * np.sqrt(variance / CHAINS)).all()
    np.testing.assert_allclose(
        found["variance"], np.var(value.sel(step=slice(0, None)).isel(unit=0), axis=0, ddof=1)
    )
    np.testing.assert_allclose(found["variance_error"], found["variance"] * np.sqrt(2 / (CHAINS - 1)))


def test_lazy_input_gives_the_same() -> None:
    pytest.importorskip("dask")
    value = onset(64, 3)
    course = across_chain_variance(value.chunk(step=20))
    assert course["variance"].chunks is not None
    xr.testing.assert_allclose(course.compute(), across_chain_variance(value))
    xr.testing.assert_allclose(quenching(value.chunk(step=20)), quenching(value))
    both = xr.concat([value, value + 1], "unit")
    slabs = by_slab(quenching, [both], ["chain", "step"], budget=both.nbytes // 2)
    xr.testing.assert_allclose(slabs, quenching(both))


def test_vanilla_pc_does_not_quench() -> None:
    """At T = 0 the variance of the starts decays to nothing: that is a search ending, and is said to be one."""
    found = quenching(onset(200, 4, temperature=0.0)).isel(unit=0)
    assert abs(float(found["variance_end"])) < 1e-3
    assert any("temperature 0" in text for text in found.attrs["cautions"])
    still = quenching(xr.zeros_like(onset(20, 4)))
    assert np.isnan(still["variance_rate"]).all()
    assert any("temperature 0" in text for text in still.attrs["cautions"])


def test_without_a_stimulus_nothing_is_quenched() -> None:
    rng = np.random.default_rng(5)
    prior = onset(200, 5).copy(data=ar1(0.5, (200, 141), rng)[:, :, None])
    found = quenching(prior).isel(unit=0)
    ratio = float(found["variance_end"] / found["before"])
    independent = 200 * np.array([40, 101]) * (1 - 0.25) / (1 + 0.25)  # squares of AR(1) are correlated as a²
    assert abs(ratio - 1) < 4 * np.sqrt((2 / independent).sum())
    assert float(found["mean_rate_error"]) > 0.2 * float(found["mean_rate"])


def test_random_walk_has_no_plateau() -> None:
    walk = onset(100, 6).copy(data=random_walk((100, 141), np.random.default_rng(6))[:, :, None])
    assert any("no plateau" in text for text in quenching(walk).attrs["cautions"])
    assert any("does not fall" in text for text in quenching(walk).attrs["cautions"])


def test_few_chains_and_missing_steps() -> None:
    value = onset(8, 7)
    assert any("8 chains" in text for text in across_chain_variance(value).attrs["cautions"])
    with pytest.raises(AnalysisError, match="at least 4 chains"):
        quenching(value.isel(chain=slice(0, 3)))
    with pytest.raises(AnalysisError, match="at least 8 steps"):
        quenching(value.sel(step=slice(None, 5)))
    with pytest.raises(AnalysisError, match="needs 2 chains"):
        across_chain_variance(value.isel(chain=[0]))
