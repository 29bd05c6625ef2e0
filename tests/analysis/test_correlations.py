"""Noise and signal correlations against linear-Gaussian and scale-mixture posteriors; shuffled units as control."""

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

from pcsim.analysis.correlations import (
    correlation_agreement,
    explaining_away_correlation,
    gsm_posterior,
    noise_correlation,
    signal_correlation,
    spontaneous_correlation,
)
from pcsim.analysis.shuffling import shuffled_units
from pcsim.errors import AnalysisError
from tests.analysis.surrogates import langevin, random_walk

Array = NDArray[np.float64]


def independent(means: Array, covariance: Array, chains: int, steps: int, seed: int) -> xr.DataArray:
    """Independent Gaussian draws about each image's means: (image, chain, step, unit)."""
    rng, size = np.random.default_rng(seed), len(covariance)
    noise = rng.standard_normal((len(means), chains, steps, size)) @ np.linalg.cholesky(covariance).T
    data = means[:, None, None] + noise
    coords = {"step": np.arange(1, steps + 1)}
    return xr.DataArray(data, dims=("image", "chain", "step", "unit"), coords=coords, name="value")


@pytest.mark.parametrize(
    ("w1", "w2", "variance", "known"),
    [(1, 1, 1, -0.5), (1, 1, 0.1, -0.909), (1, -1, 1, 0.5), (2, 1, 0.5, -0.770)],
)
def test_explaining_away(w1: float, w2: float, variance: float, known: float) -> None:
    """The posterior of two causes of one observation; the sign is opposite to that of their tuning."""
    weights = np.array([[w1, w2]])
    posterior = np.linalg.inv(np.eye(2) + weights.T @ weights / variance)
    exact = posterior[0, 1] / np.sqrt(posterior[0, 0] * posterior[1, 1])
    assert explaining_away_correlation(w1, w2, variance) == pytest.approx(exact, rel=1e-12)
    assert explaining_away_correlation(w1, w2, variance) == pytest.approx(known, abs=5e-4)
    stimuli = np.linspace(-2, 2, 12)[:, None] * (posterior @ weights.T).T / variance
    value = independent(stimuli, posterior, 8, 100, 0)
    found = noise_correlation(value)
    r, error = (found[name].isel(unit=0, unit_2=1) for name in ("correlation", "standard_error"))
    assert abs(float(r) - exact) < 4 * float(error)
    assert float(error) == pytest.approx((1 - exact**2) / np.sqrt(12 * 800), rel=0.9)
    signal = signal_correlation(value)["correlation"].isel(unit=0, unit_2=1)
    assert np.sign(float(signal)) == -np.sign(exact)
    assert found.attrs["cautions"] == []


def test_noise_correlation_of_a_langevin_chain() -> None:
    """A chain's own law, step-size bias included; the error from image to image knows that steps are correlated."""
    prior = np.array([[1.0, 0.6], [0.6, 1.0]])
    rng, images = np.random.default_rng(1), []
    for _ in range(24):
        images.append(langevin(np.linalg.inv(prior), 0.2, 400, 8, rng).value)
    value = xr.concat(images, "image")
    found = noise_correlation(value)
    rates, basis = np.linalg.eigh(np.linalg.inv(prior))
    law = basis @ np.diag(1 / (rates * (1 - 0.1 * rates))) @ basis.T
    exact = law[0, 1] / law[0, 0]
    r, error = (float(found[name].isel(unit=0, unit_2=1)) for name in ("correlation", "standard_error"))
    assert abs(r - exact) < 4 * error
    assert error > 1.5 * (1 - r**2) / np.sqrt(24 * 8 * 400)
    np.testing.assert_array_equal(np.diagonal(found["correlation"]), 1.0)
    single = [noise_correlation(value.isel(image=[i])).isel(unit=0, unit_2=1) for i in range(24)]
    spread = np.std([float(one["correlation"]) for one in single], ddof=1)
    stated = np.mean([float(one["standard_error"]) for one in single])
    # the smallest ESS is that of the slowest direction, so the stated error is at least the true one
    assert 0.6 * spread < stated < 2.5 * spread


def test_scale_mixture_variance_and_correlation_fall_with_contrast() -> None:
    contrast = np.array([0.0, 0.5, 1.0, 2.0, 4.0])
    prior = np.array([[1.0, 0.6], [0.6, 1.0]])
    law = gsm_posterior(contrast, prior, np.eye(2), 1.0)
    np.testing.assert_allclose(law["variance"].isel(unit=0), [1, 0.753, 0.451, 0.185, 0.057], atol=5e-4)
    r = law["correlation"].isel(unit=0, unit_2=1)
    np.testing.assert_allclose(r, [0.6, 0.517, 0.366, 0.169, 0.053], atol=5e-4)
    for place in range(len(contrast)):
        value = independent(
            np.zeros((1, 2)), law["covariance"].isel(contrast=place).to_numpy(), 8, 500, place
        )
        found = noise_correlation(value)
        measured, error = (float(found[n].isel(unit=0, unit_2=1)) for n in ("correlation", "standard_error"))
        assert abs(measured - float(r[place])) < 4 * error
        variance = float(value.isel(unit=0).var())
        assert abs(variance / float(law["variance"][place, 0]) - 1) < 4 * np.sqrt(2 / 4000)


def block(size: int, within: float) -> Array:
    """Two groups of units, correlated within a group."""
    group = np.arange(size) // (size // 2)
    return np.where(group[:, None] == group, within, 0.0) + (1 - within) * np.eye(size)


def test_signal_and_noise_correlations_agree_where_they_should() -> None:
    """Tuning and noise with the same groups of units: r_noise runs along r_signal; shuffled units, not."""
    rng = np.random.default_rng(3)
    tuning = rng.standard_normal((400, 12)) @ np.linalg.cholesky(block(12, 0.8)).T
    value = independent(2 * tuning, block(12, 0.3), 50, 8, 3)
    noise, signal = noise_correlation(value), signal_correlation(value)
    away = (signal["correlation"] - block(12, 0.8)).to_numpy()[np.triu_indices(12, 1)]
    error = signal["standard_error"].to_numpy()[np.triu_indices(12, 1)]
    assert (
        np.abs(away) < 4.5 * error + 0.001
    ).all()  # 66 pairs; noise left in the means: a share of 1/(400 · 4)
    np.testing.assert_allclose(signal["noise_share"], 1 / (400 * 4), rtol=4 * np.sqrt(2 / 399))
    found = correlation_agreement(signal["correlation"], noise["correlation"], seed=0)
    assert float(found["p"]) < 0.01
    tuning_error = (1 - 0.8**2) / np.sqrt(399) / 0.8  # relative, of signal correlations within a group
    assert abs(float(found["slope"]) - 0.3 / 0.8) < 4 * 0.3 / 0.8 * tuning_error
    shuffled = noise_correlation(shuffled_units(value, seed=1))
    control = correlation_agreement(signal["correlation"], shuffled["correlation"], seed=0)
    slope_error = 1 / np.sqrt(400 * 400) / np.sqrt(66) / float(control["one"].std())
    assert (
        abs(float(control["slope"])) < 4 * slope_error + 0.3 / 400 / 0.8
    )  # the sample mean's part: −c/draws
    assert float(control["p"]) > 0.01


def test_shuffled_units_have_no_noise_correlation() -> None:
    value = independent(np.zeros((30, 4)), block(4, 0.9), 50, 6, 4)
    mixed = shuffled_units(value, seed=2)
    found = noise_correlation(mixed)
    pairs = np.triu_indices(4, 1)
    r, error = (found[name].to_numpy()[pairs] for name in ("correlation", "standard_error"))
    assert (np.abs(r) < 4 * error).all()
    assert (np.abs(r) < 4 / np.sqrt(30 * 50 * 6)).all()
    np.testing.assert_allclose(np.sort(mixed, axis=1), np.sort(value, axis=1))  # each unit's own law stays


def test_more_units_than_chains_keep_a_part_of_their_correlation() -> None:
    """Independent permutations let two units share 1/chains of their chains: said in the cautions, and measured."""
    value = independent(np.zeros((400, 6)), block(6, 0.8), 5, 20, 9)
    mixed = shuffled_units(value, seed=4)
    assert any("keep 1/5" in text for text in mixed.attrs["cautions"])
    kept = noise_correlation(mixed)["correlation"].isel(unit=0, unit_2=[1, 2])
    # of 400 images the share of common chains is 1/5 ± √(1/5)/√400; 5 chains and 2 pairs leave it at most that wide
    assert (np.abs(kept - 0.8 / 5) < 4 * 0.8 * np.sqrt(0.2 / 400) + 0.01).all()
    assert shuffled_units(value.isel(unit=slice(0, 4)), seed=4).attrs["cautions"] == []


def test_units_of_two_nodes_may_share_a_label() -> None:
    """Two nodes of one unit each, put together: both are called 0, and their correlation is not taken for 1."""
    value = independent(np.zeros((1, 2)), np.array([[1, -0.5], [-0.5, 1]]), 8, 500, 8).assign_coords(
        unit=[0, 0]
    )
    found = noise_correlation(value)
    assert abs(float(found["correlation"][0, 1]) + 0.5) < 4 * float(found["standard_error"][0, 1])
    assert float(found["correlation"][1, 1]) == 1


def test_spontaneous_correlation_pools_images() -> None:
    value = independent(np.zeros((10, 4)), block(4, 0.5), 10, 20, 5)
    value = value.assign_coords(step=np.arange(-20, 0), phase=("step", np.array(["spontaneous"] * 20)))
    found = spontaneous_correlation(value)
    assert abs(float(found["correlation"][0, 1]) - 0.5) < 4 * float(found["standard_error"][0, 1])
    assert float(found["standard_error"][0, 1]) == pytest.approx(
        0.75 / np.sqrt(2000), rel=0.5
    )  # from an estimated ESS
    evoked = value.assign_coords(phase=("step", np.array(["evoked"] * 20)))
    with pytest.raises(AnalysisError, match="spontaneous"):
        spontaneous_correlation(evoked)


def test_lazy_and_refusals() -> None:
    value = independent(np.zeros((3, 4)), block(4, 0.5), 4, 50, 6)
    pytest.importorskip("dask")
    lazy = noise_correlation(value.chunk(image=1, step=25))
    assert lazy["correlation"].chunks is not None
    xr.testing.assert_allclose(lazy.compute(), noise_correlation(value))
    still = noise_correlation(value * [0, 1, 1, 1])
    assert np.isnan(still["correlation"][0]).all()
    assert any("never move" in text for text in still.attrs["cautions"])
    rest = noise_correlation((5 + 1e-7 * value).astype(np.float32))
    assert np.isnan(rest["correlation"]).all()  # at T = 0 only rounding varies; it is no noise correlation
    with pytest.raises(AnalysisError, match="at least 3"):
        signal_correlation(value.isel(image=[0]))
    with pytest.raises(AnalysisError, match="of 4 units or more"):
        correlation_agreement(still["correlation"][:3, :3], still["correlation"][:3, :3], seed=0)


def test_random_walks_are_not_converged() -> None:
    walk = random_walk((2, 4, 3, 300), np.random.default_rng(7)).swapaxes(2, 3)
    value = xr.DataArray(walk, dims=("image", "chain", "step", "unit"), coords={"step": np.arange(300)})
    assert any("R-hat" in text for text in noise_correlation(value).attrs["cautions"])
