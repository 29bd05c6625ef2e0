"""Fluctuation and dissipation: what the fluctuations say about the response to a push, and at which temperature."""

import numpy as np
import xarray as xr

from pcsim.analysis.averages import moments_with_error
from pcsim.analysis.convergence import autocorrelation
from pcsim.analysis.covariance import covariance
from pcsim.analysis.result import Meaning, cautions_of, described
from pcsim.errors import AnalysisError

STATIC = Meaning(
    "static susceptibility from fluctuations",
    "chi_ij = d E z_i / d h_j = C_ij / T for the energy U - h.z",
    "covariance over chains and steps, divided by T",
    "that of the covariance; a finite step raises it by 1/(1 - gamma lambda/2)",
    "Kubo (1966) Reports on Progress in Physics 29:255",
    "of the values, squared",
)
DYNAMIC = Meaning(
    "response from fluctuations",
    "R(t) = -(1/T) dC(t)/dt; step response chi(t) = (C(0) - C(t))/T",
    "autocovariance of each unit over chains and steps; differences between neighbouring lags, at half lags",
    "a finite step raises it by 1/(1 - gamma lambda/2); noise of neighbouring lags nearly cancels in R, adds in chi",
    "Kubo (1966) Reports on Progress in Physics 29:255; Marconi et al. (2008) Physics Reports 461:111",
    "of the values, squared",
)
EFFECTIVE_TEMPERATURE = Meaning(
    "effective temperature",
    "T_eff(t) = (C(0) - C(t)) / chi(t), chi(t) the measured response to a constant push switched on at 0",
    "autocovariance from unpushed chains over a measured step response per unit push",
    "biased where chi is small against its error: the first lags; a finite step raises it by 1/(1 - gamma lambda/2)",
    "Cugliandolo (2011) Journal of Physics A 44:483001",
    "temperature (1 = posterior)",
)
SPECTRAL_TEMPERATURE = EFFECTIVE_TEMPERATURE._replace(
    definition="T_eff(w) = w S(w) / (2 Im chi(w)), S the two-sided spectrum, chi the transform of the impulse response",
    estimator="Welch spectrum of unpushed chains over the sine transform of the measured step response's increments; "
    "w is (2/dt) sin(w dt/2), which makes the ratio of a Langevin step T/(1 - gamma lambda/2) at every frequency",
    bias="a response cut before it settles ripples; a spectrum smeared by its window is wrong below its resolution",
)


def static_susceptibility(value: xr.DataArray, temperature: float, dim: str = "step") -> xr.DataArray:
    """χ (…, unit, unit_2): how the mean of unit moves with a push h on unit_2, predicted from fluctuations as C/T.

    Compare with runs under U − h·z; where it is wrong, the chains do not sample exp(−U/T). Kubo (1966).
    """
    _positive(temperature)
    found = covariance(value, dim)
    return described(found.drop_attrs() / temperature, STATIC, cautions_of(found))


def response(
    value: xr.DataArray,
    temperature: float,
    step_size: float = 1.0,
    dim: str = "step",
    lags: int | None = None,
) -> xr.Dataset:
    """`impulse` R and `step` χ of every unit over `lag` (time γ·k), predicted from its own fluctuations.

    R at half lags (dim `half_lag`) = −ΔC/(T Δt), χ(t) = (C(0) − C(t))/T. For dz = −Λz dt + √(2T) dW, R = exp(−Λt)_ii.
    `step_size` turns steps into time. Must not be read for a chain with memory (momentum, slow errors): there the
    relation fails, which `effective_temperature` measures. Kubo (1966).
    """
    _positive(temperature)
    rho = autocorrelation(value, dim, lags)
    rho = rho.assign_coords(lag=rho["lag"] * step_size)
    curve = rho.drop_attrs() * moments_with_error(value, dim)["variance"]
    time = rho["lag"].values
    slopes = -curve.diff("lag").rename(lag="half_lag") / np.diff(time)[0] / temperature
    impulse = slopes.assign_coords(half_lag=(time[1:] + time[:-1]) / 2)
    found = xr.Dataset({"impulse": impulse, "step": (curve.isel(lag=0, drop=True) - curve) / temperature})
    return described(found.assign_attrs(temperature=temperature), DYNAMIC, cautions_of(rho))


def effective_temperature(predicted: xr.Dataset, measured: xr.DataArray) -> xr.DataArray:
    """T_eff(t) = T χ_predicted(t) / χ_measured(t) over `lag`: T at every lag for a sampler at T, in equilibrium.

    `predicted` from `response`, `measured` the mean displacement per unit push of chains that are pushed from lag 0 on
    (with the same draws as unpushed ones its error is small). NaN at lag 0. Cugliandolo (2011).
    """
    if "lag" not in measured.dims or not np.allclose(measured["lag"], predicted["lag"]):
        raise AnalysisError(
            "effective temperature: the measured response must be at the lags of the predicted one"
        )
    ratio: xr.DataArray = (
        predicted.attrs["temperature"] * predicted["step"] / measured.where(measured["lag"] > 0)
    )
    return described(ratio, EFFECTIVE_TEMPERATURE, cautions_of(predicted))


def effective_temperature_spectrum(spectrum: xr.Dataset, measured: xr.DataArray) -> xr.DataArray:
    """T_eff(ω) = ω S(ω) / (2 Im χ(ω)) over `frequency`: which of the chain's timescales are too hot or too cold.

    `spectrum` from `power_spectrum` (one-sided, frequencies per unit of `lag`'s time), `measured` the mean displacement
    per unit push over `lag`, evenly from 0 on, as in `effective_temperature`. A sampler at T has T/(1 − γλ/2) at all
    frequencies; coloured noise and slow error units do not. NaN where Im χ is not positive. Must not be read where the
    response has not settled within the lags, nor as precise where the spectrum is not: its relative error is the
    spectrum's. Cugliandolo (2011).
    """
    if "lag" not in measured.dims or measured.sizes["lag"] < 8 or float(measured["lag"][0]) != 0:
        raise AnalysisError("effective temperature: the measured response needs 8 lags or more, from 0 on")
    time, frequency = measured["lag"].to_numpy().astype(np.float64), spectrum["frequency"]
    gaps = np.diff(time)
    if not np.allclose(gaps, gaps[0]) or float(frequency.max()) * gaps[0] > 0.5 + 1e-9:
        raise AnalysisError(
            "effective temperature: lags must be even, and at most half a period of any frequency"
        )
    middle = xr.DataArray((time[1:] + time[:-1]) / 2, dims="lag")
    rises = measured.astype(np.float64).diff("lag").drop_vars("lag")
    lossy = xr.dot(rises, np.sin(2 * np.pi * frequency * middle), dim="lag")
    pulse = 2 / gaps[0] * np.sin(np.pi * frequency * gaps[0])
    ratio: xr.DataArray = pulse * spectrum["power"] / (4 * lossy.where(lossy > 0))
    cautions = cautions_of(spectrum)
    quarter = measured.isel(lag=slice(-(len(time) // 4), None))
    moving = abs(quarter.isel(lag=-1) - quarter.isel(lag=0)) > 0.02 * abs(measured.isel(lag=-1))
    if count := int(moving.sum()):
        cautions.append(
            f"must not be read at low frequencies in {count} of {moving.size} series: the response has not settled"
        )
    return described(ratio.rename("effective_temperature"), SPECTRAL_TEMPERATURE, cautions)


def _positive(temperature: float) -> None:
    if not temperature > 0:
        raise AnalysisError(f"fluctuations say nothing about the response at temperature {temperature:g}")
