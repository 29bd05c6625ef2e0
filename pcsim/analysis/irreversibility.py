"""Time asymmetry: whether the chains could as well have run backwards."""

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pcsim.analysis.convergence import unconverged
from pcsim.analysis.covariance import ENTRIES
from pcsim.analysis.result import Meaning, described
from pcsim.analysis.slabs import by_slab, require_entries, stride, with_chain
from pcsim.errors import AnalysisError

Array = NDArray[np.float64]
PIECES = 16
"""Independent stretches that the standard error wants; chains are cut until there are as many."""
ASYMMETRY = Meaning(
    "time asymmetry",
    "A_ij(tau) = C_ij(tau) - C_ji(tau), C_ij(tau) = E z_i(t) z_j(t + tau)",
    "in units of sd_i sd_j; mean over chains (cut in stretches where they are few), standard error from their spread; "
    "reversing time turns the sign of each stretch, so that their spread about 0 is the null",
    "none on stationary chains: A is antisymmetric and its mean under reversibility is exactly 0; `total` is positive "
    "by `null_total` even then",
    "Onsager (1931) Physical Review 37:405; Gnesotto et al. (2018) Reports on Progress in Physics 81:066601",
)


def irreversibility(value: xr.DataArray, lag: int = 1, dim: str = "step") -> xr.Dataset:
    """`asymmetry` (…, unit, unit_2) with `asymmetry_error`, at `lag` entries, and `total` against `null_total`.

    Zero for every reversible chain: Langevin dynamics with any symmetric mobility. Slow error units, momentum and
    excitatory-inhibitory rotation have A ≠ 0 while the marginal law may be right, so this tells a wrong law from a
    right one reached irreversibly. `z` = A/error; `total` is the root mean square of A over pairs of units and
    `null_total` that of its error, which reversible chains have on average. Must not be read on a transient: a drift
    of the mean is irreversible too.
    At least 2 stretches longer than the lag are needed. Onsager (1931); Gnesotto et al. (2018).
    """
    require_entries(value, dim, 8)
    if "unit" not in value.dims or value.sizes["unit"] < 2:
        raise AnalysisError("irreversibility: at least two units along a dim `unit` are needed")
    given = with_chain(value)
    cuts = max(1, -(-PIECES // given.sizes["chain"]))
    length = given.sizes[dim] // cuts
    if not 0 < lag < length // 2:
        raise AnalysisError(
            f"irreversibility: a lag of {lag} in stretches of {length} entries; take a lag below half"
        )
    if (size := value.sizes["unit"] ** 2 * cuts * given.isel({dim: 0, "unit": 0}).size) > ENTRIES:
        raise AnalysisError(f"irreversibility: {size} pairs of units and stretches; select fewer units first")
    pieces = by_slab(lambda part: _pieces(part, dim, lag, cuts), [given], (dim, "unit"))
    scale: xr.DataArray = pieces["variance"].mean(("chain", "piece"), skipna=False) ** 0.5
    unit = pieces["cross"] / (scale * scale.rename(unit="unit_2"))
    count = given.sizes["chain"] * cuts
    mean, error = (
        unit.mean(("chain", "piece"), skipna=False),
        unit.std(("chain", "piece"), ddof=1, skipna=False) / np.sqrt(count),
    )
    pairs = value.sizes["unit"] * (value.sizes["unit"] - 1)
    found = xr.Dataset(
        {
            "asymmetry": mean,
            "asymmetry_error": error,
            "z": mean / error.where(error > 0),
            "total": np.sqrt((mean**2).sum(("unit", "unit_2"), skipna=False) / pairs),
            "null_total": np.sqrt((error**2).sum(("unit", "unit_2"), skipna=False) / pairs),
        }
    )
    found = found.assign_attrs(lag=lag * stride(value, dim))
    return described(found, ASYMMETRY, unconverged(value, dim))


def _pieces(part: xr.DataArray, dim: str, lag: int, cuts: int) -> xr.Dataset:
    lead = [str(d) for d in part.dims if d not in (dim, "unit")]
    values = part.transpose(*lead, dim, "unit").to_numpy()
    length, units = values.shape[-2] // cuts, values.shape[-1]
    shape = values.shape[:-2]
    cross, variance = np.empty((*shape, cuts, units, units)), np.empty((*shape, cuts, units))
    for index in np.ndindex(*shape, cuts):
        piece = values[index[:-1]][index[-1] * length : (index[-1] + 1) * length].astype(np.float64)
        piece -= piece.mean(axis=0)
        forward = piece[:-lag].T @ piece[lag:] / (length - lag)
        cross[index], variance[index] = forward - forward.T, piece.var(axis=0)
    coords = {n: c for n, c in part.coords.items() if set(c.dims) <= {*lead, "unit"}}
    found = xr.Dataset(
        {
            "cross": ((*lead, "piece", "unit", "unit_2"), cross),
            "variance": ((*lead, "piece", "unit"), variance),
        },
        coords=coords,
    )
    return found.assign_coords(unit_2=part["unit"].values) if "unit" in part.coords else found
