"""Evidence estimates against closed forms and quadrature; bounds are multiples of standard errors."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import norm
from torch import Tensor

from pcsim.circuit import load_circuit
from pcsim.engines.torch.program import Program
from pcsim.evaluation import Annealing, ais, annealed_log_likelihood
from pcsim.evaluation.images import chunks
from pcsim.evaluation.tempered import Path
from pcsim.inference.kernels import mala
from pcsim.inference.rng import seed_stream
from pcsim.inference.types import Info, Kernel
from tests.exact.evaluation_models import CASES, linear_gaussian, simulated, stacked

FINE = Annealing(particles=128, steps=60)


# ------------------------------------------------------------------------------------------------ AIS


@pytest.mark.parametrize("schedule", ais.SCHEDULES)
@pytest.mark.parametrize("case", CASES)
def test_ais_reaches_the_exact_evidence(case: str, schedule: str) -> None:
    """Oracle: the Gaussian marginal. Bound: 5 standard errors per image (6 images)."""
    sizes, edges, observed = CASES[case]
    model = linear_gaussian(sizes, edges, seed=3)
    values = simulated(model, observed, 6)
    truth = model.log_evidence(stacked(values), model.entries(observed))
    settings = FINE._replace(schedule=schedule)
    result = annealed_log_likelihood(model.program, model.params, values, seed_stream(1), settings)
    assert (result.effective_sample_size > 10).all()  # else the standard errors below mean little
    deviation = (result.log_likelihood.numpy() - truth) / result.standard_error.numpy()
    assert np.abs(deviation).max() < 5
    assert 0.3 < result.acceptance.mean() < 0.8


def test_ais_with_masks_is_the_evidence_of_the_held_entries() -> None:
    """Oracle: the Gaussian marginal of the held entries of a leaf and of a node with a child; 5 s.e."""
    model = linear_gaussian({"z": 2, "x": 4, "y": 2}, [("z", "x"), ("x", "y"), ("z", "y")], seed=5)
    masks = {"x": np.array([1.0, 0, 1, 0])}
    values = simulated(model, ["x", "y"], 6)
    truth = model.log_evidence(stacked(values, masks), model.entries(["x", "y"], masks))
    held = {"x": torch.tensor(masks["x"])[None]}
    result = annealed_log_likelihood(model.program, model.params, values, seed_stream(1), FINE, held)
    assert (np.abs(result.log_likelihood.numpy() - truth) / result.standard_error.numpy()).max() < 5


def leaf_on_one_unit(distribution: Any) -> tuple[Program, dict[str, Tensor], np.ndarray, np.ndarray]:
    weight, bias = np.array([[1.5], [-2.0], [0.7]]), np.array([0.2, 0.1, -0.3])
    layers = [{"linear": {"weight": weight.tolist(), "bias": bias.tolist()}}]
    nodes = {
        "z": {"shape": [1], "distribution": "gaussian"},
        "x": {"shape": [3], "distribution": distribution},
    }
    program = Program(load_circuit({"nodes": nodes, "edges": [{"from": "z", "to": "x", "layers": layers}]}))
    return program, program.initial_parameters(torch.Generator()), weight[:, 0], bias


def bernoulli_mass(x: float, eta: float) -> float:
    return float(expit(eta) if x else expit(-eta))


def grey_mass(x: float, eta: float) -> float:
    """Mass of one of 256 levels on [−1, 1] under N(eta, 0.3²), outer bins open."""
    low = -math.inf if x <= -1 else x - 1 / 255
    high = math.inf if x >= 1 else x + 1 / 255
    return float(norm.cdf(high, eta, 0.3) - norm.cdf(low, eta, 0.3))


@pytest.mark.parametrize("mask", [None, [1.0, 0.0, 1.0]])
@pytest.mark.parametrize("kind", ["bernoulli", "discretised_gaussian"])
def test_ais_matches_quadrature_over_one_latent(kind: str, mask: list[float] | None) -> None:
    """Oracle: scipy.quad over z; masked entries of a discrete leaf are marginalised. 5 standard errors."""
    name: Any = kind if kind == "bernoulli" else {kind: {"scale": 0.3}}
    program, params, weight, bias = leaf_on_one_unit(name)
    levels = np.array([[255, 0, 128], [77, 153, 0]]) / 127.5 - 1
    data = [[1.0, 0, 1], [0, 0, 0]] if kind == "bernoulli" else levels.tolist()
    mass = bernoulli_mass if kind == "bernoulli" else grey_mass
    counts = mask or [1.0, 1.0, 1.0]

    def joint(z: float, x: list[float]) -> float:
        parts = [mass(v, w * z + b) for v, w, b, c in zip(x, weight, bias, counts, strict=True) if c]
        return float(norm.pdf(z) * np.prod(parts))

    truth = np.log([quad(joint, -8, 8, args=(x,), limit=200, epsabs=0)[0] for x in data])
    held = {"x": torch.tensor([mask], dtype=torch.float64)} if mask else None
    values = {"x": torch.tensor(data, dtype=torch.float64)}
    result = annealed_log_likelihood(program, params, values, seed_stream(2), FINE, held)
    assert (np.abs(result.log_likelihood.numpy() - truth) / result.standard_error.numpy()).max() < 5


def test_ais_matches_quadrature_over_a_nonlinear_hierarchy() -> None:
    """Oracle: a 2-D trapezoid rule (its error is beyond double precision for these smooth, decaying
    integrands) for top → tanh → mid → Bernoulli. 5 standard errors."""
    nodes = {
        "top": {"shape": [1], "distribution": "gaussian"},
        "mid": {"shape": [1], "distribution": {"gaussian": {"precision": 9.0}}},
        "x": {"shape": [2], "distribution": "bernoulli"},
    }
    up = [
        {"linear": {"weight": [[2.0]], "bias": [0.3]}},
        "tanh",
        {"linear": {"weight": [[3.0]], "bias": [0.0]}},
    ]
    down = [{"linear": {"weight": [[1.5], [-1.0]], "bias": [-1.0, 0.5]}}]
    edges = [{"from": "top", "to": "mid", "layers": up}, {"from": "mid", "to": "x", "layers": down}]
    program = Program(load_circuit({"nodes": nodes, "edges": edges}))
    values = {"x": torch.tensor([[1.0, 0], [0, 0], [1, 1]], dtype=torch.float64)}
    t, m = np.meshgrid(np.linspace(-8, 8, 801), np.linspace(-7, 7, 701), indexing="ij")
    prior = norm.pdf(t) * norm.pdf(m, 3 * np.tanh(2 * t + 0.3), 1 / 3)
    probability = np.stack([expit(1.5 * m - 1), expit(-m + 0.5)])
    x = values["x"].numpy()[:, :, None, None]
    likelihood = (x * probability + (1 - x) * (1 - probability)).prod(1)
    truth = np.log((prior * likelihood).sum((1, 2)) * (16 / 800) * (14 / 700))
    params = program.initial_parameters(torch.Generator())
    result = annealed_log_likelihood(program, params, values, seed_stream(2), FINE)
    assert (np.abs(result.log_likelihood.numpy() - truth) / result.standard_error.numpy()).max() < 5


def unadjusted() -> Kernel:
    """MALA's proposal, always taken."""
    exact = mala(1.0)

    def step(target: Any, rng: Any, state: Any) -> tuple[Any, Info]:
        position = {}
        for name, z in state.position.items():
            size = target.mobility[name]
            position[name] = z - size * state.point.grad[name] + (2 * size) ** 0.5 * rng.normal(z)
        point = target.evaluate(position, True)
        return state._replace(position=position, point=point), Info(1.0, torch.ones(len(z)))

    return Kernel(exact.init, step)


def weights_at_a_large_step(n: int = 20_000) -> Tensor:
    """w / p(x) on a short, coarse path of z → x, x | z ~ N(2z, 1/4), at steps near the unadjusted limit."""
    model = coarse_model()
    values = {"x": torch.full((1, 1), 1.0, dtype=torch.float64)}
    images = next(chunks(values, None, seed_stream(4), n, n))
    betas = ais.sigmoidal(8)
    steps = [1.8 / (1 + 16 * beta) for beta in betas[1:-1]]
    mobilities = [{"z": torch.full((1, 1), step, dtype=torch.float64)} for step in steps]
    path = ais.make_path(model[0].bind(model[1]), images, n)
    log_weight, _ = ais.anneal(path, images, betas, mobilities)
    return (log_weight[0] - norm.logpdf(1.0, 0, math.sqrt(4 + 0.25))).exp()


def coarse_model() -> tuple[Program, dict[str, Tensor]]:
    nodes = {
        "z": {"shape": [1], "distribution": "gaussian"},
        "x": {"shape": [1], "distribution": {"gaussian": {"precision": 4.0}}},
    }
    layers = [{"linear": {"weight": [[2.0]], "bias": [0.0]}}]
    program = Program(load_circuit({"nodes": nodes, "edges": [{"from": "z", "to": "x", "layers": layers}]}))
    return program, program.initial_parameters(torch.Generator())


def test_ais_weights_are_unbiased() -> None:
    """E[w] = p(x) even on a coarse path with a poor step: mean over 20,000 weights within 4 s.e. of 1."""
    ratio = weights_at_a_large_step()
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / len(ratio) ** 0.5


def test_unadjusted_moves_give_wrong_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: the same path and steps without the accept step miss p(x) by more than 10 s.e."""
    monkeypatch.setattr(ais, "MOVE", unadjusted())
    ratio = weights_at_a_large_step()
    assert abs(ratio.mean() - 1) > 10 * ratio.std() / len(ratio) ** 0.5


def test_ais_does_not_depend_on_chunks() -> None:
    """Each image has its own draws: to rounding (float64) the same weights in chunks of 1, 3 and all images."""
    model = linear_gaussian(*CASES["hierarchy"][:2], seed=3)
    values = simulated(model, ["x"], 7)
    settings = Annealing(particles=8, steps=20)
    whole, *parts = (
        annealed_log_likelihood(
            model.program, model.params, values, seed_stream(1), settings._replace(max_rows=rows)
        )
        for rows in (1024, 8, 24)
    )
    for part in parts:
        torch.testing.assert_close(part.log_weight, whole.log_weight, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(part.acceptance, whole.acceptance, rtol=1e-9, atol=1e-9)


def test_ais_needs_one_evaluation_per_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """`steps` evaluations in the run and as many in the pilot: β moves on without one."""
    model = linear_gaussian(*CASES["hierarchy"][:2], seed=3)
    calls = []
    evaluate = Path.evaluate
    monkeypatch.setattr(Path, "evaluate", lambda *a, **k: (calls.append(a[0].rows), evaluate(*a, **k))[1])
    settings = Annealing(particles=4, steps=30, pilot_particles=1)
    annealed_log_likelihood(model.program, model.params, simulated(model, ["x"], 3), seed_stream(1), settings)
    assert calls == [3] * 30 + [12] * 30


def test_float32_agrees_with_the_evidence() -> None:
    """Oracle as above in float32: 5 s.e."""
    model = linear_gaussian(*CASES["one_level"][:2], seed=3)
    values = simulated(model, ["x"], 6)
    truth = model.log_evidence(stacked(values), model.entries(["x"]))
    single = {name: value.float() for name, value in model.params.items()}
    data = {"x": values["x"].float()}
    result = annealed_log_likelihood(model.program, single, data, seed_stream(1), FINE)
    assert result.log_weight.dtype == torch.float64
    assert (np.abs(result.log_likelihood.numpy() - truth) / result.standard_error.numpy()).max() < 5
