"""Series whose truth is known: AR(1), Ornstein-Uhlenbeck, Langevin chains on quadratic energies, random walks."""

from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.signal import lfilter

Array = NDArray[np.float64]


def ar1(a: float, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Stationary z_t = a z_(t−1) + √(1−a²) ξ_t along the last axis; unit variance, rho(k) = a^k, tau (1+a)/(1−a)."""
    noise = rng.standard_normal(shape)
    noise[..., 1:] *= np.sqrt(1 - a**2)
    return np.asarray(lfilter([1.0], [1.0, -a], noise, axis=-1))


def ou(rate: float, dt: float, shape: tuple[int, ...], rng: np.random.Generator, scale: float = 1.0) -> Array:
    """Exact Ornstein-Uhlenbeck samples dt apart: variance scale², correlation exp(−rate·t)."""
    return scale * ar1(float(np.exp(-rate * dt)), shape, rng)


def random_walk(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Sums of independent unit increments along the last axis: never stationary."""
    return np.cumsum(rng.standard_normal(shape), axis=-1)


class Chains(NamedTuple):
    """A Langevin run on U = z·Λz/2, each array with dims (chain, step, unit)."""

    value: xr.DataArray
    gradient: xr.DataArray
    """∂U/∂z = Λz at the value of the same step."""
    energy: xr.DataArray
    """(chain, step), above its minimum."""


def langevin(
    precision: Array, step_size: float, steps: int, chains: int, rng: np.random.Generator,
    temperature: float = 1.0,
) -> Chains:  # fmt: skip
    """z ← z − γ Λz + √(2γT) ξ, started in its own stationary law: covariance T [Λ(I − γΛ/2)]⁻¹."""
    rates, basis = np.linalg.eigh(precision)
    modes = np.stack([ar1(float(1 - step_size * rate), (chains, steps), rng) for rate in rates], axis=-1)
    spread = np.sqrt(temperature / (rates * (1 - step_size * rates / 2)))
    value = named((modes * spread) @ basis.T)
    gradient = value.copy(data=value.to_numpy() @ precision)
    return Chains(value, gradient, (value * gradient).sum("unit") / 2)


def stationary_covariance(precision: Array, step_size: float, temperature: float = 1.0) -> Array:
    """T [Λ(I − γΛ/2)]⁻¹: what the Langevin step of size γ has instead of TΛ⁻¹."""
    return temperature * np.linalg.inv(precision @ (np.eye(len(precision)) - step_size * precision / 2))


def random_precision(size: int, rng: np.random.Generator, condition: float = 30.0) -> Array:
    """A symmetric matrix with eigenvalues from 1 to `condition`, in a random basis."""
    basis, _ = np.linalg.qr(rng.standard_normal((size, size)))
    result = basis @ np.diag(np.geomspace(1.0, condition, size)) @ basis.T
    return np.asarray((result + result.T) / 2)


def named(values: Array) -> xr.DataArray:
    """`[chain, step, unit]` as a trace has it, steps numbered from 1."""
    coords = {"step": np.arange(1, values.shape[1] + 1)}
    return xr.DataArray(values, dims=("chain", "step", "unit"), coords=coords, name="value")
