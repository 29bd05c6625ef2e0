"""Spontaneous against evoked activity: four estimators on laws whose divergence is known, and surrogates."""

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

from pcsim.analysis.divergence_estimators import (
    classifier_divergence,
    gaussian_divergence,
    known_case,
    neighbour_divergence,
    word_divergence,
)
from pcsim.analysis.shuffling import shuffled_time, shuffled_units
from pcsim.analysis.spontaneous import lagged, linear_model_divergence, spontaneous_divergence, thinned
from pcsim.errors import AnalysisError, StudyError
from tests.analysis.surrogates import ar1, named, random_walk

Array = NDArray[np.float64]


def correlated(r: float, draws: int, seed: int) -> Array:
    factor = np.linalg.cholesky([[1.0, r], [r, 1.0]])
    return np.random.default_rng(seed).standard_normal((draws, 2)) @ factor.T


def test_gaussian_estimator() -> None:
    """Its error over repetitions: the mean is the truth plus d(d + 3)(1/n + 1/m)/4 to first order."""
    found = np.array([gaussian_divergence(*known_case(400, 800, 3, seed)[:2]) for seed in range(100)])
    truth = known_case(4, 4, 3, 0)[2]
    error = found.std(ddof=1) / 10
    assert abs(found.mean() - truth) < 4 * error + 18 / 4 * (2 / 400 + 4 / 800)
    equal = np.array([gaussian_divergence(*np.split(correlated(0.5, 1000, s), 2)) for s in range(100)])
    assert abs(equal.mean() - 10 / 4 * (2 / 500)) < 4 * equal.std(ddof=1) / 10
    p, q = correlated(0.8, 100_000, 1), correlated(0.0, 100_000, 2)
    assert gaussian_divergence(p, q) == pytest.approx(-0.5 * np.log(1 - 0.64), abs=4 * 0.8 / np.sqrt(1e5))


def test_word_estimator_on_orthant_probabilities() -> None:
    """Two bits of a Gaussian with correlation r agree with probability ½ + asin(r)/π."""
    agree = 0.5 + np.arcsin([0.8, 0.2]) / np.pi
    truth = agree[0] * np.log(agree[0] / agree[1]) + (1 - agree[0]) * np.log((1 - agree[0]) / (1 - agree[1]))
    found = np.array(
        [word_divergence(correlated(0.8, 500, s), correlated(0.2, 500, 500 + s)) for s in range(100)]
    )
    assert abs(found.mean() - truth) < 4 * found.std(ddof=1) / 10
    equal = np.array(
        [word_divergence(correlated(0.5, 500, s), correlated(0.5, 500, 700 + s)) for s in range(100)]
    )
    assert abs(equal.mean()) < 4 * equal.std(ddof=1) / 10


def test_classifier_estimator() -> None:
    p, q, truth = known_case(4000, 4000, 5, 0)
    ratio = 5 * np.log(0.5) / 2 + (p**2).sum(1) / 2  # the exact log density ratio
    found = classifier_divergence(p, q)
    assert abs(found - truth) < 4 * ratio.std() / np.sqrt(4000) + 0.05 * truth  # regularised: downwards
    same = classifier_divergence(*np.split(known_case(4000, 4, 5, 1)[0], 2))
    assert -20 / 2000 * 2 < same < 4 * np.sqrt(20) / 2000


@pytest.mark.parametrize(("units", "published"), [(1, 0.141), (5, 0.304), (20, -1.09)])
def test_neighbour_estimator_is_as_biased_as_it_says(units: int, published: float) -> None:
    p, q, truth = known_case(4000, 4000, units, 3)
    found = neighbour_divergence(p, q)
    # every draw's log distances have deviation of about π/√6/d each, times d; neighbours in common double it
    assert abs(found - published) < 4 * 2 * np.pi / np.sqrt(6) * np.sqrt(2 / 4000)
    assert found < truth if units > 1 else True


@pytest.mark.parametrize(("s", "truth"), [(5, 0.0), (1, 0.1908), (2.5, 0.0554), (10, 0.1061), (20, 0.588)])
def test_linear_model(s: float, truth: float) -> None:
    """z ~ N(0, 1), x ~ N(2z, 1): average evoked activity equals the prior iff the data's variance is 5."""
    law = linear_model_divergence(2.0, 1.0, s)
    assert law.divergence == pytest.approx(truth, abs=5e-4)
    rng = np.random.default_rng(int(10 * s))
    x = np.sqrt(s) * rng.standard_normal((20_000, 1, 1))
    evoked = 0.4 * x + np.sqrt(0.2) * rng.standard_normal((20_000, 1, 1))
    spontaneous = rng.standard_normal((20_000, 1, 1))
    dims = ("image", "chain", "unit")
    found = spontaneous_divergence(xr.DataArray(evoked, dims=dims), xr.DataArray(spontaneous, dims=dims))
    # dKL = ½|1 − 1/v̄| dv̄ for evoked, ½|1 − v̄| dv for spontaneous, dv/v = √(2/n); the bias is d(d + 3)/2n
    slope = 0.5 * (abs(law.variance - 1) + abs(1 - law.variance))
    tolerance = 4 * slope * np.sqrt(2 / 20_000) + 10 / 20_000
    assert abs(float(found["divergence"]) - law.divergence) < tolerance
    assert float(found["floor"]) < 4 * 2 / 20_000 * 2
    assert found.attrs["cautions"] == []


def recording(covariance: Array, seed: int, chains: int = 8, steps: int = 500) -> xr.DataArray:
    rng = np.random.default_rng(seed)
    return named(rng.standard_normal((chains, steps, len(covariance))) @ np.linalg.cholesky(covariance).T)


COVARIANCE = 0.6 * np.ones((4, 4)) + 0.4 * np.eye(4)


@pytest.mark.parametrize("estimator", ["gaussian", "words", "classifier"])
def test_shuffled_units_show_that_correlations_matter(estimator: str) -> None:
    evoked, spontaneous = recording(COVARIANCE, 1), recording(COVARIANCE, 2)
    same = spontaneous_divergence(evoked, spontaneous, estimator)
    control = spontaneous_divergence(evoked, shuffled_units(spontaneous, seed=3), estimator)
    assert float(same["divergence"]) < 0.02
    assert float(control["divergence"]) > 10 * max(abs(float(same["divergence"])), abs(float(same["floor"])))
    exact = -0.5 * np.linalg.slogdet(COVARIANCE)[1]
    if estimator == "gaussian":
        # relative to the shuffled law's own moments; the log-determinant's error is √(2 d/n)/2 per law
        assert abs(float(control["divergence"]) - exact) < 4 * np.sqrt(2 * 4 / 4000)


def test_known_case_stands_beside_every_estimate() -> None:
    evoked, spontaneous = recording(np.eye(5), 4, steps=250), recording(np.eye(5), 5, steps=250)
    truth = 5 * (1 - np.log(2)) / 2
    for name in ("gaussian", "classifier", "words", "neighbour"):
        found = spontaneous_divergence(evoked, spontaneous, name, seed=1)
        assert float(found["known_truth"]) == pytest.approx(truth)
        off = abs(float(found["known"]) - truth) > 0.2 * truth
        assert off == (name in ("words", "neighbour"))
        assert any("must not be read as an amount" in text for text in found.attrs["cautions"]) == off


def test_time_shuffling_is_seen_in_pairs_of_draws_alone() -> None:
    rng = np.random.default_rng(6)
    series = [named(ar1(0.8, (8, 2, 4000), rng).swapaxes(1, 2)) for _ in range(2)]
    evoked, spontaneous = series
    mixed = shuffled_time(spontaneous, seed=7)
    single = [float(spontaneous_divergence(evoked, s)["divergence"]) for s in (spontaneous, mixed)]
    assert single[0] == pytest.approx(single[1], rel=1e-9)
    pairs = [
        float(spontaneous_divergence(lagged(evoked), lagged(s))["divergence"]) for s in (spontaneous, mixed)
    ]
    exact = -np.log(1 - 0.64)  # ½ ln 1/(1 − a²) for each of two units
    assert pairs[0] < 0.02
    independent = 8 * 4000 * (1 - 0.8**2) / (1 + 0.8**2)
    assert abs(pairs[1] - exact) < 4 * np.sqrt(4 * 2 / independent)


def test_thinning_by_the_integrated_time() -> None:
    value = named(ar1(0.9, (8, 2, 4000), np.random.default_rng(8)).swapaxes(1, 2))
    kept = thinned(value)
    assert abs(kept.attrs["every"] - 19) <= 3  # (1 + a)/(1 − a), and the larger of two estimates
    assert kept.sizes["step"] == -(-4000 // kept.attrs["every"])
    assert thinned(named(np.random.default_rng(9).standard_normal((4, 500, 2)))).attrs["every"] <= 2


def test_raw_chains_inflate_the_neighbour_estimate() -> None:
    """Neighbours in time lie close: equal laws look different until chains are thinned."""
    rng = np.random.default_rng(10)
    first, second = (named(ar1(0.99, (4, 1, 20_000), rng).swapaxes(1, 2)) for _ in range(2))
    short = [s.isel(step=slice(0, 1000)) for s in (first, second)]
    raw = float(spontaneous_divergence(*short, "neighbour")["divergence"])
    every = [s.isel(step=slice(None, None, 200)) for s in (first, second)]
    clean = spontaneous_divergence(*every, "neighbour")
    assert raw > 0.05
    assert abs(float(clean["divergence"])) < 4 * 2 * np.pi / np.sqrt(6) * np.sqrt(2 / 400)


def test_cautions_and_refusals() -> None:
    good, walk = (
        recording(np.eye(2), 11),
        named(random_walk((4, 2, 300), np.random.default_rng(12)).swapaxes(1, 2)),
    )
    found = spontaneous_divergence(good, walk)
    assert any(text.startswith("spontaneous") and "R-hat" in text for text in found.attrs["cautions"])
    many = spontaneous_divergence(
        recording(np.eye(10), 13, 4, 200), recording(np.eye(10), 14, 4, 200), "words"
    )
    assert any("2^10 words" in text for text in many.attrs["cautions"])
    with pytest.raises(StudyError, match="gaussian"):
        spontaneous_divergence(good, good, "gausian")
    with pytest.raises(AnalysisError, match="same units"):
        spontaneous_divergence(good, recording(np.eye(3), 1))
    with pytest.raises(AnalysisError, match="at most 10"):
        spontaneous_divergence(recording(np.eye(11), 1), recording(np.eye(11), 2), "words")
    with pytest.raises(AnalysisError, match="without ties"):
        spontaneous_divergence(good.round(0), good.round(0), "neighbour")
    with pytest.raises(AnalysisError, match="not finite"):
        spontaneous_divergence(good.where(good < 2), good)
