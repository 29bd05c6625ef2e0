"""lingauss_amortised: the encoder's mean is exact, its variances and losses are those of its objective."""

import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

from pcsim.engines.torch.program import Params
from pcsim.inference.kernels import langevin
from pcsim.learning.draws import Draws
from pcsim.learning.learner import Batch, Method, learn_batch
from tests.circuits.shipped import Array, assert_mean, described, joint_of, learner_of, run_study
from tests.exact.gaussian_circuits import F64, Orthogonal, condition

PRECISION = np.array([[10.0, -9.0], [-9.0, 10.0]])
SPREAD = np.linalg.inv(PRECISION)
GAIN = SPREAD @ np.array([[3.0], [-3.0]])
STEP = 0.1
OPTIMA = {
    "reverse": 1 / np.diag(PRECISION),
    "jeffreys": np.sqrt(np.diag(SPREAD) / np.diag(PRECISION)),
    "forward": np.diag(SPREAD),
}


def divergence(first: Array, second: Array) -> float:
    """KL(N(0, first) ‖ N(0, second))."""
    ratio = np.linalg.solve(second, first)
    return 0.5 * float(np.trace(ratio) - len(first) - np.linalg.slogdet(ratio)[1])


def test_closed_forms() -> None:
    """Oracle: linear algebra: correlation .9, gain ±3/19, variances .1, .229, .526, losses .830 and 3.433 nats."""
    posterior = condition(
        joint_of(described("lingauss_amortised")), np.array([False, False, True]), np.ones(3)
    )
    np.testing.assert_allclose(posterior.precision, PRECISION, atol=1e-12)
    np.testing.assert_allclose(posterior.mean, GAIN[:, 0])
    np.testing.assert_allclose(GAIN[:, 0], [3 / 19, -3 / 19])
    assert SPREAD[0, 1] / SPREAD[0, 0] == pytest.approx(0.9)
    np.testing.assert_allclose([v[0] for v in OPTIMA.values()], [0.1, 0.2294, 0.5263], atol=5e-5)
    reverse, forward = np.diag(OPTIMA["reverse"]), np.diag(OPTIMA["forward"])
    for loss in (divergence(reverse, SPREAD), divergence(SPREAD, forward), -0.5 * math.log(1 - 0.9**2)):
        assert loss == pytest.approx(0.830, abs=5e-4)
    for loss in (divergence(forward, SPREAD), divergence(SPREAD, reverse)):
        assert loss == pytest.approx(3.433, abs=5e-4)
    # a forward-optimal encoder starts chains outside the typical set: E U is above by ½ Σ(Λii vi − 1)
    assert 0.5 * (np.diag(PRECISION) * OPTIMA["forward"] - 1).sum() == pytest.approx(4.263, abs=5e-4)


def updated(objective: str, x: Tensor, change: Mapping[str, Array]) -> tuple[Params, Params]:
    """Encoder parameters before and after an update, from the optimum and a change; on draws of exact moments."""
    made = learner_of(described("lingauss_amortised"), 0.01)._replace(theta=None)
    own = np.linalg.inv(PRECISION @ (np.eye(2) - STEP / 2 * PRECISION))
    variance = {
        "reverse": OPTIMA["reverse"],
        "jeffreys": np.sqrt(np.diag(own) / np.diag(PRECISION)),
        "forward": np.diag(own),
    }[objective]
    weight, bias = np.concatenate([GAIN, np.zeros((2, 1))]), np.append([0.0, 0.0], np.log(np.expm1(variance)))
    made.params["encoder/x->z.0.weight"].copy_(torch.from_numpy(weight + change.get("weight", 0.0)))
    made.params["encoder/x->z.0.bias"].copy_(torch.from_numpy(bias + change.get("bias", 0.0)))
    before = {n: made.params[n].clone() for n in made.program.encoder_learned}
    steps = math.ceil(math.log(1e-10) / math.log(1 - STEP))  # the slowest direction has λ = 1
    chains = 2 * (steps + 3) + 1
    method = Method(langevin(STEP), steps, "encoder", Draws("final"), objective, 0, n_chain=chains)
    rng = Orthogonal(chains, images=len(x))
    learn_batch(made, method, Batch({"x": x}, {}, torch.arange(len(x))), rng, 0)
    return before, {n: made.params[n].clone() for n in before}


@pytest.mark.parametrize("objective", OPTIMA)
def test_encoder_rests_at_its_optimum(objective: str) -> None:
    """Oracle: mean Kx and variances 1/Λii, √(Cii/Λii), Cii at every x do not move, to rounding.

    C = [Λ(I − γΛ/2)]⁻¹, the chain's own covariance, is S up to the step. From beside the optimum an update goes back:
    its product with the change is negative.
    """
    x = torch.tensor([[-1.0], [0.5], [1.5]], dtype=F64)
    before, after = updated(objective, x, {})
    for name in before:
        np.testing.assert_allclose(after[name].numpy(), before[name].numpy(), atol=1e-9)
    for place in range(4):
        for name, shape in (("weight", (4, 1)), ("bias", (4,))):
            change = np.zeros(shape)
            change[place] = 0.05
            before, after = updated(objective, x, {name: change})
            key = f"encoder/x->z.0.{name}"
            assert (after[key] - before[key]).flatten()[place] * 0.05 < -1e-6


@pytest.mark.slow
def test_study(tmp_path) -> None:
    """Oracle: the Jeffreys optimum of the study's chain, and the chain's law from there; 4 s.e. of 500 chains.

    The encoder keeps moving with the draws of 128 chains. A mean is pulled by .32 (standard deviation) against a slope
    of 7.2 and more, with η = .05 on a weight and a bias: √(.1 · .32²/(2 · 7.2)) < .03; a logarithm of a variance by
    .10 against 1.2: < .02. Bounds are 4 of each.
    """
    trace = run_study("lingauss_amortised", tmp_path / "run", "figures=[]")
    own = np.linalg.inv(PRECISION @ (np.eye(2) - 0.02 * PRECISION))
    mean, scale = (trace["encoder/z"][v].isel(image=0).to_numpy() for v in ("mean", "scale"))
    np.testing.assert_allclose(mean, GAIN[:, 0], atol=0.12)
    np.testing.assert_allclose(
        np.log(scale**2), np.log(np.sqrt(np.diag(own) / np.diag(PRECISION))), atol=0.08
    )
    z = trace["z"]["value"].isel(image=0).sel(step=slice(200, None)).to_numpy()
    assert_mean(z.mean(1), GAIN[:, 0], slack=0.02)
    away = z - GAIN[:, 0]
    slack = own[0, 0] * (1 - 0.04) ** 400
    assert_mean((away**2).mean(1), np.diag(own), slack=slack)
    assert_mean(away.prod(-1).mean(1), own[0, 1], slack=slack)
