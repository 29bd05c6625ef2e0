"""Gaps of a factorised encoder against closed forms for Gaussian posteriors, and impossible inputs named."""

import numpy as np
import pytest
import xarray as xr
from scipy import optimize

from pcsim.analysis.gaps import OBJECTIVES, excess_energy, factorised_optimum, gaussian_gaps, inference_gaps
from pcsim.analysis.gaussian import Law, kl

PAIR = np.array([[1, 0.9], [0.9, 1]])


def posteriors(images: int = 4, d: int = 5, seed: int = 0) -> xr.Dataset:
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((images, d, d)) / np.sqrt(d) + np.eye(d)
    return xr.Dataset(
        {
            "mean": (("image", "unit"), rng.standard_normal((images, d))),
            "covariance": (("image", "unit", "unit_2"), root @ np.swapaxes(root, 1, 2)),
        },
        coords={"image": np.arange(images)},
    )


def test_optima_of_the_correlated_pair() -> None:
    """ρ = .9: variances 1 − ρ² = .19, 1, and √(1 − ρ²) = .436."""
    pair = xr.Dataset({"mean": ("unit", np.zeros(2)), "covariance": (("unit", "unit_2"), PAIR)})
    scale = factorised_optimum(pair)["scale"]
    for objective, variance in zip(OBJECTIVES, (0.19, 1.0, np.sqrt(0.19)), strict=True):
        np.testing.assert_allclose(scale.sel(objective=objective) ** 2, variance, rtol=1e-9)
    # the forward optimum starts outside the typical set: ½ Σ(Λ_ii − 1), Λ_ii = 1/.19
    excess = excess_energy(scale, pair)
    assert float(excess.sel(objective="forward")) == pytest.approx(1 / 0.19 - 1)
    assert float(excess.sel(objective="reverse")) == pytest.approx(0, abs=1e-12)


def test_optima_are_what_an_optimiser_finds() -> None:
    """Oracle: scipy minimises each divergence over mean and log scale."""
    posterior = posteriors(1).isel(image=0)
    target = Law(posterior["mean"].to_numpy(), posterior["covariance"].to_numpy())
    found = factorised_optimum(posterior)

    def law(x: np.ndarray) -> Law:
        return Law(x[:5], np.diag(np.exp(2 * x[5:])))

    objectives = {
        "reverse": lambda x: float(kl(law(x), target)),
        "forward": lambda x: float(kl(target, law(x))),
        "jeffreys": lambda x: float(kl(target, law(x)) + kl(law(x), target)),
    }
    for name, objective in objectives.items():
        best = optimize.minimize(objective, np.zeros(10), method="BFGS", options={"gtol": 1e-8}).x
        np.testing.assert_allclose(best[:5], found["mean"], atol=1e-5)
        np.testing.assert_allclose(np.exp(best[5:]), found["scale"].sel(objective=name), rtol=1e-5)


def test_gaussian_gaps_in_closed_form() -> None:
    """approximation = ½(Σ ln Λ_ii − ln|Λ|); amortisation 0 for the optimal encoder, ½δᵀΛδ for a shifted."""
    posterior = posteriors()
    precision = np.linalg.inv(posterior["covariance"].to_numpy())
    diagonal = np.diagonal(precision, axis1=1, axis2=2)
    expected = 0.5 * (np.log(diagonal).sum(1) - np.linalg.slogdet(precision)[1])
    best = factorised_optimum(posterior).sel(objective="reverse", drop=True)
    found = gaussian_gaps(best["mean"], best["scale"], posterior)
    np.testing.assert_allclose(found["approximation"], expected, rtol=1e-9)
    np.testing.assert_allclose(found["amortisation"], 0, atol=1e-9)
    shifted = gaussian_gaps(best["mean"] + 0.3, best["scale"], posterior)
    np.testing.assert_allclose(shifted["amortisation"], 0.045 * precision.sum((1, 2)), rtol=1e-9)
    assert float(found["approximation_mean"]) == pytest.approx(expected.mean())
    assert float(found["approximation_error"]) == pytest.approx(expected.std(ddof=1) / 2)


def test_gaps_from_bounds_agree_with_the_closed_form() -> None:
    """ELBO = log p(x) − KL(q‖p): the array route gives the same gaps."""
    posterior = posteriors(seed=2)
    best = factorised_optimum(posterior).sel(objective="reverse", drop=True)
    exact = gaussian_gaps(best["mean"] - 0.2, 1.5 * best["scale"], posterior)
    evidence = xr.DataArray([-90.0, -80, -120, -100], dims="image", coords={"image": np.arange(4)})
    found = inference_gaps(
        evidence, evidence - exact["total"], evidence - exact["approximation"], exact["total"] / 7
    )
    for name in ("total", "approximation", "amortisation"):
        np.testing.assert_allclose(found[name], exact[name], rtol=1e-9)
    np.testing.assert_allclose(found["chain"], exact["total"] / 7)
    assert found.attrs["cautions"] == []
    assert found["total"].attrs["units"] == "nat"


def test_impossible_gaps_are_named() -> None:
    """A bound above log p(x) beyond 4 standard errors, and an optimum below the encoder, cannot be."""
    evidence = xr.DataArray([-90.0, -80.0], dims="image")
    error = xr.DataArray([0.5, 0.5], dims="image")
    within = inference_gaps(evidence, evidence - 3, evidence + 1, evidence_error=error)
    assert within.attrs["cautions"] == []
    above = inference_gaps(evidence, evidence - 3, evidence + 3, evidence_error=error)
    assert "approximation gap must not be read" in above.attrs["cautions"][0]
    below = inference_gaps(evidence, evidence - 3, evidence - 5)
    assert any("amortisation gap" in text for text in below.attrs["cautions"])
