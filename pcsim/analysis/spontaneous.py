"""Spontaneous against average evoked activity: a model that fits its data has the same law in both."""

import math
from collections.abc import Hashable
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pcsim.analysis.convergence import integrated_time, unconverged
from pcsim.analysis.divergence_estimators import ESTIMATORS, known_case
from pcsim.analysis.result import Meaning, cautions_of, described
from pcsim.errors import AnalysisError, pick

Array = NDArray[np.float64]
CLOSE, VISIBLE = 0.2, 0.02
"""Shares of the known case's truth: how far an estimate of it may be off, and from which on a floor counts."""
SHORT, CORRELATED = 8, 2.0
"""Entries from which an integrated time can be had, and the time from which neighbours pass for many draws."""

THINNED = Meaning(
    "thinned values",
    "every k-th step, k = the largest integrated autocorrelation time among units, rounded up",
    "see pcsim.analysis.convergence.integrated_time",
    "none; neighbours remain weakly correlated",
    "derived",
)


class LinearCase(NamedTuple):
    """Average evoked activity of the one-unit linear-Gaussian model."""

    variance: float
    divergence: float


def spontaneous_divergence(
    evoked: xr.DataArray,
    spontaneous: xr.DataArray,
    estimator: str = "gaussian",
    seed: int = 0,
    unit: str = "unit",
) -> xr.Dataset:
    """KL(average evoked ‖ spontaneous) in nats, beside what the estimator says of a case whose answer is known.

    Everything but `unit` is a draw: pooling images makes the evoked law the average over stimuli. `estimator`:
    gaussian, words, classifier or neighbour. Variables: `divergence`; `floor`, the same between two halves of the
    spontaneous chains (equal laws, half the draws); `known` and `known_truth`, the estimate and the truth for
    KL(N(0, I) ‖ N(0, ½I)) with as many draws and units. Thin chains first (`thinned`), or draws that are neighbours
    in time pass for many. Not to be read where `known` is far from `known_truth` or the floor is not far below.
    Berkes, Orbán, Lengyel and Fiser (2011).
    """
    chosen = pick(ESTIMATORS, estimator, "divergence estimator")
    p, q = draws(evoked, unit), draws(spontaneous, unit)
    if p.shape[1] != q.shape[1]:
        raise AnalysisError(
            f"evoked activity has {p.shape[1]} units, spontaneous {q.shape[1]}; they must be the same units"
        )
    half = len(q) // 2
    known_p, known_q, truth = known_case(len(p), len(q), p.shape[1], seed)
    found = {
        "divergence": chosen.estimate(p, q),
        "floor": chosen.estimate(q[:half], q[half:]),
        "known": chosen.estimate(known_p, known_q),
        "known_truth": truth,
    }
    cautions = _warnings(evoked, "evoked") + _warnings(spontaneous, "spontaneous") + _blind(found, estimator)
    if estimator == "words" and (least := min(len(p), len(q))) < 4 * 2 ** p.shape[1]:
        cautions.append(f"must not be read as bias-free: {least} draws for 2^{p.shape[1]} words")
    if found["floor"] > max(found["divergence"] / 2, VISIBLE * truth):
        cautions.append(
            f"must not be read as a difference: halves of one law already differ by {found['floor']:.3g} nats"
        )
    result = xr.Dataset(found, attrs={"units_compared": p.shape[1], "draws": [len(p), len(q)]})
    return described(result, chosen.meaning, cautions)


def draws(value: xr.DataArray, unit: str = "unit") -> Array:
    """`value` as finite draws `[draw, unit]`, chains slowest, so that its halves are different chains."""
    if unit not in value.dims:
        raise AnalysisError(
            f"{value.name!r} has no dim {unit!r}, only {list(value.dims)}; stack feature maps into it first"
        )
    first: list[Hashable] = [d for d in ("chain", "image") if d in value.dims]
    ordered = value.compute().transpose(*first, ..., unit)
    flat = ordered.to_numpy().astype(np.float64).reshape(-1, value.sizes[unit])
    if not np.isfinite(flat).all():
        raise AnalysisError(
            f"{value.name!r} holds values that are not finite; cut the trace where chains diverged"
        )
    return flat


def thinned(value: xr.DataArray, dim: str = "step") -> xr.DataArray:
    """Every k-th step of `value`, k the largest integrated time among its units (at least 1); lazy in `value`."""

    longest = float(integrated_time(value, dim).max(skipna=False))
    if not math.isfinite(longest):
        raise AnalysisError(
            "thinned: the integrated autocorrelation time is undefined; some unit never varies"
        )
    every = max(1, math.ceil(longest))
    kept = value.isel({dim: slice(None, None, every)}).assign_attrs(every=every)
    return described(kept, THINNED, unconverged(value, dim))


def lagged(value: xr.DataArray, lag: int = 1, dim: str = "step", unit: str = "unit") -> xr.DataArray:
    """Pairs (z_t, z_{t+lag}) as one set of units, twice as many: divergences of these see transitions in time.

    Shuffling time changes the law of pairs but not that of single draws.
    """
    if not 1 <= lag < value.sizes[dim]:
        raise AnalysisError(f"lagged: a lag of {lag} in {value.sizes[dim]} steps")
    bare = value.drop_vars([name for name, c in value.coords.items() if dim in c.dims or unit in c.dims])
    now, then = bare.isel({dim: slice(None, -lag)}), bare.isel({dim: slice(lag, None)})
    return xr.concat([now, then], unit)


def linear_model_divergence(weight: float, noise_variance: float, data_variance: float) -> LinearCase:
    """v̄ and ½(v̄ − 1 − ln v̄) for z ~ N(0, 1), x ~ N(Wz, σ²) and data of variance s; 0 where s = W² + σ².

    >>> round(linear_model_divergence(2.0, 1.0, 5.0).divergence, 12)
    0.0
    """
    total = noise_variance + weight**2
    variance = noise_variance / total + (weight / total) ** 2 * data_variance
    return LinearCase(variance, abs(0.5 * (variance - 1 - math.log(variance))))


def _warnings(value: xr.DataArray, kind: str) -> list[str]:

    if "every" in value.attrs:  # thinned: what was known before
        return [f"{kind}: {text}" for text in cautions_of(value)]
    dim = next((str(d) for d in value.dims if str(d).startswith("step")), None)
    if dim is None or "chain" not in value.dims:
        return []
    found = unconverged(value, dim)
    if value.sizes[dim] >= SHORT and (longest := float(integrated_time(value, dim).max())) > CORRELATED:
        found.append(
            f"must not be read as independent draws: neighbours are correlated over {longest:.3g} entries; thin first"
        )
    return [f"{kind}: {text}" for text in found]


def _blind(found: dict[str, float], estimator: str) -> list[str]:
    off = abs(found["known"] - found["known_truth"]) > CLOSE * found["known_truth"]
    given, truth = found["known"], found["known_truth"]
    text = (
        f"must not be read as an amount: the estimator gives {given:.3g} nats where the truth is {truth:.3g}"
    )
    blind = " (words do not see a change of scale)" if estimator == "words" else ""
    return [text + blind] if off else []
