"""Several results on one axes: their labels, their series as plain numbers, and the marks that figures share."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

DASHED, DOTTED = (0, (4, 1.5)), (0, (1, 1))
"""Dashed: theory or a fitted law. Dotted: onsets and secondary curves."""
STEP = "inference step (0 = sweep)"
Results = Mapping[str, xr.Dataset] | xr.Dataset


def each(results: Results) -> dict[str, xr.Dataset]:
    """The results by label; a single one is called `measured`."""
    return {"measured": results} if isinstance(results, xr.Dataset) else dict(results)


def flat(array: xr.DataArray) -> NDArray[np.float64]:
    """All entries in one row, as float64."""
    return array.to_numpy().astype(np.float64).ravel()


def shorten(axes: Axes, upper: float, beyond: float) -> None:
    """Ends a histogram's axis at `upper`, where a long empty tail would squeeze it, and says what lies beyond."""
    if beyond <= 0 or upper <= axes.get_xlim()[0]:
        return
    axes.set_xlim(right=upper)
    axes.text(
        1, 0.5, f"{beyond:.1%} beyond →", transform=axes.transAxes, ha="right", fontsize=6, color="#555555"
    )


def band(axes: Axes, x: ArrayLike, middle: xr.DataArray, half: xr.DataArray, ink: str, label: str) -> None:
    """A line with a band of ± `half` about it; no band where the error is not known."""
    centre, width = (np.asarray(array, np.float64) for array in (middle, half))
    shown: NDArray[np.float64] = np.nan_to_num(width)
    axes.fill_between(x, centre - shown, centre + shown, color=ink, alpha=0.2, linewidth=0)
    axes.plot(x, centre, color=ink, label=label)
