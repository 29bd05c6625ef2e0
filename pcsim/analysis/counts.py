"""Spike counts that a rate read from a trace would give, and their variability: Fano factor, mean matching, VarCE."""

from collections.abc import Collection, Hashable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pcsim.analysis.result import Meaning, described
from pcsim.analysis.streaming import streamed
from pcsim.errors import AnalysisError

Dims = str | Collection[Hashable]
FEW_TRIALS = 20

RATE = Meaning(
    "firing rate",
    "threshold power law: gain · max(value − threshold, 0)^power; softplus: gain · ln(1 + e^(value − threshold))",
    "pointwise",
    "none; the map from values to rates is a modelling choice, not part of the circuit",
    "Echeveste et al. 2020 (power law, gain .3, power 2)",
    "Hz",
)
COUNT = Meaning(
    "spike count",
    "N ~ Poisson(∫ rate dt) over a window, given the rate",
    "one draw per window; the integral is a sum over the steps in the window",
    "none given the rate; the sum needs a step that is short against the rate's own time scale",
    "doubly stochastic Poisson process (Cox 1955)",
)
FANO = Meaning(
    "Fano factor",
    "FF = Var N / E N over repeats of a stimulus",
    "unbiased variance over the mean; standard error by the delta method from central moments to fourth order",
    "ratio of estimates, relative error of order 1 / (trials · mean); rises with the window when rates fluctuate",
    "Churchland et al. 2010",
)
MATCHED = Meaning(
    "mean-matched Fano factor",
    "slope of variance on mean over (stimulus, unit) pairs whose means have the same histogram at all times",
    "pairs drawn to the smallest histogram over time; weighted slope through zero, weights (trials − 1) / mean²",
    "within a bin of the histogram the means may still differ; pairs outside the common range are thrown away",
    "Churchland et al. 2010",
)
VARCE = Meaning(
    "variance of the conditional expectation",
    "VarCE = Var N − φ E N: what remains of the variance without the point process",
    "unbiased variance minus φ times the mean",
    "negative where the spiking is more regular than φ says; φ = 1 is Poisson",
    "Churchland et al. 2011",
    "counts²",
)


def threshold_power_rate(
    value: xr.DataArray, gain: float = 0.3, threshold: float = 0.0, power: float = 2.0
) -> xr.DataArray:
    """Rate gain · max(value − threshold, 0)^power in Hz; the constants are those of Echeveste et al. (2020)."""
    rate: xr.DataArray = gain * (value.astype(np.float64) - threshold).clip(min=0.0) ** power
    return described(rate.rename("rate"), RATE)


def softplus_rate(value: xr.DataArray, gain: float = 1.0, threshold: float = 0.0) -> xr.DataArray:
    """Rate gain · ln(1 + e^(value − threshold)) in Hz: positive everywhere, linear far above the threshold."""
    above = value.astype(np.float64) - threshold
    rate: xr.DataArray = gain * (above.clip(min=0.0) + xr.ufuncs.log1p(xr.ufuncs.exp(-abs(above))))
    return described(rate.rename("rate"), RATE)


def poisson_counts(
    rate: xr.DataArray, window: int, step_time: float, seed: int, dim: str = "step"
) -> xr.DataArray:
    """Poisson counts in consecutive windows of `window` entries, each of which lasts `step_time` seconds.

    Of a thinned rate an entry is several steps: `step_time` is then the distance of two recorded ones.
    The windows replace `dim`; its coordinate holds their centres, and steps that fill no window are left out.
    Every chunk of a dask array draws from its own stream of `seed`, so the draws change with the chunks.
    Raises `AnalysisError` for a negative or undefined rate (numpy arrays), an empty window or a step without duration.
    """
    if not 1 <= window <= rate.sizes[dim] or step_time <= 0:
        raise AnalysisError(
            f"poisson_counts: a window of {window} steps of {step_time:g} s along {dim!r}; "
            f"expected 1 to {rate.sizes[dim]} steps of positive duration"
        )
    words = [
        name for name, coord in rate.coords.items() if dim in coord.dims and coord.dtype.kind not in "iuf"
    ]
    windows: Any = rate.drop_vars(words).coarsen(
        {dim: window}, boundary="trim"
    )  # its sums are added at run time
    expected: xr.DataArray = windows.sum() * step_time
    if rate.chunks is None:
        if not bool((expected >= 0).all()):
            raise AnalysisError("poisson_counts: rates must be numbers ≥ 0; map values to rates first")
        counts = expected.copy(data=_draw(expected.to_numpy(), seed, (0,) * expected.ndim))
    else:
        counts = expected.copy(data=expected.data.map_blocks(_draw_block, seed=seed, dtype=np.int64))
    return described(counts.rename("count").assign_attrs(window=window * step_time), COUNT)


def fano_factor(counts: xr.DataArray, dim: Dims = "chain") -> xr.Dataset:
    """Mean, variance and Fano factor over the repeats `dim`, with the Fano factor's standard error.

    FF = 1 for Poisson counts of a fixed rate. For a fluctuating rate FF = 1 + Var(∫r)/E(∫r) grows with the window
    (`ou_fano_factor`), so windows must be equal before factors are compared. NaN where no spike was seen.
    """
    trials = _trials(counts, dim)
    whole = [dim] if isinstance(dim, str) else [str(d) for d in dim]
    return described(streamed(lambda part: _fano(part, whole, trials), counts, whole), FANO, _few(trials))


def mean_matched_fano(
    counts: xr.DataArray, seed: int, draws: int = 50, bins: int = 10, dim: str = "step", trials: str = "chain"
) -> xr.Dataset:
    """Fano factor along `dim` from pairs (image, unit) whose distribution of means is the same at all times.

    Variables along `dim`: `fano` (matched), `unmatched` (all pairs), `standard_error` (of the matched slope from its
    residuals, averaged over draws) and `kept` (pairs in each draw). Dims other than `dim` and `trials` are pooled.
    Not to be read where few pairs are common to all times: they are then a biased selection (see `cautions`).
    """
    if draws < 10:
        raise AnalysisError(f"mean_matched_fano: {draws} draws; mean matching needs at least 10")
    pair = [d for d in counts.dims if d not in (dim, trials)]
    mean = counts.astype(np.float64).mean(trials, skipna=False).transpose(dim, *pair)
    variance = counts.astype(np.float64).var(trials, ddof=1, skipna=False).transpose(dim, *pair)
    means, variances = (a.to_numpy().reshape(counts.sizes[dim], -1) for a in (mean, variance))
    edges = np.linspace(0.0, means.max() or 1.0, bins + 1)
    place = np.clip(np.digitize(means, edges) - 1, 0, bins - 1)
    place[means <= 0] = -1  # pairs without spikes have no place on the regression
    common = np.array([(place == b).sum(1) for b in range(bins)]).min(1)
    rng, weight = np.random.default_rng(seed), counts.sizes[trials] - 1
    fits = np.array(
        [
            [_slope(means[t, kept], variances[t, kept], weight) for t, kept in enumerate(_match(place, common, rng))]
            for _ in range(draws)
        ]
    )  # fmt: skip
    unmatched = [_slope(m[m > 0], v[m > 0], weight)[0] for m, v in zip(means, variances, strict=True)]
    result = xr.Dataset(
        {"fano": (dim, fits[..., 0].mean(0)), "unmatched": (dim, np.array(unmatched)),
         "standard_error": (dim, fits[..., 1].mean(0)), "kept": int(common.sum())},
        coords={dim: counts[dim]} if dim in counts.coords else None,
    )  # fmt: skip
    cautions = _few(counts.sizes[trials])
    if common.sum() < max(10, means.shape[1] // 5):
        cautions.append(
            f"must not be read as a population's Fano factor: {common.sum()} of {means.shape[1]} pairs have means "
            "common to all times"
        )
    return described(result, MATCHED, cautions)


def conditional_variance(counts: xr.DataArray, phi: float = 1.0, dim: Dims = "chain") -> xr.DataArray:
    """VarCE = Var N − φ E N over the repeats `dim`: the variance of the rate's integral when φ is right.

    For a doubly stochastic Poisson process φ = 1 and VarCE = Var(∫ rate dt). φ cannot be estimated from the counts
    themselves without a further assumption; VarCE must not be compared between units whose φ may differ.
    """
    trials = _trials(counts, dim)
    data = counts.astype(np.float64)
    result = (
        data.var(dim, skipna=False) * trials / (trials - 1) - phi * data.mean(dim, skipna=False)
    ).rename("varce")
    return described(result, VARCE, _few(trials))


def ou_fano_factor(mean: float, deviation: float, time_constant: float, window: float) -> float:
    """Fano factor of Poisson counts with an Ornstein-Uhlenbeck rate: 1 + 2 s² τ² (W/τ − 1 + e^(−W/τ)) / (μ W).

    `mean` μ and `deviation` s in Hz, `time_constant` τ and `window` W in seconds. It holds where the rate is hardly
    ever negative, μ ≫ s. Cox and Lewis (1966).

    >>> round(ou_fano_factor(20.0, 4.0, 0.1, 0.5), 4)
    1.1282
    """
    ratio = window / time_constant
    return 1 + 2 * (deviation * time_constant) ** 2 * (ratio - 1 + float(np.exp(-ratio))) / (mean * window)


def _fano(counts: xr.DataArray, dims: list[str], trials: int) -> xr.Dataset:
    mean = counts.astype(np.float64).mean(dims, skipna=False)
    away = counts - mean
    variance = (away**2).sum(dims, skipna=False) / (trials - 1)
    third, fourth = (away**3).mean(dims, skipna=False), (away**4).mean(dims, skipna=False)
    seen = mean > 0
    fano = (variance / mean).where(seen)
    spread = (fourth - variance**2) / mean**2 - 2 * variance * third / mean**3 + variance**3 / mean**4
    error = ((spread.clip(min=0.0) / trials) ** 0.5).where(seen)
    return xr.Dataset({"mean": mean, "variance": variance, "fano": fano, "standard_error": error})


def _draw(expected: NDArray[np.float64], seed: int, location: tuple[int, ...]) -> NDArray[np.int64]:
    stream = np.random.SeedSequence(seed, spawn_key=location)
    return np.random.default_rng(stream).poisson(expected)


def _draw_block(expected: NDArray[np.float64], seed: int, block_info: Any = None) -> NDArray[np.int64]:
    return _draw(expected, seed, tuple(block_info[None]["chunk-location"]))


def _trials(counts: xr.DataArray, dim: Dims) -> int:
    dims = [dim] if isinstance(dim, str) else list(dim)
    number = int(np.prod([counts.sizes[d] for d in dims]))
    if number < 2:
        raise AnalysisError(f"variability over {dims} needs at least 2 repeats; there is {number}")
    return number


def _few(trials: int) -> list[str]:
    error = np.sqrt(2 / (trials - 1))
    text = f"must not be read per unit: {trials} repeats give each variance a standard error of {error:.0%}"
    return [text] if trials < FEW_TRIALS else []


def _match(
    place: NDArray[np.int64], common: NDArray[np.int64], rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """For each time the pairs that a draw keeps: `common[b]` of those in bin b."""
    return [
        np.concatenate([rng.permutation(np.flatnonzero(row == b))[:n] for b, n in enumerate(common)])
        for row in place
    ]


def _slope(mean: NDArray[np.float64], variance: NDArray[np.float64], trials: int) -> tuple[float, float]:
    """Weighted slope through zero and its standard error; NaN without pairs."""
    if len(mean) < 2:
        return np.nan, np.nan
    weight = trials / mean**2  # a variance has a standard error in proportion to itself, hence to the mean
    slope = float((weight * mean * variance).sum() / (weight * mean**2).sum())
    residual = float((weight * (variance - slope * mean) ** 2).sum() / (len(mean) - 1))
    return slope, float(np.sqrt(residual / (weight * mean**2).sum()))
