"""At which temperature the chains are: virial per unit, configurational, and over a grid of set temperatures."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pcsim.analysis.averages import mean_and_error, moments_with_error
from pcsim.analysis.convergence import cautions_from, rhat_and_time, unconverged
from pcsim.analysis.result import Meaning, cautions_of, described
from pcsim.analysis.slabs import by_slab, columns_of, last_axes, lead_of, require_entries, with_chain
from pcsim.errors import AnalysisError

Array = NDArray[np.float64]
VIRIAL = Meaning(
    "virial temperature",
    "T_vir = E (z - E z) g, g = dU/dz; E g = 0; at step size gamma and mobility G: T_vir = T + (gamma/2) G E g^2",
    "averages over chains and steps; standard errors from the ESS of the averaged series itself",
    "low by Cov of the sample means of z and g, of order T/ESS; the finite-step term is in `expected`",
    "equipartition by parts; finite-step form: stationarity of z^2 under the Langevin step (derived)",
    "temperature (1 = posterior)",
)
CONFIGURATIONAL = Meaning(
    "configurational temperature",
    "T_conf = E |dU/dz|^2 / E trace of the Hessian of U",
    "averages over chains and steps of each image; standard error of the numerator only where the trace is one number",
    "high by a factor 1 + O(gamma lambda) at finite step size, stiff directions most",
    "Rugh (1997) Physical Review Letters 78:772; Butler et al. (1998) Journal of Chemical Physics 109:6519",
    "temperature (1 = posterior)",
)
ABLATION = Meaning(
    "temperature ablation",
    "mean, variance and virial temperature of each unit at each set temperature T",
    "moments and virial temperature with standard errors from the ESS, run by run",
    "those of the moments and of the virial temperature",
    "derived; quadratic energies: the variance is proportional to T and the mean does not move",
    "of the values",
)


def virial_temperature(
    value: xr.DataArray, drift: xr.DataArray, step_size: float | xr.DataArray, temperature: float = 1.0,
    mobility: float | xr.DataArray = 1.0, dim: str = "step",
) -> xr.Dataset:  # fmt: skip
    """Virial temperature of every unit against what a Langevin step of this size must give; reduces chains and `dim`.

    `measured` = ⟨(z − z̄) g⟩ with g = −drift at the same draw, `expected` = T + (γ/2) G ⟨g²⟩, exact at any stable step,
    for any smooth energy and any fixed diagonal mobility G; `mean_gradient` = ⟨g⟩, exactly 0. `deviation` =
    ⟨(z − z̄) g − (γ/2) G g²⟩ − T with its own error, which says more than the difference of the two.
    A `printed` preconditioner shows as ≫ 1 or ≪ 1, `corrected` at β = .25 as 2 to 2.3, `frozen` as `expected`, T = 0
    as 0. Must not be read where values and gradients are not of the same draws, nor on a transient. Derived.
    """
    for array in (value, drift):
        require_entries(array, dim, 8)
    if value.sizes[dim] != drift.sizes[dim]:
        raise AnalysisError(
            f"virial temperature: {value.sizes[dim]} values and {drift.sizes[dim]} drifts along {dim!r}; record both "
            "at the same steps"
        )
    noise = xr.DataArray(step_size) * xr.DataArray(mobility) / 2
    given = with_chain(value)

    def of_slab(z: xr.DataArray, v: xr.DataArray, half: xr.DataArray) -> xr.Dataset:
        lead, whole = lead_of(z, ("chain", dim)), ("chain", dim)
        series, drifts = last_axes(z, whole), last_axes(v.transpose(*z.dims), whole)
        columns = _virial(series, drifts, last_axes(half.broadcast_like(z), whole), temperature)
        rhat, time = rhat_and_time(series).T
        draws = z.sizes["chain"] * z.sizes[dim]
        return columns_of(lead, COLUMNS, np.column_stack([columns, rhat, draws / time]))

    found = by_slab(of_slab, [given, with_chain(drift), noise], ("chain", dim))
    found = described(found, VIRIAL, cautions_from(found, value))
    return found.assign_attrs(temperature=temperature)


COLUMNS = (
    "measured", "measured_error", "expected", "expected_error", "deviation", "deviation_error", "mean_gradient",
    "mean_gradient_error", "rhat", "ess",
)  # fmt: skip


def _virial(z: Array, drift: Array, half: Array, temperature: float) -> Array:
    centred = z.astype(np.float64)
    centred -= centred.mean(axis=(1, 2), keepdims=True)
    gradient = -drift.astype(np.float64)
    measured, correction = centred * gradient, half * gradient * gradient
    columns = [mean_and_error(a) for a in (measured, correction, measured - correction, gradient)]
    columns[1][:, 0] += temperature
    columns[2][:, 0] -= temperature
    return np.concatenate(columns, axis=1)


def configurational_temperature(
    gradient_norm: xr.DataArray, hessian_trace: float | xr.DataArray, dim: str = "step"
) -> xr.Dataset:
    """`measured` = E‖∂U/∂z‖² / E[tr ∇²U] with `measured_error`; reduces chains and `dim`.

    `gradient_norm` is the trace's, over all free units. The trace of the Hessian is not in a trace: a number for
    quadratic energies (the sum of the precisions' eigenvalues), else an array of estimates (per image, or per draw) by
    Hessian-vector products (Hutchinson 1990), whose own error is not counted. At step size γ a quadratic energy gives
    T Σλ/(1−γλ/2) / Σλ. Must not be read on a transient, where |g|² falls. Rugh (1997); Butler et al. (1998).
    """
    require_entries(gradient_norm, dim, 8)
    lead = lead_of(with_chain(gradient_norm), ("chain", dim))
    square = last_axes(with_chain(gradient_norm).astype(np.float64) ** 2, ("chain", dim))
    mean, error = mean_and_error(square).T
    trace = xr.DataArray(hessian_trace)
    trace = trace.mean([d for d in ("chain", dim) if d in trace.dims], skipna=False)
    found = xr.Dataset(
        {
            "measured": lead.copy(data=mean.reshape(lead.shape)) / trace,
            "measured_error": lead.copy(data=error.reshape(lead.shape)) / abs(trace),
        }
    )
    return described(found, CONFIGURATIONAL, unconverged(gradient_norm, dim))


def temperature_ablation(
    values: Mapping[float, xr.DataArray] | xr.DataArray,
    drifts: Mapping[float, xr.DataArray] | xr.DataArray | None = None,
    step_size: float = 0.0,
    dim: str = "step",
) -> xr.Dataset:
    """Mean, variance and (with `drifts`) virial temperature of every unit over a dim `temperature`, with errors.

    Give one array per set temperature, or one array with a dim `temperature`. A sampler shows a variance that grows
    with T, in proportion for quadratic energies, and a virial temperature on the line T_vir = T; the mean of a
    non-quadratic energy moves, so that the mean at T = 1 is not the minimum that vanilla PC finds.
    `step_size` 0 leaves out the finite-step term of the expected virial temperature. Derived.
    """
    runs = _by_temperature(values)
    gradients = {} if drifts is None else _by_temperature(drifts)
    if drifts is not None and set(gradients) != set(runs):
        raise AnalysisError(f"temperature ablation: values at {sorted(runs)}, drifts at {sorted(gradients)}")
    parts, cautions = [], []
    for temperature, value in runs.items():
        found = moments_with_error(value, dim)
        cautions += [f"T = {temperature:g}: {text}" for text in cautions_of(found)]
        if temperature in gradients:
            virial = virial_temperature(value, gradients[temperature], step_size, temperature, dim=dim)
            names = {"measured": "virial", "measured_error": "virial_error", "expected": "virial_expected"}
            found = found.merge(
                virial[list(names)].rename(names), compat="no_conflicts", combine_attrs="drop"
            )
        parts.append(found.expand_dims(temperature=[temperature]))
    return described(xr.concat(parts, "temperature", combine_attrs="drop"), ABLATION, cautions)


def _by_temperature(given: Mapping[float, xr.DataArray] | xr.DataArray) -> dict[float, xr.DataArray]:
    if isinstance(given, xr.DataArray):
        if "temperature" not in given.dims or "temperature" not in given.coords:
            raise AnalysisError(
                "temperature ablation: one array needs a dim `temperature` with its coordinate"
            )
        return {float(t): given.sel(temperature=t, drop=True) for t in given["temperature"].values}
    return {float(t): given[t] for t in sorted(given)}
