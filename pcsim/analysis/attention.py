"""Attention as precision: gain, response time by threshold crossing, steady error, and their linear closed forms."""

import math
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pcsim.analysis.result import Meaning, described
from pcsim.analysis.slabs import require
from pcsim.errors import AnalysisError

Array = NDArray[np.float64]

RESPONSE_TIME = Meaning(
    "response time",
    "first time at which the value reaches the threshold from below",
    "first recorded crossing at or after the onset (0), interpolated linearly; NaN where it never happens",
    "with noise shorter than that of the mean course: a fluctuation may cross first; censored at the end",
    "Feldman and Friston 2010 (threshold in a Posner task)",
    "step",
)
GAIN = Meaning(
    "gain",
    "slope of the stationary mean of a value on the stimulus",
    "least squares of the means over chains and steps on the stimulus; standard error from the residuals",
    "none for a linear node; otherwise the average slope over the stimuli shown",
    "Feldman and Friston 2010",
)


class LinearNode(NamedTuple):
    """A value node with prior N(v, 1/π_p) and one observation x ~ N(z, 1/π_x); attention is π_x."""

    sensory_precision: float
    prior_precision: float

    @property
    def rate(self) -> float:
        """λ = π_x + π_p: relaxation per unit of time (step · step size)."""
        return self.sensory_precision + self.prior_precision

    @property
    def gain(self) -> float:
        """K = π_x/(π_x + π_p)."""
        return self.sensory_precision / self.rate

    @property
    def variance(self) -> float:
        """Posterior variance 1/λ."""
        return 1 / self.rate

    def steady_error(self, surprise: float) -> float:
        """π_x π_p (x − v)/(π_x + π_p): saturates at π_p (x − v) as attention grows."""
        return self.sensory_precision * self.prior_precision * surprise / self.rate

    def transient_error(self, surprise: float) -> float:
        """π_x (x − v), the error at onset while z is still at its prior mean v."""
        return self.sensory_precision * surprise

    def response_time(self, surprise: float, threshold: float) -> float:
        """(1/λ) ln(m/(m − θ)), m = K (x − v): when the mean, from 0, reaches θ; infinite where it does not.

        >>> [round(LinearNode(p, 1.0).response_time(2.0, 0.8), 3) for p in (4.0, 2.0, 1.0)]
        [0.139, 0.305, 0.805]
        """
        end = self.gain * surprise
        return math.log(end / (end - threshold)) / self.rate if end > threshold else math.inf


def response_time(value: xr.DataArray, threshold: float, dim: str = "step") -> xr.DataArray:
    """First crossing of `threshold` from below at or after the onset, in the units of `dim`'s coordinate; lazy.

    NaN where the threshold is never reached, 0 or the first later step where the series begins above it. For the
    response time of the mean course, average over chains first; of single chains, the mean of their times is shorter.
    """
    require(value, dim)
    steps = value[dim].to_numpy().astype(np.float64)
    after = np.flatnonzero(steps >= 0)
    if len(after) < 2:
        raise AnalysisError(f"response_time: fewer than 2 steps at or after the onset along {dim!r}")
    found = xr.apply_ufunc(
        lambda z: _crossing(steps[after], z.astype(np.float64), threshold), value.isel({dim: after}),
        input_core_dims=[[dim]], dask="parallelized", output_dtypes=[np.float64],
        dask_gufunc_kwargs={"allow_rechunk": True},
    )  # fmt: skip
    assert isinstance(found, xr.DataArray)
    return described(found.rename("response_time"), RESPONSE_TIME)


def gain(mean: xr.DataArray, stimulus: xr.DataArray, dim: str = "image") -> xr.Dataset:
    """`gain` and `intercept` of stationary means on the stimulus over `dim`, with `standard_error` (three stimuli on).

    `mean`: a value averaged over chains and stationary steps. `stimulus`: one number for each entry of `dim`.
    """
    require(mean, dim)
    require(stimulus, dim)
    number = mean.sizes[dim]
    x = stimulus.astype(np.float64) - stimulus.mean(dim, skipna=False)
    power = (x**2).sum(dim, skipna=False)
    if number < 2 or not bool((power > 0).all()):
        raise AnalysisError(f"gain: {number} stimuli along {dim!r}; a slope needs at least 2 different ones")
    slope = (x * mean).sum(dim, skipna=False) / power
    residual = mean - mean.mean(dim, skipna=False) - slope * x
    error = (
        np.sqrt((residual**2).sum(dim, skipna=False) / (number - 2) / power) if number > 2 else slope * np.nan
    )
    intercept = mean.mean(dim, skipna=False) - slope * stimulus.mean(dim, skipna=False)
    few = [] if number > 2 else ["must not be read with an uncertainty: two stimuli leave no residual"]
    return described(xr.Dataset({"gain": slope, "intercept": intercept, "standard_error": error}), GAIN, few)


def _crossing(steps: Array, z: Array, threshold: float) -> Array:
    """Times `[...]` of the first entry of `z[..., step]` at or above the threshold."""
    above = z >= threshold
    first = above.argmax(-1)
    before = np.maximum(first - 1, 0)
    low, high = (np.take_along_axis(z, i[..., None], -1)[..., 0] for i in (before, first))
    part = np.where(first > 0, (threshold - low) / np.where(high > low, high - low, 1.0), 0.0)
    time = steps[before] + part * (steps[first] - steps[before])
    return np.where(above.any(-1), time, np.nan)
