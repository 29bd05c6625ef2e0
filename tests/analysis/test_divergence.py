"""Divergences against closed forms, the exact linear table, and Gaussian surrogates with few chains."""

import numpy as np
import pytest
import xarray as xr

from pcsim.analysis.divergence import (
    divergence,
    divergence_over_steps,
    factorised_law,
    linear_divergence,
    marginal_divergence,
    split_divergence,
    stationary_moments,
)
from pcsim.analysis.gaussian import Law, fit, kl, kl_from, kl_to, log_determinant_shift
from pcsim.errors import AnalysisError

LAMBDA, GAMMA = np.array([1.0, 4.0, 25.0]), 0.02
START = Law(np.array([2.0, 1.0, 0.5]), np.eye(3))
TABLE = [0, 1, 5, 20, 50, 300]


def law(mean: np.ndarray, covariance: np.ndarray) -> xr.Dataset:
    return xr.Dataset({"mean": ("unit", mean), "covariance": (("unit", "unit_2"), covariance)})


def ula(chains: int, steps: int, seed: int) -> xr.DataArray:
    """Langevin chains of the table, dims (chain, step, unit), step 0 drawn from the start law."""
    rng = np.random.default_rng(seed)
    z = START.mean + rng.standard_normal((chains, 3))
    path = [z]
    for _ in range(steps):
        z = z - GAMMA * LAMBDA * z + np.sqrt(2 * GAMMA) * rng.standard_normal(z.shape)
        path.append(z)
    return xr.DataArray(
        np.stack(path, 1), dims=("chain", "step", "unit"), coords={"step": np.arange(steps + 1)}
    )


def test_divergence_of_known_laws_is_the_integral() -> None:
    """Oracle: quadrature of q log(q/p) in one dimension; KL(N(0,I)‖N(0,½I)) is 0.1534 per dimension."""
    from scipy.integrate import quad
    from scipy.stats import norm

    q, p = norm(0.3, 0.8), norm(-0.5, 1.7)
    expected = quad(lambda z: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), -12, 12)[0]
    first, second = (law(np.array([d.mean()]), np.array([[d.var()]])) for d in (q, p))
    found = divergence(first, second)
    assert float(found["reverse"]) == pytest.approx(expected, rel=1e-9)
    for d in (1, 5, 20):
        known = kl(Law(np.zeros(d), np.eye(d)), Law(np.zeros(d), np.eye(d) / 2))
        assert float(known) == pytest.approx(d * (1 - np.log(2)) / 2, rel=1e-12)
    assert found["reverse"].attrs["units"] == "nat"


def test_exact_table_of_the_linear_chain() -> None:
    """The table of the linear circuit, λ = (1, 4, 25), γ = .02: to the digits given."""
    found = linear_divergence(START, LAMBDA, GAMMA, TABLE)
    np.testing.assert_allclose(found["reverse"], [18.322, 7.169, 2.773, 0.990, 0.289, 0.0233], atol=6e-4)
    np.testing.assert_allclose(found["forward"], [4.073, 3.339, 2.165, 0.972, 0.283, 0.0193], atol=6e-4)
    log_joint = [-22.125, -10.293, -4.848, -2.706, -1.958, -1.693]
    np.testing.assert_allclose(found["log_joint"], log_joint, atol=6e-4)


def test_chains_reproduce_the_table() -> None:
    """Within 4 of the estimator's own standard errors, 400 chains; and the plain fit lies above the corrected."""
    found = divergence_over_steps(ula(400, 60, seed=1), law(np.zeros(3), np.diag(1 / LAMBDA)))
    exact = linear_divergence(START, LAMBDA, GAMMA, np.arange(61))
    for name in ("reverse", "forward"):
        score = (found[name] - exact[name]) / found[f"{name}_error"]
        assert float(abs(score.isel(step=[0, 1, 5, 20, 50])).max()) < 4
        assert bool((found[f"{name}_plain"] > found[name]).all())
    assert found.attrs["cautions"] == []
    assert found["reverse"].dims == ("step",)


@pytest.mark.parametrize(("n", "d"), [(12, 3), (40, 10)])
def test_corrections_are_unbiased_and_errors_honest(n: int, d: int) -> None:
    """2000 repetitions: mean within 4 s.e. of the truth; the plain fit is many s.e. too high.

    The delta method's error is checked for the reverse divergence: within 30 % of the spread.
    """
    rng = np.random.default_rng(n)
    root = rng.standard_normal((d, d)) / np.sqrt(d) + np.eye(d)
    true = Law(0.5 * rng.standard_normal(d), root @ root.T)
    target = Law(np.zeros(d), np.eye(d))
    draws = true.mean + rng.standard_normal((2000, n, d)) @ root.T
    for estimate, truth in (
        (kl_to(draws, target), kl(true, target)),
        (kl_from(target, draws), kl(target, true)),
    ):
        error = estimate.corrected.std() / np.sqrt(2000)
        assert abs(estimate.corrected.mean() - truth) < 4 * error
        assert estimate.plain.mean() - truth > 10 * error
    reverse = kl_to(draws, target)
    assert np.median(reverse.standard_error) == pytest.approx(reverse.corrected.std(), rel=0.3)


def test_log_determinant_shift_in_one_dimension() -> None:
    """E ln(χ²_{n−1}/(n − 1)) by quadrature."""
    from scipy.integrate import quad
    from scipy.stats import chi2

    expected = quad(lambda v: np.log(v / 8) * chi2(8).pdf(v), 0, 200)[0]
    assert log_determinant_shift(9, 1) == pytest.approx(expected, rel=1e-7)


def test_identical_laws_give_zero() -> None:
    """Negative control: chains that are at p from the start are within 4 s.e. of 0 at every step, never above."""
    rng = np.random.default_rng(3)
    value = xr.DataArray(rng.standard_normal((64, 50, 5)), dims=("chain", "step", "unit"))
    found = divergence_over_steps(value, law(np.zeros(5), np.eye(5)))
    for name in ("reverse", "forward"):
        assert float(abs(found[name] / found[f"{name}_error"]).max()) < 4
        assert abs(float(found[name].mean())) < 4 * float(found[name].std()) / np.sqrt(50)


def test_split_chains_find_zero_at_their_end_and_distance_at_their_start() -> None:
    value = ula(200, 400, seed=4).expand_dims(image=[7])
    found = split_divergence(value, after=150)
    assert found["reverse"].dims == ("image", "step")
    exact = linear_divergence(START, LAMBDA, GAMMA, [0])
    start = found.isel(image=0).sel(step=0)
    assert abs(float(start["reverse"] - exact["reverse"][0])) < 4 * float(start["reverse_error"])
    end = found["reverse"].sel(step=slice(200, None))
    assert float(end.mean()) < 3 * 9 / 200  # 100 chains: the plain fit alone would be at d(d + 3)/(4·100)
    assert "unconverged" not in " ".join(found.attrs["cautions"])


def test_too_few_chains_are_refused_in_words() -> None:
    value = xr.DataArray(np.random.default_rng(0).standard_normal((4, 6, 8)), dims=("chain", "step", "unit"))
    found = divergence_over_steps(value, law(np.zeros(8), np.eye(8)))
    assert bool(found["forward"].isnull().all())
    assert any("must not be read" in text for text in found.attrs["cautions"])
    single = marginal_divergence(value, law(np.zeros(8), np.eye(8)))
    assert single["reverse"].dims == ("step", "unit")
    assert bool(single["forward"].notnull().all())


def test_marginals_of_a_factorised_posterior() -> None:
    """Each unit alone against the one-dimensional closed form, 4 s.e."""
    found = marginal_divergence(ula(400, 20, seed=5), law(np.zeros(3), np.diag(1 / LAMBDA)))
    for unit in range(3):
        one = Law(START.mean[unit : unit + 1], np.eye(1))
        exact = linear_divergence(one, LAMBDA[unit : unit + 1], GAMMA, [0, 5, 20])
        for name in ("reverse", "forward"):
            part = found.isel(unit=unit).sel(step=[0, 5, 20])
            assert float(abs((part[name] - exact[name]) / part[f"{name}_error"]).max()) < 4


def test_lazy_maps_and_images_give_the_same() -> None:
    rng = np.random.default_rng(6)
    maps = xr.DataArray(
        rng.standard_normal((2, 16, 9, 2, 2, 1)).astype(np.float32),
        dims=("image", "chain", "step", "channel", "y", "x"), coords={"image": [3, 5], "step": np.arange(9)},
    )  # fmt: skip
    reference = stationary_moments(maps, after=0)
    eager = divergence_over_steps(maps, reference)
    lazy = divergence_over_steps(maps.chunk(step=4, chain=8), stationary_moments(maps.chunk(step=3), after=0))
    xr.testing.assert_allclose(lazy, eager)
    flat = maps.to_numpy().astype(float).reshape(2, 16, 9, 4)
    one = kl(fit(flat[1, :, 2]), fit_pooled(flat[1].reshape(-1, 4)))
    assert float(eager["reverse_plain"].sel(image=5, step=2)) == pytest.approx(float(one), rel=1e-9)


def fit_pooled(draws: np.ndarray) -> Law:
    return Law(draws.mean(0), np.cov(draws.T, ddof=0))


def test_encoder_against_the_posterior() -> None:
    """A factorised law at the reverse optimum of a correlated pair: −½ ln(1 − ρ²) = .830; forward's own too."""
    covariance = np.array([[1, 0.9], [0.9, 1]])
    posterior = law(np.array([0.2, -0.1]), covariance)
    mean = posterior["mean"]
    reverse = divergence(factorised_law(mean, xr.full_like(mean, np.sqrt(0.19))), posterior)["reverse"]
    forward = divergence(factorised_law(mean, xr.ones_like(mean)), posterior)
    assert float(reverse) == pytest.approx(-0.5 * np.log(0.19), rel=1e-9)
    assert float(forward["forward"]) == pytest.approx(-0.5 * np.log(0.19), rel=1e-9)
    assert float(forward["reverse"]) == pytest.approx(3.433, abs=6e-4)


def test_unconverged_reference_is_named() -> None:
    rng = np.random.default_rng(8)
    walk = xr.DataArray(
        rng.standard_normal((8, 200, 2)).cumsum(1), dims=("chain", "step", "unit"), coords={"step": np.arange(200)}
    )  # fmt: skip
    found = divergence_over_steps(walk, stationary_moments(walk, after=100))
    assert found.attrs["cautions"]


def test_reference_of_another_size_is_refused() -> None:
    with pytest.raises(AnalysisError, match="3 units, but the reference has 2"):
        divergence_over_steps(ula(8, 2, seed=0), law(np.zeros(2), np.eye(2)))


def test_chains_at_rest_are_infinitely_far_and_diverged_ones_unknown() -> None:
    """T = 0: once the chains are one point there is no density; a chain that is not finite leaves NaN, not a number."""
    value = ula(16, 3, seed=0)
    value[:, 1] = 0.3
    value[:, 2, 1] = value[:, 2, 0]
    value[4, 3, 0] = np.nan
    found = divergence_over_steps(value, law(np.zeros(3), np.eye(3)))
    for name in ("reverse", "forward"):
        assert np.isfinite(found[name][0])
        assert np.isposinf(found[name][1:3]).all()
        assert np.isnan(found[name][3])
    assert "infinite in 2 of 4" in " ".join(found.attrs["cautions"])
    with pytest.raises(AnalysisError, match="reference's covariance is singular"):
        divergence_over_steps(value, law(np.zeros(3), np.diag([1.0, 0, 1])))


def test_units_of_very_different_scale_are_not_singular() -> None:
    scales = np.array([1e-8, 1.0, 1e8])
    first, second = Law(np.zeros(3), np.diag(scales**2)), Law(np.zeros(3), np.diag(4 * scales**2))
    assert float(kl(first, second)) == pytest.approx(3 * (np.log(2) - 0.375), rel=1e-9)
