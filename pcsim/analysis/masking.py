"""Backward masking and rapid serial presentation: what is left of a target once another image has followed."""

from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pcsim.analysis.result import Meaning, described
from pcsim.errors import StudyError

Array = NDArray[np.float64]

THEORY = Meaning(
    "target component left after a mask, linear circuit",
    "continue: a^k (1 − aⁿ), n steps of target, k steps of mask, a = 1 − γλ; reset: 0",
    "closed form of one relaxation mode, in units of the target's own steady response K x",
    "none for one mode; a circuit with several has one curve per mode",
    "derived",
)
COMPONENTS = Meaning(
    "components of the state along the steady responses",
    "c = argmin |z̄_t − z₀ − Σ_s c_s (z̄_s − z₀)|², z̄_s the steady response to stimulus s, z₀ to the blank",
    "least squares of the chain and image mean; c = 1 for a stimulus alone at steady state",
    "leaks between stimuli whose responses are not linear or nearly parallel; s.e. grows with their overlap",
    "derived; Mohsenzadeh et al. (2018) read the same from decoders",
)
MASKED = Meaning(
    "measure after the mask, by stimulus onset asynchrony",
    "m(soa + k): the measure k steps after the mask's onset",
    "read from the measure at that step",
    "that of the measure",
    "Breitmeyer & Ogmen (2006)",
)
TIMES = Meaning(
    "peak, rise and end of a component in time",
    "peak: time of the maximum in the window; rise and end: the crossings of a fraction of it before and after, "
    "interpolated linearly",
    "of the mean over images; s.e. by leaving out one image at a time",
    "the maximum of a noisy curve is too high, so its crossings come too close to it",
    "Miller, Patterson & Ulrich (1998) for the s.e.; Mohsenzadeh et al. (2018) for the two components",
    units="steps",
)


def target_theory(
    decay: float,
    on: xr.DataArray | int,
    after: xr.DataArray | int,
    mode: Literal["continue", "reset"] = "continue",
) -> xr.DataArray:
    """What a linear circuit keeps of the target `after` steps of mask that followed `on` steps of target.

    `decay` is a = 1 − γλ of the mode. `continue`: the chain runs on through the mask; `reset`: the encoder sweeps
    at the mask's onset and replaces the state, which leaves nothing.
    """
    n, k = xr.DataArray(on), xr.DataArray(after)
    kept = decay**k * (1 - decay**n)
    return described(kept if mode == "continue" else kept * 0.0, THEORY)


def components(
    value: xr.DataArray, templates: xr.DataArray, blank: xr.DataArray, dim: str = "step"
) -> xr.DataArray:
    """Least-squares components of the mean state along the steady responses to the stimuli.

    `value` has `dim` and unit dims; `chain` and `image` are averaged first, other dims (`soa`, `period`) are kept.
    `templates (stimulus, unit dims)`: the mean state at the end of a long presentation; `blank (unit dims)`:
    the mean state without stimulus. Result: `(..., dim, stimulus)`. Raises `StudyError` where the templates do
    not tell the stimuli apart.
    """
    units = [name for name in templates.dims if name != "stimulus"]
    mean = value.mean(
        [name for name in ("image", "chain") if name in value.dims], dtype=np.float64, skipna=False
    )
    basis = (
        (templates - blank).stack(unit_=units).transpose("stimulus", "unit_").to_numpy().astype(np.float64)
    )
    if np.linalg.matrix_rank(basis) < len(basis):
        raise StudyError("templates: the steady responses are linearly dependent; no component can be told")
    inverse = xr.DataArray(np.linalg.pinv(basis), dims=("unit_", "stimulus"))
    moved = (mean - blank).stack(unit_=units).drop_vars(["unit_", *units])
    found: xr.DataArray = xr.dot(moved, inverse, dim="unit_").transpose(..., dim, "stimulus")
    if "stimulus" in templates.coords:
        found = found.assign_coords(stimulus=templates["stimulus"].to_numpy())
    return described(found, COMPONENTS)


def masking_curve(measure: xr.DataArray, after: int, dim: str = "step") -> xr.DataArray:
    """A measure `after` steps behind the mask's onset, over the grid of onset asynchronies.

    `measure` has `soa` (with its coordinate: steps from target to mask) and `dim`, whose 0 is the target's onset:
    a component, an accuracy or its s.e. Raises `StudyError` where a step was not recorded.
    """
    steps = measure["soa"].to_numpy() + after
    missing = sorted(set(steps.tolist()) - set(measure[dim].to_numpy().tolist()))
    if missing:
        raise StudyError(f"{dim}: {after} steps after the mask are not recorded at {dim} {missing}")
    found = measure.sel({dim: xr.DataArray(steps, dims="soa")}).drop_vars(dim)
    return described(found.assign_attrs({}), MASKED)


def component_times(
    measure: xr.DataArray, window: tuple[float, float], fraction: float = 0.5, dim: str = "step"
) -> xr.Dataset:
    """`peak`, `rise` and `end` of what a measure shows inside `window`, with `_se` where it has `image`.

    A window on the sweep gives the end of the early component, a later one the latency of the categorical peak.
    `rise` and `end` are where the mean curve crosses `fraction` of its maximum, NaN where it does not inside the
    window. Other dims (`period`, the steps per picture) are kept: one value per presentation rate.
    """
    inside = measure.sel({dim: slice(*window)})
    if inside.sizes[dim] < 3:
        raise StudyError(f"window {window}: {inside.sizes[dim]} recorded steps; expected at least 3")
    count = inside.sizes.get("image", 0)
    result = _times(inside.mean("image", skipna=False) if count else inside, fraction, dim)
    if count > 1:
        total = inside.sum("image", skipna=False)
        left = xr.concat(
            [_times((total - inside.isel(image=i)) / (count - 1), fraction, dim) for i in range(count)],
            "image_",
        )
        error = (
            (count - 1) * ((left - left.mean("image_", skipna=False)) ** 2).mean("image_", skipna=False)
        ) ** 0.5
        result = result.merge(error.rename({name: f"{name}_se" for name in ("peak", "rise", "end")}))
    cautions = []
    edges = inside[dim].to_numpy()[[0, -1]]
    if bool(result["peak"].isin(edges).any()):
        cautions.append("must not be read: a maximum lies at the window's edge, so the peak may lie outside")
    return described(result, TIMES, cautions)


def _times(curve: xr.DataArray, fraction: float, dim: str) -> xr.Dataset:
    steps = curve[dim].to_numpy().astype(np.float64)
    peak, rise, end = xr.apply_ufunc(
        _one, curve, steps, fraction, input_core_dims=[[dim], ["time_"], []],
        output_core_dims=[[], [], []], vectorize=True, dask="parallelized", output_dtypes=[np.float64] * 3,
    )  # fmt: skip
    return xr.Dataset({"peak": peak, "rise": rise, "end": end})


def _one(curve: Array, steps: Array, fraction: float) -> tuple[float, float, float]:
    top = int(curve.argmax())
    level = fraction * curve[top]
    return (
        float(steps[top]),
        _fall(curve[top::-1], steps[top::-1], level),
        _fall(curve[top:], steps[top:], level),
    )


def _fall(curve: Array, steps: Array, level: float) -> float:
    """Where a curve that starts above `level` first falls below it; NaN where it does not."""
    below = np.flatnonzero(curve < level)
    if not below.size:
        return np.nan
    i = int(below[0])
    return float(
        steps[i - 1] + (curve[i - 1] - level) / (curve[i - 1] - curve[i]) * (steps[i] - steps[i - 1])
    )
