"""Where noise goes and what it is made of, on Brian2: on errors, coloured, spikes; error units that are slow."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import solve_continuous_lyapunov

from pcsim.engines.brian2.network import Dynamics
from pcsim.errors import CircuitError
from pcsim.inference.noise import Noise
from tests.engines.brian_runs import Array, assert_covariance, euler_covariance, network, path, stream
from tests.exact.test_noise import coloured_variance

DT = 1e-3
ROWS = 4000


def one(variance: float, error_tau: str | None = None, **more: Any) -> dict[str, Any]:
    """A single node N(0, Σ) with tau = 100 ms."""
    node = {"shape": [1], "distribution": {"gaussian": {"precision": 1 / variance}}, "tau": "100 ms", **more}
    return {"nodes": {"z": node if error_tau is None else {**node, "error_tau": error_tau}}, "edges": []}


def pair(variances: tuple[float, float], weight: float, error_tau: str) -> dict[str, Any]:
    """z ~ N(0, Σ_z), x | z ~ N(w z, Σ_x), all units with time constants; tau of values 100 ms."""
    nodes = {
        name: {"shape": [1], "distribution": {"gaussian": {"precision": 1 / v}}, "tau": "100 ms",
               "error_tau": error_tau}
        for name, v in zip("zx", variances, strict=True)
    }  # fmt: skip
    edges = [{"from": "z", "to": "x", "layers": [{"linear": {"weight": [[weight]], "bias": False}}]}]
    return {"nodes": nodes, "edges": edges}


def linear(variances: tuple[float, ...], weight: float, error_tau: float, on: str) -> tuple[Array, Array]:
    """Drift A and noise B of (z, ε_z[, ε_x]), times in tau: ż = −ε_z + w ε_x, τ_ε ε̇ = (z − η) − Σ ε.

    Noise on errors is Σ √2 ξ in τ_ε ε̇, on values √2 ξ in ż.
    """
    drift, noise = np.zeros((3, 3)), np.zeros((3, 3))
    drift[0] = [0, -1, weight]
    drift[1] = [1, -variances[0], 0]
    drift[2] = [-weight, 0, -variances[-1]]
    drift[1:] /= error_tau
    if on == "values":
        noise[0, 0] = math.sqrt(2)
    else:
        noise[1, 1], noise[2, 2] = (math.sqrt(2) * v / error_tau for v in (variances[0], variances[-1]))
    d = len(variances) + 1
    return drift[:d, :d], noise[:d, :d]


def lyapunov(drift: Array, noise: Array) -> Array:
    """A S + S Aᵀ + B Bᵀ = 0."""
    found: Array = solve_continuous_lyapunov(drift, -noise @ noise.T)
    return found


@pytest.mark.parametrize("error_tau", [0.01, 0.2, 1.0, 5.0])
@pytest.mark.parametrize("variance", [0.5, 2.0])
def test_noise_on_one_error_is_exact_at_any_time_constant(variance: float, error_tau: float) -> None:
    """With z' = −ε this is an underdamped Langevin equation: Var z = Σ and Var ε = 1/τ_ε · Σ … whatever τ_ε."""
    s = lyapunov(*linear((variance,), 0.0, error_tau, "errors"))
    assert s[0, 0] == pytest.approx(variance, rel=1e-10)
    assert s[1, 1] == pytest.approx(variance / error_tau, rel=1e-10)
    assert s[0, 1] == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("ratio", [pytest.param(0.2, marks=pytest.mark.slow), 2.0])
def test_noise_on_the_error_of_one_node(ratio: float) -> None:
    """Oracle: the discrete Lyapunov equation of the Euler chain of (z, ε); 4 s.e. of 4000 rows."""
    variance = 2.0
    description = one(variance, f"{100 * ratio:g} ms")
    simulation = network(description, Dynamics(DT, DT, noise_on="errors"), ROWS)
    simulation.run(stream(simulation), 2000)
    found = np.concatenate([simulation.values["z"], simulation.errors["z"]], 1)
    expected = euler_covariance(*linear((variance,), 0.0, ratio, "errors"), DT / 0.1)
    assert_covariance(found, expected)
    assert expected[0, 0] == pytest.approx(variance, rel=0.1)


@pytest.mark.parametrize("ratio", [0.2, pytest.param(2.0, marks=pytest.mark.slow)])
def test_noise_on_the_errors_of_two_nodes_is_another_law(ratio: float) -> None:
    """Σ = (1, .1), w = 2: the posterior variance is .0244, and this chain has Lyapunov's instead."""
    variances, weight = (1.0, 0.1), 2.0
    description = pair(variances, weight, f"{100 * ratio:g} ms")
    simulation = network(description, Dynamics(DT, DT, noise_on="errors"), ROWS, {"x": [0.0]})
    simulation.run(stream(simulation), 3000)
    found = np.concatenate([simulation.values["z"], simulation.errors["z"], simulation.errors["x"]], 1)
    expected = euler_covariance(*linear(variances, weight, ratio, "errors"), DT / 0.1)
    assert_covariance(found, expected)
    posterior = 1 / (1 + weight**2 / 0.1)
    assert posterior == pytest.approx(0.0244, abs=5e-5)
    assert expected[0, 0] > 4 * posterior


def test_noise_on_errors_needs_error_units_with_a_state() -> None:
    with pytest.raises(CircuitError, match=r"node z: noise\.on: errors needs error_tau at every node"):
        network(one(1.0), Dynamics(DT, DT, noise_on="errors"))


def test_slow_errors_add_tau_over_the_variance() -> None:
    """Equal Σ: Var = Var_post + τ_ε/Σ, from (z, f = −ε_z + w ε_x): ż = f + √2 ξ, τ_ε ḟ = −(1 + w²) z − Σ f."""
    for variance in (0.5, 1.0, 3.0):
        for weight in (0.5, 2.0):
            for error_tau in (0.01, 0.2, 1.0):
                s = lyapunov(*linear((variance, variance), weight, error_tau, "values"))
                expected = variance / (1 + weight**2) + error_tau / variance
                assert s[0, 0] == pytest.approx(expected, rel=1e-9)
    # unequal Σ: five times the posterior's .0244 at a hundredth of the value units' time constant
    s = lyapunov(*linear((1.0, 0.1), 2.0, 0.01, "values"))
    assert s[0, 0] == pytest.approx(0.115, abs=5e-4)


@pytest.mark.parametrize(
    ("variances", "ratio"), [pytest.param((1.0, 1.0), 0.2, marks=pytest.mark.slow), ((1.0, 0.1), 0.05)]
)
def test_slow_errors_heat_the_values(variances: tuple[float, float], ratio: float) -> None:
    """Oracle: the discrete Lyapunov equation of the Euler chain of (z, ε_z, ε_x); 4 s.e. of 4000 rows."""
    weight, step = 2.0, 0.2e-3
    description = pair(variances, weight, f"{100 * ratio:g} ms")
    simulation = network(description, Dynamics(step, step), ROWS, {"x": [0.0]})
    simulation.run(stream(simulation), 4000)
    found = np.concatenate([simulation.values["z"], simulation.errors["z"], simulation.errors["x"]], 1)
    expected = euler_covariance(*linear(variances, weight, ratio, "values"), step / 0.1)
    assert_covariance(found, expected)
    posterior = 1 / (1 / variances[0] + weight**2 / variances[1])
    assert expected[0, 0] > 1.5 * posterior


@pytest.mark.parametrize("colour_steps", [10.0, 40.0])
def test_coloured_noise_cools_the_values(colour_steps: float) -> None:
    """T/(λ(1 + λτ_s)), here with Euler's own step in it; λ = 2, tau = 100 ms, 4 s.e. of 4000 rows."""
    simulation = network(one(0.5), Dynamics(0.5e-3, 1.0), ROWS)
    simulation.run(stream(simulation, Noise(colour_steps)), 1500)
    expected = coloured_variance(0.005, 1.0, colour_steps)
    assert_covariance(simulation.values["z"], np.array([[expected]]))
    assert expected == pytest.approx(1 / (2 * (1 + 2 * 0.005 * colour_steps)), rel=0.02)


def test_shot_noise_has_heavy_tails() -> None:
    """Excess kurtosis 1/(ντ) of an E/I pair at ντ = .5, relaxation τ = tau/λ = 50 ms: rate 10 Hz, dt = 1 ms.

    For the Euler chain (1/ν dt)(1 − b²)/(1 + b²), b = 1 − λ dt/tau; standard error by the delta method.
    """
    rows, b = 20_000, 1 - 2 * DT / 0.1
    simulation = network(one(0.5), Dynamics(DT, 1.0), rows)
    simulation.run(stream(simulation, Noise(spikes=10 * DT)), 400)
    z = simulation.values["z"][:, 0]
    variance, excess = 2 * DT / 0.1 / (1 - b * b), (1 - b * b) / (1 + b * b) / (10 * DT)
    assert excess == pytest.approx(1 / (10 * 0.05), rel=0.03)
    influence = z**4 / variance**2 - 2 * (excess + 3) * z**2 / variance
    error = influence.std() / math.sqrt(rows)
    assert (z**4).mean() / (z**2).mean() ** 2 - 3 == pytest.approx(excess, abs=4 * error)
    assert (z**2).mean() == pytest.approx(variance, abs=4 * (z**2).std() / math.sqrt(rows))
    assert excess > 8 * error


def test_slow_errors_run_in_circles() -> None:
    """w = 2, Σ = 1, τ_ε = .2: E f(t) z(t + .1) − E z(t) f(t + .1), f = −ε_z + w ε_x, by the chain's own moments.

    Each row gives one product; 4 s.e. of them. Reversible dynamics would give 0.
    """
    description, lag = pair((1.0, 1.0), 2.0, "20 ms"), 10
    simulation = network(description, Dynamics(DT, DT), ROWS, {"x": [0.0]})
    simulation.run(stream(simulation), 1500)

    def read() -> tuple[Array, Array]:
        z, errors = simulation.values["z"][:, 0].copy(), simulation.errors
        return z, 2 * errors["x"][:, 0] - errors["z"][:, 0]

    (z0, f0), _ = read(), simulation.run(stream(simulation, seed=1), lag)
    z1, f1 = read()
    drift, noise = linear((1.0, 1.0), 2.0, 0.2, "values")
    s = euler_covariance(drift, noise, 0.01)
    moved = np.linalg.matrix_power(np.eye(3) + 0.01 * drift, lag) @ s
    push = np.array([0, -1, 2.0])
    expected = moved[0] @ push - push @ moved[:, 0]
    found = f0 * z1 - z0 * f1
    assert found.mean() == pytest.approx(expected, abs=4 * found.std() / math.sqrt(ROWS))
    assert abs(expected) > 8 * found.std() / math.sqrt(ROWS)


def test_draws_go_where_the_noise_is() -> None:
    """On errors the stream is asked once per error unit and step, in the order of the nodes, clamped or not."""
    simulation = network(pair((1.0, 1.0), 2.0, "20 ms"), Dynamics(DT, DT, noise_on="errors"), 2, {"x": [0.0]})
    assert simulation.plan.drawing(simulation.plan.clamp) == ("z", "x")
    assert (
        network(pair((1.0, 1.0), 2.0, "20 ms"), Dynamics(DT, DT, 0.0), 2, {"x": [0.0]}).plan.noisy == "value"
    )
    found = path(simulation, "x", 1, stream(simulation), error=True)
    rng = stream(simulation)
    like = torch.zeros(2, 1, dtype=torch.float64)
    second = [rng.normal(like).numpy() for _ in "zx"][1]
    # τ_ε ε̇ = gap − Σ ε + Σ sqrt(2 tau/dt) ξ from ε = 0, gap = 0
    np.testing.assert_allclose(found[1], DT / 0.02 * math.sqrt(2 * 0.1 / DT) * second, rtol=1e-12)
