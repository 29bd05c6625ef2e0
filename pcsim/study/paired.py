"""Means and differences with intervals, where images and seeds are both samples of what could have been."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]
CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """A mean with its standard error and its 95 % t interval."""

    mean: float
    standard_error: float
    low: float
    high: float
    degrees_of_freedom: float
    images: int
    seeds: int


def estimate(values: Sequence[Array], same_images: bool) -> Estimate:
    """The mean over seeds and images of `values[seed][image]`, with its 95 % interval.

    One seed: the images are the unit; on differences this is the paired t interval. Several seeds on the same
    images: the crossed two-way layout, var = (MS_seed + MS_image − MS_rest)/(images·seeds), never below either main
    mean square over images·seeds (Cornfield & Tukey 1956; Clark 1973), degrees of freedom after Satterthwaite (1946).
    Several seeds with images of their own: the seeds are the unit. Standard errors are NaN where one value is
    all there is, intervals also where a value is not finite.
    """
    means = np.array([np.mean(v) for v in values])
    if len(values) == 1:
        return _of_unit(np.asarray(values[0], np.float64), len(values[0]), 1)
    if not same_images or len({len(v) for v in values}) > 1:
        return _of_unit(means, sum(len(v) for v in values), len(values))
    table = np.stack(values).astype(np.float64)
    if not np.isfinite(table).all() or table.shape[1] < 2:
        return _of_unit(means, table.shape[1], len(values))
    variance, degrees = _crossed(table)
    return _interval(float(table.mean()), math.sqrt(variance), degrees, table.shape[1], len(values))


def _of_unit(sample: Array, images: int, seeds: int) -> Estimate:
    if len(sample) < 2 or not np.isfinite(sample).all():
        finite = np.isfinite(sample).all()
        mean = float(sample.mean()) if finite or not np.isnan(sample).any() else math.nan
        return Estimate(mean, math.nan, math.nan, math.nan, max(len(sample) - 1, 0), images, seeds)
    error = float(sample.std(ddof=1)) / math.sqrt(len(sample))
    return _interval(float(sample.mean()), error, len(sample) - 1, images, seeds)


def _interval(mean: float, error: float, degrees: float, images: int, seeds: int) -> Estimate:
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, degrees)) * error
    return Estimate(mean, error, mean - half, mean + half, degrees, images, seeds)


def _crossed(table: Array) -> tuple[float, float]:
    """Variance of the grand mean of `[seed, image]` and its degrees of freedom."""
    n_seed, n_image = table.shape
    grand = table.mean()
    by_seed, by_image = table.mean(axis=1, keepdims=True), table.mean(axis=0, keepdims=True)
    rest = table - by_seed - by_image + grand
    squares = np.array([
        n_image * ((by_seed - grand) ** 2).sum() / (n_seed - 1),
        n_seed * ((by_image - grand) ** 2).sum() / (n_image - 1),
        (rest**2).sum() / ((n_seed - 1) * (n_image - 1)),
    ])  # fmt: skip
    degrees = np.array([n_seed - 1, n_image - 1, (n_seed - 1) * (n_image - 1)])
    total = squares[0] + squares[1] - squares[2]
    if total < squares[:2].max() or total <= 0:
        main = int(np.argmax(squares[:2]))
        return float(squares[main]) / table.size, float(degrees[main])
    freedom = total**2 / (squares**2 / degrees).sum()
    return float(total) / table.size, float(np.clip(freedom, 1, degrees[:2].sum()))
