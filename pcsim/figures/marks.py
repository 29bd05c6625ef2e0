"""Several results on one axes: their labels, and their series as plain numbers."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from numpy.typing import NDArray

Results = Mapping[str, xr.Dataset] | xr.Dataset


def each(results: Results) -> dict[str, xr.Dataset]:
    """The results by label; a single one is called `measured`."""
    return {"measured": results} if isinstance(results, xr.Dataset) else dict(results)


def flat(array: xr.DataArray) -> NDArray[np.float64]:
    """All entries in one row, as float64."""
    return array.to_numpy().astype(np.float64).ravel()
