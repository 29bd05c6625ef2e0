"""When each level first departs from its activity before the stimulus, and from what the sweep left."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pcsim.analysis.flat import at, flat_units, steps_from, whole
from pcsim.analysis.result import Meaning, described
from pcsim.analysis.slabs import require
from pcsim.errors import AnalysisError

Array = NDArray[np.float64]
POINT = 0.05
"""Share of the permutations' statistics above the threshold that forms clusters (any value keeps the test valid)."""
BLOCK = 2**22
"""Statistics of single units in memory at once (32 MB in float64, and a few times that on the way)."""
LATENCY = Meaning(
    "latency of the first significant departure",
    "first step of the first cluster of steps with mean over units of t² above a threshold, whose sum above it exceeds "
    "the (1 − α) quantile of the largest such sum under sign flips; t over chains",
    "whole chains change sign together (all steps and units), images independently; threshold: the flips' own 95 % "
    "quantile at single steps",
    "the test controls the chance of any cluster without a departure, at α; it does not bound the error of a cluster's "
    "first step, which is late where the response is weak",
    "Maris & Oostenveld (2007); on the latency: Sassenhagen & Draschkow (2019)",
    "step",
)


class Clusters(NamedTuple):
    """Runs of steps above the threshold."""

    first: NDArray[np.int64]
    last: NDArray[np.int64]
    mass: Array
    """Sum of what lies above the threshold."""


def from_baseline(value: xr.DataArray, onset: float = 0, dim: str = "step") -> xr.DataArray:
    """Values from `onset` on, minus each chain's own mean before it; dims kept."""
    require(value, dim)
    before = value.isel({dim: np.flatnonzero(value[dim].to_numpy() < onset)})
    if before.sizes[dim] < 2:
        raise AnalysisError(
            f"from_baseline: {before.sizes[dim]} steps before {onset}; a baseline needs at least 2"
        )
    return steps_from(value, onset, dim, "from_baseline") - before.astype(np.float64).mean(dim, skipna=False)


def from_sweep(value: xr.DataArray, onset: float = 0, dim: str = "step") -> xr.DataArray:
    """Values after `onset`, minus each chain's own value there: what the recurrent steps change."""
    swept = at(value, onset, dim, "from_sweep").astype(np.float64)
    return (steps_from(value, onset, dim, "from_sweep") - swept).isel({dim: slice(1, None)})


def latency(
    change: xr.DataArray, permutations: int, seed: int, level: float = 0.05, dim: str = "step"
) -> xr.Dataset:
    """`latency` (NaN: no departure), `p_value` of its cluster, `statistic` and `significant` over steps, `threshold`.

    change: differences from a reference that are symmetric about zero where nothing happens (`from_baseline`,
    `from_sweep`); dims chain and `dim`, image optional, the rest are units. All images together: t² is averaged over
    them and their units. Fewer than 6 chains per image cannot reach α = .05 with one image and are named. Reads each
    block of steps once. Not to be read as the latency of single units or images (select them).
    """
    require(change, "chain", dim)
    flat = flat_units(change).drop_vars("unit", errors="ignore")
    extra = [str(name) for name in flat.dims if name not in ("image", "chain", dim, "unit")]
    if extra:
        raise AnalysisError(f"latency: dims {extra} are left; select one of each")
    flat = flat if "image" in flat.dims else flat.expand_dims("image")
    images, chains = flat.sizes["image"], flat.sizes["chain"]
    if chains < 3:
        raise AnalysisError(f"latency: {chains} chains; a test over chains needs at least 3")
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(images, permutations + 1, chains))
    signs[:, 0] = 1  # the data themselves are one of the flips, so that no p value is zero
    flips = xr.DataArray(signs, dims=("image", "flip", "chain"))
    statistics: xr.DataArray = xr.apply_ufunc(
        _mean_square_t, whole(flat, "chain", "unit"), flips,
        input_core_dims=[["chain", "unit"], ["flip", "chain"]], output_core_dims=[["flip"]],
        dask="parallelized", output_dtypes=[np.float64],
    )  # fmt: skip
    table = statistics.mean("image", skipna=False).transpose("flip", dim).compute()
    missing = int(table.isel(flip=0).isnull().sum())
    found = _tested(table.fillna(0.0), level, dim)
    few = images * (chains - 1) < 5
    doubts = [f"must not be read: {chains} chains have too few sign flips for α = {level}"] if few else []
    if missing:
        doubts.append(
            f"{missing} of {table.sizes[dim]} steps hold values that are not finite; no test was made there"
        )
    return described(found, LATENCY, doubts)


def layer_latencies(
    values: Mapping[str, xr.DataArray], permutations: int, seed: int, onset: float = 0, dim: str = "step"
) -> xr.Dataset:
    """Latencies of several nodes on a dim `level`, in the given order: from the baseline and from the sweep.

    `baseline_latency` and `sweep_latency` with `…_p_value` and `…_statistic (level, step)`: a fast sweep departs from
    the baseline at `onset` on all levels; what the chain then changes has its own latency, level by level. Bottom-up or
    top-down is read from the order of the levels. Every node is tested at α = .05 by itself.
    """
    parts, cautions = [], []
    for place, (name, value) in enumerate(values.items()):
        tests = {"baseline": from_baseline(value, onset, dim), "sweep": from_sweep(value, onset, dim)}
        columns: dict[str, xr.DataArray] = {}
        for kind, change in tests.items():
            found = latency(change, permutations, seed + place, dim=dim)
            columns |= {
                f"{kind}_{key}": found[key] for key in ("latency", "p_value", "statistic", "threshold")
            }
            cautions += [f"{name}: {text}" for text in found.attrs["cautions"]]
        parts.append(xr.Dataset(columns))
    joined = xr.concat(parts, dim=xr.DataArray(list(values), dims="level", name="level"), join="outer")
    for kind in ("baseline", "sweep"):
        joined[f"{kind}_latency"].attrs["units"] = "step"
    return described(joined, LATENCY, cautions)


def clusters(statistic: Array, threshold: float) -> Clusters:
    """Runs of neighbours above the threshold.

    >>> clusters(np.array([0.0, 3, 4, 0, 2]), 1.0).mass
    array([5., 1.])
    """
    above = np.concatenate([[False], statistic > threshold, [False]])
    edges = np.flatnonzero(np.diff(above.astype(np.int8)))
    first, last = edges[::2], edges[1::2] - 1
    mass = np.array([(statistic[a : b + 1] - threshold).sum() for a, b in zip(first, last, strict=True)])
    return Clusters(first, last, mass)


def _mean_square_t(change: Array, flips: Array) -> Array:
    """`[…, chain, unit]`, `[…, flip, chain]` → mean over units of t² `[…, flip]`."""
    lead = np.broadcast_shapes(change.shape[:-2], flips.shape[:-2])
    n, units = change.shape[-2:]
    rows = np.broadcast_to(change, (*lead, n, units)).reshape(-1, n, units)
    sets = flips.reshape(-1, *flips.shape[-2:])
    own = np.broadcast_to(np.arange(len(sets)).reshape(flips.shape[:-2]), lead).ravel()
    found = np.empty((len(rows), sets.shape[1]))
    size = max(BLOCK // (sets.shape[1] * units), 1)
    for number, signs in enumerate(sets):
        places = np.flatnonzero(own == number)
        for first in range(0, places.size, size):
            part = places[first : first + size]
            found[part] = _one_set(rows[part].astype(np.float64), signs)
    return found.reshape(*lead, -1)


def _one_set(data: Array, signs: Array) -> Array:
    """`[row, chain, unit]`, `[flip, chain]` → `[row, flip]`; squares do not change with signs."""
    n = data.shape[1]
    square = (data**2).mean(1)[:, None]
    mean2 = (signs @ data / n) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        t2 = mean2 / ((square - mean2).clip(min=0.0) / (n - 1))
    # no difference in any chain is no departure; the same difference in all chains is a certain one
    found = np.nan_to_num(t2, nan=0.0, posinf=1e12).mean(-1)
    return np.where(np.isfinite(data.sum((1, 2)))[:, None], found, np.nan)


def _tested(statistics: xr.DataArray, level: float, dim: str) -> xr.Dataset:
    table = statistics.to_numpy()
    threshold = float(np.quantile(table, 1 - POINT))
    largest = np.array([max(clusters(row, threshold).mass, default=0.0) for row in table])
    seen = clusters(table[0], threshold)
    p_values = np.array([(largest >= mass).mean() for mass in seen.mass])
    kept = np.flatnonzero(p_values <= level)
    significant = np.zeros(table.shape[1], dtype=bool)
    for i in kept:
        significant[seen.first[i] : seen.last[i] + 1] = True
    steps = statistics[dim].to_numpy()
    found = statistics.isel(flip=0, drop=True).to_dataset(name="statistic")
    return found.assign(
        significant=(dim, significant),
        threshold=threshold,
        latency=float(steps[seen.first[kept[0]]]) if kept.size else np.nan,
        p_value=float(p_values[kept[0]]) if kept.size else float(p_values.min(initial=1.0)),
    )
