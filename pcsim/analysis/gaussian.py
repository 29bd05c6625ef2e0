"""Kullback-Leibler divergences between Gaussian laws, known or fitted to few independent draws."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

Array = NDArray[np.float64]


class Law(NamedTuple):
    """A Gaussian: `mean [..., d]`, `covariance [..., d, d]`."""

    mean: Array
    covariance: Array


class Fitted(NamedTuple):
    """A divergence whose one law was fitted to draws; arrays `[...]`, in nats."""

    plain: Array
    """Closed form at the fitted moments; biased upwards."""
    corrected: Array
    """Plain less its expected bias; may be negative where the laws agree."""
    standard_error: Array


def kl(first: Law, second: Law) -> Array:
    """KL(first ‖ second) = ½[tr(Σ₂⁻¹Σ₁) + δᵀΣ₂⁻¹δ − d + ln|Σ₂| − ln|Σ₁|], δ = μ₁ − μ₂, in nats.

    Infinite where either covariance is singular (a point has no density); NaN where anything is not finite.

    >>> one = Law(np.zeros(1), np.eye(1))
    >>> round(float(kl(one, Law(np.zeros(1), np.eye(1) / 2))), 4)
    0.1534
    """
    return _kl(first, second, singular(first.covariance) | singular(second.covariance))


def singular(covariance: Array) -> NDArray[np.bool_]:
    """Whether `[..., d, d]` has a direction without variance, to rounding; False where it is not finite.

    By the least eigenvalue of the correlations, so that units of very different scale do not count as singular.
    """
    d = covariance.shape[-1]
    sd = np.sqrt(np.diagonal(covariance, axis1=-2, axis2=-1))
    still = (sd == 0).any(-1)
    known = np.isfinite(covariance).all((-2, -1)) & ~still
    scale = np.where(known[..., None], sd, 1.0)
    correlation = _replaced(covariance, ~known) / (scale[..., :, None] * scale[..., None, :])
    least = np.linalg.eigvalsh(correlation)[..., 0]
    return np.asarray(still | (known & (least < 10 * d * np.finfo(np.float64).eps)))


def fit(draws: Array) -> Law:
    """Sample mean and covariance (n − 1) of `draws [..., n, d]`."""
    mean = draws.mean(-2)
    centred = draws - mean[..., None, :]
    return Law(mean, np.swapaxes(centred, -1, -2) @ centred / (draws.shape[-2] - 1))


def log_determinant_shift(n: int, d: int) -> float:
    """E ln|S| − ln|Σ| = Σ_{i=1..d} ψ((n − i)/2) + d ln(2/(n − 1)) for the covariance S of n Gaussian draws.

    Negative, about −d(d + 1)/(2n) for large n. Wishart's log-determinant (Anderson 2003, section 7.5).
    """
    return float(digamma((n - np.arange(1, d + 1)) / 2).sum() + d * np.log(2 / (n - 1)))


def kl_to(draws: Array, target: Law) -> Fitted:
    """KL(q ‖ target) where q is known by n draws `[..., n, d]`; NaN unless n > d.

    The correction ½[tr(Λ S)/n − shift] is exact for independent Gaussian draws: E tr(Λ S) = tr(Λ Σ).
    The standard error is the delta method's, plus the second-order term that stays where the laws agree.
    """
    n, d = draws.shape[-2:]
    if n <= d:
        return _undefined(draws)
    fitted = fit(draws)
    plain = _kl(fitted, target, singular(fitted.covariance))
    precision = np.asarray(np.linalg.inv(target.covariance), np.float64)
    ratio = precision @ fitted.covariance
    bias = 0.5 * (np.trace(ratio, axis1=-2, axis2=-1) / n - log_determinant_shift(n, d))
    pull = np.einsum("...ij,...j->...i", precision, fitted.mean - target.mean)
    variance = _quadratic(fitted.covariance, pull) / n + _square_trace(ratio - np.eye(d)) / (2 * (n - 1))
    return Fitted(plain, plain - bias, np.sqrt(variance + _floor(n, d)))


def kl_from(target: Law, draws: Array) -> Fitted:
    """KL(target ‖ q) where q is known by n draws `[..., n, d]`; NaN unless n > d + 2.

    E S⁻¹ = Σ⁻¹(n − 1)/(n − d − 2), so the inverse is scaled back and d/n taken off: exact for Gaussian draws.
    """
    n, d = draws.shape[-2:]
    if n <= d + 2:
        return _undefined(draws)
    fitted = fit(draws)
    point = singular(fitted.covariance)
    plain = _kl(target, fitted, point)
    delta = target.mean - fitted.mean
    second = target.covariance + delta[..., :, None] * delta[..., None, :]
    usable = _replaced(fitted.covariance, point)
    ratio = np.linalg.solve(usable, second)
    shrink = (n - d - 2) / (n - 1)
    excess = (1 - shrink) * np.trace(ratio, axis1=-2, axis2=-1) + d / n + log_determinant_shift(n, d)
    pull = np.asarray(np.linalg.solve(usable, delta[..., None])[..., 0], np.float64)
    variance = _quadratic(fitted.covariance, pull) / n + _square_trace(np.eye(d) - ratio) / (2 * (n - 1))
    return Fitted(plain, plain - 0.5 * excess, np.sqrt(variance + _floor(n, d)))


def _kl(first: Law, second: Law, point: NDArray[np.bool_]) -> Array:
    """KL(first ‖ second), infinite where `point` says that a covariance is singular."""
    usable = _replaced(second.covariance, point)
    delta = first.mean - second.mean
    solved = np.linalg.solve(usable, _beside(first.covariance, delta))
    trace = np.trace(solved[..., :-1], axis1=-2, axis2=-1)
    square = (delta * solved[..., -1]).sum(-1)
    twice = trace + square - delta.shape[-1] + _logdet(usable) - _logdet(first.covariance)
    return np.where(point, np.inf, twice / 2)


def _replaced(covariance: Array, where: NDArray[np.bool_]) -> Array:
    """The covariances, with the identity where they cannot be used: one of them must not stop a whole batch."""
    return np.where(where[..., None, None], np.eye(covariance.shape[-1]), covariance)


def _beside(matrix: Array, vector: Array) -> Array:
    vector = np.broadcast_to(vector, matrix.shape[:-1]) if vector.ndim < matrix.ndim - 1 else vector
    matrix = np.broadcast_to(matrix, (*vector.shape, matrix.shape[-1]))
    return np.concatenate([matrix, vector[..., None]], axis=-1)


def _logdet(covariance: Array) -> Array:
    with np.errstate(invalid="ignore"):  # what is not finite stays so
        sign, size = np.linalg.slogdet(covariance)
    return np.where(sign > 0, size, -np.inf)


def _quadratic(matrix: Array, vector: Array) -> Array:
    return np.asarray(np.einsum("...i,...ij,...j->...", vector, matrix, vector))


def _square_trace(matrix: Array) -> Array:
    return np.asarray(np.einsum("...ij,...ji->...", matrix, matrix))


def _floor(n: int, d: int) -> float:
    """Variance of a χ²_k/(2n) with k = d(d + 3)/2: what is left where both laws agree."""
    return d * (d + 3) / 2 / (2 * n**2)


def _undefined(draws: Array) -> Fitted:
    nothing = np.full(draws.shape[:-2], np.nan)
    return Fitted(nothing, nothing, nothing)
