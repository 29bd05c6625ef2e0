"""Conduction delays: the variance of a delayed loop, its instability, and every step against a loop by hand."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import solve_discrete_lyapunov

from pcsim.circuit.read import load_circuit
from pcsim.engines.brian2.network import Dynamics
from pcsim.engines.brian2.plan import plan_network
from pcsim.engines.brian2.simulation import Simulation, State
from pcsim.engines.brian2.standalone import run_standalone
from pcsim.engines.torch.target import Clamp
from pcsim.errors import CircuitError
from pcsim.inference.rng import seed_stream
from tests.engines.brian_runs import F64, Array, assert_covariance, network, parameters, path, stream

FLAT = 1e-12
"""A prior precision without effect: the whole drift is the delayed loop."""


def loop(rate: float, delay: str | None, prior: float = FLAT) -> dict[str, Any]:
    """dz = −prior z − rate z(t − 2 delay), for x held at 0: the prediction is late, and so is its error."""
    edge = {"from": "z", "to": "x", "layers": ["identity"], **({} if delay is None else {"delay": delay})}
    nodes = {"z": {"shape": [1], "distribution": {"gaussian": {"precision": prior}}, "tau": "1 s"},
             "x": {"shape": [1], "distribution": {"gaussian": {"precision": rate}}}}  # fmt: skip
    return {"nodes": nodes, "edges": [edge]}


def companion(rate: float, steps: int, dt: float, prior: float = 0.0) -> Array:
    """z ← (1 − dt prior) z − dt rate z_{k − steps} as a matrix on (z_k, …, z_{k − steps})."""
    matrix = np.eye(steps + 1, k=-1)
    matrix[0, 0] = 1 - dt * prior
    matrix[0, -1] -= dt * rate
    return matrix


def euler_variance(rate: float, steps: int, dt: float, prior: float = 0.0) -> float:
    noise = np.zeros((steps + 1, steps + 1))
    noise[0, 0] = 2 * dt
    return float(solve_discrete_lyapunov(companion(rate, steps, dt, prior), noise)[0, 0])


def delayed_variance(rate: float, delay: float, prior: float = 0.0) -> float:
    """Of dz = −a z − b z(t − r) + √2 dW, b > a: (q + b sin qr)/(q (a + b cos qr)), q² = b² − a².

    The covariance C solves C'' = −q² C between 0 and r, with C'(0) = −1 and C'(r/2 + s) symmetric about r/2 by the
    equation C'(s) = −a C(s) − b C(r − s); a = 0 is (1 + sin br)/(b cos br). Küchler and Mensch (1992).
    """
    q = math.sqrt(rate**2 - prior**2)
    return (q + rate * math.sin(q * delay)) / (q * (prior + rate * math.cos(q * delay)))


@pytest.mark.parametrize(("delay", "expected"), [(0.2, 1.22305), (0.5, 1.68580)])
def test_the_closed_form_is_the_limit_of_short_steps(delay: float, expected: float) -> None:
    """(1 + sin λd)/(λ cos λd): Euler's own variance gets there in proportion to its step, also with a prior."""
    assert delayed_variance(1.0, delay) == pytest.approx(expected, abs=5e-6)
    for prior in (0.0, 0.6):
        exact = delayed_variance(1.0, delay, prior)
        gaps = [euler_variance(1.0, steps, delay / steps, prior) - exact for steps in (20, 40, 80)]
        assert gaps[0] / gaps[1] == pytest.approx(2, rel=0.05)
        assert gaps[1] / gaps[2] == pytest.approx(2, rel=0.05)
        assert abs(gaps[2]) < 0.05 * exact


@pytest.mark.parametrize(("steps", "prior"), [(8, FLAT), (20, FLAT), (20, 0.6)])
def test_variance_of_the_delayed_loop(steps: int, prior: float) -> None:
    """Oracle: the discrete Lyapunov equation of the chain with its delay line; 4 s.e. of 6000 rows."""
    dt, rows = 0.025, 6000
    simulation = network(loop(1.0, f"{steps // 2 * 25} ms", prior), Dynamics(dt, dt), rows, {"x": [0.0]})
    simulation.run(stream(simulation), 500)
    expected = euler_variance(1.0, steps, dt, prior)
    assert_covariance(simulation.values["z"], np.array([[expected]]))
    # 4 s.e. of the same rows exclude the variance without a delay
    plain = 1 / ((1 + prior) * (1 - dt * (1 + prior) / 2))
    assert abs(expected - plain) > 8 * expected * math.sqrt(2 / rows)


@pytest.mark.parametrize(("rate", "grows"), [(1.45, False), (1.7, True)])
def test_instability_beyond_a_quarter_turn(rate: float, grows: bool) -> None:
    """T = 0, λd = 1.45 and 1.7 about π/2: each step is the chain by hand, and its largest eigenvalue decides."""
    dt, steps, length = 0.025, 40, 2400
    matrix = companion(rate, steps, dt, FLAT)
    assert (np.abs(np.linalg.eigvals(matrix)).max() > 1) == grows
    simulation = network(loop(rate, "500 ms"), Dynamics(dt, dt, 0.0), 1, {"x": [0.0]})
    simulation.start({"z": torch.ones(1, 1, dtype=F64)})
    found = path(simulation, "z", length, stream(simulation))[:, 0, 0]
    # no message is under way at first, so nothing moves before one has come back; then the chain by hand
    history = np.ones(steps + 1)
    half = steps // 2
    np.testing.assert_allclose(found[: half + 1], 1.0, atol=1e-9)
    expected = [1.0] * (half + 1)
    for _ in range(length - half):
        past = expected[len(expected) - 1 - steps] if len(expected) > steps else history[0]
        expected.append((1 - dt * FLAT) * expected[-1] - dt * rate * past)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    swing = [np.abs(found[k : k + 400]).max() for k in (400, 2000)]
    assert (swing[1] > swing[0]) == grows


def deep() -> dict[str, Any]:
    """Two parents of one child, a hidden layer, activations on both sides, two delays and one edge without."""

    def node(**more: Any) -> dict[str, Any]:
        return {"shape": [2], "distribution": "gaussian", **more}

    nodes = {"a": node(mean=[0.5, -0.5]), "b": node(), "x": node()}
    edges = [
        {"from": "a", "to": "x", "layers": ["tanh", {"linear": 3}, "softplus", {"linear": 2}], "delay": "3 ms"},
        {"from": "a", "to": "b", "layers": [{"linear": 2}], "delay": "1 ms"},
        {"from": "b", "to": "x", "layers": [{"linear": 2}, "tanh"]},
    ]  # fmt: skip
    return {"nodes": nodes, "edges": edges}


def by_hand(draws: dict[str, Array], x: Array, start: dict[str, Array], step: float) -> dict[str, Array]:
    """`deep` stepped in numpy with lists for delay lines, one row."""
    p = {n: v.numpy() for n, v in parameters(deep()).items()}
    w1, b1, w2, b2 = (p[f"a->x.{n}"] for n in ("1.weight", "1.bias", "3.weight", "3.bias"))
    wab, bab, wbx, bbx = (p[f"{e}.0.{n}"] for e in ("a->b", "b->x") for n in ("weight", "bias"))
    a, b = [start["a"]] * 4, [start["b"]]
    to_a, from_b = [np.zeros(2)] * 3, [np.zeros(2)]
    for xi_a, xi_b in zip(draws["a"], draws["b"], strict=True):
        hidden = w1 @ np.tanh(a[-4]) + b1
        rate, slope = np.log1p(np.exp(hidden)), 1 / (1 + np.exp(-hidden))
        into_x = wbx @ b[-1] + bbx
        error_x = x - (w2 @ rate + b2) - np.tanh(into_x)
        error_b, error_a = b[-1] - (wab @ a[-2] + bab), a[-1] - np.array([0.5, -0.5])
        to_a.append(w1.T @ (slope * (w2.T @ error_x)))
        from_b.append(wab.T @ error_b)
        push_a = -error_a + (1 - np.tanh(a[-1]) ** 2) * to_a[-4] + from_b[-2]
        push_b = -error_b + wbx.T @ ((1 - np.tanh(into_x) ** 2) * error_x)
        a.append(a[-1] + step * push_a + math.sqrt(2 * step) * xi_a)
        b.append(b[-1] + step * push_b + math.sqrt(2 * step) * xi_b)
    return {"a": np.array(a[3:]), "b": np.array(b)}


class _Deep:
    """`deep` as a plan, with its start, its draws and the path by hand."""

    step, steps = 0.02, 60

    def __init__(self) -> None:
        self.circuit = load_circuit(deep())
        self.x = torch.tensor([[0.7, -1.2]], dtype=F64)
        self.start = {n: torch.tensor([[0.3, -0.4]], dtype=F64) * k for n, k in (("a", 1.0), ("b", -2.0))}
        rng, like = seed_stream(3, "deep"), torch.zeros(1, 2, dtype=F64)
        drawn = [[rng.normal(like)[0].numpy() for _ in "ab"] for _ in range(self.steps)]
        self.draws = {n: np.array([d[k] for d in drawn]) for k, n in enumerate("ab")}
        self.plan = plan_network(
            self.circuit, parameters(deep()), Clamp({"x": self.x}), 1, Dynamics(1e-3, self.step)
        )
        self.expected = by_hand(
            self.draws, self.x[0].numpy(), {n: v[0].numpy() for n, v in self.start.items()}, self.step
        )
        self.worst, self.seen = 0.0, 0

    def visit(self, step: int, values: State, errors: State) -> None:
        for name, exact in self.expected.items():
            self.worst = max(self.worst, float(np.abs(values[name][0] - exact[step]).max()))
        self.seen += 1


def test_every_step_of_delayed_edges() -> None:
    """Oracle: the same circuit in numpy with the same draws; 60 noisy steps to rounding."""
    c = _Deep()
    simulation = Simulation(c.plan)
    simulation.start(c.start)
    simulation.run(seed_stream(3, "deep"), c.steps, c.visit)
    assert c.seen == c.steps + 1
    assert c.worst < 1e-12


@pytest.mark.slow
def test_every_step_of_delayed_edges_compiled(tmp_path: Path) -> None:
    c = _Deep()
    run_standalone(c.plan, c.start, seed_stream(3, "deep"), c.steps, c.visit, tmp_path / "build")
    assert c.seen == c.steps + 1
    assert c.worst < 1e-12


@pytest.mark.parametrize(
    ("delay", "message"),
    [
        ("2.5 ms", "z->x: a delay of 2.5 ms is 2.5 steps of dt = 1 ms"),
        ("2 s", "is 2000 steps .* take a longer dt"),
    ],
)
def test_delays_that_no_line_of_steps_holds(delay: str, message: str) -> None:
    with pytest.raises(CircuitError, match=message):
        network(loop(1.0, delay), Dynamics(1e-3, 0.01), 1, {"x": [0.0]})


def test_delay_lines_that_do_not_fit_are_refused() -> None:
    """800 steps of 3 million rows, there and back: 38 GB."""
    circuit, parts = load_circuit(loop(1.0, "800 ms")), parameters(loop(1.0, "800 ms"))
    with pytest.raises(CircuitError, match=r"edge z->x: delay lines of all edges take about 38\.4 GB"):
        plan_network(
            circuit, parts, Clamp({"x": torch.zeros(1, 1)}), 3_000_000, Dynamics(1e-3, 0.01), memory_limit=5e9
        )
