"""gsm_patch: posterior variances and noise correlations at a known contrast in closed form, else by quadrature."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

import pcsim

CIRCUIT = Path(__file__).parents[2] / "circuits" / "gsm_patch.yaml"
PRIOR = np.array([[1.0, 0.6], [0.6, 1.0]])
CONTRASTS = np.array([0.0, 0.5, 1.0, 2.0, 4.0])
Array = NDArray[np.float64]


def known(contrast: float, gamma: float = 0.0) -> Array:
    """[Λ − γΛ²/2]⁻¹ with Λ = C⁻¹ + c²I: the posterior covariance of y, with the bias of a Langevin step."""
    precision = np.linalg.inv(PRIOR) + contrast**2 * np.eye(2)
    return np.linalg.inv(precision - gamma / 2 * precision @ precision)


class Unknown:
    """Moments of y and c given x by quadrature over c, with p(c) = c e^(−c) and p(x | c) = N(0, I + c²C)."""

    def __init__(self, x: Array) -> None:
        node, weight = np.polynomial.legendre.leggauss(400)
        c, weight = (node + 1) * 30, weight * 30  # beyond c = 60 the prior holds 5e-25
        spread = np.eye(2) + c[:, None, None] ** 2 * PRIOR
        square = np.einsum("i,nij,j->n", x, np.linalg.inv(spread), x)
        mass = weight * c * np.exp(-c - square / 2) / np.sqrt(np.linalg.det(spread))
        mass /= mass.sum()
        inside = np.linalg.inv(np.linalg.inv(PRIOR) + c[:, None, None] ** 2 * np.eye(2))
        centre = c[:, None] * (inside @ x)
        self.contrast = float(mass @ c)
        self.mean: Array = mass @ centre
        away = centre - self.mean
        self.covariance: Array = np.einsum("n,nij->ij", mass, inside) + np.einsum(
            "n,ni,nj->ij", mass, away, away
        )


def correlation(covariance: Array) -> float:
    return float(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]))


def final(data: dict[str, Array], kernel: pcsim.Kernel, steps: int, chains: int, **more: object) -> Array:
    """z at the end of independent chains, `[image, chain, unit]`."""
    probe = pcsim.Probe(("value",), ("z",), every=steps)
    trace = pcsim.sample(CIRCUIT, data, kernel, steps, chains=chains, probes=(probe,), **more)
    found: Array = (
        trace["z"]["value"].isel({d: -1 for d in trace["z"]["value"].dims if "step" in d}).to_numpy()
    )
    return found


def test_the_table_of_known_contrasts() -> None:
    """Variance and noise correlation both fall with contrast; to the digits of the table."""
    variance = [known(c)[0, 0] for c in CONTRASTS]
    assert np.round(variance, 3).tolist() == [1.0, 0.753, 0.451, 0.185, 0.057]
    assert np.round([correlation(known(c)) for c in CONTRASTS], 3).tolist() == [
        0.6,
        0.517,
        0.366,
        0.169,
        0.053,
    ]


def test_the_sampled_table_of_known_contrasts() -> None:
    """Contrast held by clamping the units that set it; oracle: closed form with the step's bias; 4 s.e.

    s.e. of a variance v is v sqrt(2/n), of a correlation (1 − r²)/√n; what remains of the start after 400
    steps is below (1 − γ λ_min)^800 = 4e-5.
    """
    gamma, n = 0.02, 1500
    z = np.zeros((len(CONTRASTS), 6))
    z[:, 0] = np.sqrt(2 * CONTRASTS)
    data = {"z": z, "x": np.full((len(CONTRASTS), 2), 1.5)}
    masks = {"z": np.array([1.0, 1, 1, 1, 0, 0])}
    draws = final(data, pcsim.langevin(gamma), 400, n, masks=masks)
    assert (draws[..., :4] == z[:, None, :4]).all()
    for contrast, y in zip(CONTRASTS, draws[..., 4:], strict=True):
        exact = known(contrast, gamma)
        centre = contrast * known(contrast) @ np.full(2, 1.5)
        found = np.cov(y.T)
        assert np.abs(y.mean(0) - centre).max() < 4 * np.sqrt(exact[0, 0] / n)
        assert np.abs(np.diag(found) - exact[0, 0]).max() < 4 * exact[0, 0] * np.sqrt(2 / n)
        r = correlation(exact)
        assert abs(correlation(found) - r) < 4 * (1 - r**2) / np.sqrt(n)


def test_the_prior_of_the_contrast_is_gamma() -> None:
    """c = ½ Σ s² of prior draws is Gamma(2, 1): Kolmogorov-Smirnov at p > 1e-3; the control is Gamma(2, 1.1)."""
    trace = pcsim.sample(
        CIRCUIT, {}, pcsim.langevin(0.01), 0, chains=20_000, probes=(pcsim.Probe(("value",), ("z",)),)
    )
    c = 0.5 * np.square(trace["z"]["value"].to_numpy()[0, :, 0, :4]).sum(-1)
    assert stats.kstest(c, stats.gamma(2).cdf).pvalue > 1e-3
    assert stats.kstest(c, stats.gamma(2, scale=1.1).cdf).pvalue < 1e-6


@pytest.mark.parametrize("x", [(4.0, 4.0), (4.0, -4.0), (0.0, 0.0)], ids=str)
def test_unknown_contrast(x: tuple[float, float]) -> None:
    """Oracle: quadrature over c; sampler: MALA, which has no bias; 4 s.e. of independent chains.

    The unknown contrast moves y along its mean: correlated beyond a known contrast where the two means agree
    in sign, anticorrelated where they differ, and no more certain than the prior where nothing is seen.
    """
    n, exact = 1500, Unknown(np.array(x))
    z = final({"x": np.array([x])}, pcsim.mala(0.1, adapt=300), 800, n)[0]
    c, y = 0.5 * np.square(z[:, :4]).sum(-1), z[:, 4:]
    away = y - exact.mean
    products = np.stack([away[:, 0] ** 2, away[:, 1] ** 2, away[:, 0] * away[:, 1]])
    wanted = exact.covariance[[0, 1, 0], [0, 1, 1]]
    assert abs(c.mean() - exact.contrast) < 4 * c.std() / np.sqrt(n)
    assert (np.abs(y.mean(0) - exact.mean) < 4 * y.std(0) / np.sqrt(n)).all()
    assert (np.abs(products.mean(1) - wanted) < 4 * products.std(1) / np.sqrt(n)).all()
    known_r = correlation(known(exact.contrast))
    sign = np.sign(x[0] * x[1])
    assert correlation(exact.covariance) > known_r if sign >= 0 else correlation(exact.covariance) < 0


def test_noise_quenches_with_the_contrast_of_the_stimulus() -> None:
    """With the contrast inferred, variance still falls as the same pattern is shown stronger (quadrature)."""
    variance = [Unknown(k * np.array([1.0, 1.0])).covariance[0, 0] for k in (0.0, 1.0, 2.0, 4.0)]
    assert np.round(variance, 3).tolist() == [0.503, 0.447, 0.343, 0.288]
    assert correlation(Unknown(np.array([4.0, 4.0])).covariance) == pytest.approx(0.623, abs=5e-4)
