"""The tempered path, bounds from both sides, reconstructions, and refusals; oracles: autograd, closed forms."""

import itertools

import numpy as np
import pytest
import torch

from pcsim.circuit import load_circuit
from pcsim.engines.torch.program import Program, ancestral
from pcsim.engines.torch.target import CircuitTarget, Clamp
from pcsim.errors import StudyError
from pcsim.evaluation import Annealing, Chain, ais, annealed_log_likelihood, bidirectional, reconstruct
from pcsim.evaluation.tempered import DATA_ENERGY, Path, Tempered, temper
from pcsim.evaluation.weights import effective_sample_size, log_mean_exp, standard_error
from pcsim.inference.kernels import mala
from pcsim.inference.rng import seed_stream
from tests.exact.evaluation_models import CASES, linear_gaussian, simulated, stacked

FINE = Annealing(particles=128, steps=60)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_tempered_gradient_is_that_of_the_tempered_energy(beta: float) -> None:
    """Oracle: autograd of prior + β data energies, masks and two observed nodes included; rounding."""
    sizes, edges, _ = CASES["skip_and_two_observed"]
    model = linear_gaussian(sizes, edges, seed=9)
    values = simulated(model, ["x", "y", "c"], 4)
    mask = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    target = CircuitTarget(model.program.bind(model.params), Clamp(values, {"c": mask, "x": mask}), 4)
    path = Path(target)
    z = {n: v.requires_grad_() for n, v in path.draw_prior(seed_stream(3)).items()}
    parts = path.evaluate(z, gradient=False)
    energy = sum(parts.prior_energy.values(), beta * parts.data_energy)
    slopes = dict(zip(z, torch.autograd.grad(energy.sum(), list(z.values())), strict=True))
    still = {n: v.detach() for n, v in z.items()}
    point = Tempered(path, beta, {}).evaluate(still, True)
    moved = temper(Tempered(path, 0.7, {}).evaluate(still, True), beta - 0.7)
    assert point.energy is not None
    assert moved.energy is not None
    for found in (point, moved):
        torch.testing.assert_close(found.energy, energy.detach(), rtol=1e-12, atol=1e-12)
        for name, slope in slopes.items():
            free = 1 - mask if name in ("c", "x") else 1.0
            torch.testing.assert_close(found.grad[name], slope * free, rtol=1e-11, atol=1e-11)
    assert (still["x"][:, 0] == values["x"][:, 0]).all()  # held entries are in place in draws of the prior
    full = target.evaluate(still, True)
    assert full.energy is not None
    at_one = parts.data_energy + sum(parts.prior_energy.values())
    torch.testing.assert_close(full.energy, at_one.detach(), rtol=1e-12, atol=1e-12)
    assert DATA_ENERGY in point.grad


@pytest.mark.parametrize("schedule", ais.SCHEDULES)
def test_schedules_rise_from_zero_to_one(schedule: str) -> None:
    betas = ais.SCHEDULES[schedule](50)
    assert (betas[0], betas[-1], len(betas)) == (0.0, 1.0, 51)
    assert all(b > a for a, b in itertools.pairwise(betas))


def test_weights_are_stable_and_their_error_is_the_delta_method() -> None:
    """Oracle: numpy on shifted weights; log weights of −10⁵ must not underflow."""
    log_weight = torch.tensor(np.random.default_rng(0).normal(size=(3, 50)))
    w = log_weight.exp().numpy()
    torch.testing.assert_close(log_mean_exp(log_weight - 1e5), torch.tensor(np.log(w.mean(1))) - 1e5)
    ess = torch.tensor(w.sum(1) ** 2 / (w**2).sum(1))
    torch.testing.assert_close(effective_sample_size(log_weight - 1e5), ess, rtol=1e-9, atol=0)
    error = torch.tensor(w.std(1, ddof=1) / w.mean(1) / 50**0.5)
    torch.testing.assert_close(standard_error(log_weight), error, rtol=1e-9, atol=0)


# --------------------------------------------------------------------------------------------- others


def test_bidirectional_bounds_enclose_the_evidence() -> None:
    """Oracle: the Gaussian marginal of the simulated data, whose mean both bounds enclose in expectation: the
    violations of 60 images average to at most 4 of their standard errors; fine paths leave a small gap."""
    model = linear_gaussian(*CASES["hierarchy"][:2], seed=3)
    settings = Annealing(particles=16, steps=60)
    result = bidirectional(model.program, model.params, ["x"], seed_stream(1), 60, settings)
    x = ancestral(model.program.bind(model.params), seed_stream(1), 60, {})["x"]
    truth = torch.tensor(model.log_evidence(x.numpy(), model.entries(["x"])))
    for violation in (result.lower - truth, truth - result.upper):
        assert violation.mean() < 4 * violation.std() / 60**0.5
    spread = (result.upper - result.lower).std() / 60**0.5
    assert result.gap > -4 * spread
    assert result.gap < 0.5


@pytest.mark.parametrize("masked", [False, True])
def test_reconstruction_is_the_posterior_mean(masked: bool) -> None:
    """Oracle: Gaussian conditioning, E[Wz + b | held]; bound 5 s.e. of 500 independent chains per entry."""
    model = linear_gaussian({"z": 2, "x": 4}, [("z", "x")], seed=5)
    values = simulated(model, ["x"], 3)
    masks = {"x": np.array([1.0, 0, 1, 0])} if masked else {}
    held = model.entries(["x"], masks)
    mean, covariance = model.conditional(stacked(values, masks), held, model.entries(["z"]))
    weight, bias = (model.params[f"z->x.0.{n}"].numpy() for n in ("weight", "bias"))
    truth, spread = mean @ weight.T + bias, np.sqrt(np.diag(weight @ covariance @ weight.T))
    chain = Chain(mala(0.1, adapt=100), steps=200, n_chain=500)
    torch_masks = {n: torch.tensor(m)[None] for n, m in masks.items()}
    result = reconstruct(model.program, model.params, values, seed_stream(1), chain, torch_masks)
    assert (np.abs(result.pictures["x"].numpy() - truth) / (spread / 500**0.5)).max() < 5
    squares = (result.pictures["x"] - values["x"]).numpy() ** 2
    shown = masks.get("x", np.ones(4)).astype(bool)
    np.testing.assert_allclose(result.mean_squared_error["x"], squares[:, shown].mean(1), rtol=1e-12)
    if masked:
        np.testing.assert_allclose(result.completion_error["x"], squares[:, ~shown].mean(1), rtol=1e-12)


def test_wrong_questions_are_answered_with_what_to_do() -> None:
    model = linear_gaussian(*CASES["one_level"][:2], seed=3)
    values, rng = simulated(model, ["x"], 2), seed_stream(1)
    with pytest.raises(StudyError, match="did you mean 'sigmoidal'"):
        annealed_log_likelihood(model.program, model.params, values, rng, FINE._replace(schedule="sigmoid"))
    with pytest.raises(StudyError, match="max_rows"):
        annealed_log_likelihood(model.program, model.params, values, rng, FINE._replace(max_rows=3))
    both = {"z": torch.zeros(2, 2, dtype=torch.float64), **values}
    with pytest.raises(StudyError, match="every node is held"):
        annealed_log_likelihood(model.program, model.params, both, rng, FINE)
    nodes = {
        "z": {"shape": [1], "distribution": "gaussian"},
        "x": {"shape": [2], "distribution": {"gaussian": {"precision": [[2.0, 1.0], [1.0, 2.0]]}}},
    }
    program = Program(
        load_circuit({"nodes": nodes, "edges": [{"from": "z", "to": "x", "layers": [{"linear": 2}]}]})
    )
    mask = {"x": torch.tensor([[1.0, 0.0]], dtype=torch.float64)}
    params = program.initial_parameters(torch.Generator())
    with pytest.raises(StudyError, match="correlated"):
        annealed_log_likelihood(program, params, {"x": values["x"][:, :2]}, rng, FINE, mask)
