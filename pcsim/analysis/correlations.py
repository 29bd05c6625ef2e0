"""Noise, signal and spontaneous correlations between units, how they agree, and their closed forms."""

import math
from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pcsim.analysis.convergence import effective_sample_size, unconverged
from pcsim.analysis.result import Meaning, described
from pcsim.analysis.streaming import streamed
from pcsim.errors import AnalysisError

Array = NDArray[np.float64]
FEW_STIMULI = 10
SHORT = 8
"""Steps from which an effective sample size can be had."""
ROUNDING = 1e-6
"""A spread below this part of the values is what float32 leaves of a unit at rest (T = 0), not noise."""

NOISE = Meaning(
    "noise correlation",
    "r_ij = tanh mean over stimuli of artanh corr(z_i, z_j | stimulus)",
    "values z-scored over repeats within each stimulus; correlations averaged as Fisher's z with the standard error of "
    "their mean, from stimulus to stimulus where there are several, else 1/√(ESS − 3), the smallest among units",
    "towards 0 by about r(1 − r²)/(2 draws) per stimulus; no correction for it",
    "Cohen and Kohn 2011; Orbán et al. 2016",
)
SIGNAL = Meaning(
    "signal correlation",
    "r_ij = corr over stimuli of E[z_i | stimulus] and E[z_j | stimulus]",
    "Pearson correlation of the means over repeats; standard error (1 − r²)/√(stimuli − 1)",
    "noise left in the means pulls it towards the noise correlation, by the share `noise_share`",
    "Cohen and Kohn 2011",
)
SPONTANEOUS = NOISE._replace(
    long_name="spontaneous correlation",
    definition="corr(z_i, z_j) with no stimulus clamped; images pooled as repeats of the same condition",
)
AGREEMENT = Meaning(
    "agreement of two correlation matrices",
    "slope and Pearson r over pairs i < j of one matrix's entries on the other's",
    "least squares; p from permutations of the units of one matrix: pairs share units, so they are not independent",
    "the slope is pulled towards 0 by noise in the matrix on the horizontal axis",
    "Mantel 1967",
)
GSM = Meaning(
    "posterior of a Gaussian scale mixture given its contrast",
    "Σ(c) = (C⁻¹ + c² AᵀA/σ²)⁻¹, μ = (c/σ²) Σ Aᵀx",
    "closed form",
    "none for a known contrast; an unknown one adds shared variance μμᵀ Var(c | x)",
    "Orbán et al. 2016",
)


def noise_correlation(
    value: xr.DataArray,
    repeats: Sequence[str] = ("chain", "step"),
    stimulus: str = "image",
    unit: str = "unit",
) -> xr.Dataset:
    """`correlation` and `standard_error` over (`unit`, `unit_2`) of the fluctuations within a stimulus.

    Other dims are kept. A feature map is to be stacked into `unit` first. Units that never vary (or only by rounding)
    give NaN. Not to be read from a relaxing chain: a common drift after onset correlates all units (choose stationary
    steps).
    """
    return described(_within(value, repeats, stimulus, unit), NOISE, _warnings(value, repeats))


def spontaneous_correlation(
    value: xr.DataArray, repeats: Sequence[str] = ("image", "chain", "step"), unit: str = "unit"
) -> xr.Dataset:
    """`correlation` and `standard_error` over (`unit`, `unit_2`) with no stimulus: the phase `spontaneous`."""
    if "phase" in value.coords and set(np.unique(value["phase"])) - {"spontaneous"}:
        raise AnalysisError(
            "spontaneous_correlation: select the steps whose phase is 'spontaneous' (step < 0)"
        )
    pooled = value.expand_dims("condition")
    found = _within(pooled, repeats, "condition", unit)
    return described(found, SPONTANEOUS, _warnings(value, repeats))


def signal_correlation(
    value: xr.DataArray,
    repeats: Sequence[str] = ("chain", "step"),
    stimulus: str = "image",
    unit: str = "unit",
) -> xr.Dataset:
    """`correlation`, `standard_error` over (`unit`, `unit_2`) of tuning, and `noise_share` (unit).

    `noise_share` is the part of the means' variance over stimuli that is left-over noise of independent draws:
    Var_within / (draws · Var_means); correlations mean little where it is not small.
    """
    present = _present(value, repeats)
    moments = streamed(lambda part: _moments(part, present), value, present)
    means, stimuli = moments["mean"], value.sizes[stimulus]
    if stimuli < 3:
        raise AnalysisError(
            f"signal_correlation: {stimuli} stimuli along {stimulus!r}; at least 3 are needed"
        )
    r = _correlate(means, (stimulus,), unit)
    error = (1 - r**2) / math.sqrt(stimuli - 1)
    draws = math.prod(value.sizes[d] for d in present)
    share = moments["variance"].mean(stimulus, skipna=False) / (
        draws * means.var(stimulus, ddof=1, skipna=False)
    )
    cautions = (
        [] if stimuli >= FEW_STIMULI else [f"must not be read closely: tuning over {stimuli} stimuli only"]
    )
    result = xr.Dataset({"correlation": r, "standard_error": error, "noise_share": share})
    return described(result, SIGNAL, cautions)


def correlation_agreement(
    one: xr.DataArray, other: xr.DataArray, seed: int, permutations: int = 999
) -> xr.Dataset:
    """`slope` of `other` on `one`, their Pearson `r` over pairs of units, `p` (two-sided) and the pairs themselves.

    Use it for noise against signal and spontaneous against noise correlations. Needs at least four units, of which
    24 orders exist: with few units the smallest possible p is far from 0.
    """
    first, second = (np.asarray(a.transpose("unit", "unit_2"), np.float64) for a in (one, other))
    units = len(first)
    if units < 4 or second.shape != first.shape:
        raise AnalysisError(
            f"correlation_agreement: matrices of {first.shape} and {second.shape}; expected equal, of 4 units or more"
        )
    upper = np.triu_indices(units, 1)
    x, y = first[upper], second[upper]
    rng = np.random.default_rng(seed)
    orders = (rng.permutation(units) for _ in range(permutations))
    null = np.array([_pearson(x, second[np.ix_(o, o)][upper]) for o in orders])
    r = _pearson(x, y)
    p = (1 + int((np.abs(null) >= abs(r) - 1e-12).sum())) / (1 + permutations)
    slope = float(np.cov(x, y)[0, 1] / x.var(ddof=1))
    result = xr.Dataset(
        {"slope": slope, "intercept": float(y.mean() - slope * x.mean()), "r": r, "p": p,
         "one": ("pair", x), "other": ("pair", y)}
    )  # fmt: skip
    return described(result, AGREEMENT)


def explaining_away_correlation(weight_1: float, weight_2: float, noise_variance: float) -> float:
    """Posterior correlation of two causes z ~ N(0, I) of one observation x ~ N(w₁z₁ + w₂z₂, σ²).

    r = −w₁w₂ / √((σ² + w₁²)(σ² + w₂²)): units that drive the observation alike are *negatively* correlated.

    >>> explaining_away_correlation(1.0, 1.0, 1.0)
    -0.5
    """
    return -weight_1 * weight_2 / math.sqrt((noise_variance + weight_1**2) * (noise_variance + weight_2**2))


def gsm_posterior(contrast: Array, prior: Array, mixing: Array, noise_variance: float) -> xr.Dataset:
    """`covariance`, `variance` and `correlation` of the posterior of x = c A y + σ n, y ~ N(0, C), at each contrast c.

    Variance falls with contrast, and so does the noise correlation when it comes from the prior. Orbán et al. (2016).
    """
    inverse, gram = np.linalg.inv(prior), mixing.T @ mixing / noise_variance
    covariance = np.linalg.inv(inverse + np.asarray(contrast, np.float64)[:, None, None] ** 2 * gram)
    deviation = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    matrix = ("contrast", "unit", "unit_2")
    result = xr.Dataset(
        {"covariance": (matrix, covariance), "variance": (("contrast", "unit"), deviation**2),
         "correlation": (matrix, covariance / (deviation[:, :, None] * deviation[:, None, :]))},
        coords={"contrast": contrast},
    )  # fmt: skip
    return described(result, GSM)


def _within(value: xr.DataArray, repeats: Sequence[str], stimulus: str, unit: str) -> xr.Dataset:
    present = _present(value, repeats)
    draws = math.prod(value.sizes[d] for d in present)
    if draws < 4:
        raise AnalysisError(
            f"a correlation over {present} needs at least 4 draws per stimulus; there are {draws}"
        )
    plain = streamed(lambda part: _correlate(part, tuple(present), unit), value, [*present, unit])
    z: xr.DataArray = xr.ufuncs.arctanh(plain.clip(-1 + 1e-12, 1 - 1e-12))
    stimuli = value.sizes[stimulus]
    spread = (
        z.std(stimulus, ddof=1, skipna=False) / math.sqrt(stimuli)
        if stimuli > 1
        else 0 * z.mean(stimulus, skipna=False) + 1 / math.sqrt(max(_independent(value, present) - 3, 1))
    )
    r: xr.DataArray = xr.ufuncs.tanh(z.mean(stimulus, skipna=False))
    same = xr.DataArray(
        np.eye(value.sizes[unit], dtype=bool), dims=(unit, f"{unit}_2")
    )  # labels may occur twice
    return xr.Dataset(
        {
            "correlation": r.where(~same | r.isnull(), 1.0),
            "standard_error": ((1 - r**2) * spread).where(~same, 0.0),
        }
    )


def _correlate(data: xr.DataArray, dims: tuple[str, ...], unit: str) -> xr.DataArray:
    """Pearson correlations over `dims` of all pairs of units: (…, unit, unit_2)."""
    if unit not in data.coords:
        data = data.assign_coords({unit: np.arange(data.sizes[unit])})
    data = data.astype(np.float64)
    away = data - data.mean(dims, skipna=False)
    norms: xr.DataArray = (away**2).sum(dims, skipna=False) ** 0.5
    size: xr.DataArray = (data**2).sum(dims, skipna=False) ** 0.5
    scores = away / norms.where(norms > ROUNDING * size)
    partner = scores.rename({unit: f"{unit}_2"})
    products: xr.DataArray = xr.dot(scores, partner, dim=list(dims))
    return products.transpose(..., unit, f"{unit}_2")


def _moments(value: xr.DataArray, dims: Sequence[str]) -> xr.Dataset:
    data = value.astype(np.float64)
    return xr.Dataset({"mean": data.mean(dims, skipna=False), "variance": data.var(dims, skipna=False)})


def _independent(value: xr.DataArray, repeats: Sequence[str]) -> float:
    """Effective number of repeats: the smallest among the units where they are steps of chains, else their number."""
    draws = float(math.prod(value.sizes[d] for d in repeats))
    dim = next((d for d in repeats if d.startswith("step")), None)
    if dim is None or value.sizes[dim] < SHORT:
        return draws
    found = effective_sample_size(value, dim)
    return min(draws, float(found.sum([d for d in repeats if d in found.dims]).min()))


def _present(value: xr.DataArray, repeats: Sequence[str]) -> list[str]:
    present = [d for d in repeats if d in value.dims]
    if not present:
        raise AnalysisError(f"none of {list(repeats)} is a dim of {value.name!r}: {list(value.dims)}")
    return present


def _warnings(value: xr.DataArray, repeats: Sequence[str]) -> list[str]:

    dim = next((d for d in repeats if d.startswith("step") and d in value.dims), None)
    return unconverged(value, dim) if dim is not None and "chain" in value.dims else []


def _pearson(x: Array, y: Array) -> float:
    return float(np.corrcoef(x, y)[0, 1])
