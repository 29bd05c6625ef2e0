"""Power spectra of units over all chains, with the Ornstein-Uhlenbeck and AR(1) spectra to read them by."""

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pcsim.analysis.convergence import unconverged
from pcsim.analysis.result import Meaning, cautions_of, described
from pcsim.analysis.slabs import by_slab, columns_of, last_axes, lead_of, require_entries, stride, with_chain
from pcsim.errors import AnalysisError

Array = NDArray[np.float64]
DROPPED = 2
"""Lowest bins that taking off the mean and the window's side lobes distort."""
OVERLAP = 1 + 2 / 36
"""Variance of an average of half-overlapping Hann segments over that of independent ones (Welch 1967)."""
SPECTRUM = Meaning(
    "power spectral density, one-sided",
    "S(f) = 2 integral of C(t) cos(2 pi f t) dt, f > 0",
    "Welch: Hann windows of `segment` entries, half overlapping, each without its mean; averaged over segments and "
    "chains; the lowest 2 bins and the Nyquist bin are left out",
    "smeared over 1.5/(segment dt), which lowers a knee below that; aliased near the Nyquist frequency",
    "Welch (1967) IEEE Transactions on Audio and Electroacoustics 15:70",
    "value^2 per unit frequency",
)
KNEE = Meaning(
    "knee and slope of a spectrum",
    "S(f) = S_0 / (1 + (f/knee)^slope)",
    "least squares of log S, below a quarter of the highest frequency",
    "for OU knee = lambda/(2 pi), slope 2; slope low where aliasing is inside the range, and for sums of several rates",
    "Donoghue et al. (2020) Nature Neuroscience 23:1655 (knee form)",
)


def power_spectrum(
    value: xr.DataArray, interval: float = 1.0, segment: int | None = None, dim: str = "step"
) -> xr.Dataset:
    """`power` over `frequency` of every series, averaged over chains, with `power_error`.

    One-sided density, so that its integral is the variance. `interval` is the time between neighbouring steps (γ, or
    seconds); frequencies are per unit of it. `segment` entries per window (default an eighth of the chain) decides
    between resolution and error: power_error = S √(1.06/(segments × chains)). Must not be read below the lowest
    frequency given, nor as a spectrum where chains are not stationary. Welch (1967).
    """
    require_entries(value, dim, 64)
    width = segment or value.sizes[dim] // 8
    if not 8 <= width <= value.sizes[dim]:
        raise AnalysisError(
            f"spectrum: segments of {width} entries in chains of {value.sizes[dim]}; give 8 or more"
        )
    given, spaced = with_chain(value), interval * stride(value, dim)
    frequency = np.fft.rfftfreq(width, spaced)[_kept(width)]

    def of_slab(part: xr.DataArray) -> xr.DataArray:
        power = _welch(last_axes(part, ("chain", dim)), width, spaced)
        lead = lead_of(part, ("chain", dim))
        return lead.expand_dims(frequency=frequency, axis=-1).copy(data=power.reshape(*lead.shape, -1))

    power = by_slab(of_slab, [given], ("chain", dim))
    count = (value.sizes[dim] - width) // (width // 2) + 1
    error = power * np.sqrt((OVERLAP if count > 1 else 1.0) / (count * given.sizes["chain"]))
    found = xr.Dataset({"power": power, "power_error": error})
    return described(found.assign_attrs(segment=width), SPECTRUM, unconverged(value, dim))


def ou_spectrum(frequency: Array | xr.DataArray, rate: float, temperature: float = 1.0) -> xr.DataArray:
    """4T/(λ² + (2πf)²), one-sided, of dz = −λz dt + √(2T) dW: flat to the knee λ/(2π), then falling with slope 2."""
    given = _frequencies(frequency)
    power: xr.DataArray = 4 * temperature / (rate**2 + (2 * np.pi * given) ** 2)
    return power.rename("power")


def langevin_spectrum(
    frequency: Array | xr.DataArray, rate: float, step_size: float, temperature: float = 1.0
) -> xr.DataArray:
    """4Tγ²/(1 + a² − 2a cos 2πfγ), a = 1 − γλ: one-sided, of the Langevin step itself (AR(1)), aliasing included."""
    given = _frequencies(frequency)
    a = 1 - step_size * rate
    turn: xr.DataArray = 2 * np.pi * given * step_size
    power: xr.DataArray = 4 * temperature * step_size**2 / (1 + a**2 - 2 * a * xr.ufuncs.cos(turn))
    return power.rename("power")


def vector_ou_spectrum(
    frequency: Array | xr.DataArray, precision: Array, temperature: float = 1.0
) -> xr.DataArray:
    """Diagonal of 4T(Λ² + (2πf)²)⁻¹ over `frequency` and `unit`: each unit a sum of Lorentzians, one per eigenvalue."""
    given = _frequencies(frequency)
    rates, basis = np.linalg.eigh(np.asarray(precision, dtype=np.float64))
    weights = xr.DataArray(basis**2, dims=("unit", "mode"))
    modes = 4 * temperature / (xr.DataArray(rates, dims="mode") ** 2 + (2 * np.pi * given) ** 2)
    power: xr.DataArray = xr.dot(modes, weights, dim="mode")
    return power.rename("power")


def knee_and_slope(spectrum: xr.Dataset, below: float | None = None) -> xr.Dataset:
    """`knee`, `slope` and `plateau` of S(f) = S₀/(1 + (f/knee)^slope) for every series; `fitted` over `frequency`.

    OU has knee λ/(2π) and slope 2. Fitted to log S over frequencies up to `below` (default a quarter of the highest,
    beyond which aliasing lifts the tail). NaN where no fit is found; a knee outside the fitted range is not to be read
    and makes a caution. A few milliseconds a series. Donoghue et al. (2020), the form with a knee.
    """
    power = spectrum["power"]
    top = float(power["frequency"].max()) / 4 if below is None else below
    inside = power.sel(frequency=slice(0, top))
    if inside.sizes["frequency"] < 8:
        raise AnalysisError(f"knee: {inside.sizes['frequency']} frequencies up to {top:g}; 8 are needed")
    lead, f = lead_of(power, ("frequency",)), inside["frequency"].values
    rows = [_lorentzian(row, f) for row in last_axes(inside, ("frequency",))]
    found = columns_of(lead, ("plateau", "knee", "slope"), np.array(rows))
    found["fitted"] = (
        found["plateau"] / (1 + (inside["frequency"] / found["knee"]) ** found["slope"])
    ).drop_attrs()
    cautions = cautions_of(spectrum)
    outside = int((~((found["knee"] >= f[0]) & (found["knee"] <= f[-1]))).sum())
    if outside:
        cautions.append(
            f"must not be read as a knee in {outside} of {lead.size} series: outside the fitted range"
        )
    return described(found, KNEE, cautions)


def _frequencies(frequency: Array | xr.DataArray) -> xr.DataArray:
    if isinstance(frequency, xr.DataArray):
        return frequency
    return xr.DataArray(frequency, dims="frequency", coords={"frequency": frequency})


def _kept(width: int) -> slice:
    """Without the lowest bins, and without the Nyquist bin of an even width, which has no negative twin to count."""
    return slice(DROPPED, (width + 1) // 2)


def _welch(series: NDArray[np.floating], width: int, interval: float) -> Array:
    from scipy.signal import welch

    part = series.astype(np.float64)
    power = welch(part, 1 / interval, nperseg=width, detrend="constant", axis=-1)[1]
    return np.asarray(power[..., _kept(width)].mean(axis=1))


def _lorentzian(power: Array, frequency: Array) -> tuple[float, float, float]:
    from scipy.optimize import least_squares

    if not (np.isfinite(power).all() and (power > 0).all()):
        return np.nan, np.nan, np.nan
    height, log_f = np.log(power), np.log(frequency)
    start = height[: max(3, len(height) // 20)].mean()
    half = int(np.argmax(height < start - np.log(2))) or len(height) // 2

    def residual(x: Array) -> Array:
        return np.asarray(x[0] - np.logaddexp(0, x[2] * (log_f - x[1])) - height)

    found = least_squares(
        residual, [start, log_f[half], 2.0], bounds=([-np.inf, -np.inf, 0.1], [np.inf, np.inf, 8.0])
    )
    if not found.success:
        return np.nan, np.nan, np.nan
    return float(np.exp(found.x[0])), float(np.exp(found.x[1])), float(found.x[2])
