"""Two intrinsic timescales of one autocorrelation, for units that follow a fast and a slow process."""

from itertools import combinations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pcsim.analysis.result import Meaning, cautions_of, described
from pcsim.analysis.slabs import columns_of, last_axes, lead_of
from pcsim.errors import AnalysisError

Array = NDArray[np.float64]
GRID = 24
"""Timescales from which the search starts in pairs; evenly in their logarithm."""
APART, PRESENT = 2.0, 0.05
"""The factor between two timescales, and the share of each, below which one exponential says as much."""
NAMES = ("fast", "slow", "weight", "offset", "r2", "amplitude")
TWO = Meaning(
    "two intrinsic timescales",
    "R(k) = A (w exp(-k/fast) + (1 - w) exp(-k/slow) + B), A >= 0, 0 <= w <= 1",
    "least squares over lags > 0; A, w, B linear at given timescales, which are searched from the best pair of a grid",
    "a weak slow part trades off against B; noise of neighbouring lags is correlated, so r2 is no test that there are "
    "two; the bias of autocorrelations from short trials moves both (Zeraati et al. 2022, whose Bayesian fit has none)",
    "Murray et al. (2014) Nature Neuroscience 17:1661 (form); Golub & Pereyra (1973) (separable least squares); "
    "Zeraati et al. (2022) Nature Computational Science 2:193",
)


def biexponential_timescale(autocorrelation: xr.DataArray) -> xr.Dataset:
    """`fast`, `slow`, `weight` w of the fast one, `offset` B, `r2`, `mean` and `fitted`, of curves over `lag`.

    R(k) = A (w e^{−k/fast} + (1 − w) e^{−k/slow} + B) for lags > 0, timescales in units of `lag`; `mean` =
    w fast + (1 − w) slow, the integral of the decaying part. A unit of a linear circuit is a sum of one exponential per
    eigenvalue, so two are still a summary. Not to be read as two timescales where one exponential says as much:
    counted in the cautions. NaN where no decay is found. Raises `AnalysisError` for fewer than 10 lags.
    Murray et al. (2014); Golub and Pereyra (1973).
    """
    if "lag" not in autocorrelation.dims or autocorrelation.sizes["lag"] < 10:
        raise AnalysisError("two timescales need a dim `lag` with at least 10 lags")
    lag = autocorrelation["lag"]
    time, lead = lag.values[1:].astype(np.float64), lead_of(autocorrelation, ("lag",))
    rows = [_fit(row[1:], time) for row in last_axes(autocorrelation, ("lag",)).astype(np.float64)]
    found = columns_of(lead, NAMES, np.array(rows))
    weight = found["weight"]
    found["mean"] = weight * found["fast"] + (1 - weight) * found["slow"]
    decay = weight * np.exp(-lag / found["fast"]) + (1 - weight) * np.exp(-lag / found["slow"])
    found["fitted"] = (found["amplitude"] * (decay + found["offset"])).where(lag > 0)
    cautions = cautions_of(autocorrelation)
    one = (found["slow"] < APART * found["fast"]) | (abs(weight - 0.5) > 0.5 - PRESENT)
    if count := int(one.sum()):
        cautions.append(
            f"must not be read as two timescales in {count} of {lead.size} series: one exponential says as much"
        )
    if long := int((found["slow"] > time[-1]).sum()):
        cautions.append(
            f"must not be read as a slow timescale in {long} of {lead.size} series: it exceeds the longest lag"
        )
    return described(found, TWO, cautions)


def _fit(curve: Array, time: Array) -> tuple[float, ...]:
    from scipy.optimize import least_squares

    if not np.isfinite(curve).all() or np.ptp(curve) == 0:
        return (np.nan,) * len(NAMES)
    grid = np.geomspace(time[0] / 3, 3 * time[-1], GRID)
    start = min(combinations(grid, 2), key=lambda pair: float((_projected(curve, time, pair)[1] ** 2).sum()))

    def left_over(logs: Array) -> Array:
        return _projected(curve, time, np.exp(logs))[1]

    found = least_squares(left_over, np.log(start), x_scale=0.1, xtol=1e-12, ftol=1e-12, gtol=1e-12)
    fast, slow = np.sort(np.exp(found.x))
    (first, second), left = _projected(curve, time, (fast, slow))
    amplitude = first + second
    if not amplitude > 0:
        return (np.nan,) * len(NAMES)
    level = float((curve - first * np.exp(-time / fast) - second * np.exp(-time / slow)).mean())
    r2 = 1 - float((left**2).sum() / ((curve - curve.mean()) ** 2).sum())
    return float(fast), float(slow), float(first / amplitude), level / float(amplitude), r2, float(amplitude)


def _projected(curve: Array, time: Array, scales: Array | tuple[float, float]) -> tuple[Array, Array]:
    """Amplitudes >= 0 of both exponentials in the best fit with a constant, and what it leaves."""
    shapes = np.exp(-time[:, None] / np.asarray(scales))
    shapes -= shapes.mean(axis=0)
    y = curve - curve.mean()
    square, down = shapes.T @ shapes, shapes.T @ y
    determinant = square[0, 0] * square[1, 1] - square[0, 1] ** 2
    both = np.array([0.0, 0.0])
    if determinant > 1e-12 * square[0, 0] * square[1, 1]:
        both = np.array(
            [square[1, 1] * down[0] - square[0, 1] * down[1], square[0, 0] * down[1] - square[0, 1] * down[0]]
        ) / determinant  # fmt: skip
    if not (both > 0).all():
        # at the bound: the better of one exponential alone, if it falls
        alone = np.maximum(down, 0.0) / np.maximum(np.diag(square), 1e-300)
        better = int(np.argmax(alone * down))
        both = np.zeros(2)
        both[better] = alone[better]
    return both, y - shapes @ both
