"""Surrogates that keep part of a recording and destroy the rest: what a finding must not survive."""

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pcsim.analysis.result import Meaning, described
from pcsim.analysis.slabs import require

UNITS = Meaning(
    "values with chains shuffled per unit",
    "unit i of chain r is taken from chain π_i(r), another permutation for each unit and image",
    "one random order of the chains per image, turned by a different amount for each unit: no two units share a chain",
    "keeps each unit's own law and time course exactly; with more units than chains the permutations are independent, "
    "two units then share 1/chains of their chains and keep that part of their correlation",
    "Perkel, Gerstein and Moore 1967 (shuffled trials)",
)
TIME = Meaning(
    "values with steps shuffled",
    "entry t is taken from step π(t), one permutation for all units and chains",
    "one permutation",
    "keeps what units do together at an instant; everything about order in time is lost",
    "Berkes et al. 2011",
)


def shuffled_units(value: xr.DataArray, seed: int, unit: str = "unit", chain: str = "chain") -> xr.DataArray:
    """`value` with the chains permuted differently for each unit (and image): correlations between units go.

    Draws of one chain stay together, so each unit keeps its autocorrelation. Loads the array.
    """
    require(value, unit, chain)
    rng = np.random.default_rng(seed)
    lead = ["image"] if "image" in value.dims else []
    ordered = value.compute().transpose(*lead, unit, chain, ...)
    data: NDArray[Any] = ordered.to_numpy()
    images = data.reshape(-1, *data.shape[len(lead) :])
    mixed = np.stack([_mixed(image, rng) for image in images]).reshape(data.shape)
    chains, units = value.sizes[chain], value.sizes[unit]
    kept = (
        f"must not be read as free of correlations: {units} units in {chains} chains keep 1/{chains} of them"
    )
    result = ordered.copy(data=mixed).transpose(*value.dims)
    return described(result, UNITS, [kept] if units > chains else [])


def shuffled_time(value: xr.DataArray, seed: int, dim: str = "step") -> xr.DataArray:
    """`value` with its entries along `dim` in random order, the same order for everything else; lazy."""
    order = np.random.default_rng(seed).permutation(value.sizes[dim])
    moved = value.isel({dim: order})
    kept = moved.assign_coords({dim: value[dim]}) if dim in value.coords else moved
    return described(kept, TIME)


def _mixed(image: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """`image[unit, chain, …]` with its chains in another order for each unit."""
    units, chains = image.shape[:2]
    if units > chains:
        return np.stack([one[rng.permutation(chains)] for one in image])
    order, turns = rng.permutation(chains), rng.permutation(chains)[:units]
    return np.stack([one[np.roll(order, turn)] for one, turn in zip(image, turns, strict=True)])
