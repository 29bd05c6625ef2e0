"""mcpc_linear_1d in its three cases: the posterior, both units free at a coarse step, and learning the weight."""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.optimize import brentq

from pcsim.inference.kernels import langevin
from pcsim.inference.rng import Stream
from pcsim.learning.draws import Draws
from pcsim.learning.learner import Batch, Learner, Method, learn_batch
from tests.circuits.shipped import (
    Array,
    assert_mean,
    described,
    joint_of,
    learner_of,
    measured,
    path_of,
    run_study,
    stated_in,
    target_of,
    zeros,
)
from tests.exact.gaussian_circuits import F64, Orthogonal, condition, flat

CIRCUIT = described("mcpc_linear_1d")
FREE = stated_in("mcpc_linear_1d_free")
LEARNING = stated_in("mcpc_linear_1d_learning")
KEY = "z->y.0.weight"


def settled(step: float, rows: int, steps: int) -> Array:
    """z of the posterior given y = 1 on draws of exact moments, `[step, row]`."""
    target = target_of(CIRCUIT, {"y": [1.0]}, rows)
    return path_of(langevin(step), target, Orthogonal(rows), zeros(target), steps)["z"][..., 0]


def test_posterior_and_its_step_bias() -> None:
    """Oracle: N(0.44, 0.2), at step .02 variance 0.2105 and autocorrelations .9^k, so 19 steps in all; to rounding."""
    posterior = condition(joint_of(CIRCUIT), np.array([False, True]), np.array([np.nan, 1.0]))
    assert posterior.mean == pytest.approx([0.44])
    assert 1 / posterior.precision == pytest.approx(0.2)
    z = settled(0.02, 320, 310)
    late = z[-60:]
    np.testing.assert_allclose(late.mean(1), 0.44, atol=1e-10)
    variance = 1 / (5 * (1 - 0.02 * 5 / 2))
    assert variance == pytest.approx(0.210526, abs=5e-7)
    np.testing.assert_allclose(late.var(1), variance, rtol=1e-10)
    correlation = np.array([np.corrcoef(late[0], later)[0, 1] for later in late])
    np.testing.assert_allclose(correlation, 0.9 ** np.arange(60), atol=1e-9)
    assert 1 + 2 * correlation[1:].sum() == pytest.approx(19 - 20 * 0.9**60, abs=1e-7)


def test_study(tmp_path) -> None:
    """Oracle: N(0.44, 0.2105), the variance of a mean over N correlated steps, y ~ N(0.4, 5); 4 s.e."""
    trace = run_study("mcpc_linear_1d", tmp_path / "run", "figures=[]")
    z = trace["z"]["value"].isel(image=0, unit=0).sel(step=slice(200, None)).to_numpy()
    assert_mean(z.mean(1), 0.44)
    assert_mean(((z - 0.44) ** 2).mean(1), 1 / 4.75)
    n = z.shape[1]
    lags = np.arange(1, n)
    inflation = 1 + 2 * ((1 - lags / n) * 0.9**lags).sum()  # 19 in the limit
    assert_mean((z.mean(1) - 0.44) ** 2, inflation / 4.75 / n)
    effective = measured(tmp_path / "run", "effective_sample_size")
    exact = -0.5 * math.log(2 * math.pi * 5) - 0.6**2 / 10
    found = measured(tmp_path / "run", "log_likelihood")
    assert abs(found - exact) < 4 * math.sqrt((200 / effective - 1) / 200)


COARSE = np.array([[2.041, 1.633], [1.633, 5.306]])


def test_both_free_at_the_papers_step() -> None:
    """Oracle: [Λ(I − γΛ/2)]⁻¹ at γ = .3, where the truth is [[1, 2], [2, 5]]; to rounding."""
    joint = joint_of(FREE)
    np.testing.assert_allclose(joint.covariance, [[1, 2], [2, 5]])
    posterior = condition(joint, np.array([False, False]), np.zeros(2))
    exact = posterior.ula(0.3, 1.0)
    np.testing.assert_allclose(exact, COARSE, atol=5e-4)
    rows = 600
    target = target_of(FREE, {}, rows)
    path = path_of(langevin(0.3), target, Orthogonal(rows), zeros(target), 290)
    draws = flat(joint, {n: torch.from_numpy(z[-1]) for n, z in path.items()}, posterior).numpy()
    slowest = 1 - 0.3 * float(np.linalg.eigvalsh(posterior.precision).min())
    np.testing.assert_allclose(draws.mean(0), [0.5, 1.0], atol=2 * slowest**290 + 1e-9)
    np.testing.assert_allclose(np.cov(draws.T, bias=True), exact, atol=10 * slowest**580 + 1e-9)


def test_study_of_both_free(tmp_path) -> None:
    """Oracle: the same covariance: y looks right (5.3 for 5) while z is twice too hot; 4 s.e. of 1000 chains."""
    trace = run_study("mcpc_linear_1d_free", tmp_path / "run", "figures=[]")
    z, y = (trace[n]["value"].isel(image=0, unit=0).sel(step=slice(200, None)).to_numpy() for n in "zy")
    exact = condition(joint_of(FREE), np.array([False, False]), np.zeros(2)).ula(0.3, 1.0)
    for a, b, expected in ((z, z, exact[0, 0]), (z, y, exact[0, 1]), (y, y, exact[1, 1])):
        means = (0.5 if a is z else 1.0, 0.5 if b is z else 1.0)
        assert_mean(((a - means[0]) * (b - means[1])).mean(1), expected)


# ----------------------------------------------------------------------------------- learning the weight


def update(made: Learner, temperature: float, step: float, times: int = 1) -> list[float]:
    """W after each of some updates on √5, by chains whose draws have exact moments."""
    batch = Batch({"y": torch.full((1, 1), math.sqrt(5), dtype=F64)}, {}, torch.arange(1))
    path = []
    for index in range(times):
        rate = 1 + float(made.params[KEY]) ** 2
        steps = max(2, math.ceil(math.log(1e-9) / math.log(abs(1 - step * rate))))
        method = Method(langevin(step, temperature), steps, "prior", Draws("final"), n_chain=steps + 3)
        learn_batch(made, method, batch, Orthogonal(steps + 3), index)
        path.append(float(made.params[KEY]))
    return path


def pull(weight: float, temperature: float, step: float) -> float:
    """E[(y − Wz) z]: with λ = 1 + W² z has mean Wy/λ and variance T/(λ(1 − γλ/2))."""
    rate = 1 + weight**2
    return weight * (5 / rate**2 - temperature / (rate * (1 - step * rate / 2)))


@pytest.mark.parametrize(
    ("temperature", "ideal"), [(0.1, 7.0), (0.5, 3.0), (1.0, 2.0), (2.0, 1.2247), (4.0, 0.5)]
)
def test_learned_weight_at_each_temperature(temperature: float, ideal: float) -> None:
    """Oracle: W ← W + ηE[(y − Wz) z], whose fixed point W² = s/(T + γs/2) − 1 is √(5/T − 1) as γ → 0; to rounding.

    It stays at the fixed point, and from either side it goes there. What is generated at that temperature,
    T(1 + W²), then has the variance 5 of the data, up to γ.
    """
    assert math.sqrt(5 / temperature - 1) == pytest.approx(ideal, abs=5e-5)
    step = 0.1 * temperature / (5 + temperature)
    fixed = math.sqrt(5 / (temperature + step * 5 / 2) - 1)
    assert temperature * (1 + fixed**2) == pytest.approx(5.0, rel=0.05)
    assert pull(fixed, temperature, step) == pytest.approx(0.0, abs=1e-12)
    made = learner_of(LEARNING, 0.2)
    for factor in (1.0, 0.8, 1.2):
        made.params[KEY].fill_(factor * fixed)
        exact, expected = factor * fixed, []
        for _ in range(3):
            exact += 0.2 * pull(exact, temperature, step)
            expected.append(exact)
        np.testing.assert_allclose(update(made, temperature, step, 3), expected, rtol=1e-7)
        assert (expected[-1] - factor * fixed) * (1 - factor) >= -1e-12


def test_weight_vanishes_above_the_temperature_of_the_data() -> None:
    """Oracle: at T = 6 there is no other fixed point than 0: the pull is downwards at every weight."""
    assert all(pull(w, 6.0, 0.04) < 0 for w in np.linspace(0.01, 4, 100))
    made = learner_of(LEARNING, 0.2)
    path = update(made, 6.0, 0.04, 15)
    assert np.all(np.diff([1.5, *path]) < 0)
    assert path[-1] < 0.5


def test_weight_diverges_at_zero_temperature() -> None:
    """Oracle: W⁴/4 + W² + ln W = s η t + const: 5.15, 9.35, 16.8 at ηt = 40, 400, 4000, near (4sηt)^¼.

    η = 1 from W = 2. Finite updates are exactly W ← W + ηsW/(1 + W²)²: one step of 1/(1 + W²) is at the mode.
    """
    made, none = learner_of(LEARNING, 1.0), Stream(torch.Generator())
    made.params[KEY].fill_(2.0)
    batch = Batch({"y": torch.full((1, 1), math.sqrt(5), dtype=F64)}, {}, torch.arange(1))
    weight, found = 2.0, {}
    for index in range(400):
        mode = Method(langevin(1 / (1 + weight**2), 0.0), 1, "prior", Draws("final"))
        learn_batch(made, mode, batch, none, index)
        weight += 5 * weight / (1 + weight**2) ** 2
        assert float(made.params[KEY]) == pytest.approx(weight, rel=1e-10)
        found[index + 1] = weight

    def flow(time: float) -> float:
        start = 2.0**4 / 4 + 2.0**2 + math.log(2.0)
        return brentq(lambda w: w**4 / 4 + w**2 + math.log(w) - start - 5 * time, 2, 50)

    assert [round(flow(t), 1) for t in (40, 400, 4000)] == [5.2, 9.4, 16.8]
    for time in (40, 400):
        assert found[time] == pytest.approx(flow(time), rel=0.01)
        assert found[time] == pytest.approx((4 * 5 * time) ** 0.25, rel=0.04)


@pytest.mark.slow
def test_learning_study(tmp_path) -> None:
    """Oracle: W² = s/(1 + γs/2) − 1, within 5 %, because the weight keeps moving with the draws of a batch.

    A draw's gradient has standard deviation .83, that of 256 chains .05; with η = .05 and a slope of .33 at the
    fixed point, and draws correlated over about two batches, W has √(η .05² · 2/(2 · .33)) = .02: 4 of them are 4 %.
    """
    run_study("mcpc_linear_1d_learning", tmp_path / "run", "figures=[]", "learning.updates=400")
    weight = float(load_file(tmp_path / "run" / "checkpoints" / "weights.safetensors")[KEY])
    assert weight == pytest.approx(math.sqrt(5 / (1 + 0.02 * 5 / 2) - 1), rel=0.05)


def test_prior_mean_follows_the_weight() -> None:
    """Oracle: with a learned mean and data of mean 1 and variance 5, (W, 1/W) stays, W² = 4 as γ → 0; to rounding."""
    circuit = described("mcpc_linear_1d")
    circuit["nodes"]["z"]["learn"] = ["mean"]
    circuit["edges"][0]["layers"][0]["linear"] = {"weight": [[1.5]]}
    made, step, steps = learner_of(circuit, 0.2), 0.04, 110
    images = 1 + math.sqrt(5) * torch.tensor([[1.0], [-1.0]], dtype=F64)
    method = Method(langevin(step), steps, "prior", Draws("final"), n_chain=steps + 3)
    weight = math.sqrt(5 / (1 + step * 5 / 2) - 1)
    for mean, stays in ((1 / weight, True), (0.2, False)):
        made.params[KEY].fill_(weight)
        made.params["z.mean"].fill_(mean)
        learn_batch(
            made, method, Batch({"y": images}, {}, torch.arange(2)), Orthogonal(steps + 3, images=2), 0
        )
        moved = abs(float(made.params["z.mean"]) - mean) + abs(float(made.params[KEY]) - weight)
        assert (moved < 1e-7) == stays


def test_wrong_noise_would_be_seen() -> None:
    """Negative control: at T = 1.05 the variance differs by 5 %, which the exact draws tell at once."""
    target = target_of(CIRCUIT, {"y": [1.0]}, 320)
    z = path_of(langevin(0.02, 1.05), target, Orthogonal(320), zeros(target), 310)["z"][-1, :, 0]
    assert z.var() == pytest.approx(1.05 / 4.75, rel=1e-9)
