"""ELBO and IWAE of linear-Gaussian circuits with a linear encoder, against closed forms."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pcsim.circuit.distributions import DISTRIBUTIONS
from pcsim.engines.torch.program import ancestral
from pcsim.errors import StudyError
from pcsim.evaluation import Chain, bounds, elbo, grey_levels, iwae, reconstruct, sample_images
from pcsim.inference.kernels import langevin
from pcsim.inference.rng import seed_stream
from tests.exact.evaluation_models import Array, LinearGaussian, linear_gaussian

ENCODED = ({"z": 2, "x": 3}, [("z", "x")])


def encoder_to(name: str, weight: Array, bias: Array, variance: Array) -> list[Any]:
    """q = N(weight x + bias, diag(variance)) as an encoder edge, softplus undone."""
    raw = np.log(np.expm1(variance))
    linear = {
        "weight": np.concatenate([weight, 0 * weight]).tolist(),
        "bias": np.concatenate([bias, raw]).tolist(),
    }
    return [{"from": "x", "to": name, "layers": [{"linear": linear}]}]


def posterior(model: LinearGaussian, name: str) -> tuple[Array, Array, Array]:
    """Gain, offset and covariance of p(name | x)."""
    held, wanted = model.entries(["x"]), model.entries([name])
    offset, covariance = model.conditional(np.zeros((1, len(held))), held, wanted)
    rows, _ = model.conditional(np.eye(len(held)), held, wanted)
    return (rows - offset).T, offset[0], covariance


def imperfect(seed: int = 3) -> tuple[LinearGaussian, dict[str, Tensor], Array, Array]:
    """A model, 8 images, their log evidence, and KL(q‖p) of an encoder with wrong mean and variance."""
    gain, offset, covariance = posterior(linear_gaussian(*ENCODED, seed), "z")
    weight, bias, variance = 0.9 * gain, offset + 0.1, 1.3 * np.diag(covariance)
    model = linear_gaussian(*ENCODED, seed, encoder_to("z", weight, bias, variance))
    x = ancestral(model.program.bind(model.params), seed_stream(7), 8, {})["x"]
    distance = x.numpy() @ (weight - gain).T + bias - offset
    precision = np.linalg.inv(covariance)
    trace = np.trace(precision @ np.diag(variance)) - len(variance)
    logs = np.log(np.linalg.det(covariance)) - np.log(variance).sum()
    divergence = 0.5 * (trace + logs + np.einsum("ij,jk,ik->i", distance, precision, distance))
    return model, {"x": x}, model.log_evidence(x.numpy(), model.entries(["x"])), divergence


def test_elbo_is_the_evidence_minus_the_divergence() -> None:
    """Oracle: log p(x) − KL(q(z|x) ‖ p(z|x)), both Gaussian. Bound: 5 standard errors per image."""
    model, values, truth, divergence = imperfect()
    result = elbo(model.program, model.params, values, seed_stream(1), samples=2000)
    deviation = (result.elbo.numpy() - (truth - divergence)) / result.standard_error.numpy()
    assert np.abs(deviation).max() < 5
    assert (result.standard_error < 0.2).all()


def test_iwae_rises_with_its_samples_to_the_evidence() -> None:
    """IWAE-1 is the ELBO in expectation, IWAE-k rises in k (Burda et al. 2016, Theorem 1), its limit is
    log p(x): mean over 100 repeats ordered for every image, the last within 5 standard errors."""
    model, values, truth, divergence = imperfect()
    many = {"x": values["x"].repeat_interleave(100, 0)}
    means, errors = [], []
    for k in (1, 8, 64):
        rows = iwae(model.program, model.params, many, seed_stream(2), samples=k).log_likelihood
        means.append(rows.reshape(8, 100).mean(1).numpy())
        errors.append(rows.reshape(8, 100).std(1).numpy() / 10)
    assert (np.abs(means[0] - (truth - divergence)) < 5 * errors[0]).all()
    assert (np.diff(means, axis=0) > -4 * np.hypot(errors[:-1], errors[1:])).all()
    assert means[2].mean() > means[1].mean() > means[0].mean()
    last = iwae(model.program, model.params, values, seed_stream(3), samples=20_000)
    assert (np.abs(last.log_likelihood.numpy() - truth) < 5 * last.standard_error.numpy()).all()


def test_exact_encoder_gives_the_evidence_with_every_sample() -> None:
    """q = p(z | x): every weight is p(x), to rounding; no spread, full effective sample size."""
    sizes, edges = {"z": 1, "x": 3}, [("z", "x")]
    gain, offset, covariance = posterior(linear_gaussian(sizes, edges, 4), "z")
    model = linear_gaussian(sizes, edges, 4, encoder_to("z", gain, offset, np.diag(covariance)))
    values = {"x": ancestral(model.program.bind(model.params), seed_stream(7), 5, {})["x"]}
    truth = model.log_evidence(values["x"].numpy(), model.entries(["x"]))
    tight = iwae(model.program, model.params, values, seed_stream(1), samples=40)
    np.testing.assert_allclose(tight.log_likelihood, truth, rtol=1e-10)
    np.testing.assert_allclose(tight.effective_sample_size, 40, rtol=1e-10)
    bound = elbo(model.program, model.params, values, seed_stream(1), samples=40)
    np.testing.assert_allclose(bound.elbo, truth, rtol=1e-10)
    assert (bound.standard_error < 1e-9).all()


@pytest.mark.parametrize("masked", [False, True])
def test_nodes_without_encoder_come_from_their_prior(masked: bool) -> None:
    """Oracle: Gaussian marginal (of the held entries) of top → mid → x with an encoder for `top` alone: mid
    is drawn from p(mid | top) and its density cancels. Bound: 5 standard errors at effective size > 50."""
    sizes, edges = {"top": 1, "mid": 1, "x": 2}, [("top", "mid"), ("mid", "x")]
    gain, offset, covariance = posterior(linear_gaussian(sizes, edges, 6), "top")
    model = linear_gaussian(sizes, edges, 6, encoder_to("top", gain, offset, np.diag(covariance) * 1.5))
    x = ancestral(model.program.bind(model.params), seed_stream(7), 5, {})["x"]
    masks = {"x": np.array([1.0, 0.0])} if masked else {}
    held = model.entries(["x"], masks)
    truth = model.log_evidence(x.numpy()[:, :1] if masked else x.numpy(), held)
    given = {n: torch.tensor(m)[None] for n, m in masks.items()}
    result = iwae(model.program, model.params, {"x": x}, seed_stream(1), samples=20_000, masks=given)
    assert (result.effective_sample_size > 50).all()
    assert (np.abs(result.log_likelihood.numpy() - truth) < 5 * result.standard_error.numpy()).all()


def test_streaming_is_the_plain_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: numpy on all log weights at once, 70 samples in blocks of 32, 32 and 6; rounding."""
    model, values, _, _ = imperfect()
    kept: list[Tensor] = []
    plain = elbo(model.program, model.params, values, seed_stream(1), samples=70)
    tight = iwae(model.program, model.params, values, seed_stream(1), samples=70)
    original = bounds._log_weight
    monkeypatch.setattr(bounds, "_log_weight", lambda *a: kept.append(original(*a)) or kept[-1])
    elbo(model.program, model.params, values, seed_stream(1), samples=70)
    w = np.concatenate([k.reshape(8, -1).numpy() for k in kept], axis=1)
    assert w.shape == (8, 70)
    np.testing.assert_allclose(plain.elbo, w.mean(1), rtol=1e-12)
    np.testing.assert_allclose(plain.standard_error, w.std(1, ddof=1) / 70**0.5, rtol=1e-10)
    np.testing.assert_allclose(tight.log_likelihood, np.log(np.exp(w).mean(1)), rtol=1e-10)
    np.testing.assert_allclose(
        tight.effective_sample_size, np.exp(w).sum(1) ** 2 / np.exp(2 * w).sum(1), rtol=1e-9
    )


def test_bounds_do_not_depend_on_how_many_images_are_asked_about() -> None:
    """Draws belong to the image: the first 150 of 200 images (several chunks) alone give the same, to rounding."""
    model, values, _, _ = imperfect()
    many = {"x": values["x"].repeat(25, 1)}
    whole = elbo(model.program, model.params, many, seed_stream(1), samples=40)
    # the seeds of all images come from one draw; a shorter draw is its beginning
    alone = elbo(model.program, model.params, {"x": many["x"][:150]}, seed_stream(1), samples=40)
    torch.testing.assert_close(whole.elbo[:150], alone.elbo, rtol=1e-12, atol=1e-12)


def test_reconstruction_at_no_steps_is_that_of_the_encoder() -> None:
    """steps: 0 from the encoder is the sweep alone: E over many chains is the generator of q's mean (linear),
    5 s.e. of 400 chains."""
    model, values, _, _ = imperfect()
    sweep = Chain(langevin(0.01), steps=0, start="encoder", n_chain=400)
    result = reconstruct(model.program, model.params, values, seed_stream(1), sweep)
    weight, bias = (model.params[f"z->x.0.{n}"] for n in ("weight", "bias"))
    mean, raw = (
        values["x"] @ model.params["encoder/x->z.0.weight"].T + model.params["encoder/x->z.0.bias"]
    ).chunk(2, 1)
    spread = (torch.nn.functional.softplus(raw[:1]) @ weight.T.square()).sqrt()
    deviation = (result.pictures["x"] - (mean @ weight.T + bias)) / (spread / 400**0.5)
    assert deviation.abs().max() < 5


def test_sampled_pictures_are_expected_values() -> None:
    """Oracle: covariance of E[x | z] = W cov(z) Wᵀ, without the pixels' own variance: per-unit variances of
    20,000 draws within 5 s.e. (sqrt(2/n) of a Gaussian variance)."""
    model = linear_gaussian(*ENCODED, seed=3)
    pictures = sample_images(model.program, model.params, seed_stream(1), 20_000)
    assert list(pictures) == ["x"]
    weight = model.params["z->x.0.weight"].numpy()
    place = model.places["z"]
    exact = np.diag(weight @ model.covariance[place, place] @ weight.T)
    assert (np.abs(pictures["x"].var(0).numpy() / exact - 1) < 5 * (2 / 20_000) ** 0.5).all()


def test_grey_levels() -> None:
    picture = torch.tensor([-1.5, -1.0, 0.0, 1.0, 1.5])
    signed = grey_levels(DISTRIBUTIONS["discretised_gaussian"](), picture)
    assert signed.tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]
    assert grey_levels(DISTRIBUTIONS["bernoulli"](), picture).tolist() == [0.0, 0.0, 0.0, 1.0, 1.0]


def test_bounds_without_an_encoder_are_refused() -> None:
    model = linear_gaussian(*ENCODED, seed=3)
    values = {"x": torch.zeros(1, 3, dtype=torch.float64)}
    with pytest.raises(StudyError, match="no encoder"):
        elbo(model.program, model.params, values, seed_stream(1))
    chain = Chain(langevin(0.01), steps=1, start="encoder")
    with pytest.raises(StudyError, match="use start: prior"):
        reconstruct(model.program, model.params, values, seed_stream(1), chain)
