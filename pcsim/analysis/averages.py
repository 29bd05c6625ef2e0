"""Averages over chains and steps with their standard errors, for series that are correlated in time."""

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pcsim.analysis.convergence import cautions_from, rhat_and_time
from pcsim.analysis.result import Meaning, described
from pcsim.analysis.slabs import by_slab, columns_of, last_axes, lead_of, require_entries, with_chain

Array = NDArray[np.float64]
NAMES = ("mean", "mean_error", "variance", "variance_error")
MOMENTS = Meaning(
    "mean and variance over chains and steps",
    "mean = E z, variance = E (z - E z)^2",
    "averages over all draws; standard errors sd / sqrt(ESS), each with the ESS of the series that is averaged",
    "the mean has none on stationary chains; the variance is low by about variance / ESS",
    "Geyer (1992) Statistical Science 7:473",
    "of the values",
)


def moments_with_error(value: xr.DataArray, dim: str = "step") -> xr.Dataset:
    """`mean`, `mean_error`, `variance`, `variance_error` per series; reduces `dim` and chains, keeps the rest.

    mean_error = √(Var z / ESS(z)), variance_error = √(Var (z−z̄)² / ESS((z−z̄)²)). A series that never moves has errors
    NaN: nothing tells how far its one value lies from the mean. Not to be read on chains that disagree. Geyer (1992).
    """
    require_entries(value, dim, 8)

    def of_slab(part: xr.DataArray) -> xr.Dataset:
        lead = lead_of(part, ("chain", dim))
        series = last_axes(part, ("chain", dim))
        rhat, time = rhat_and_time(series).T
        draws = part.sizes["chain"] * part.sizes[dim]
        return columns_of(
            lead, (*NAMES, "rhat", "ess"), np.column_stack([moments(series), rhat, draws / time])
        )

    found = by_slab(of_slab, [with_chain(value)], ("chain", dim))
    return described(found[list(NAMES)], MOMENTS, cautions_from(found, value))


def mean_and_error(series: NDArray[np.floating]) -> Array:
    """Mean and its standard error of `[series, chain, entry]`: `[series, 2]`."""
    part = series.astype(np.float64, copy=False)
    time = rhat_and_time(part)[:, 1]
    chains, length = part.shape[1:]
    return np.stack(
        [part.mean(axis=(1, 2)), np.sqrt(part.var(axis=(1, 2)) * time / (chains * length))], axis=1
    )


def moments(series: NDArray[np.floating]) -> Array:
    """Mean, its error, variance and its error of `[series, chain, entry]`: `[series, 4]`."""
    part = series.astype(np.float64)
    square = (part - part.mean(axis=(1, 2), keepdims=True)) ** 2
    return np.concatenate([mean_and_error(part), mean_and_error(square)], axis=1)
