"""How far inference has come: the log-joint's gain, drift against noise, and the gradient's plateau.

A value that is not finite (a chain that diverged or was not written) makes what it enters NaN: nothing is left out.
"""

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from pcsim.analysis.convergence import diagnostics, unconverged
from pcsim.analysis.flat import at, steps_from, unit_dims
from pcsim.analysis.result import Meaning, cautions_of, described
from pcsim.analysis.slabs import require
from pcsim.errors import AnalysisError

CHANGE = Meaning(
    "gain in log p(x, z) since the sweep",
    "L_t − L_0, L = −U, averaged over chains",
    "mean over chains per image; mean, standard deviation and standard error over images",
    "none; but a gain is not an improvement at T = 1: the typical set lies D/2 below the maximum, so chains that "
    "start at the maximum must lose",
    "derived (equipartition)",
    "nat",
)
LINE = Meaning(
    "stationary log p(x, z)",
    "E L and sd L under the stationary law",
    "of a quadratic energy: −U_min − ½ Σ T/(1 − γλ/2) and √(½ Σ T²/(1 − γλ/2)²)",
    "exact for a quadratic energy only; with γλ unknown (0) it lacks the step-size bias",
    "derived (equipartition; stationary variance of AR(1))",
    "nat",
)
LONG_LINE = Meaning(
    LINE.long_name,
    LINE.definition,
    "mean and standard deviation over chains and late steps; standard error from the effective sample size",
    "low where the chains are still climbing; carries the step-size bias of the sampler",
    "derived",
    "nat",
)
RATIO = Meaning(
    "drift-to-noise ratio of one step",
    "DNR_t = γ Σ_i G_i g_i² / (2 D T): squared drift γ²Gg² over the noise's 2γT, summed over D units",
    "mean over chains per image; stationary: mean over late steps",
    "none; with a preconditioner each unit is measured in units of its own noise",
    "derived",
)
PLATEAU = Meaning(
    "squared gradient norm and its plateau",
    "E|g|² = T Σ λ/(1 − γλ/2), which is T tr Λ for small steps; 0 at T = 0",
    "mean over chains per step; the plateau over late steps, standard error from the effective sample size",
    "high while the chains still descend",
    "derived (integration by parts)",
    "nat^2 per latent unit^2",
)


def quadratic_line(
    energy_minimum: xr.DataArray, dimension: int, temperature: float = 1.0, step_curvature: ArrayLike = 0.0
) -> xr.Dataset:
    """`mean` and `sd` of log p(x, z) under the stationary law of a quadratic energy, per image, in nats.

    mean = −U_min − ½ Σ T/(1 − γλ/2), sd = √(½ Σ T²/(1 − γλ/2)²): −U_min − D T/2 and T √(D/2) for small steps.
    step_curvature: γλ, one number or one per eigen-direction. Raises `AnalysisError` at γλ >= 2 (unstable).
    """
    stiffness = np.broadcast_to(np.asarray(step_curvature, np.float64), dimension)
    if (stiffness >= 2).any():
        raise AnalysisError(
            f"quadratic_line: step size times curvature is {stiffness.max():.3g}, unstable from 2 on"
        )
    heat = temperature / (1 - stiffness / 2)
    sd = float(np.sqrt((heat**2).sum() / 2))
    mean = -energy_minimum.astype(np.float64) - float(heat.sum()) / 2
    line = xr.Dataset({"mean": mean, "sd": xr.full_like(mean, sd), "mean_error": xr.zeros_like(mean)})
    return described(_with_units(line, "nat"), LINE)


def long_run_line(energy: xr.DataArray, after: float, dim: str = "step") -> xr.Dataset:
    """`mean`, `sd` and `mean_error` of log p(x, z) = −U over chains and the steps from `after` on, per image.

    Where the energy's minimum is not known. Not to be read where the cautions say that chains have not converged;
    a running chain must not be judged by its own end (take other chains).
    """
    require(energy, "chain", dim)
    late = -steps_from(energy, after, dim, "long_run_line").astype(np.float64)
    sd = late.std(("chain", dim), skipna=False)
    ess = diagnostics(late, dim)["ess"]
    line = xr.Dataset(
        {"mean": late.mean(("chain", dim), skipna=False), "sd": sd, "mean_error": sd / np.sqrt(ess)}
    )
    return described(_with_units(line, "nat"), LONG_LINE, unconverged(late, dim))


def log_joint_change(
    energy: xr.DataArray, stationary: xr.Dataset | None = None, start: float = 0, dim: str = "step"
) -> xr.Dataset:
    """L_t − L_start per image, and its mean, sd and standard error over images, in nats (LPC's Figure 3).

    energy: dims image, chain and `dim`; steps before `start` are left out (another energy: nothing is clamped). With a
    `stationary` line: `stationary (image)`, relative to each image's start, and `stationary_mean`: where the curve must
    end. At T = 1 that may be below zero and right; a T = 0 run always shows the larger gain.
    """
    require(energy, "image", "chain", dim)
    log_joint = (
        -steps_from(energy, start, dim, "log_joint_change").astype(np.float64).mean("chain", skipna=False)
    )
    change = log_joint - at(log_joint, start, dim, "log_joint_change")
    images = change.sizes["image"]
    sd = (
        change.std("image", ddof=1, skipna=False)
        if images > 1
        else xr.full_like(change.isel(image=0, drop=True), np.nan)
    )
    found = xr.Dataset(
        {
            "change": change,
            "mean": change.mean("image", skipna=False),
            "sd": sd,
            "mean_error": sd / np.sqrt(images),
        }
    )
    cautions = [] if images > 1 else ["the spread over images must not be read: there is one image"]
    if stationary is None:
        cautions.append("the end of the curve must not be read as equilibrium: no stationary line was given")
    else:
        found["stationary"] = stationary["mean"] - at(log_joint, start, dim, "log_joint_change")
        found["stationary_mean"] = found["stationary"].mean("image", skipna=False)
        cautions += cautions_of(stationary)
    return described(_with_units(found, "nat"), CHANGE, cautions)


def squared_gradient(
    drift: xr.DataArray, mobility: xr.DataArray | float = 1.0, dim: str = "step"
) -> xr.DataArray:
    """Σ_i G_i g_i² over a node's units; nodes add. mobility: G, the preconditioner (1: none)."""
    squares = mobility * drift.astype(np.float64) ** 2
    return squares.sum(unit_dims(drift), skipna=False).rename("squared_gradient")


def drift_to_noise(
    squared: xr.DataArray, step_size: float, dimension: int, after: float, temperature: float = 1.0,
    dim: str = "step",
) -> xr.Dataset:  # fmt: skip
    """`ratio` DNR_t = γ Σ G g²/(2 D T) per image and step, and its `stationary` value.

    squared: `squared_gradient` of all latents (or `gradient_norm ** 2` without a preconditioner), dims chain and `dim`.
    Above 1 the drift dominates a step; the stationary value is γ tr Λ/(2D), far below 1 for small steps.
    `noise_from`: the first step below 1 (NaN: none). Raises `AnalysisError` at T = 0, where there is no noise.
    """
    require(squared, "chain", dim)
    if temperature <= 0:
        raise AnalysisError(f"drift_to_noise: temperature is {temperature}; without noise there is no ratio")
    ratio = squared.astype(np.float64).mean("chain", skipna=False) * step_size / (2 * dimension * temperature)
    # steps rise, so the least is the first
    first = (xr.zeros_like(ratio) + ratio[dim]).where(ratio < 1).min(dim)
    late = steps_from(squared, after, dim, "drift_to_noise")
    stationary = steps_from(ratio, after, dim, "drift_to_noise").mean(dim, skipna=False)
    found = xr.Dataset({"ratio": ratio, "stationary": stationary, "noise_from": first})
    return described(_with_units(found, "1", noise_from="step"), RATIO, unconverged(late, dim))


def gradient_plateau(
    gradient_norm: xr.DataArray, after: float, curvature_trace: xr.DataArray | float | None = None,
    dim: str = "step",
) -> xr.Dataset:  # fmt: skip
    """Squared gradient norm per step, its `plateau` over the steps from `after` on, with `plateau_error`, per image.

    curvature_trace: tr Λ (or T Σ λ/(1 − γλ/2)) where it is known: `expected`. A flat plateau that is not zero is the
    right sign at T = 1 (LPC's Figure 8); at T = 0 it goes to zero, and a plateau there is a chain that is stuck.
    """
    require(gradient_norm, "chain", dim)
    squared = gradient_norm.astype(np.float64) ** 2
    late = steps_from(squared, after, dim, "gradient_plateau")
    error = late.std(("chain", dim), skipna=False) / np.sqrt(diagnostics(late, dim)["ess"])
    found = xr.Dataset(
        {
            "square": squared.mean("chain", skipna=False),
            "plateau": late.mean(("chain", dim), skipna=False),
            "plateau_error": error,
        }
    )
    if curvature_trace is not None:
        found["expected"] = xr.zeros_like(found["plateau"]) + curvature_trace
    return described(_with_units(found, PLATEAU.units), PLATEAU, unconverged(late, dim))


def _with_units(found: xr.Dataset, units: str, **other: str) -> xr.Dataset:
    for name in found.data_vars:
        found[name].attrs["units"] = other.get(str(name), units)
    return found
