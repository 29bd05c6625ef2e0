"""Variability quenching: how the variance across chains and their mean relax after the stimulus comes on."""

from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pcsim.analysis.result import Meaning, described
from pcsim.analysis.slabs import by_slab, require
from pcsim.analysis.streaming import streamed
from pcsim.errors import AnalysisError

Array = NDArray[np.float64]
GROUPS = 10
GRID = 800
PARAMETERS = ("start", "end", "rate")
FEW_CHAINS = 16

COURSE = Meaning(
    "variance and mean across chains",
    "V(t) = Var over chains of z(t), m(t) = mean over chains, aligned to the onset at step 0",
    "unbiased variance over chains at each step; standard errors V √(2/(chains − 1)) and √(V/chains)",
    "none; the standard error of V takes draws at one step as Gaussian",
    "Churchland et al. 2010 (membrane version)",
)
QUENCHING = Meaning(
    "relaxation of variance and mean after onset",
    "V(t) = V_post + (V_0 − V_post) e^(−r_V t), m(t) = m_post + (m_0 − m_post) e^(−r_m t); "
    "linear-Gaussian: r_V = 2λ, r_m = λ, per step −2 ln|1 − γλ| and −ln|1 − γλ|",
    "least squares over steps from the onset on; standard errors by a delete-group jackknife over chains",
    "one exponential is fitted: in several coupled dimensions or a nonlinear circuit the rate is an average one",
    "derived; Churchland et al. 2010 for the phenomenon",
    "1/step",
)


class Moments(NamedTuple):
    """Of some chains: how many, their mean, and the sum of squares about it."""

    number: int
    mean: xr.DataArray
    squares: xr.DataArray

    @property
    def variance(self) -> xr.DataArray:
        """Unbiased."""
        return self.squares / (self.number - 1)


def across_chain_variance(value: xr.DataArray, chain: str = "chain") -> xr.Dataset:
    """Mean and variance across chains at every step (and image, unit …), with their standard errors; lazy.

    A variance that falls after the onset is quenching only if the chains had reached their prior before it, and if
    they sample at all: at temperature 0 it falls because every chain stops.
    """
    chains = value.sizes[chain]
    if chains < 2:
        raise AnalysisError(
            f"across_chain_variance: a variance across {chain!r} needs 2 chains; there is {chains}"
        )
    return described(streamed(lambda part: _course(part, chain), value, [chain]), COURSE, _few(chains))


def quenching(value: xr.DataArray, dim: str = "step", chain: str = "chain") -> xr.Dataset:
    """Fitted relaxation of the variance across chains and of the mean, per image and unit.

    Variables: `variance_rate`, `mean_rate` (1/step), `ratio` (2 in a linear-Gaussian circuit: quenching is twice as
    fast as the response), `variance_start`, `variance_end`, `mean_start`, `mean_end`, of the fits; `late`, the mean
    variance over the last quarter of the steps, and `before`, that before step 0 where it was recorded; and
    `variance_rate_error`, `mean_rate_error`, `ratio_error`. NaN where nothing relaxes. Not to be read where the fit
    has not reached its plateau, its error is large, or the chains stand still (`cautions`). Single units of 16 chains
    say little: for a population, average the variances of `across_chain_variance` and use `fit_relaxation`.
    """
    require(value, dim, chain)
    if dim not in value.coords or int((value[dim] >= 0).sum()) < 8:
        raise AnalysisError(
            f"quenching: {dim!r} needs a coordinate with at least 8 steps from the onset (0) on"
        )
    if value.sizes[chain] < 4:
        raise AnalysisError(f"quenching: its errors need at least 4 chains; there are {value.sizes[chain]}")
    result = by_slab(lambda part: _fitted(part, dim, chain), [value], [dim, chain])
    length = float(value[dim].max()) - max(float(value[dim].min()), 0.0)
    return described(result, QUENCHING, _cautions(result, length, value.sizes[chain]))


def relaxation(steps: Array, start: float, end: float, rate: float) -> Array:
    """end + (start − end) e^(−rate · steps): the law of the mean at rate λ and of the variance at rate 2λ.

    >>> relaxation(np.array([0.0, 1.0]), 1.0, 0.5, np.log(2)).tolist()
    [1.0, 0.75]
    """
    return end + (start - end) * np.exp(-rate * np.asarray(steps, np.float64))


def discrete_rate(step_size: float, curvature: float) -> float:
    """Rate per step of a Langevin chain's mean on curvature λ, −ln|1 − γλ|; the variance relaxes at twice it.

    >>> round(discrete_rate(0.1, 1.0), 6)
    0.105361
    """
    return -float(np.log(abs(1 - step_size * curvature)))


def fit_relaxation(steps: Array, course: Array) -> Array:
    """Start, end and rate of the exponential nearest to `course[..., step]` in least squares: `[..., 3]`.

    At a given rate start and end are linear, so only the rate is searched: on a logarithmic grid from a hundredth of a
    time constant over the whole course to ten per step, with a parabola through the best three points (relative error
    below 1e-4 on exact courses). NaN for a course that does not change.
    """
    elapsed = np.asarray(steps, np.float64) - steps[0]
    log_rates = np.linspace(np.log(0.01 / elapsed[-1]), np.log(10.0 / (elapsed[1] - elapsed[0])), GRID)
    decay = np.exp(-np.exp(log_rates)[:, None] * elapsed)
    decay -= decay.mean(-1, keepdims=True)
    middle = course.mean(-1, keepdims=True)
    gained = ((course - middle) @ decay.T) ** 2 / (decay**2).sum(-1)
    best = np.clip(gained.argmax(-1), 1, GRID - 2)[..., None]
    below, at, above = (np.take_along_axis(gained, best + i, -1)[..., 0] for i in (-1, 0, 1))
    bend = np.where(2 * at - below - above > 0, 2 * at - below - above, np.inf)
    shift = np.clip((above - below) / (2 * bend), -1, 1)
    rate = np.exp(log_rates[best[..., 0]] + shift * (log_rates[1] - log_rates[0]))
    shape = np.exp(-rate[..., None] * elapsed)
    centred = shape - shape.mean(-1, keepdims=True)
    amplitude = ((course - middle) * centred).sum(-1) / (centred**2).sum(-1)
    end = middle[..., 0] - amplitude * shape.mean(-1)
    found = np.stack([end + amplitude, end, rate], -1)
    flat = np.ptp(course, -1) <= 1e-12 * np.abs(course).max(-1)
    return np.where(flat[..., None], np.nan, found)


def _course(value: xr.DataArray, chain: str) -> xr.Dataset:
    data, chains = value.astype(np.float64), value.sizes[chain]
    mean, variance = data.mean(chain, skipna=False), data.var(chain, ddof=1, skipna=False)
    errors = {
        "mean_error": (variance / chains) ** 0.5,
        "variance_error": variance * np.sqrt(2 / (chains - 1)),
    }
    return xr.Dataset({"mean": mean, "variance": variance, **errors})


def _fitted(value: xr.DataArray, dim: str, chain: str) -> xr.Dataset:
    """The result of `quenching` for an array in memory."""
    chains, steps = value.sizes[chain], value[dim].to_numpy().astype(np.float64)
    groups = [
        _moments(value.isel({chain: g}), chain)
        for g in np.array_split(np.arange(chains), min(GROUPS, chains))
    ]
    whole, after = _combined(groups), np.flatnonzero(steps >= 0)
    fits = {name: _fit(getattr(whole, name), dim, after) for name in ("variance", "mean")}
    result = xr.Dataset(
        {
            f"{name}_{field}": fit.isel(parameter=place)
            for name, fit in fits.items()
            for place, field in enumerate(PARAMETERS)
        }
    )
    result["ratio"] = result["variance_rate"] / result["mean_rate"]
    left = [_combined(groups[:place] + groups[place + 1 :]) for place in range(len(groups))]
    rates = xr.concat(
        [
            xr.Dataset({f"{n}_rate": _fit(getattr(m, n), dim, after).isel(parameter=2) for n in fits})
            for m in left
        ],
        "group",
    )
    rates["ratio"] = rates["variance_rate"] / rates["mean_rate"]
    for name in ("variance_rate", "mean_rate", "ratio"):
        result[f"{name}_error"] = ((len(groups) - 1) * rates[name].var("group", skipna=False)) ** 0.5
    result["late"] = whole.variance.isel({dim: after[-(len(after) // 4) :]}).mean(dim, skipna=False)
    if after[0] > 0:
        result["before"] = whole.variance.isel({dim: slice(0, int(after[0]))}).mean(dim, skipna=False)
    return result


def _moments(value: xr.DataArray, chain: str) -> Moments:
    data = value.astype(np.float64)
    mean = data.mean(chain, skipna=False)
    return Moments(value.sizes[chain], mean, ((data - mean) ** 2).sum(chain, skipna=False))


def _combined(groups: list[Moments]) -> Moments:
    """Moments of all groups together, pair by pair (Chan, Golub and LeVeque 1979)."""
    total = groups[0]
    for other in groups[1:]:
        number, away = total.number + other.number, other.mean - total.mean
        squares = total.squares + other.squares + away**2 * (total.number * other.number / number)
        total = Moments(number, total.mean + away * (other.number / number), squares)
    return total


def _fit(course: xr.DataArray, dim: str, after: NDArray[np.intp]) -> xr.DataArray:
    turned = course.isel({dim: after}).transpose(..., dim)
    lead = turned.isel({dim: 0}, drop=True)
    found = fit_relaxation(turned[dim].to_numpy().astype(np.float64), turned.to_numpy())
    return lead.expand_dims(parameter=3, axis=-1).copy(data=found)


def _few(chains: int) -> list[str]:
    error = np.sqrt(2 / (chains - 1))
    text = f"must not be read closely: {chains} chains give each variance a standard error of {error:.0%}"
    return [text] if chains < FEW_CHAINS else []


def _cautions(result: xr.Dataset, length: float, chains: int) -> list[str]:
    rate, slower = result["variance_rate"], np.minimum(result["variance_rate"], result["mean_rate"])
    first = result["before"] if "before" in result else result["variance_start"]
    still = (result["late"] <= 1e-3 * first) | rate.isnull()
    reasons = [
        (still, "as quenching", "the variance across chains goes to zero or never changes, as at temperature 0, where "
         "chains stop at a point instead of sampling"),
        (slower * length < 2, "as a relaxation", "the fitted time constant exceeds half of the recorded steps: no "
         "plateau was seen (an unconverged chain, or one without a stationary law)"),
        (result["variance_rate_error"] > 0.5 * rate, "as a rate", "the variance's rate has a standard error above half "
         "of it"),
    ]  # fmt: skip
    if "before" in result:
        risen = result["late"] >= result["before"]
        reasons.append((risen, "as quenching", "the variance does not fall below that before onset"))
    return _few(chains) + [
        f"must not be read {what} in {int(where.sum())} of {where.size} series: {why}"
        for where, what, why in reasons
        if bool(where.any())
    ]
