"""Law 1 for every distribution: error, gradients and normalisation against references that share no code."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import integrate, special
from torch import Tensor
from torch import distributions as td

from pcsim.circuit.distributions import DISTRIBUTIONS, Custom, DiscretisedGaussian, Gaussian, from_log_prob
from pcsim.circuit.distributions.bins import Bins, bins, everywhere, gathered
from pcsim.errors import CircuitError

H = 1 / 255
LEVELS = torch.arange(256, dtype=torch.float64) / 127.5 - 1


class Draws:
    """A seeded source of draws."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self.generator, dtype=like.dtype)

    def uniform(self, like: Tensor) -> Tensor:
        return torch.rand(like.shape, generator=self.generator, dtype=like.dtype)


class Case(NamedTuple):
    """One construction with an independent log-density per entry or per row, and where z may lie."""

    fields: dict[str, Any]
    shape: tuple[int, ...]
    log_prob: Callable[[dict[str, Tensor], Tensor, Tensor], Tensor]
    support: Tensor | None = None
    """All values of one unit (one-hot rows for a categorical); None = the real line."""


def normal(precision: Any) -> Callable[[dict[str, Tensor], Tensor, Tensor], Tensor]:
    """Normal log-density with a fixed precision, or the learned one."""

    def log_prob(p: dict[str, Tensor], z: Tensor, eta: Tensor) -> Tensor:
        value = (
            p["log_precision"].exp() if "log_precision" in p else torch.tensor(precision, dtype=torch.float64)
        )
        return td.Normal(eta, value.expand(eta.shape[1:]) ** -0.5).log_prob(z)

    return log_prob


def multivariate(p: dict[str, Tensor], z: Tensor, eta: Tensor) -> Tensor:
    """Multivariate normal log-density from the stored factor (logarithms on its diagonal)."""
    factor = p["cholesky"].tril(-1) + torch.diag(torch.exp(torch.diagonal(p["cholesky"])))
    precision = factor @ factor.T
    return td.MultivariateNormal(eta.flatten(1), precision_matrix=precision).log_prob(z.flatten(1))


def discretised(scale: float) -> Callable[[dict[str, Tensor], Tensor, Tensor], Tensor]:
    """Textbook difference of two normal CDFs, in the tail where it does not cancel."""

    def log_prob(p: dict[str, Tensor], x: Tensor, mu: Tensor) -> Tensor:
        sigma = p["log_scale"].exp() + H if "log_scale" in p else torch.tensor(scale, dtype=torch.float64)
        flip = torch.where(x > mu, -1.0, 1.0)
        r = flip * (x - mu) / sigma
        upper = torch.special.log_ndtr(r + H / sigma)
        inside = upper + torch.log(-torch.expm1(torch.special.log_ndtr(r - H / sigma) - upper))
        low = torch.special.log_ndtr((x + H - mu) / sigma)
        high = torch.special.log_ndtr(-(x - H - mu) / sigma)
        return torch.where(x <= -1 + 1e-9, low, torch.where(x >= 1 - 1e-9, high, inside))

    return log_prob


def laplace(scale: float) -> Callable[[dict[str, Tensor], Tensor, Tensor], Tensor]:
    return lambda p, z, eta: td.Laplace(eta, p["log_scale"].exp() if p else scale).log_prob(z)


def student(precision: float, dof: float) -> Callable[[dict[str, Tensor], Tensor, Tensor], Tensor]:
    def log_prob(p: dict[str, Tensor], z: Tensor, eta: Tensor) -> Tensor:
        value = p["log_precision"].exp() if p else torch.tensor(precision, dtype=torch.float64)
        return td.StudentT(dof, eta, value**-0.5).log_prob(z)

    return log_prob


def bernoulli(p: dict[str, Tensor], z: Tensor, eta: Tensor) -> Tensor:
    return td.Bernoulli(logits=eta).log_prob(z)


def categorical(p: dict[str, Tensor], z: Tensor, eta: Tensor) -> Tensor:
    return td.OneHotCategorical(logits=eta, validate_args=False).log_prob(z).reshape(len(z), -1).sum(1)


MATRIX = [[2.0, 0.5, -0.3, 0.1], [0.5, 1.0, 0.2, 0.0], [-0.3, 0.2, 1.5, 0.4], [0.1, 0.0, 0.4, 0.8]]
ONE, PRECISION, SCALE = (1,), {"learn": ["precision"]}, {"learn": ["scale"]}
BITS, CLASSES = torch.tensor([0.0, 1.0]).double(), torch.eye(4).double()
EXAMPLES: dict[str, list[Case]] = {
    "gaussian": [
        Case({}, ONE, normal(1.0)),
        Case({"precision": 4.0}, ONE, normal(4.0)),
        Case({"precision": 0.25, **PRECISION}, ONE, normal(0.25)),
        Case({"precision": 0.3, **PRECISION}, (2, 3), normal(0.3)),
        Case({"precision": [1, 2.0, 0.5]}, (3,), normal([1.0, 2.0, 0.5])),
        Case({"precision": [1, 2.0, 0.5, 4.0], **PRECISION}, (2, 2), normal(None)),
        Case({"precision": MATRIX}, (2, 2), multivariate),
        Case({"precision": MATRIX, **PRECISION}, (4,), multivariate),
    ],
    "discretised_gaussian": [
        Case({}, ONE, discretised(0.3), LEVELS),
        Case({"scale": 0.05, **SCALE}, ONE, discretised(0.05), LEVELS),
        Case({"scale": 1.02 * H}, ONE, discretised(1.02 * H), LEVELS),
        Case({"scale": 3.0, **SCALE}, (3, 4), discretised(3.0), LEVELS),
        Case({"scale": 0.01, **SCALE}, (3, 2, 2), discretised(0.01), LEVELS),
    ],
    "bernoulli": [Case({}, ONE, bernoulli, BITS), Case({}, (2, 3), bernoulli, BITS)],
    "categorical": [Case({}, (4,), categorical, CLASSES), Case({}, (3, 4), categorical, CLASSES)],
    "laplace": [
        Case({}, ONE, laplace(1.0)),
        Case({"scale": 0.3}, (2, 3), laplace(0.3)),
        Case({"scale": 2.0, **SCALE}, ONE, laplace(2.0)),
    ],
    "student_t": [
        Case({}, (3,), student(1.0, 4.0)),
        Case({"precision": 2.0, "dof": 9.0}, ONE, student(2.0, 9.0)),
        Case({"precision": 0.5, "dof": 12.5, **PRECISION}, ONE, student(0.5, 12.5)),
    ],
}
CASES = [
    pytest.param(name, case, id=f"{name}{i}")
    for name, cases in EXAMPLES.items()
    for i, case in enumerate(cases)
]
ONE_UNIT = [p for p in CASES if p.values[1].shape == ONE or p.id == "categorical0"]
DISCRETE = [p for p in CASES if p.values[1].support is not None]


def build(name: str, case: Case) -> tuple[Any, dict[str, Tensor]]:
    record = DISTRIBUTIONS[name](**case.fields)
    return record, record.parameters(case.shape)


def points(case: Case, rows: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(z, η) with z in the support, η around it (a few bins or scales away)."""
    generator = torch.Generator().manual_seed(seed)
    if case.support is None:
        z, eta = torch.randn(2, rows, *case.shape, generator=generator, dtype=torch.float64) * 2
        return z, eta
    entry = case.shape[:-1] if case.support.ndim == 2 else case.shape
    z = case.support[torch.randint(len(case.support), (rows, *entry), generator=generator)]
    shift = torch.randn(z.shape, generator=generator, dtype=torch.float64)
    return z, (shift if len(case.support) < 256 else z + shift * 0.3)


def test_every_name_has_an_example() -> None:
    assert set(EXAMPLES) == set(DISTRIBUTIONS)


@pytest.mark.parametrize(("name", "case"), CASES)
def test_local_terms_are_derivatives_of_the_reference(name: str, case: Case) -> None:
    """Oracle: autograd of a reference log-density; 1e-9 relative is rounding in float64."""
    record, params = build(name, case)
    z, eta = points(case, 40)
    local = record.local(params, z, eta, energy=True, learn=True)
    leaves = {k: v.clone().requires_grad_() for k, v in params.items()}
    z, eta = z.requires_grad_(), eta.requires_grad_()
    reference = -case.log_prob(leaves, z, eta).reshape(len(z), -1).sum(1)
    wanted = [z, eta, *leaves.values()]
    dz, deta, *dp = torch.autograd.grad(reference.sum(), wanted, allow_unused=True)
    near = {"rtol": 1e-9, "atol": 1e-9}
    torch.testing.assert_close(local.energy, reference.detach(), **near)
    torch.testing.assert_close(local.error, -deta, **near)
    assert (local.grad is None) == record.discrete
    if local.grad is not None:
        torch.testing.assert_close(local.grad, dz, **near)
    assert set(local.gradient) == set(record.learned)
    for key, slope in zip(leaves, dp, strict=True):
        if key in record.learned:
            expected = slope.tril() if key == "cholesky" else slope
            torch.testing.assert_close(local.gradient[key], expected, rtol=1e-8, atol=1e-8)
    silent = record.local(params, z.detach(), eta.detach())
    assert silent.energy is None
    assert silent.gradient == {}
    torch.testing.assert_close(silent.error, local.error, rtol=0, atol=0)


def moments(record: Any, params: dict[str, Tensor], case: Case, eta: Tensor) -> tuple[float, Tensor, Tensor]:
    """(total mass, mean, variance) of one unit by summation, or by adaptive quadrature of exp(−E)."""
    if case.support is not None:
        points_ = case.support.reshape(len(case.support), -1)
        mass = record.local(params, points_, eta.expand(points_.shape), energy=True).energy.neg().exp()
        mean = mass @ points_
        return float(mass.sum()), mean, mass @ (points_ - mean) ** 2

    def density(z: float) -> float:
        at = torch.tensor([[z]], dtype=torch.float64)
        return math.exp(-record.local(params, at, eta, energy=True).energy.item())

    def integral(f: Callable[[float], float]) -> float:
        centre = eta.item()
        sides = [(-math.inf, centre), (centre, math.inf)]
        return sum(integrate.quad(f, *side, epsabs=1e-11, epsrel=1e-11, limit=200)[0] for side in sides)

    mean_ = integral(lambda z: z * density(z))
    variance = integral(lambda z: (z - mean_) ** 2 * density(z))
    return integral(density), torch.tensor([mean_]).double(), torch.tensor([variance]).double()


@pytest.mark.parametrize(("name", "case"), ONE_UNIT)
@pytest.mark.parametrize("at", [-0.98, 0.1, 0.7])
def test_normalised_and_mean_and_draws(name: str, case: Case, at: float) -> None:
    """Oracle: quadrature (1e-9) or summation (1e-12); draws within 5 standard errors of 10⁵."""
    record, params = build(name, case)
    eta = (
        torch.linspace(at, at + 1, case.shape[0]).double()[None]
        if case.shape != ONE
        else torch.tensor([[at]])
    )
    eta = eta.double()
    total, mean, variance = moments(record, params, case, eta)
    assert total == pytest.approx(1, abs=1e-12 if record.discrete else 1e-9)
    tolerance = 1e-4 if name == "discretised_gaussian" else 1e-8
    torch.testing.assert_close(record.mean(params, eta)[0], mean, rtol=0, atol=tolerance)
    n = 100_000
    z = record.sample(params, eta.expand(n, *case.shape), Draws(1))
    spread = (z - mean) ** 2
    assert ((z.mean(0) - mean).abs() <= 5 * (variance / n).sqrt()).all()
    assert ((spread.mean(0) - variance).abs() <= 5 * spread.std(0) / n**0.5 + 1e-12).all()
    if case.support is not None and case.support.ndim == 1:
        assert (z[:500, :, None] - case.support).abs().amin(-1).max() < 1e-12


@pytest.mark.parametrize("matrix", [[[2.0, 0.9], [0.9, 1.0]]])
def test_draws_with_a_full_precision_have_its_inverse_as_covariance(matrix: list[list[float]]) -> None:
    """Oracle: the inverse of the precision matrix; 5 standard errors of 10⁵ draws."""
    record = Gaussian(precision=matrix)
    z = record.sample(record.parameters((2,)), torch.zeros(100_000, 2).double(), Draws(3))
    products = z[:, :, None] * z[:, None, :]
    off = (products.mean(0) - torch.linalg.inv(torch.tensor(matrix).double())).abs()
    assert (off <= 5 * products.std(0) / 100_000**0.5).all()


@pytest.mark.parametrize(("name", "case"), DISCRETE)
def test_mask_drops_entries(name: str, case: Case) -> None:
    """The observed and the unobserved part add up to the whole, and unobserved values are not read."""
    record, params = build(name, case)
    z, eta = points(case, 30)
    entry = (*z.shape[1:-1], 1) if case.support is not None and case.support.ndim == 2 else z.shape[1:]
    seen = (torch.rand(30, *entry, generator=torch.Generator().manual_seed(5)) < 0.5).double()
    other, _ = points(case, 30, seed=9)
    whole = record.local(params, z, eta, energy=True, learn=True)
    part = record.local(params, z, eta, mask=seen, energy=True, learn=True)
    rest = record.local(params, z, eta, mask=1 - seen, energy=True, learn=True)
    changed = record.local(params, torch.where(seen > 0, z, other), eta, mask=seen, energy=True, learn=True)
    torch.testing.assert_close(part.error, whole.error * seen)
    torch.testing.assert_close(part.energy + rest.energy, whole.energy)
    torch.testing.assert_close((changed.error, changed.energy), (part.error, part.energy))
    for key in record.learned:
        torch.testing.assert_close(part.gradient[key] + rest.gradient[key], whole.gradient[key])
        torch.testing.assert_close(changed.gradient[key], part.gradient[key])


@pytest.mark.parametrize(("name", "case"), CASES)
def test_rows_are_independent(name: str, case: Case) -> None:
    """Law 6: permuting rows permutes everything, to rounding, and leaves the inputs untouched."""
    record, params = build(name, case)
    z, eta = points(case, 50)
    before = z.clone(), eta.clone()
    order = torch.randperm(50, generator=torch.Generator().manual_seed(2))
    plain = record.local(params, z, eta, energy=True)
    shuffled = record.local(params, z[order], eta[order], energy=True)
    torch.testing.assert_close(shuffled.error, plain.error[order], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(shuffled.energy, plain.energy[order], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close((z, eta), before, rtol=0, atol=0)


@pytest.mark.parametrize(("name", "case"), CASES)
@pytest.mark.parametrize("distance", [50.0, 1000.0])
def test_far_away_everything_is_finite_in_float32(name: str, case: Case, distance: float) -> None:
    """50 and 1000 scales (or logits) away, on both sides; relative agreement with the float64 terms."""
    record, params = build(name, case)
    z, _ = points(case, 20)
    unit = case.fields.get("scale", 0.3 if name == "discretised_gaussian" else 1.0)
    sign = torch.where(torch.rand(z.shape, generator=torch.Generator().manual_seed(0)) < 0.5, -1.0, 1.0)
    eta = z + sign * distance * unit
    low = {k: v.float() for k, v in params.items()}
    far = record.local(low, z.float(), eta.float(), energy=True, learn=True)
    exact = record.local(params, z.float().double(), eta.float().double(), energy=True, learn=True)
    assert far.error.dtype == torch.float32
    torch.testing.assert_close(far.error.double(), exact.error, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(far.energy.double(), exact.energy, rtol=1e-5, atol=1e-5)
    for key in record.learned:
        assert far.gradient[key].isfinite().all()
        torch.testing.assert_close(far.gradient[key].double(), exact.gradient[key], rtol=1e-4, atol=1e-3)


def discretised_reference(x: np.ndarray, mu: np.ndarray, sigma: float) -> tuple[np.ndarray, ...]:
    """(∂ log P/∂μ, ∂E/∂ log σ, E) in float64 by scipy's log_ndtr, in the tail that does not cancel."""
    sign = np.where(x >= mu, 1.0, -1.0)
    m, delta = np.abs(x - mu) / sigma, H / sigma
    edge = np.abs(x) > 1 - H
    sign = np.where(edge, np.sign(x), sign)
    a = np.where(edge, sign * (x - mu) / sigma, m) - delta
    b = np.where(edge, np.inf, m + delta)
    log_a = special.log_ndtr(-a)
    log_p = log_a + np.log(-np.expm1(special.log_ndtr(-b) - log_a))
    ratio = np.exp(-(a**2) / 2 - 0.5 * np.log(2 * np.pi) - log_p)  # φ(a)/P
    gap = np.where(edge, 0.0, np.exp(-2 * m * delta))  # φ(b)/φ(a)
    steep = -(a - gap * np.where(edge, 0.0, b)) * ratio
    return sign * ratio * (1 - gap) / sigma, steep, -log_p


@pytest.mark.parametrize("sigma", [1.02 * H, 1.5 * H, 3 * H, 0.03, 0.1, 0.3, 1.0, 3.0])
@pytest.mark.parametrize("form", [gathered, everywhere])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_discretised_terms_at_any_distance(
    sigma: float, form: Callable[..., Any], dtype: torch.dtype
) -> None:
    """Oracle: scipy.special.log_ndtr in float64, |x − μ| from 0 to 200σ, inner and outer bins.

    float32: 1e-5 relative (the slope relative to 1 + |slope|, as it crosses zero); float64: 1e-10, which is
    what the reference itself loses in the difference of the narrowest bins. Masses that differ from
    1 by less than 1e-12 are compared absolutely.
    """
    m = torch.cat([torch.linspace(0, 3, 301), torch.logspace(-4, math.log10(200), 400)]).double()
    x = LEVELS[[0, 1, 100, 127, 128, 254, 255]].to(dtype)
    mu = (x.double()[:, None, None] + torch.tensor([1.0, -1.0]).double()[:, None] * m * sigma).to(dtype)
    x = x[:, None, None].expand(mu.shape).contiguous()
    terms = form(bins(sigma, 4 if dtype == torch.float32 else 10), x, mu, True, True)
    error, steep, energy = discretised_reference(x.double().numpy(), mu.double().numpy(), sigma)
    rtol = 1e-5 if dtype == torch.float32 else 1e-10
    np.testing.assert_allclose(terms.error.double() * sigma, error * sigma, rtol=rtol, atol=1e-12)
    np.testing.assert_allclose(terms.energy.double(), energy, rtol=rtol, atol=1e-12)
    assert np.max(np.abs(terms.slope.double().numpy() - steep) / (1 + np.abs(steep))) < rtol


@settings(deadline=None, max_examples=60, derandomize=True)
@given(mu=st.floats(-3, 3), excess=st.floats(1e-6, 3))
def test_discretised_masses_sum_to_one_and_scores_to_zero(mu: float, excess: float) -> None:
    """Σ P = 1, Σ P ∂ log P/∂μ = 0 and Σ P ∂E/∂ log σ = 0 for random μ and σ > 1/255, to 1e-9/σ in float64."""
    terms = gathered(bins(H + excess, 10), LEVELS, torch.full_like(LEVELS, mu), True, True)
    mass = terms.energy.neg().exp()
    assert mass.sum().item() == pytest.approx(1, abs=1e-11)
    assert (mass * terms.error * (H + excess)).sum().item() == pytest.approx(0, abs=1e-9)
    assert (mass * terms.slope).sum().item() == pytest.approx(0, abs=1e-9)


def test_discretised_forms_take_a_scale_that_stays_on_its_device() -> None:
    """Bins of 0-dimensional tensors (a σ learned on a GPU) give the float32 terms of plain numbers."""
    plain = bins(0.05, 4)
    held = Bins(*(torch.tensor(f) if isinstance(f, float) else [torch.tensor(c) for c in f] for f in plain))
    x = LEVELS.float()
    mu = x + 0.4 * torch.randn(256, generator=torch.Generator().manual_seed(0))
    for a, b in zip(everywhere(held, x, mu, True, True), gathered(plain, x, mu, True, True), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def test_discretised_blocks_change_nothing() -> None:
    """A batch that takes several blocks gives what its rows give one by one."""
    record = DiscretisedGaussian(learn=("scale",))
    params = record.parameters((1,))
    generator = torch.Generator().manual_seed(0)
    x = LEVELS[torch.randint(256, (7, 100_000), generator=generator)]
    mu = x + 0.3 * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    whole = record.local(params, x, mu, energy=True, learn=True)
    rows = [record.local(params, x[i : i + 1], mu[i : i + 1], energy=True, learn=True) for i in range(7)]
    torch.testing.assert_close(whole.error, torch.cat([r.error for r in rows]))
    torch.testing.assert_close(whole.energy, torch.cat([r.energy for r in rows]))
    torch.testing.assert_close(whole.gradient["log_scale"], sum(r.gradient["log_scale"] for r in rows))


def test_discretised_terms_do_not_depend_on_memory_layout() -> None:
    """Channels-last tensors, as convolutions may return, give the terms of contiguous ones."""
    record = DiscretisedGaussian(scale=0.05)
    generator = torch.Generator().manual_seed(0)
    x = LEVELS[torch.randint(256, (4, 3, 8, 8), generator=generator)]
    mu = x + 0.3 * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    plain = record.local({}, x, mu, energy=True)
    for a, b in [(x, mu.to(memory_format=torch.channels_last)), (x.mT.contiguous().mT, mu)]:
        local = record.local({}, a, b, energy=True)
        torch.testing.assert_close((local.error, local.energy), (plain.error, plain.energy))


@pytest.mark.parametrize(("name", "case"), CASES)
def test_replayed_draws_are_left_as_they_were(name: str, case: Case) -> None:
    """`sample` reads its draws and writes elsewhere: replaying them twice gives the same z."""
    record, params = build(name, case)
    eta = points(case, 20)[1]
    normal_, uniform_ = Draws(0).normal(eta), Draws(1).uniform(eta)

    class Replay:
        def normal(self, like: Tensor) -> Tensor:
            return normal_

        def uniform(self, like: Tensor) -> Tensor:
            return uniform_

    first = record.sample(params, eta, Replay())
    torch.testing.assert_close(record.sample(params, eta, Replay()), first, rtol=0, atol=0)


@pytest.mark.cuda
def test_discretised_terms_agree_across_devices() -> None:
    """CPU and CUDA agree to float32 rounding, with a learned scale."""
    record = DiscretisedGaussian(scale=0.05, learn=("scale",))
    params = {"log_scale": record.parameters(())["log_scale"].float()}
    x = LEVELS.float().repeat(4, 10)
    mu = x + 0.2 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    here = record.local(params, x, mu, energy=True, learn=True)
    there = record.local(
        {k: v.cuda() for k, v in params.items()}, x.cuda(), mu.cuda(), energy=True, learn=True
    )
    torch.testing.assert_close(there.error.cpu(), here.error, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(there.energy.cpu(), here.energy, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        there.gradient["log_scale"].cpu(), here.gradient["log_scale"], rtol=1e-4, atol=0.1
    )


def test_unit_precision_gives_error_and_gradient_as_one_tensor() -> None:
    """Nothing is multiplied at precision 1: error is z − η to the bit, and so is the gradient."""
    z, eta = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0))
    local = Gaussian().local({}, z, eta)
    assert local.grad is local.error
    torch.testing.assert_close(local.error, z - eta, rtol=0, atol=0)


@pytest.mark.parametrize("value", [0.3, [0.3, 7.0], MATRIX])
def test_learned_precision_starts_where_it_was_given(value: Any) -> None:
    """Fixed and learned give the same energy to float64 rounding before anything is learned."""
    shape = ONE if isinstance(value, float) else (len(value),)
    z, eta = torch.randn(2, 5, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    fixed, learned = (Gaussian(precision=value, learn=words) for words in ((), ("precision",)))
    energies = [d.local(d.parameters(shape), z, eta, energy=True).energy for d in (fixed, learned)]
    torch.testing.assert_close(*energies, rtol=1e-14, atol=1e-14)


def test_bernoulli_energy_keeps_small_probabilities() -> None:
    """−log s(30) = log1p(e^−30) in float32, where softplus(30) − 30 would be 0."""
    local = DISTRIBUTIONS["bernoulli"]().local({}, torch.ones(1, 1), torch.full((1, 1), 30.0), energy=True)
    assert local.energy.item() == pytest.approx(math.log1p(math.exp(-30)), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "fields", "words"),
    [
        ("gaussian", {"precision": -1.0}, "positive"),
        ("gaussian", {"precision": [1.0, 0.0]}, "unit 1"),
        ("gaussian", {"precision": [[1.0, 2.0], [2.0, 1.0]]}, "positive definite"),
        ("gaussian", {"precision": [[1.0, 0.1], [0.2, 1.0]]}, "symmetric"),
        ("gaussian", {"precision": [[1.0, 0.1]]}, "square"),
        ("gaussian", {"precision": [[1.0], [0.2, 1.0]]}, "a list"),
        ("gaussian", {"precision": "high"}, "a number"),
        ("gaussian", {"precision": float("nan")}, "finite"),
        ("gaussian", {"learn": ["precison"]}, "did you mean 'precision'"),
        ("gaussian", {"learn": ["precision", "precision"]}, "twice"),
        ("gaussian", {"precison": 1.0}, "Extra inputs"),
        ("discretised_gaussian", {"scale": 1 / 255}, "greater than"),
        ("laplace", {"scale": 0.0}, "greater than 0"),
        ("student_t", {"dof": -1.0}, "greater than 0"),
        ("bernoulli", {"learn": ["scale"]}, "no parameters"),
    ],
)
def test_impossible_fields_are_refused(name: str, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        DISTRIBUTIONS[name](**fields)


def test_shapes_that_do_not_fit_are_refused() -> None:
    for record in (Gaussian(precision=[1.0, 2.0]), Gaussian(precision=[[1.0, 0.0], [0.0, 1.0]])):
        with pytest.raises(CircuitError, match=r"2 units .* \[2, 3\] \(6 units\)"):
            record.parameters((2, 3))
    for shape in ((), (3, 1)):
        with pytest.raises(CircuitError, match="two classes"):
            DISTRIBUTIONS["categorical"]().parameters(shape)


def custom(name: str, case: Case) -> Custom:
    """The same distribution as a caller would write it."""
    record, params = build(name, case)
    return from_log_prob(
        case.log_prob,
        record.sample,
        parameters=params,
        learn=record.learned,
        discrete=record.discrete,
        mean=record.mean,
    )


@pytest.mark.parametrize(("name", "case"), CASES)
def test_a_callers_own_distribution_gives_the_same_terms(name: str, case: Case) -> None:
    """`from_log_prob` on the reference densities = the closed forms of this package, masks included."""
    record, params = build(name, case)
    own = custom(name, case)
    z, eta = points(case, 10)
    mask = None
    if record.discrete and name != "categorical":  # its reference sums over classes: no entries to mask
        mask = (torch.arange(z[0].numel()).reshape(case.shape) % 2).double()
    given_, closed = (d.local(params, z, eta, mask=mask, energy=True, learn=True) for d in (own, record))
    torch.testing.assert_close(given_.error, closed.error, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(given_.energy, closed.energy, rtol=1e-8, atol=1e-8)
    assert (given_.grad is None) == record.discrete
    assert set(given_.gradient) == set(closed.gradient) == set(own.learned)
    for key, value in closed.gradient.items():
        torch.testing.assert_close(
            given_.gradient[key].tril() if key == "cholesky" else given_.gradient[key], value
        )
    torch.testing.assert_close(own.mean(params, eta), record.mean(params, eta))


def test_a_callers_mistakes_are_named() -> None:
    with pytest.raises(CircuitError, match="did you mean 'width'"):
        from_log_prob(bernoulli, lambda p, e, d: e, parameters={"width": 1.0}, learn=["witdh"])
    z = torch.zeros(2, 3)
    scalar = from_log_prob(lambda p, z, eta: (z - eta).sum(), lambda p, e, d: e)
    with pytest.raises(CircuitError, match=r"shape \[\] for values of shape \[2, 3\]"):
        scalar.local({}, z, z)
    summed = from_log_prob(lambda p, z, eta: -(eta * z).sum(1), lambda p, e, d: e, discrete=True)
    with pytest.raises(CircuitError, match="per entry"):
        summed.local({}, z, z, mask=torch.ones(3))
