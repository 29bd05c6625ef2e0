"""Statistics of dominance durations in perceptual rivalry: their law, their order, and what input strength does."""

import math
from collections.abc import Mapping

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pcsim.analysis.modes import FEW_DWELLS, mean_dwell
from pcsim.analysis.result import Meaning, cautions_of, described
from pcsim.errors import AnalysisError, nearest

Array = NDArray[np.float64]
LAWS = ("gamma", "lognormal", "rate_gamma")
NUMBERS = ("mean", "cv", "number", "shape", "shape_error")
COARSE = 10

RIVALRY = Meaning(
    "law of dominance durations",
    "durations ~ gamma(shape, scale), lognormal(μ, σ) or 1/duration ~ gamma (rate_gamma)",
    "maximum likelihood on complete durations; log-likelihoods of the durations themselves, so they can be compared",
    "shape: upwards by about 3 shape/n; first and last durations are left out, which favours short ones, "
    "by about mean duration/length of the recording",
    "Levelt 1967 (gamma); Brascamp et al. 2005 (reciprocal durations)",
)
LEVELT = Meaning(
    "dominance against input strength",
    "mean duration and predominance of each state, and the rate of alternation, at each strength",
    "mean_dwell at each strength; predominance = share of the recorded time",
    "none beyond that of the durations",
    "Levelt 1965; Brascamp, Klink and Levelt 2015 (the modified laws)",
)


def rivalry_statistics(dwells: xr.Dataset) -> xr.Dataset:
    """Law and order of the dominance durations per state (…, `state`), each state's fits from its complete durations.

    `dwells` from `pcsim.analysis.modes.dwell_times`. Variables: `mean`, `cv`, `number`, `censored` (durations left
    out), `shape`, `shape_error`, `log_likelihood (state, law)` and `parameters (state, law, parameter)` of gamma
    (shape, scale), lognormal (mean and deviation of the log) and rate_gamma (shape, scale of 1/duration), and over
    both states `serial_correlation` with `serial_error`: between a duration and the next of the same chain, each
    over its state's mean. A memoryless switch has shape 1, CV 1 and serial correlation 0.
    """
    complete = dwells.isel(dwell=np.flatnonzero(dwells["censored"].to_numpy() == ""))
    duration, state = complete["duration"].to_numpy().astype(np.float64), complete["state"].to_numpy()
    states = np.unique(state)
    if not len(states) or min(np.bincount(np.searchsorted(states, state))) < 3:
        raise AnalysisError(
            "rivalry_statistics: each state needs at least 3 complete durations; record longer"
        )
    every = [_fits(duration[state == each]) for each in states]
    cut = dwells["state"].to_numpy()[dwells["censored"].to_numpy() != ""]
    r, error = _serial(complete, states)
    result = xr.Dataset(
        {name: ("state", np.array([fit[name] for fit in every])) for name in NUMBERS}
        | {"censored": ("state", np.array([(cut == each).sum() for each in states])),
           "log_likelihood": (("state", "law"), np.array([fit["log_likelihood"] for fit in every])),
           "parameters": (("state", "law", "parameter"), np.array([fit["parameters"] for fit in every])),
           "serial_correlation": r, "serial_error": error},
        coords={"state": states, "law": list(LAWS)},
    )  # fmt: skip
    return described(result, RIVALRY, _cautions(dwells, duration))


def duration_density(duration: Array, law: str, first: float, second: float) -> Array:
    """Density of durations under one of the fitted laws, from its two `parameters`."""
    return np.exp(_log_density(np.asarray(duration, np.float64), law, first, second))


def levelt(dwells: Mapping[float, xr.Dataset]) -> xr.Dataset:
    """`mean`, `standard_error`, `predominance` (strength, state) and `alternation_rate` (strength).

    Levelt's second law (modified): a change of one eye's strength changes mainly the mean duration of the stronger
    percept. Fourth: raising both raises the alternation rate; a pure energy-barrier sampler does the opposite.
    Raises `AnalysisError` for fewer than two strengths or where a state never ended.
    """
    if len(dwells) < 2:
        raise AnalysisError(f"levelt: {len(dwells)} strength; durations against strength need at least 2")
    strengths = sorted(dwells)
    means = [mean_dwell(dwells[s]) for s in strengths]
    parts = []
    for strength, mean in zip(strengths, means, strict=True):
        if not bool(np.isfinite(mean["mean"]).all()) or mean.sizes["state"] != 2:
            raise AnalysisError(f"levelt: at strength {strength:g} not both states were entered and left")
        time = _time(dwells[strength])
        parts.append(
            xr.Dataset(
                {"mean": mean["mean"], "standard_error": mean["standard_error"], "predominance": time / time.sum(),
                 "alternation_rate": 2 / mean["mean"].sum()}
            )
        )  # fmt: skip
    found = xr.concat([p.drop_attrs() for p in parts], dim=xr.Variable("strength", strengths))
    return described(found, LEVELT, cautions_of(*means))


def _time(dwells: xr.Dataset) -> xr.DataArray:
    states = np.unique(dwells["state"])
    total = [float(dwells["duration"].where(dwells["state"] == s).sum()) for s in states]
    return xr.DataArray(total, dims="state", coords={"state": states})


def _fits(duration: Array) -> dict[str, object]:
    from scipy.special import polygamma

    gamma, reciprocal = _gamma_fit(duration), _gamma_fit(1 / duration)
    logs = np.log(duration)
    parameters = [gamma, (float(logs.mean()), float(logs.std())), reciprocal]
    information = float(polygamma(1, gamma[0])) - 1 / gamma[0]
    return {
        "mean": duration.mean(),
        "cv": duration.std(ddof=1) / duration.mean(),
        "number": len(duration),
        "shape": gamma[0],
        "shape_error": 1 / math.sqrt(len(duration) * information),
        "log_likelihood": [
            float(_log_density(duration, law, *pair).sum())
            for law, pair in zip(LAWS, parameters, strict=True)
        ],
        "parameters": parameters,
    }


def _gamma_fit(x: Array) -> tuple[float, float]:
    """Shape and scale: ln k − ψ(k) = ln mean − mean ln, solved between two bounds on the root."""
    from scipy.optimize import brentq
    from scipy.special import digamma

    gap = math.log(float(x.mean())) - float(np.log(x).mean())
    if gap <= 1e-12:
        raise AnalysisError("rivalry_statistics: all durations are equal; no law can be fitted")
    shape = float(
        brentq(lambda k: math.log(k) - float(digamma(k)) - gap, 0.25 / gap, 2 / gap)
    )  # 1/2k < ln k − ψ < 1/k
    return shape, float(x.mean()) / shape


def _log_density(x: Array, law: str, first: float, second: float) -> Array:
    if law not in LAWS:
        raise AnalysisError(f"no law of durations {law!r}; {nearest(law, LAWS)}")
    if law == "lognormal":
        log_density: Array = -0.5 * ((np.log(x) - first) / second) ** 2 - np.log(
            x * second * math.sqrt(2 * math.pi)
        )
        return log_density
    y = x if law == "gamma" else 1 / x
    jacobian = np.zeros_like(x) if law == "gamma" else -2 * np.log(x)
    return jacobian + (first - 1) * np.log(y) - y / second - math.lgamma(first) - first * math.log(second)


def _serial(complete: xr.Dataset, states: NDArray[np.int64]) -> tuple[float, float]:
    duration, state, series = (complete[name].to_numpy() for name in ("duration", "state", "series"))
    scaled = duration.astype(np.float64)
    for each in states:
        scaled[state == each] /= scaled[state == each].mean()
    follows = series[1:] == series[:-1]
    one, other = scaled[:-1][follows], scaled[1:][follows]
    if len(one) < 4:
        return math.nan, math.nan
    r = float(np.corrcoef(one, other)[0, 1])
    return r, 1 / math.sqrt(len(one))


def _cautions(dwells: xr.Dataset, complete: Array) -> list[str]:
    unit = float(dwells.attrs["resolution"])
    found = []
    if len(complete) < 2 * FEW_DWELLS:
        found.append(f"must not be read as a law: {len(complete)} complete durations")
    if complete.mean() < COARSE * unit:
        found.append(
            f"must not be read as a shape: durations last {complete.mean() / unit:.2g} recorded steps on average"
        )
    cut = dwells["duration"].to_numpy()[dwells["censored"].to_numpy() != ""]
    if cut.sum() > 0.2 * (cut.sum() + complete.sum()):
        share = cut.sum() / (cut.sum() + complete.sum())
        found.append(
            f"must not be read as unbiased: {share:.0%} of the time lies in first and last durations, left out"
        )
    return found
