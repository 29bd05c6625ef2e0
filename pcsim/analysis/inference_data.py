"""Traces as ArviZ's InferenceData."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from pcsim.errors import AnalysisError

if TYPE_CHECKING:
    from arviz import InferenceData

STATISTICS = {
    "energy": "lp", "gradient_norm": "gradient_norm", "acceptance": "acceptance_rate", "step_size": "step_size",
}  # fmt: skip
"""Root variables of a trace and ArviZ's names for them; `lp` is minus the energy."""


Trace = xr.DataTree | Mapping[str, xr.DataArray]


def to_arviz(trace: Trace, phase: str | None = "evoked") -> "InferenceData":
    """InferenceData with the values as posterior and energy, gradient norm … as sample_stats; chain and draw first.

    `trace`: the tree, whose free nodes' values are taken, or arrays by name. `step` is renamed to `draw`; `image` and
    units stay dims, so that diagnostics are per image: chains of different images are no replicates. With a coordinate
    `phase` only that phase is kept (None: all steps). Everything is float64, because ArviZ ranks 10⁵ draws or more
    wrongly in float32. Values thinned differently (`step_5` beside `step`) are refused; so is what has no chain.
    Loads the arrays: select units of a large trace first. Needs the extra `analysis`.
    """
    import arviz

    whole = isinstance(trace, xr.DataTree)
    values = {name: _renamed(name, array, phase) for name, array in _values(trace).items()}
    posterior = {n: a for n, a in values.items() if not (whole and _held(trace, n, a))}
    if not posterior:
        raise AnalysisError("to ArviZ: no free node's value was recorded at these steps")
    sizes = {name: (array.sizes["chain"], array.sizes["draw"]) for name, array in posterior.items()}
    if len(set(sizes.values())) > 1:
        raise AnalysisError(f"to ArviZ: chains and draws differ: {sizes}")
    groups: Any = {"posterior": xr.Dataset(posterior)}
    if stats := _statistics(trace, phase):
        groups["sample_stats"] = xr.Dataset(stats)
    return arviz.InferenceData(**groups)


def _values(trace: Trace) -> dict[str, xr.DataArray]:
    if not isinstance(trace, xr.DataTree):
        return dict(trace)
    nodes = {name: node.to_dataset() for name, node in trace.children.items()}
    found = {name: node["value"] for name, node in nodes.items() if "value" in node.data_vars}
    if "phase" in trace.coords:
        # children inherit only coordinates with an index
        found = {
            n: a.assign_coords(phase=trace["phase"]) if "step" in a.dims else a for n, a in found.items()
        }
    # what is clamped throughout has one value per image and is no draw
    return {name: array for name, array in found.items() if "chain" in array.dims and "step" in array.dims}


def _held(trace: Trace, name: str, array: xr.DataArray) -> bool:
    """Whether the node is at its datum in all these draws: recorded along the steps only for the other phase."""
    if not isinstance(trace, xr.DataTree) or "observed" not in trace[name].data_vars:
        return False
    return bool((array == array.isel(chain=0, draw=0)).all())


def _statistics(trace: Trace, phase: str | None) -> dict[str, xr.DataArray]:
    if not isinstance(trace, xr.DataTree):
        return {}
    stepped = {str(n): a for n, a in trace.to_dataset().items() if n in STATISTICS and "step" in a.dims}
    found = {STATISTICS[name]: _renamed(name, array, phase) for name, array in stepped.items()}
    if "lp" in found:
        found["lp"] = -found["lp"]
    return found


def _renamed(name: str, array: xr.DataArray, phase: str | None) -> xr.DataArray:
    if "chain" not in array.dims or "step" not in array.dims:
        raise AnalysisError(
            f"to ArviZ: {name} has dims {', '.join(map(str, array.dims))}; chain and step are needed"
        )
    if phase is not None and "phase" in array.coords:
        inside = array["phase"].values == phase
        if not inside.any():
            raise AnalysisError(f"to ArviZ: {name} has no step of the phase {phase!r}")
        array = array.isel(step=np.flatnonzero(inside))
    kept = array.drop_vars("phase", errors="ignore")
    # units are numbered per node: two nodes of different size must not share a dim
    own = {d: f"{name}_{d}" for d in kept.dims if d not in ("image", "chain", "step")}
    turned = kept.transpose("chain", "step", ...).rename(step="draw", **{str(d): n for d, n in own.items()})
    return turned.astype(np.float64)
