"""Intrinsic timescales: how long a unit's fluctuations last, as measured in cortex, and what a circuit implies."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import fft

from pcsim.analysis.convergence import integrated_time
from pcsim.analysis.result import Meaning, cautions_of, described
from pcsim.analysis.slabs import by_slab, columns_of, last_axes, lead_of, require_entries, stride
from pcsim.errors import AnalysisError

Array = NDArray[np.float64]
GRID = 240
"""Timescales tried per fit, before refinement; evenly in their logarithm, 3 % apart over three decades."""
ACROSS = Meaning(
    "autocorrelation across trials",
    "R(k) = Cov over chains of z_t and z_t+k, averaged over t, relative to k = 0",
    "the mean over chains is taken off at every step, so that an evoked mean response and the length of the trial "
    "leave no trace; pairs at lag k are averaged, not summed",
    "none for chains of one stationary law; chains of different laws never lose their correlation",
    "Murray et al. (2014) Nature Neuroscience 17:1661",
)
TIMESCALE = Meaning(
    "intrinsic timescale",
    "R(k) = A (exp(-k/tau) + B)",
    "least squares over lags from where R begins to fall; tau on a logarithmic grid, refined by a parabola, A and B "
    "linear in closed form",
    "one exponential: of several, a mixture weighted towards the slow ones; low where the mean over a short trial was "
    "taken off each chain (then the autocorrelation is biased; Zeraati et al. 2022)",
    "Murray et al. (2014) Nature Neuroscience 17:1661; Zeraati et al. (2022) Nature Computational Science 2:193",
)
IMPLIED = Meaning(
    "integrated timescale of a linear circuit",
    "tau_i = integral of C_ii(t)/C_ii(0) dt = (L^-1 G^-1 L^-1)_ii / (L^-1)_ii, L the precision, G the mobility",
    "closed form",
    "none in the limit of small steps; independent of temperature",
    "derived",
)


def trial_autocorrelation(value: xr.DataArray, dim: str = "step", lags: int | None = None) -> xr.DataArray:
    """Autocorrelation over `lag` across chains as trials; keeps all dims but `chain` and `dim`.

    R(k) = ⟨Σ_c (z_ct − z̄_t)(z_c,t+k − z̄_t+k)⟩_t over the same at k = 0, z̄_t the mean over chains at step t. Free of
    the finite-trial bias that comes from subtracting each chain's own mean, and defined during an evoked response.
    `lags` (default a quarter of the entries) should stay well below the length: few pairs stand behind the last.
    At least 2 chains are needed; 16 make it useful. Murray et al. (2014).
    """
    require_entries(value, dim, 8)
    if value.sizes.get("chain", 1) < 2:
        raise AnalysisError("the autocorrelation across trials needs at least 2 chains")
    length = value.sizes[dim]
    count = min(lags or length // 4, length)
    spaced = np.arange(count) * stride(value, dim)

    def of_slab(part: xr.DataArray) -> xr.DataArray:
        rho = _across(last_axes(part, ("chain", dim)), count)
        lead = lead_of(part, ("chain", dim))
        return lead.expand_dims(lag=spaced, axis=-1).copy(data=rho.reshape(*lead.shape, count))

    cautions = (
        []
        if value.sizes["chain"] >= 4
        else [f"must not be read: {value.sizes['chain']} of at least 4 chains"]
    )
    return described(by_slab(of_slab, [value], ("chain", dim)).rename("autocorrelation"), ACROSS, cautions)


def intrinsic_timescale(autocorrelation: xr.DataArray) -> xr.Dataset:
    """Murray's fit to autocorrelations over `lag`: `timescale`, `amplitude` A, `offset` B, `first_lag`, `r2`, `fitted`.

    R(k) = A (e^{−k/τ} + B) from the lag where R begins to fall (lag 0 left out), τ in units of `lag` (multiply steps by
    γ for time). NaN where R does not fall or fewer than 4 lags remain. `at_edge` marks a τ at the end of what the lags
    can tell (a third of the spacing to three times the longest lag): not to be read. Murray et al. (2014); the caution
    about short trials is Zeraati et al. (2022).
    """
    if "lag" not in autocorrelation.dims or autocorrelation.sizes["lag"] < 6:
        raise AnalysisError("an intrinsic timescale needs a dim `lag` with at least 6 lags")
    time = autocorrelation["lag"].values.astype(np.float64)
    names = ("timescale", "amplitude", "offset", "first_lag", "r2", "at_edge")
    lead = lead_of(autocorrelation, ("lag",))
    rows = [_fit(row, time) for row in last_axes(autocorrelation, ("lag",)).astype(np.float64)]
    found = columns_of(lead, names, np.array(rows))
    found["at_edge"] = found["at_edge"] == 1
    found["autocorrelation"] = autocorrelation.drop_attrs()
    decay = np.exp(-autocorrelation["lag"] / found["timescale"])
    inside = autocorrelation["lag"] >= found["first_lag"]
    found["fitted"] = (found["amplitude"] * (decay + found["offset"])).where(inside)
    cautions = cautions_of(autocorrelation)
    if (edge := int(found["at_edge"].sum())) > 0:
        cautions.append(
            f"must not be read as a timescale in {edge} of {lead.size} series: beyond what the lags tell"
        )
    if (none := int(found["timescale"].isnull().sum())) > 0:
        cautions.append(f"no timescale in {none} of {lead.size} series: the autocorrelation does not fall")
    return described(found, TIMESCALE, cautions)


def timescales_by_phase(
    value: xr.DataArray, phases: Mapping[str, slice] | None = None, dim: str = "step", lags: int | None = None
) -> xr.Dataset:
    """Intrinsic and integrated timescale per phase (`spontaneous`, `evoked`) over a dim `phase`, in units of `dim`.

    Phases come from the coordinate `phase` of the trace, or as slices of step numbers. `integrated` = τ_int/2 entries
    is ∫C(t)dt/C(0), which `implied_timescale` gives for a linear circuit; the transient after the onset should be left
    out (slices). The hierarchy measured by Murray is spontaneous; in linear circuits of equal mobility it is flat.
    """
    chosen = phases if phases is not None else _phases(value, dim)
    parts, cautions = [], []
    for name, where in chosen.items():
        part = value.sel({dim: where}).drop_vars("phase", errors="ignore")
        found = intrinsic_timescale(trial_autocorrelation(part, dim, lags))
        integrated = integrated_time(part, dim)
        cautions += [f"{name}: {text}" for text in cautions_of(found, integrated)]
        found["integrated"] = integrated.drop_attrs() / 2 * stride(part, dim)
        parts.append(found.drop_vars(["autocorrelation", "fitted"]).expand_dims(phase=[name]))
    return described(xr.concat(parts, "phase", join="outer", combine_attrs="drop"), TIMESCALE, cautions)


def implied_timescale(precision: Array, mobility: Array | float = 1.0) -> xr.DataArray:
    """∫C_ii(t)dt / C_ii(0) per unit of dz = −GΛz dt + √(2GT) dW: (Λ⁻¹G⁻¹Λ⁻¹)_ii / (Λ⁻¹)_ii, in physical time.

    With equal mobility (Λ⁻²)_ii / (Λ⁻¹)_ii. The temperature drops out. Λ is the posterior's precision for evoked, the
    prior's for spontaneous activity.
    """
    covariance = np.linalg.inv(np.asarray(precision, dtype=np.float64))
    drag = 1 / np.broadcast_to(np.asarray(mobility, dtype=np.float64), len(covariance))
    times = ((covariance * drag) @ covariance).diagonal() / covariance.diagonal()
    return described(xr.DataArray(times, dims="unit", name="timescale"), IMPLIED)


def _phases(value: xr.DataArray, dim: str) -> dict[str, slice]:
    if "phase" not in value.coords:
        raise AnalysisError(
            "timescales by phase: the array has no coordinate `phase`; give slices of step numbers, or the root's "
            'coordinate: value.assign_coords(phase=trace["phase"])'
        )
    label, steps = value["phase"].values, value[dim].values
    names = [name for name in ("spontaneous", "evoked") if (label == name).sum() >= 32]
    if not names:
        raise AnalysisError("timescales by phase: neither phase has 32 entries")
    return {name: slice(steps[label == name][0], steps[label == name][-1]) for name in names}


def _across(series: NDArray[np.floating], lags: int) -> Array:
    part = series.astype(np.float64)
    part -= part.mean(axis=1, keepdims=True)
    length = part.shape[-1]
    padded = fft.next_fast_len(length + lags, real=True)
    power = (np.abs(fft.rfft(part, padded)) ** 2).mean(axis=1)
    covariance = fft.irfft(power, padded)[:, :lags] / (length - np.arange(lags))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(covariance / covariance[:, :1])


def _fit(curve: Array, time: Array) -> tuple[float, ...]:
    falls = np.flatnonzero(np.diff(curve[1:]) < 0) + 1
    start = int(falls[0]) if falls.size else len(curve)
    y, t = curve[start:], time[start:]
    if len(y) < 4 or not np.isfinite(y).all():
        return (np.nan,) * 5 + (0.0,)
    spacing = time[1] - time[0]
    grid = np.geomspace(spacing / 3, 3 * time[-1], GRID)
    left = _residual(y, t, grid)
    best = int(left.argmin())
    if 0 < best < GRID - 1:
        low, mid, high = left[best - 1 : best + 2]
        shift = 0.5 * (low - high) / (low - 2 * mid + high) if low - 2 * mid + high > 0 else 0.0
        tau = float(grid[best] * (grid[1] / grid[0]) ** shift)
    else:
        tau = float(grid[best])
    slope, level = _linear(y, np.exp(-t / tau))
    spread = float(((y - y.mean()) ** 2).sum())
    fit = 1 - float(_residual(y, t, np.array([tau]))[0]) / spread if spread > 0 else np.nan
    return tau, slope, level / slope if slope else np.nan, float(t[0]), fit, float(best in (0, GRID - 1))


def _linear(y: Array, x: Array) -> tuple[float, float]:
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())
    return slope, float(y.mean() - slope * x.mean())


def _residual(y: Array, t: Array, taus: Array) -> Array:
    """Sum of squares that a line in exp(−t/tau) leaves, per tau; a rising exponential is no decay."""
    x = np.exp(-t[None, :] / taus[:, None])
    x = x - x.mean(axis=1, keepdims=True)
    down, square = x @ (y - y.mean()), (x**2).sum(axis=1)
    explained = np.where(down > 0, down**2 / np.maximum(square, 1e-300), 0.0)
    return np.asarray(((y - y.mean()) ** 2).sum() - explained)
