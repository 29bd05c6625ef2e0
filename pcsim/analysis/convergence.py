"""How correlated draws are and how many independent ones they amount to; whether the chains agree.

All units at once: series are transformed in batches, chains are combined before the transform back.
"""

from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import fft

from pcsim.analysis.result import Meaning, described
from pcsim.analysis.slabs import (
    by_slab,
    columns_of,
    last_axes,
    lead_of,
    require,
    require_entries,
    stride,
    with_chain,
)

Array = NDArray[np.float64]
RHAT, ESS, CHAINS = 1.01, 400, 4
"""What reported diagnostics must reach (Vehtari et al. 2021, section 5: R-hat below 1.01, ESS of 100 per chain)."""

AUTOCORRELATION = Meaning(
    "autocorrelation",
    "rho(k) = Cov(z_t, z_t+k) / Var z",
    "1 - (W - mean over chains of the autocovariance at k) / V, W the variance within chains, V = W (N-1)/N + "
    "variance of the chain means; autocovariances by FFT, divided by N",
    "pulled towards 0 by k/N, and down by tau/N because each chain loses its own mean; chains that disagree raise it",
    "Gelman et al. (2013) Bayesian Data Analysis, section 11.5; Stan Development Team",
)
INTEGRATED_TIME = Meaning(
    "integrated autocorrelation time",
    "tau = 1 + 2 sum over k >= 1 of rho(k)",
    "split chains; sums of neighbouring pairs rho(2m) + rho(2m+1) up to the first that is not positive, made "
    "monotone (Geyer's initial sequence)",
    "of the order tau/N, low when chains are shorter than about 50 tau; infinite where no two chains meet",
    "Geyer (1992) Statistical Science 7:473; Vehtari et al. (2021) Bayesian Analysis 16:667",
    "recorded entry",
)
EFFECTIVE = Meaning(
    "effective sample size",
    "ESS = chains * N / tau: the number of independent draws whose mean has the same standard error",
    INTEGRATED_TIME.estimator,
    "that of the integrated time, reversed; says nothing about modes that no chain has visited",
    INTEGRATED_TIME.source,
    "draw",
)
SPLIT_RHAT = Meaning(
    "split R-hat",
    "sqrt(V / W), V the variance of all draws pooled, W that within half chains",
    "every chain cut in halves, so that a drift shows as halves that disagree",
    "1 + O(1/ESS) for chains that agree; blind to differences of scale alone, and to a mode that no chain visits",
    "Gelman et al. (2013) Bayesian Data Analysis, section 11.4",
)


class Moments(NamedTuple):
    """What the chains of a series say about its variance; each `[series]`, the covariance `[series, lag]`."""

    within: Array
    pooled: Array
    """V: within chains times (N-1)/N, plus between their means."""
    covariance: Array


def autocorrelation(value: xr.DataArray, dim: str = "step", lags: int | None = None) -> xr.DataArray:
    """Autocorrelation over a dim `lag`, chains combined; all other dims kept.

    rho(k) = 1 − (W − c(k)) / V with c the chains' mean autocovariance, W their mean variance and V the pooled one, so
    that chains about different means are correlated at every lag. `lag` has the units of `dim`'s coordinate.
    `lags`: how many from 0 on (default all N). Biased towards 0 at lags near N; not to be read on a transient. A series
    that never moves is NaN. Stan's estimator; Gelman et al. (2013) section 11.5.
    """
    require_entries(value, dim, 4)
    count = min(lags or value.sizes[dim], value.sizes[dim])
    spaced = np.arange(count) * stride(value, dim)

    def of_slab(part: xr.DataArray) -> xr.DataArray:
        rho = _rho(moments(last_axes(part, ("chain", dim)), count))
        lead = lead_of(part, ("chain", dim))
        return lead.expand_dims(lag=spaced, axis=-1).copy(data=rho.reshape(*lead.shape, count))

    result = by_slab(of_slab, [with_chain(value)], ("chain", dim)).rename("autocorrelation")
    return described(result, AUTOCORRELATION, unconverged(value, dim))


def integrated_time(value: xr.DataArray, dim: str = "step") -> xr.DataArray:
    """Integrated autocorrelation time tau per series, in recorded entries; reduces `dim` and chains.

    tau = 1 + 2 Σ rho(k) by Geyer's initial monotone sequence on split chains. For AR(1) it is (1+a)/(1−a), for a
    Langevin step on a quadratic energy (2−γλ)/(γλ). Low when chains are shorter than about 50 tau. NaN for a series
    that never moves or is not finite. Geyer (1992); Vehtari et al. (2021).
    """
    found = diagnostics(value, dim)
    return described(found["integrated_time"], INTEGRATED_TIME, cautions_from(found, value))


def effective_sample_size(value: xr.DataArray, dim: str = "step") -> xr.DataArray:
    """Effective sample size of the mean per series, chains × N / tau; reduces `dim` and chains.

    The standard error of a mean is sd / √ESS, that of a variance ratio √(2/ESS). Equals ArviZ's `ess(method="mean")`.
    Must not be read as coverage: chains caught in one mode can have any ESS. Vehtari et al. (2021).
    """
    found = diagnostics(value, dim)
    return described(found["ess"], EFFECTIVE, cautions_from(found, value))


def split_rhat(value: xr.DataArray, dim: str = "step") -> xr.DataArray:
    """Split R-hat per series, √(V/W) over half chains; reduces `dim` and chains.

    Above 1.01 the chains (or the halves of a chain) disagree, and no average over them may be read. Blind to a mode
    that no chain visits. NaN for a series that never moves. ArviZ's `rhat(method="split")`. Gelman et al. (2013).
    """
    return described(diagnostics(value, dim)["rhat"], SPLIT_RHAT, _too_few_chains(value))


def unconverged(value: xr.DataArray, dim: str = "step") -> list[str]:
    """Reasons not to read averages over chains and `dim`: R-hat > 1.01, ESS < 400, fewer than 4 chains; [] when none.

    A series that never moves has no such diagnostics and is named by itself.
    """
    require(value, dim)
    if value.sizes[dim] < 8:
        return [
            f"must not be read as an average: only {value.sizes[dim]} entries along {dim}",
            *_too_few_chains(value),
        ]
    return cautions_from(diagnostics(value, dim), value)


def cautions_from(found: xr.Dataset, value: xr.DataArray) -> list[str]:
    """The sentences of `unconverged` from diagnostics that are already known."""
    rhat, ess = found["rhat"].to_numpy().ravel(), found["ess"].to_numpy().ravel()
    still, sentences = ~np.isfinite(rhat), []
    if (bad := rhat > RHAT).any():
        sentences.append(
            f"must not be read as stationary: split R-hat is above {RHAT} in {bad.sum()} of {rhat.size} series "
            f"(worst {rhat[bad].max():.4g})"
        )
    if (few := ess < ESS).any():
        sentences.append(
            f"must not be read as precise: fewer than {ESS} effective draws in {few.sum()} of {ess.size} series "
            f"(fewest {ess[few].min():.3g})"
        )
    if still.any():
        sentences.append(
            f"must not be read as a sample in {still.sum()} of {rhat.size} series: they never move or are not finite"
        )
    return sentences + _too_few_chains(value)


def diagnostics(value: xr.DataArray, dim: str = "step") -> xr.Dataset:
    """`rhat`, `ess` and `integrated_time` of every series from one reading of the array."""
    require_entries(value, dim, 8)

    def of_slab(part: xr.DataArray) -> xr.Dataset:
        lead = lead_of(part, ("chain", dim))
        rhat, tau = rhat_and_time(last_axes(part, ("chain", dim))).T
        draws = part.sizes["chain"] * (part.sizes[dim] // 2 * 2)
        return columns_of(lead, ("rhat", "integrated_time", "ess"), np.column_stack([rhat, tau, draws / tau]))

    return by_slab(of_slab, [with_chain(value)], ("chain", dim))


def moments(series: NDArray[np.floating], lags: int) -> Moments:
    """Variances and mean autocovariance of `[series, chain, entry]`, in float64."""
    chains, length = series.shape[1:]
    # a series at rest has no correlation; what rounding leaves of its variance must not pass for one
    moving = np.where(np.ptp(series, axis=(1, 2)) > 0, 1.0, np.nan)
    means = series.mean(axis=-1, keepdims=True, dtype=np.float64)
    padded = fft.next_fast_len(length + lags, real=True)
    power = fft.rfft(series - means, padded, overwrite_x=True)
    # chains first, then back: the transform is linear
    parts = power.view(np.float64)
    mean_power = np.einsum("sck,sck->sk", parts, parts).reshape(len(series), -1, 2).sum(axis=-1) / chains
    covariance = fft.irfft(mean_power, padded)[:, :lags] / length
    between = means[:, :, 0].var(axis=1, ddof=1) if chains > 1 else 0.0
    within = moving * covariance[:, 0] * length / (length - 1)
    return Moments(within, within * (length - 1) / length + between, covariance)


def _rho(found: Moments) -> Array:
    rho = 1 - (found.within[:, None] - found.covariance) / found.pooled[:, None]
    rho[:, 0] = np.where(np.isnan(found.pooled), np.nan, 1.0)
    return rho


def rhat_and_time(series: NDArray[np.floating]) -> Array:
    """Split R-hat and integrated time of `[series, chain, entry]`: `[series, 2]`."""
    chains, length = series.shape[1:]
    half = length // 2
    # the middle entry of an odd length belongs to neither half
    even = series if length % 2 == 0 else np.delete(series, half, axis=-1)
    halves = even.reshape(len(series), 2 * chains, half)
    found = moments(halves, half)
    with np.errstate(invalid="ignore", divide="ignore"):
        rhat = np.sqrt(found.pooled / found.within)
    return np.stack([rhat, geyer(_rho(found), 2 * chains * half)], axis=1)


def geyer(rho: Array, draws: int) -> Array:
    """Integrated time of `[series, lag]` correlations: Geyer's initial positive and monotone sequence.

    The even term of the first pair left out is kept where it is positive, and tau is at least 1/log10(draws), as in
    Stan: antithetic draws can be worth more than independent ones, but not without end.
    """
    pairs = (rho.shape[1] - 1) // 2
    sums = rho[:, 0 : 2 * pairs : 2] + rho[:, 1 : 2 * pairs : 2]
    negative = ~(sums > 0)
    negative[:, -1] = True
    first = negative.argmax(axis=1)
    inside = np.arange(pairs) < first[:, None]
    monotone = np.minimum.accumulate(sums, axis=1)
    last = np.take_along_axis(rho, 2 * first[:, None], axis=1)[:, 0]
    tau = -1 + 2 * np.where(inside, monotone, 0.0).sum(axis=1) + np.maximum(last, 0.0)
    floor = np.maximum(tau, 1 / np.log10(draws))
    return np.where(np.isnan(rho[:, 0]), np.nan, floor)


def _too_few_chains(value: xr.DataArray) -> list[str]:
    chains = value.sizes.get("chain", 1)
    return (
        [] if chains >= CHAINS else [f"must not be read as converged: {chains} of at least {CHAINS} chains"]
    )
