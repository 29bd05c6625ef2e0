"""Error units under oddballs and omissions: response amplitudes, mismatch indices, and the decay over standards."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pcsim.analysis.result import Meaning, described
from pcsim.analysis.slabs import require
from pcsim.errors import AnalysisError

Array = NDArray[np.float64]
FEW_CHAINS = 8

AMPLITUDE = Meaning(
    "response amplitude",
    "mean of the error over a window after each onset, minus its mean over the baseline before that onset",
    "plain means over the recorded steps",
    "none; noise in a short baseline adds to the variance of the amplitude",
    "Garrido et al. 2009",
)
POPULATIONS = Meaning(
    "positive and negative error populations",
    "ε⁺ = max(ε, 0), ε⁻ = max(−ε, 0)",
    "pointwise: take it of single steps for rates, of amplitudes for what a population shows on average",
    "rectified noise is positive: with deviation s both populations have s/√(2π) at no error",
    "Rao and Ballard 1999; Keller and Mrsic-Flogel 2018",
)
MISMATCH = Meaning(
    "mismatch index",
    "amplitude to the deviant minus amplitude to the same stimulus in a control where it is not deviant",
    "difference of means over chains; standard error from both spreads (Welch)",
    "against the standard instead of a control, adaptation to the stimulus counts as mismatch",
    "Schröger and Wolff 1996; Harms, Michie and Näätänen 2016",
)
DECAY = Meaning(
    "decay of the response to standards",
    "amplitude_n = amplitude_0 ratioⁿ; ratio = 1 − αK for a mean tracked by μ ← μ + α(m − μ)",
    "least squares of amplitudes on the geometric law through lag products; standard error by a jackknife over chains",
    "the ratio of noisy amplitudes is pulled towards 0 when few chains leave noise in each of them",
    "derived",
)


class Tracker(NamedTuple):
    """A prior mean that follows the inferred one, μ ← μ + α(m − μ), under a Gaussian value node."""

    sensory_precision: float
    prior_precision: float
    learning_rate: float

    @property
    def gain(self) -> float:
        """K = π_x/(π_x + π_p), the part of a surprise that inference takes up."""
        return self.sensory_precision / (self.sensory_precision + self.prior_precision)

    @property
    def ratio(self) -> float:
        """1 − αK: each standard's prediction error over the one before."""
        return 1 - self.learning_rate * self.gain

    def mean_after(self, standard: float, number: int) -> float:
        """Prior mean after `number` standards from 0: s (1 − (1 − αK)ⁿ)."""
        return standard * (1 - self.ratio**number)

    def error(self, stimulus: float, standard: float, number: int) -> float:
        """Steady precision-weighted sensory error π_x (1 − K)(x − μ_n); an omission is the stimulus 0.

        >>> Tracker(1.0, 3.0, 0.2).ratio, Tracker(1.0, 3.0, 0.2).error(0.0, 2.0, 0)
        (0.95, 0.0)
        """
        return self.sensory_precision * (1 - self.gain) * (stimulus - self.mean_after(standard, number))


def response_amplitude(
    error: xr.DataArray, onsets: Sequence[int], window: tuple[int, int], baseline: int = 0, dim: str = "step"
) -> xr.DataArray:
    """Mean `error` in [onset + window₀, onset + window₁) minus that in the `baseline` steps before; (onset, …).

    Onsets and windows are in the units of `dim`'s coordinate. With `baseline` 0 nothing is subtracted. Lazy.
    Raises `AnalysisError` where a window or a baseline holds no recorded step.
    """
    require(error, dim)
    steps = error[dim].to_numpy()
    parts = []
    for onset in onsets:
        response = _between(error, steps, onset + window[0], onset + window[1], dim)
        parts.append(
            response - _between(error, steps, onset - baseline, onset, dim) if baseline else response
        )
    return described(xr.concat(parts, xr.Variable("onset", list(onsets))).rename("amplitude"), AMPLITUDE)


def error_populations(error: xr.DataArray) -> xr.Dataset:
    """`positive` and `negative` populations of rectified errors; lazy. An omission drives only the negative one."""
    data = error.astype(np.float64)
    return described(
        xr.Dataset({"positive": data.clip(min=0.0), "negative": (-data).clip(min=0.0)}), POPULATIONS
    )


def mismatch_index(deviant: xr.DataArray, control: xr.DataArray, chain: str = "chain") -> xr.Dataset:
    """`mismatch` = deviant − control amplitude, with `standard_error`, `z`, and both means; all other dims kept.

    The control is the same stimulus where it is no deviant: as the standard of another block, or among many standards.
    A single chain (T = 0) has no standard error: NaN.
    """
    require(deviant, chain)
    require(control, chain)
    fewest = min(deviant.sizes[chain], control.sizes[chain])
    first, second = (a.astype(np.float64) for a in (deviant, control))
    means = [a.mean(chain, skipna=False) for a in (first, second)]
    errors = [_error_of_mean(a, chain) for a in (first, second)]
    error = (errors[0] ** 2 + errors[1] ** 2) ** 0.5
    difference = means[0] - means[1]
    result = xr.Dataset(
        {"mismatch": difference, "standard_error": error, "z": (difference / error).where(error > 0),
         "deviant": means[0], "control": means[1]}
    )  # fmt: skip
    few = f"must not be read closely: {_count(fewest)} in a condition"
    return described(result, MISMATCH, [few] if fewest < FEW_CHAINS else [])


def standard_decay(amplitude: xr.DataArray, dim: str = "onset", chain: str = "chain") -> xr.Dataset:
    """`ratio` of successive amplitudes along a run of standards, its `standard_error`, and the mean `amplitude`.

    ratio = Σ a_n a_{n+1} / Σ a_n² of the amplitudes averaged over chains: exactly r for a_n = a₀ rⁿ. Not to be read
    where the first amplitude does not stand out of its noise. A single chain (T = 0) has no standard error: NaN.
    """
    require(amplitude, dim, chain)
    if amplitude.sizes[dim] < 3:
        raise AnalysisError(f"standard_decay: needs at least 3 onsets; got {amplitude.sizes[dim]}")
    data, chains = amplitude.astype(np.float64), amplitude.sizes[chain]
    mean = data.mean(chain, skipna=False)
    ratio = _ratio(mean, dim)
    first = data.isel({dim: 0}, drop=True)
    noise = _error_of_mean(first, chain)
    if chains > 1:
        left = _ratio((mean * chains - data) / (chains - 1), dim)  # chain r left out, for every r at once
        error = ((chains - 1) * left.var(chain, skipna=False)) ** 0.5
    else:
        error = ratio * np.nan
    cautions = [] if chains >= FEW_CHAINS else [f"must not be read closely: {_count(chains)}"]
    if bool((abs(first.mean(chain, skipna=False)) < 4 * noise).any()):
        cautions.append(
            "must not be read as a decay: in some units the first amplitude is within 4 standard errors of 0"
        )
    return described(
        xr.Dataset({"ratio": ratio, "standard_error": error, "amplitude": mean}), DECAY, cautions
    )


def _between(error: xr.DataArray, steps: Array, first: float, last: float, dim: str) -> xr.DataArray:
    inside = np.flatnonzero((steps >= first) & (steps < last))
    if not len(inside):
        raise AnalysisError(
            f"no recorded step in [{first}, {last}); {dim!r} runs from {steps[0]} to {steps[-1]}"
        )
    return error.isel({dim: inside}).astype(np.float64).mean(dim, skipna=False)


def _count(chains: int) -> str:
    return f"{chains} chain" if chains == 1 else f"{chains} chains"


def _error_of_mean(data: xr.DataArray, chain: str) -> xr.DataArray:
    """Standard error over chains; NaN for a single one."""
    chains = data.sizes[chain]
    return (
        data.std(chain, ddof=1, skipna=False) / math.sqrt(chains)
        if chains > 1
        else data.mean(chain, skipna=False) * np.nan
    )


def _ratio(mean: xr.DataArray, dim: str) -> xr.DataArray:
    bare = mean.drop_vars(dim, errors="ignore")
    now, then = bare.isel({dim: slice(None, -1)}), bare.isel({dim: slice(1, None)})
    return (now * then).sum(dim, skipna=False) / (now**2).sum(dim, skipna=False)
