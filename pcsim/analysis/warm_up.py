"""What discarding the first steps does to a time average: less bias, more variance.

A value that is not finite (a chain that diverged or was not written) makes what it enters NaN: nothing is left out.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from pcsim.analysis.result import Meaning, cautions_of, described
from pcsim.analysis.slabs import require
from pcsim.errors import AnalysisError

Array = NDArray[np.float64]
WARM_UP = Meaning(
    "error of the time average against the discarded steps",
    "m_B = mean of z_t over B < t <= T; bias² = (E m_B − μ)², variance = Var m_B, mse = bias² + variance",
    "over chains: mse = mean of (m_B − μ)², variance with R − 1, bias² = (mean − μ)² − variance/R",
    "unbiased for independent chains and a known μ, so bias² may be negative; a reference with error e adds e² to mse "
    "and bias² at every B alike",
    "derived; Geyer (1992) on burn-in",
)
LINEAR = Meaning(
    WARM_UP.long_name,
    "bias = b a^{B+1}(1 − a^{T−B})/((T − B)(1 − a)), a = 1 − γλ, b the start's bias; variance = mean over "
    "B < s, t <= T of a^|t−s| v_min(s,t), v_t = a^{2t}v_0 + (1 − a^{2t})·2T/(λ(2 − γλ))",
    "closed form",
    "exact for ULA on a quadratic energy",
    "derived",
)


def warm_up(
    value: xr.DataArray, reference: xr.DataArray | float, discards: Sequence[int], dim: str = "step"
) -> xr.Dataset:
    """`bias2`, `variance`, `mse` and `mse_error` of the average over steps > B, for every B; dims (discard, …).

    value: dims chain and `dim` with its step numbers, whose start 0 is never averaged. reference: the true mean per
    image and unit, known or from other, longer chains. All other dims are kept (sum over units after dividing by the
    posterior's variances to get one number). mse_error is over chains. Lazy: one pass. A warm start makes burn-in
    harmful where mse rises with B. Fewer than 8 chains must not be read and are named. Units: the value's, squared.
    """
    require(value, "chain", dim)
    steps, chains = value[dim].to_numpy(), value.sizes["chain"]
    bounds = sorted({int(b) for b in discards})
    if not bounds or bounds[0] < 0 or bounds[-1] >= steps[-1]:
        raise AnalysisError(f"warm_up: discard between 0 and {steps[-1]} steps, not {list(discards)}")
    if chains < 2:
        raise AnalysisError("warm_up: one chain; the variance of an average needs at least two")
    sums, counts = _tails(value, steps, bounds, dim)
    error = sums / counts - reference
    mean, variance = error.mean("chain", skipna=False), error.var("chain", ddof=1, skipna=False)
    squares = error**2
    found = xr.Dataset(
        {
            "bias2": mean**2 - variance / chains,
            "variance": variance,
            "mse": squares.mean("chain", skipna=False),
            "mse_error": squares.std("chain", ddof=1, skipna=False) / np.sqrt(chains),
        }
    )
    held = [] if chains >= 8 else [f"must not be read: {chains} chains do not tell bias from variance"]
    other = cautions_of(reference) if isinstance(reference, xr.DataArray) else []
    return described(found, WARM_UP, [*held, *other])


def linear_warm_up(
    bias: float, variance: float, step_curvature: float, steps: int, discards: ArrayLike, heat: float = 1.0
) -> xr.Dataset:
    """The exact `bias2`, `variance` and `mse (discard)` of ULA on one direction of a quadratic energy.

    bias, variance: of the start, about the posterior's mean; step_curvature γλ; heat T/λ, the posterior's variance.
    """
    a, kept = 1 - step_curvature, np.atleast_1d(np.asarray(discards, np.int64))
    stationary = 2 * heat / (2 - step_curvature)
    rows = []
    for b in kept:
        t = np.arange(b + 1, steps + 1)
        at = a ** (2 * t) * variance + (1 - a ** (2 * t)) * stationary
        first = np.minimum.outer(np.arange(t.size), np.arange(t.size))
        shift = bias * a ** (b + 1) * (1 - a ** (steps - b)) / ((steps - b) * (1 - a))
        spread = float((a ** np.abs(t[:, None] - t) * at[first]).mean())
        rows.append([shift**2, spread, shift**2 + spread])
    names = ("bias2", "variance", "mse")
    columns = {name: ("discard", column) for name, column in zip(names, np.array(rows).T, strict=True)}
    return described(xr.Dataset(columns, coords={"discard": kept}), LINEAR)


def _tails(
    value: xr.DataArray, steps: Array, bounds: Sequence[int], dim: str
) -> tuple[xr.DataArray, xr.DataArray]:
    """Sum and number of entries at steps > B for every B: each entry is read once, in the segment that it is in."""
    edges = [int(np.searchsorted(steps, b, side="right")) for b in bounds] + [steps.size]
    parts = [
        value.isel({dim: slice(*pair)}).astype(np.float64).sum(dim, skipna=False) for pair in pairwise(edges)
    ]
    tails = [parts[-1]]
    for part in parts[-2::-1]:
        tails.insert(0, part + tails[0])
    place = xr.DataArray(list(bounds), dims="discard", name="discard", attrs={"units": "step"})
    counts = xr.DataArray(steps.size - np.array(edges[:-1]), dims="discard", coords={"discard": place})
    return xr.concat(tails, place), counts
