"""Mass of a Gaussian in the 256 bins of [−1, 1], with both its slopes, in closed form and safe in float32.

With d = x − μ, h = 1/255, δ = h/σ, m = |d|/σ and a = mδ the mass of an inner bin is

    P = φ(m) δ ∫₋₁¹ exp(−au − δ²u²/2) du = φ(m) δ exp(K(a²)),

an even function of d; K has the series Σ l_n a²ⁿ with l_n from the moments of exp(−δ²u²/2): up to
a = ½ four terms are exact to float32, so that energy, error and slope in σ are polynomials in d² (no
exponential at all) for nearly every pixel of an image. Beyond, and in the open outer bins, differences of
tails written with Mills' ratio R(v) = (1 − Φ(v))/φ(v) hold at any distance:

    P = φ(v) [R(v) − e^(−2a) R(v + 2δ)],  v = m − δ;      outer bins: P = φ(v) R(v),  v = x d/σ − δ.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pcsim.circuit.distributions.record import HALF_LOG_TWO_PI

HALF_BIN = 1 / 255
EDGE = 1 - HALF_BIN
"""|x| above this is an outer bin; halfway to the next level, so that rounding of x does not matter."""

_SWITCH = 0.25  # a² up to which the series serves

Number = float | Tensor


class Bins(NamedTuple):
    """All that depends on σ alone; numbers, or 0-dimensional tensors where σ is learned on another device."""

    sigma: Number
    delta: Number
    error: list[Number]
    """Polynomial in d² that multiplies d."""
    slope: list[Number]
    """Polynomial in d² to which −(σ error)² is added."""
    energy: list[Number]
    limit: Number
    """The d² up to which the polynomials hold."""


class Terms(NamedTuple):
    """Per entry: ε = ∂ log P/∂μ, and where asked for ∂E/∂ log σ and E = −log P."""

    error: Tensor
    slope: Tensor | None
    energy: Tensor | None


def bins(sigma: float | Tensor, order: int) -> Bins:
    """The polynomials of one σ ≥ 1/255; computed in float64, on CPU as plain numbers.

    The first omitted term, relative to K, is 2 (a/π)^(2·order) at most: 8e-8 for order 4, 2e-16 for order 10.
    """
    sigma = torch.as_tensor(sigma, dtype=torch.float64)
    head, log_series = _log_series((HALF_BIN / sigma).square(), order)
    sigma_: Number = sigma.item() if sigma.device.type == "cpu" else sigma
    delta = HALF_BIN / sigma_
    rate = (delta / sigma_) ** 2  # a² = rate · d²
    orders = range(1, order + 1)
    scaled = [log_series[n - 1] * rate ** (n - 1) for n in orders]
    error = [-(delta**2) / sigma_**2 * 2 * n * scaled[n - 1] for n in orders]
    slope = [-(delta**2) * 2 * n * (2 * n - 1) * scaled[n - 1] for n in orders]
    energy = [HALF_LOG_TWO_PI - head] + [-rate * scaled[n - 1] for n in orders]
    error[0] = error[0] + 1 / sigma_**2
    slope[0] = slope[0] + 1
    energy[1] = energy[1] + 0.5 / sigma_**2
    return Bins(sigma_, delta, error, slope, energy, _SWITCH / rate)


def _log_series(delta_squared: Tensor, order: int) -> tuple[Number, list[Number]]:
    """(log δ∫₋₁¹ exp(−δ²u²/2) du, [l_1 …]): moments by power series in δ² ≤ 1, then the log of a series."""
    k = torch.arange(max(14, order + 1), dtype=torch.float64, device=delta_squared.device)
    j = k[: order + 1, None]
    powers = (-delta_squared / 2) ** k / torch.exp(torch.lgamma(k + 1))
    moments = 2 / (2 * j + 2 * k + 1) @ powers / torch.exp(torch.lgamma(2 * j[:, 0] + 1))
    ratios = torch.cat([(moments[:1] * delta_squared.sqrt()).log(), moments[1:] / moments[0]])
    head, *i = ratios.tolist() if ratios.device.type == "cpu" else ratios.unbind()
    series: list[Number] = []
    for n in range(1, order + 1):
        series.append(i[n - 1] - sum(p * series[p - 1] * i[n - p - 1] for p in range(1, n)) / n)
    return head, series


def inner(b: Bins, d: Tensor, square: Tensor, slope: bool, energy: bool) -> Terms:
    """Terms of inner bins by the polynomials, valid where d² ≤ `b.limit`; `square` is d²."""
    error = _polynomial(b.error, square).mul_(d)
    steep = None
    if slope:
        steep = _polynomial(b.slope, square).sub_((error * b.sigma).square_())
    return Terms(error, steep, _polynomial(b.energy, square) if energy else None)


def far(b: Bins, d: Tensor, slope: bool, energy: bool) -> Terms:
    """Terms of inner bins by Mills' ratio, valid where d² > `b.limit`."""
    m = d.abs() / b.sigma
    v = m - b.delta
    gap = (m * (-2 * b.delta)).exp_()
    above = v + 2 * b.delta
    mass = mills(v).sub_(gap * mills(above))
    error = (1 - gap).div_(mass).div_(b.sigma).copysign_(d)
    steep = above.mul_(gap).sub_(v).div_(mass) if slope else None
    value = v.square().mul_(0.5).add_(HALF_LOG_TWO_PI).sub_(mass.log_()) if energy else None
    return Terms(error, steep, value)


def outer(b: Bins, d: Tensor, x: Tensor, slope: bool, energy: bool) -> Terms:
    """Terms of the open outer bins, x = ±1, at any distance."""
    v = (d / b.sigma).copysign_(d * x).sub_(b.delta)
    ratio = mills(v)
    hazard = 1 / ratio
    error = (hazard / b.sigma).copysign_(x)
    steep = hazard.mul_(v).neg_() if slope else None
    value = None
    if energy:
        below = torch.log1p(torch.erfc(v * -math.sqrt(0.5)).mul_(-0.5)).neg_()
        beyond = v.square().mul_(0.5).add_(HALF_LOG_TWO_PI).sub_(ratio.log_())
        value = torch.where(v < -1, below, beyond)
    return Terms(error, steep, value)


def mills(v: Tensor) -> Tensor:
    """Mills' ratio (1 − Φ(v))/φ(v) of the standard normal; infinite where it overflows, far below 0.

    float32 takes exp · erfc up to 5 and Laplace's continued fraction beyond (6 levels: 1.4e-7 at 5), both
    vectorised; `torch.special.erfcx` is a scalar loop, 12 times as slow, but the only one exact to float64.
    """
    if v.dtype == torch.float64:
        scaled: Tensor = torch.special.erfcx(v * math.sqrt(0.5))
        return scaled.mul_(math.sqrt(math.pi / 2))
    near = v.square().mul_(0.5).exp_().mul_(torch.erfc(v * math.sqrt(0.5))).mul_(math.sqrt(math.pi / 2))
    fraction = v.clone()
    for level in range(6, 0, -1):
        fraction.reciprocal_().mul_(level).add_(v)
    return torch.where(v < 5, near, fraction.reciprocal_())


def gathered(b: Bins, x: Tensor, mu: Tensor, slope: bool, energy: bool) -> Terms:
    """All three forms, each where it holds: the few entries that need a tail are gathered (for the CPU)."""
    x, mu = x.contiguous(), mu.contiguous()
    d = x - mu
    square = d * d
    terms = inner(b, d, square, slope, energy)
    d, x, square = d.view(-1), x.view(-1), square.view(-1)
    if d.numel() and square.amax() > b.limit:
        index = (square > b.limit).nonzero().squeeze(1)
        _put(terms, index, far(b, d[index], slope, energy))
    index = (x.abs() > EDGE).nonzero().squeeze(1)
    if index.numel():
        _put(terms, index, outer(b, d[index], x[index], slope, energy))
    return terms


def everywhere(b: Bins, x: Tensor, mu: Tensor, slope: bool, energy: bool) -> Terms:
    """All three forms computed for every entry and selected: nothing makes the host wait for a device."""
    d = x - mu
    square = d * d
    ends, tails = outer(b, d, x, slope, energy), far(b, d, slope, energy)
    terms = inner(b, d, square, slope, energy)
    edge, distant = x.abs() > EDGE, square > b.limit

    def select(end: Tensor | None, tail: Tensor | None, centre: Tensor | None) -> Tensor | None:
        if end is None or tail is None or centre is None:
            return None
        return torch.where(edge, end, torch.where(distant, tail, centre))

    error = torch.where(edge, ends.error, torch.where(distant, tails.error, terms.error))
    return Terms(
        error, select(ends.slope, tails.slope, terms.slope), select(ends.energy, tails.energy, terms.energy)
    )


def _put(into: Terms, index: Tensor, terms: Terms) -> None:
    """Overwrite the entries at `index` of the flattened terms."""
    for target, source in zip(into, terms, strict=True):
        if target is not None and source is not None:
            target.view(-1).index_copy_(0, index, source)


def _polynomial(coefficients: list[Number], x: Tensor) -> Tensor:
    """Σ c_n xⁿ by Horner's rule, in one new buffer."""
    *rest, last = coefficients
    total = x * last
    for c in rest[:0:-1]:
        total.add_(c).mul_(x)
    return total.add_(rest[0])
