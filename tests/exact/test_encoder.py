"""The encoder: gradients of its objectives against autograd of closed-form divergences, and where they end."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pcsim.circuit.read import load_circuit
from pcsim.engines.torch.program import Params, Program
from pcsim.inference.kernels import langevin
from pcsim.inference.rng import Recorder, Replay, seed_stream
from pcsim.inference.types import Rng, Target, Tree
from pcsim.learning.draws import Draws
from pcsim.learning.learner import Batch, Learner, Method, learn_batch, make_learner
from pcsim.learning.optimizers import sgd
from tests.exact.gaussian_circuits import F64, Orthogonal

WEIGHT = np.array([[1.0, 0.2, 0.0], [0.9, 0.6, -0.3], [0.0, 0.8, 1.1]])
PRECISION = np.eye(3) + WEIGHT.T @ WEIGHT * 2.0
"""Λ of z given x: unit prior, noise of precision 2; the posterior is correlated."""
STEP = 1.0 / float(np.linalg.eigvalsh(PRECISION).max())
KL = {"forward": (1.0, 0.0), "reverse": (0.0, 1.0), "jeffreys": (0.5, 0.5)}


def description(hidden: bool) -> dict[str, Any]:
    """z → x, linear and Gaussian, with an encoder that is either linear or has a hidden layer."""
    layers: list[Any] = [{"linear": 8}, "tanh", {"linear": 6}] if hidden else [{"linear": 6}]
    return {
        "nodes": {
            "z": {"shape": [3], "distribution": "gaussian"},
            "x": {"shape": [3], "distribution": {"gaussian": {"precision": 2.0}}},
        },
        "edges": [{"from": "z", "to": "x", "layers": [{"linear": {"weight": WEIGHT.tolist()}}]}],
        "encoder": [{"from": "x", "to": "z", "layers": layers, "softplus_beta": 1.3}],
    }


def make(described: dict[str, Any], rate: float) -> Learner:
    """A learner whose φ moves and whose θ stays."""
    program = Program(load_circuit(described))
    params = program.initial_parameters(torch.Generator().manual_seed(4))
    made = make_learner(program, params, lambda p: sgd(p, rate), lambda p: sgd(p, rate))
    return made._replace(theta=None)


def written_encoder(params: Params, x: Tensor, hidden: bool) -> tuple[Tensor, Tensor]:
    """Mean and variance of q, with functional calls only."""
    key = "encoder/x->z"
    out = F.linear(x, params[f"{key}.0.weight"], params[f"{key}.0.bias"])
    if hidden:
        out = F.linear(torch.tanh(out), params[f"{key}.2.weight"], params[f"{key}.2.bias"])
    return out[:, :3], torch.log1p(torch.exp(1.3 * out[:, 3:])) / 1.3


def posterior_mean(x: Tensor) -> Tensor:
    return x @ torch.from_numpy(2.0 * WEIGHT @ np.linalg.inv(PRECISION))


def chain_covariance() -> Tensor:
    return torch.from_numpy(np.linalg.inv(PRECISION @ (np.eye(3) - STEP / 2 * PRECISION)))


def forward_divergence(mean: Tensor, variance: Tensor, x: Tensor) -> Tensor:
    """−E_p log q up to a constant, p = N(m, C_ULA): what the chain samples."""
    spread = chain_covariance().diagonal() + (posterior_mean(x) - mean) ** 2
    return 0.5 * (variance.log() + spread / variance).sum(1)


def reverse_divergence(mean: Tensor, variance: Tensor, x: Tensor) -> Tensor:
    """KL(q‖p) up to a constant, p = N(m, Λ⁻¹): the drift knows Λ exactly, whatever the chain's step."""
    precision = torch.from_numpy(PRECISION)
    offset = mean - posterior_mean(x)
    quadratic = ((offset @ precision) * offset).sum(1) + (variance * precision.diagonal()).sum(1)
    return 0.5 * quadratic - 0.5 * variance.log().sum(1)


def method(objective: str, prior_batches: int = 0, transient: float = 1e-12) -> Method:
    """Chains long enough that what is left of their start is `transient`, and enough for exact moments."""
    slowest = 1 - STEP * float(np.linalg.eigvalsh(PRECISION).min())
    steps = math.ceil(math.log(transient) / math.log(slowest))
    chains = 3 * (steps + 3) + 1
    return Method(langevin(STEP), steps, "encoder", Draws("final"), objective, prior_batches, n_chain=chains)


@pytest.mark.parametrize("warm", [True, False], ids=["encoder start", "prior start"])
@pytest.mark.parametrize("hidden", [False, True], ids=["linear", "hidden"])
@pytest.mark.parametrize("objective", KL)
def test_gradients_are_those_of_the_divergences(objective: str, hidden: bool, warm: bool) -> None:
    """Oracle: autograd of the closed-form KL divergences, mean over 4 images; to rounding (exact moments)."""
    made = make(description(hidden), rate=1.0)
    before = {n: p.clone() for n, p in made.params.items()}
    x = torch.from_numpy(np.random.default_rng(1).normal(size=(4, 3)))
    batch = Batch({"x": x}, {}, torch.arange(4))
    how = method(objective, 0 if warm else 50)
    learn_batch(made, how, batch, Orthogonal(how.n_chain, images=4), 0)
    at = {n: p.clone().requires_grad_() for n, p in before.items()}
    mean, variance = written_encoder(at, x, hidden)
    forward, reverse = KL[objective]
    loss = forward * forward_divergence(mean, variance, x) + reverse * reverse_divergence(mean, variance, x)
    names = made.program.encoder_learned
    for name, slope in zip(names, torch.autograd.grad(loss.mean(), [at[n] for n in names]), strict=True):
        torch.testing.assert_close(before[name] - made.params[name], slope, rtol=1e-8, atol=1e-9, msg=name)


@pytest.mark.parametrize("objective", KL)
def test_variances_at_the_end_of_learning(objective: str) -> None:
    """Oracle: forward C_ii, reverse 1/Λ_ii, Jeffreys √(C_ii/Λ_ii), C = [Λ(I − γΛ/2)]⁻¹; the mean is exact."""
    made = make(description(hidden=False), rate=0.15)
    x = torch.from_numpy(np.random.default_rng(2).normal(size=(1, 3)))
    how = method(objective, transient=1e-7)
    for update in range(200):
        learn_batch(made, how, Batch({"x": x}, {}, torch.arange(1)), Orthogonal(how.n_chain), update)
    mean, variance = written_encoder(made.params, x, hidden=False)
    chain, own = chain_covariance().diagonal(), 1 / torch.from_numpy(PRECISION).diagonal()
    exact = {"forward": chain, "reverse": own, "jeffreys": (chain * own).sqrt()}[objective]
    torch.testing.assert_close(variance[0], exact, rtol=1e-5, atol=0)
    torch.testing.assert_close(mean, posterior_mean(x), rtol=1e-5, atol=1e-6)
    assert float((chain / own).max()) > 1.5  # the three are far apart


def test_first_batches_start_from_the_prior_while_the_encoder_learns() -> None:
    """Oracle: for 50 updates z^(0) is the prior's draw ξ itself, then mean + √variance ξ of the encoder."""
    made = make(description(hidden=True), rate=1e-2)
    starts: list[Tree] = []
    kernel = langevin(STEP)

    def init(target: Target, rng: Rng, position: Tree) -> Any:
        starts.append(position)
        return kernel.init(target, rng, position)

    how = Method(kernel._replace(init=init), 2, "encoder", Draws(), "jeffreys", 50, n_chain=2)
    x = torch.from_numpy(np.random.default_rng(3).normal(size=(5, 3)))
    for update in (0, 49, 50):
        before = {n: p.clone() for n, p in made.params.items()}
        learn_batch(made, how, Batch({"x": x}, {}, torch.arange(5)), seed_stream(1, update), update)
        noise = seed_stream(1, update).normal(torch.zeros(10, 3, dtype=F64))
        mean, variance = (v.repeat_interleave(2, 0) for v in written_encoder(before, x, hidden=True))
        expected = noise if update < 50 else mean + variance.sqrt() * noise
        torch.testing.assert_close(starts[-1]["z"], expected, rtol=1e-12, atol=1e-12)
        assert all(not torch.equal(made.params[n], before[n]) for n in made.program.encoder_learned)


def test_the_encoder_moves_no_theta_and_theta_no_phi() -> None:
    """Oracle: θ after an update is, to the bit, that of the same chain without an encoder objective."""
    x = torch.from_numpy(np.random.default_rng(3).normal(size=(5, 3)))
    ends = []
    for objective in ("jeffreys", "none"):
        program = Program(load_circuit(description(hidden=True)))
        params = program.initial_parameters(torch.Generator().manual_seed(4))
        made = make_learner(program, params, lambda p: sgd(p, 0.1), lambda p: sgd(p, 0.1))
        how = Method(langevin(STEP), 6, "encoder", Draws(), objective, 0)
        learn_batch(made, how, Batch({"x": x}, {}, torch.arange(5)), seed_stream(1), 0)
        ends.append(made)
    names = ends[0].program
    assert all(torch.equal(ends[0].params[n], ends[1].params[n]) for n in names.learned)
    assert not any(torch.equal(ends[0].params[n], ends[1].params[n]) for n in names.encoder_learned)


@pytest.mark.parametrize("n_chain", [1, 3])
def test_vae_is_the_reparameterised_elbo(n_chain: int) -> None:
    """Oracle: autograd of E_q[log p(x, z) − log q(z|x)] through z = mean + √variance ξ, same ξ, written out.

    The entropy of q enters in closed form in both, so the two estimators are the same number.
    """
    described: dict[str, Any] = {
        "nodes": {
            "z": {"shape": [3], "distribution": {"gaussian": {"precision": 1.5}}, "learn": ["precision"]},
            "x": {"shape": [5], "distribution": "bernoulli"},
        },
        "edges": [{"from": "z", "to": "x", "layers": [{"linear": 7}, "silu", {"linear": 5}]}],
        "encoder": [
            {"from": "x", "to": "z", "layers": [{"linear": 8}, "tanh", {"linear": 6}], "softplus_beta": 1.3}
        ],
    }
    program = Program(load_circuit(described))
    params = program.initial_parameters(torch.Generator().manual_seed(4))
    before = {n: p.clone() for n, p in params.items()}
    made = make_learner(program, params, lambda p: sgd(p, 1.0), lambda p: sgd(p, 1.0))
    x = torch.from_numpy(np.random.default_rng(0).integers(0, 2, (4, 5))).to(F64)
    how = Method(langevin(0.1), 0, "encoder", Draws("start"), "reverse", 0, n_chain=n_chain)
    tape = Recorder(seed_stream(8))
    learn_batch(made, how, Batch({"x": x}, {}, torch.arange(4)), tape, 0)
    at = {n: p.clone().requires_grad_() for n, p in before.items()}
    mean, variance = written_encoder(at, x, hidden=True)
    rows, scale = (v.repeat_interleave(n_chain, 0) for v in (mean, variance.sqrt()))
    z = rows + scale * Replay(tape.tape).normal(rows)
    hidden = F.silu(F.linear(z, at["z->x.0.weight"], at["z->x.0.bias"]))
    logits = F.linear(hidden, at["z->x.2.weight"], at["z->x.2.bias"])
    data = x.repeat_interleave(n_chain, 0)
    precision = at["z.log_precision"].exp()
    log_joint = -F.binary_cross_entropy_with_logits(logits, data, reduction="none").sum(1)
    log_joint = log_joint + torch.distributions.Normal(0.0, precision**-0.5).log_prob(z).sum(1)
    entropy = torch.distributions.Normal(mean, variance.sqrt()).entropy().sum(1)
    loss = -(log_joint.mean() + entropy.mean())
    names = (*program.learned, *program.encoder_learned)
    for name, slope in zip(names, torch.autograd.grad(loss, [at[n] for n in names]), strict=True):
        torch.testing.assert_close(before[name] - made.params[name], slope, rtol=1e-9, atol=1e-10, msg=name)
