"""The energy of chains above its minimum: equipartition's DT/2, its variance, and what a finite step adds."""

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pcsim.analysis.averages import moments
from pcsim.analysis.convergence import unconverged
from pcsim.analysis.result import Meaning, described
from pcsim.analysis.slabs import columns_of, last_axes, lead_of, require_entries, with_chain

Array = NDArray[np.float64]
BINS = 60
ENERGY = Meaning(
    "energy above its minimum",
    "E U - U_min = D T/2 and Var U = D T^2/2 for a quadratic energy of D free units",
    "averages over chains and steps; standard errors from the ESS of U and of (U - mean)^2",
    "the variance is low by about variance / ESS; a minimum that was not reached makes the excess low; a finite step "
    "raises both",
    "equipartition; finite step: derived for the Langevin step, see `langevin_energy`",
    "nat",
)
EXACT = Meaning(
    "energy of Langevin chains on a quadratic energy",
    "E U - U_min = sum T/(1 - gamma lambda/2) / 2, Var U = sum T^2/(1 - gamma lambda/2)^2 / 2",
    "closed form",
    "none",
    "derived",
    "nat",
)


def energy_statistics(
    energy: xr.DataArray,
    minimum: float | xr.DataArray,
    free_units: int,
    temperature: float = 1.0,
    dim: str = "step",
) -> xr.Dataset:
    """Mean excess over the minimum and variance of the energy, with errors and with D T/2 and D T²/2 beside them.

    `excess`, `variance` (and `_error`) keep all dims but `chain` and `dim`; `density` over `bin` (nats above the
    minimum) pools everything. At T = 1 a correct chain lies D/2 nats above the minimum, D the free units: a lower
    energy is no better sample. Only a quadratic energy has D T/2 and D T²/2; elsewhere their difference measures how
    far the posterior is from a Gaussian. Must not be read on a transient, nor with a minimum of another stimulus.
    """
    require_entries(energy, dim, 8)
    excess = with_chain(energy).astype(np.float64) - minimum
    lead = lead_of(excess, ("chain", dim))
    series = last_axes(excess, ("chain", dim))
    found = columns_of(lead, ("excess", "excess_error", "variance", "variance_error"), moments(series))
    cautions = unconverged(energy, dim)
    if (low := found["excess"] < -4 * found["excess_error"]).any():
        cautions.append(
            f"must not be read as an excess: {int(low.sum())} of {low.size} mean energies lie below the minimum given"
        )
    finite = series[np.isfinite(series)]
    density, edges = (
        np.histogram(finite, BINS, density=True) if finite.size else (np.zeros(1), np.arange(2.0))
    )
    found["density"] = xr.DataArray(
        density, dims="bin", coords={"bin": (edges[1:] + edges[:-1]) / 2}, attrs={"units": "1/nat"}
    )
    attrs = {"free_units": free_units, "temperature": temperature}
    expected = {
        "expected_excess": free_units * temperature / 2,
        "expected_variance": free_units * temperature**2 / 2,
    }
    return described(found.assign_attrs(attrs | expected), ENERGY, cautions)


def langevin_energy(curvatures: Array, step_size: float, temperature: float = 1.0) -> xr.Dataset:
    """Exact `excess` and `variance` of the energy of Langevin chains, step γ, on a quadratic with those eigenvalues.

    excess = ½ Σ T/(1−γλ/2), variance = ½ Σ T²/(1−γλ/2)²: the modes are independent Gaussians. NaN where γλ ≥ 2.
    """
    shrunk = 1 - step_size * np.asarray(curvatures, dtype=np.float64) / 2
    heat = np.where(shrunk > 0, temperature / np.where(shrunk > 0, shrunk, 1.0), np.nan)
    return described(xr.Dataset({"excess": heat.sum() / 2, "variance": (heat**2).sum() / 2}), EXACT)
