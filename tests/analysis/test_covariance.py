"""Covariances of chains against closed forms, with what sampling error alone leaves."""

import numpy as np
import pytest
import xarray as xr

from pcsim.analysis.covariance import covariance, covariance_against
from pcsim.analysis.slabs import step_blocks
from pcsim.errors import AnalysisError
from tests.analysis.surrogates import langevin, named, random_precision, stationary_covariance

PRECISION = random_precision(6, np.random.default_rng(0))
STEP = 0.02
POSTERIOR = np.linalg.inv(PRECISION)


@pytest.fixture(scope="module")
def value() -> xr.DataArray:
    return langevin(PRECISION, STEP, 20_000, 16, np.random.default_rng(1)).value


def test_langevin_covariance_is_the_finite_step_one(value: xr.DataArray) -> None:
    """Oracle: T[Λ(I−γΛ/2)]⁻¹; the Frobenius error of S of n draws averages √(((tr S)²+|S|²)/n)/|S| (Wishart);
    bound 3 times it, while the true posterior is farther away in the stiff directions."""
    exact = stationary_covariance(PRECISION, STEP)
    found = covariance_against(value, exact)
    assert found["relative_error"] < 3 * found["sampling_error"]
    assert found["sampling_error"] < 0.05
    # tr(S⁻¹C)/D over n effective draws of every mode: variance 2/(n D)
    assert found["trace_ratio"] == pytest.approx(1.0, abs=4 * np.sqrt(2 / 6 / 3000))
    against = covariance_against(value, POSTERIOR)
    rates = np.linalg.eigvalsh(PRECISION)
    assert against["trace_ratio"] == pytest.approx(
        (1 / (1 - STEP * rates / 2)).mean(), abs=4 * np.sqrt(2 / 6 / 3000)
    )
    assert found.attrs["cautions"] == []


def test_sampling_error_is_that_of_a_perfect_sampler() -> None:
    """Oracle: independent draws; the mean square of relative_error over 40 sets is sampling_error² by Wishart's
    variance; the spread of 40 leaves 4/√40 of the relative spread, about 0.6, of the mean."""
    rng, root = np.random.default_rng(3), np.linalg.cholesky(POSTERIOR)
    sets = [
        covariance_against(named(rng.standard_normal((4, 250, 6)) @ root.T), POSTERIOR) for _ in range(40)
    ]
    ratio = np.mean([float((s["relative_error"] / s["sampling_error"]) ** 2) for s in sets])
    assert 0.5 < ratio < 1.6


def test_distances_of_known_matrices() -> None:
    """Oracle: draws that have a given covariance exactly. Twice the posterior: relative error 1, correlation distance
    0, trace 2, angles 0. A rotation of the leading axis by 30°: that angle."""
    rng = np.random.default_rng(4)
    raw = rng.standard_normal((4, 100, 3))
    raw -= raw.mean(axis=(0, 1))
    white = raw @ np.linalg.inv(np.linalg.cholesky(np.einsum("cti,ctj->ij", raw, raw) / 400)).T
    target = np.diag([9.0, 4.0, 1.0])
    doubled = covariance_against(named(white @ np.sqrt(2 * target)), target)
    assert doubled["relative_error"].item() == pytest.approx(1)
    assert doubled["correlation_distance"].item() == pytest.approx(0, abs=1e-12)
    assert doubled["trace_ratio"].item() == pytest.approx(2)
    np.testing.assert_allclose(doubled["angle"], 0, atol=1e-7)
    turn = np.pi / 6
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    turned = covariance_against(named(white @ np.sqrt(target) @ rotation.T), target)
    np.testing.assert_allclose(turned["angle"], [turn, 0, 0], atol=1e-7)
    corr = covariance_against(named(white), np.array([[1, 0.5, 0], [0.5, 1, 0], [0, 0, 1.0]]))
    assert corr["correlation_distance"].item() == pytest.approx(1 - 3 / np.sqrt(3 * 3.5))


def test_shuffled_units_lose_their_correlations(value: xr.DataArray) -> None:
    """Negative control: every unit in its own order of steps keeps its variance and loses all covariances."""
    rng = np.random.default_rng(5)
    shuffled = value.copy(
        data=np.stack([rng.permuted(value.values[..., i], axis=1) for i in range(6)], axis=-1)
    )
    found = covariance_against(shuffled, stationary_covariance(PRECISION, STEP))
    assert found["relative_error"] > 10 * found["sampling_error"]
    assert found["correlation_distance"] > 0.1


def test_blocks_large_means_and_feature_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: numpy's own covariance in float64; a mean of 10⁴ in float32 costs no digits of the sums."""
    pytest.importorskip("dask.array")
    rng = np.random.default_rng(6)
    values = (rng.standard_normal((2, 4, 100, 2, 1, 3)) + 1e4).astype(np.float32)
    value = xr.DataArray(values, dims=("image", "chain", "step", "channel", "y", "x"))
    monkeypatch.setattr(step_blocks, "__defaults__", (4096,))
    truth = np.cov(values[1].reshape(400, 6).astype(np.float64).T, ddof=0)
    for given in (value, value.chunk(step=30)):
        np.testing.assert_allclose(covariance(given).isel(image=1), truth, rtol=1e-9, atol=1e-9)


def test_refusals() -> None:
    value = named(np.random.default_rng(0).standard_normal((2, 20, 3)))
    with pytest.raises(AnalysisError, match=r"shape \(2, 2\) for 3 units"):
        covariance_against(value, np.eye(2))
    with pytest.raises(AnalysisError, match="not positive definite"):
        covariance_against(value, np.zeros((3, 3)))
    with pytest.raises(AnalysisError, match="select fewer units"):
        covariance(named(np.zeros((1, 20, 20_000))))
