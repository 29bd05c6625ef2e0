"""Multistability: how often chains are in each mode, how long they stay, and the passage times of theory."""

import math
from collections.abc import Callable, Hashable, Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pcsim.analysis.result import Meaning, cautions_of, described
from pcsim.analysis.slabs import require, stride
from pcsim.errors import AnalysisError

Array = NDArray[np.float64]
FEW_CHAINS, FEW_DWELLS = 4, 30

LABEL = Meaning(
    "mode",
    "index of the centre nearest to z",
    "Euclidean distance over the units",
    "draws on the way between modes are given to one of them",
    "derived",
)
OCCUPANCY = Meaning(
    "mode occupancy",
    "share of the draws in each mode, against the posterior's mass there",
    "mean over chains and steps; standard error from the spread of the chains' own shares",
    "towards the modes in which chains started when they have hardly switched",
    "derived",
)
STATE = Meaning(
    "dominant state",
    "1 since z last went above `high`, −1 since it last went below `low`, 0 before either",
    "hysteresis: crossings back and forth at one threshold do not count as switches",
    "excursions that do not reach the other threshold are part of the dwell",
    "Schmitt 1938",
)
DWELLS = Meaning(
    "dwell times",
    "lengths of the stretches in which the dominant state does not change",
    "first and last stretch of every chain are flagged `censored`: the recording cuts them",
    "complete stretches alone are too short on average: long ones are more often cut",
    "derived",
    "step",
)
SURVIVAL = Meaning(
    "survival of dwells",
    "S(t) = P(dwell > t)",
    "Kaplan-Meier over the dwells whose beginning was seen; Greenwood's standard error",
    "none while dwells do not depend on when the recording ends",
    "Kaplan and Meier 1958",
)
RATE = Meaning(
    "mean dwell time and switching rate",
    "τ = 1 / rate of leaving a state",
    "time in the state, last stretches included and first left out, over the number of exits; standard error τ/√exits",
    "none for exponential dwells (censoring is accounted for); `complete_mean` of complete stretches is biased low",
    "maximum likelihood for censored exponential durations",
    "step",
)


def nearest_mode(value: xr.DataArray, centres: Array, unit: str = "unit") -> xr.DataArray:
    """Index of the nearest of `centres [mode, unit]` for each draw, −1 where a value is not finite; lazy.

    Ties go to the first.
    """
    require(value, unit)
    points = xr.DataArray(np.atleast_2d(np.asarray(centres, np.float64)), dims=("mode", unit))
    if points.sizes[unit] != value.sizes[unit]:
        raise AnalysisError(f"centres have {points.sizes[unit]} units, the values {value.sizes[unit]}")
    bare = value.drop_vars(unit, errors="ignore").astype(np.float64)
    distance = ((bare - points) ** 2).sum(unit, skipna=False)
    nearest = distance.fillna(np.inf).argmin("mode")
    return described(nearest.where(distance.notnull().all("mode"), -1).astype(np.int64).rename("mode"), LABEL)


def mode_occupancy(
    label: xr.DataArray, masses: Sequence[float], dim: str = "step", chain: str = "chain"
) -> xr.Dataset:
    """Share of draws in each mode: `occupancy`, `standard_error`, `mass`, `z` = (occupancy − mass)/error; (…, mode).

    `masses` are the posterior's, in the order of the labels; they must add up to 1. Not to be read where chains have
    hardly switched: the shares are then those of their starts, whatever their spread.
    """
    require(label, dim, chain)
    if abs(math.fsum(masses) - 1) > 1e-6 or min(masses) < 0:
        raise AnalysisError(
            f"mode_occupancy: masses must be ≥ 0 and add up to 1; their sum is {math.fsum(masses):g}"
        )
    chains = label.sizes[chain]
    if chains < 2:
        raise AnalysisError(
            "mode_occupancy: the error comes from the spread over chains; at least 2 are needed"
        )
    modes = xr.DataArray(np.arange(len(masses)), dims="mode", coords={"mode": np.arange(len(masses))})
    share = (label == modes).mean(dim)
    occupancy, error = share.mean(chain), share.std(chain, ddof=1) / math.sqrt(chains)
    mass = xr.DataArray(np.asarray(masses, np.float64), dims="mode")
    score = ((occupancy - mass) / error).where(error > 0)
    moves = (label.diff(dim) != 0).sum(dim)
    cautions = [f"must not be read closely: {chains} chains"] if chains < FEW_CHAINS else []
    if float(moves.mean()) < 5:
        cautions.append(
            f"must not be read as masses: chains changed mode {float(moves.mean()):.2g} times on average, so the "
            "shares are still those of their starts"
        )
    if lost := int((label < 0).sum()):
        cautions.append(
            f"must not be read as shares: {lost} of {label.size} draws are not finite and in no mode"
        )
    result = xr.Dataset({"occupancy": occupancy, "standard_error": error, "mass": mass, "z": score})
    return described(result, OCCUPANCY, cautions)


def dominant_state(value: xr.DataArray, low: float, high: float, dim: str = "step") -> xr.DataArray:
    """1 after z passes `high` upwards, −1 after it passes `low` downwards, 0 before the first passage; lazy.

    `low` < `high`; both at the modes gives the times from one mode to the other, between them those of rivalry.
    Raises `AnalysisError`, when computed, for values that are not finite: a dwell would go on through them.
    """
    require(value, dim)
    if low >= high:
        raise AnalysisError(f"dominant_state: the lower threshold {low:g} must be below the upper {high:g}")
    found = xr.apply_ufunc(
        lambda z: _states(z, low, high), value, input_core_dims=[[dim]],
        output_core_dims=[[dim]], dask="parallelized", output_dtypes=[np.int8],
        dask_gufunc_kwargs={"allow_rechunk": True},
    )  # fmt: skip
    assert isinstance(found, xr.DataArray)
    return described(found.transpose(*value.dims).rename("state"), STATE)


def dwell_times(state: xr.DataArray, step_time: float | None = None, dim: str = "step") -> xr.Dataset:
    """Every stretch of one state in every series, one after another along `dwell`.

    Variables: `duration` (entries × `step_time`, the seconds between neighbouring entries; None: in steps, by `dim`'s
    coordinate), `state`, `start` (index along `dim`), `series` (which chain, image …:
    its number in the order of the dims other than `dim`), `censored` ("first", "last", "both" or ""). Stretches of
    state 0 are left out. `rivalry_statistics` uses the complete ones, `mean_dwell` accounts for the cut ones.
    """
    require(state, dim)
    lead: list[Hashable] = [d for d in state.dims if d != dim]
    series = state.transpose(*lead, dim).to_numpy().reshape(-1, state.sizes[dim])
    columns = [_stretches(one, number) for number, one in enumerate(series)]
    table = np.concatenate(columns) if columns else np.zeros((0, 5), np.int64)
    kinds = np.array(["", "first", "last", "both"])
    resolution = stride(state, dim) if step_time is None else step_time
    result = xr.Dataset(
        {"duration": ("dwell", table[:, 2] * resolution, {"units": "step" if step_time is None else "s"}),
         "state": ("dwell", table[:, 1]), "start": ("dwell", table[:, 3]), "series": ("dwell", table[:, 0]),
         "censored": ("dwell", kinds[table[:, 4]])},
        attrs={"resolution": resolution},
    )  # fmt: skip
    complete = int((table[:, 4] == 0).sum())
    few = [f"must not be read as a distribution: {complete} complete dwells"] if complete < FEW_DWELLS else []
    return described(result, DWELLS, few)


def mean_dwell(dwells: xr.Dataset) -> xr.Dataset:
    """Per state: `mean` time before leaving, `standard_error`, `rate`, `exits`, and the biased `complete_mean`.

    Time in the state over the number of exits: last stretches count as time without an exit, first ones are left out
    because it is unknown when they began. Exact for exponential dwells; for others it needs many exits per chain.
    """
    duration, kind, state = (dwells[name].to_numpy() for name in ("duration", "censored", "state"))
    states = np.unique(state)
    rows = []
    for each in states:
        known = (state == each) & np.isin(kind, ("", "last"))
        complete = (state == each) & (kind == "")
        exits, total = int(complete.sum()), float(duration[known].sum())
        mean = total / exits if exits else np.nan
        shorter = float(duration[complete].mean()) if exits else np.nan
        rows.append((mean, mean / math.sqrt(exits) if exits else np.nan, 1 / mean, exits, shorter))
    names = ("mean", "standard_error", "rate", "exits", "complete_mean")
    table = np.array(rows, np.float64).reshape(len(states), len(names))
    result = xr.Dataset({n: ("state", table[:, i]) for i, n in enumerate(names)}, coords={"state": states})
    few = [
        f"must not be read: {int(e)} exits from state {s}"
        for s, e in zip(states, table[:, 3], strict=True)
        if e < 10
    ]
    return described(result, RATE, few)


def dwell_survival(dwells: xr.Dataset) -> xr.Dataset:
    """`survival` S(t), the share of dwells longer than t, ± `standard_error`, along `time`; states pooled.

    Kaplan and Meier's product over exits, so that last stretches count for as long as they were seen; first ones are
    left out. Greenwood's standard error. Not to be read beyond the time to which few dwells were followed.
    """
    kind, duration = dwells["censored"].to_numpy(), dwells["duration"].to_numpy().astype(np.float64)
    followed, left = duration[np.isin(kind, ("", "last"))], duration[kind == ""]
    if not len(left):
        raise AnalysisError("dwell_survival: no state was entered and left; record longer")
    times, exits = np.unique(left, return_counts=True)
    at_risk = len(followed) - np.searchsorted(np.sort(followed), times)
    survival = np.cumprod(1 - exits / at_risk)
    remaining = np.where(at_risk > exits, at_risk - exits, np.nan)
    error = survival * np.sqrt(np.nancumsum(exits / (at_risk * remaining)))
    table = {"survival": np.r_[1.0, survival], "standard_error": np.r_[0.0, error]}
    result = xr.Dataset({n: ("time", a) for n, a in table.items()}, coords={"time": np.r_[0.0, times]})
    return described(result.assign_attrs(exits=len(left)), SURVIVAL, cautions_of(dwells))


def kramers_time(
    barrier: float, curvature_at_minimum: float, curvature_at_barrier: float, temperature: float
) -> float:
    """Mean time to leave a well with ż = −U′ + √(2T) ξ: 2π e^(ΔU/T) / √(U″_min |U″_max|). Kramers (1940).

    The leading order at ΔU ≫ T, low by about a tenth at ΔU = 2.5 T; `passage_time` is exact.

    >>> round(kramers_time(1.0, 8.0, -4.0, 0.4), 2)
    13.53
    """
    return (
        2
        * math.pi
        * math.exp(barrier / temperature)
        / math.sqrt(curvature_at_minimum * abs(curvature_at_barrier))
    )


def passage_time(
    energy: Callable[[Array], Array], start: float, target: float, temperature: float, span: float = 10.0
) -> float:
    """Exact mean first-passage time from `start` to `target` of ż = −U′(z) + √(2T) ξ in one dimension.

    (1/T) ∫ from start to target of e^(U(y)/T) ∫ over z beyond y (on the start's side) of e^(−U(z)/T) dz dy.
    `span`: how far the inner integral goes beyond `start`, where e^(−U/T) must be negligible. Gardiner (2009) 5.5.

    >>> round(passage_time(lambda z: (z**2 - 1) ** 2, -0.6, 0.6, 0.4, span=3.0), 2)
    14.64
    """
    side = 1.0 if target > start else -1.0
    grid = np.linspace(0.0, span + abs(target - start), 200_001)  # from far behind the start to the target
    height = np.asarray(energy(start + side * (grid - span)), np.float64) / temperature
    height -= height.min()
    step = grid[1] - grid[0]
    weight = np.exp(-height)
    behind = np.concatenate([[0.0], np.cumsum((weight[1:] + weight[:-1]) / 2)]) * step
    inside = grid >= span - step / 2
    integrand = np.exp(height[inside]) * behind[inside]
    return float(np.trapezoid(integrand, dx=step) / temperature)


def _states(z: Array, low: float, high: float) -> NDArray[np.int8]:
    if not np.isfinite(z).all():
        raise AnalysisError("dominant_state: values that are not finite; cut the trace where chains diverged")
    return _carried((z >= high).astype(np.int8) - (z <= low).astype(np.int8))


def _carried(event: NDArray[np.int8]) -> NDArray[np.int8]:
    """Each entry replaced by the last one up to it that is not 0, along the last axis."""
    place = np.where(event != 0, np.arange(event.shape[-1]), 0)
    return np.take_along_axis(event, np.maximum.accumulate(place, axis=-1), axis=-1)


def _stretches(series: NDArray[np.int8], number: int) -> NDArray[np.int64]:
    """Rows (series, state, length, start, censored as 1 for first + 2 for last) of one chain."""
    edges = np.flatnonzero(np.diff(series)) + 1
    starts = np.concatenate([[0], edges])
    lengths = np.diff(np.concatenate([starts, [len(series)]]))
    states = series[starts].astype(np.int64)
    cut = np.zeros(len(starts), np.int64)
    # before the first crossing of a threshold the state is unknown, so the stretch after it may have begun earlier
    cut[int(np.argmax(states != 0))] += 1
    cut[-1] += 2
    rows: NDArray[np.int64] = np.column_stack([np.full(len(starts), number), states, lengths, starts, cut])
    return np.compress(states != 0, rows, axis=0)
