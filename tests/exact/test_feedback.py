"""Feedback weights B in place of Wᵀ: a drift that is no gradient. Oracle: a discrete Lyapunov equation."""

import numpy as np
import pytest
import torch
from scipy.linalg import solve_discrete_lyapunov

import pcsim
from pcsim.api import Probe
from pcsim.circuit.read import load_circuit
from pcsim.engines.torch.program import Program
from pcsim.engines.torch.target import CircuitTarget, Clamp
from pcsim.inference.kernels import langevin

W = np.array([[1.0, 0.5], [-0.5, 2.0], [0.3, -1.0]])
B = np.array([[0.5, 1.0, 0.0], [-1.0, 1.5, -0.5]])
PRECISION = 2.0


def circuit(feedback: np.ndarray | None) -> dict[str, object]:
    """Two causes, three observations of precision 2."""
    edge: dict[str, object] = {"from": "z", "to": "x",
                               "layers": [{"linear": {"weight": W.tolist(), "bias": False}}]}  # fmt: skip
    if feedback is not None:
        edge["feedback"] = {"weight": feedback.tolist()}
    nodes = {
        "z": {"shape": [2], "distribution": "gaussian"},
        "x": {"shape": [3], "distribution": {"gaussian": {"precision": PRECISION}}},
    }
    return {"nodes": nodes, "edges": [edge]}


def evaluation(feedback: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """∂U/∂z, ε of x, and ∂U/∂W at one point."""
    program = Program(load_circuit(circuit(feedback)))
    bound = program.bind(program.initial_parameters(torch.Generator().manual_seed(0)))
    x = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64)
    point = CircuitTarget(bound, Clamp({"x": x}), 1, learn=True).evaluate(
        {"z": torch.tensor([[0.3, -0.7]], dtype=torch.float64)}, True
    )
    return tuple(
        t.numpy() for t in (point.grad["z"], point.aux.errors["x"], point.aux.gradient["z->x.0.weight"])
    )


def test_the_message_is_b_times_the_error() -> None:
    grad, error, hebbian = evaluation(B)
    z = np.array([0.3, -0.7])
    assert grad[0] == pytest.approx(z - B @ error[0])
    # the forward weights still learn by error × presynaptic activity
    assert hebbian == pytest.approx(-np.outer(error[0], z))
    tied = evaluation(W.T)
    for mine, plain in zip(tied, evaluation(None), strict=True):
        assert mine == pytest.approx(plain, abs=1e-15)


def test_the_chain_reaches_the_lyapunov_covariance() -> None:
    """z ← z − γ J (z − m) + sqrt(2γ) ξ, J = I + B Π W not symmetric: S = (I − γJ) S (I − γJ)ᵀ + 2γ I."""
    step_size, chains = 0.05, 20_000
    x = np.array([[1.0, -2.0, 0.5]])
    j = np.eye(2) + PRECISION * B @ W
    assert np.abs(j - j.T).max() > 1
    step = np.eye(2) - step_size * j
    assert np.abs(np.linalg.eigvals(step)).max() ** 200 < 1e-3
    trace = pcsim.sample(
        circuit(B), {"x": x}, langevin(step_size), 200, chains=chains, seed=1, device="cpu",
        probes=(Probe(("value",), ("z",), every=200),),
    )  # fmt: skip
    z = trace["z"]["value"].sel(step=200).to_numpy()[0]
    mean, s = (
        np.linalg.solve(j, PRECISION * B @ x[0]),
        solve_discrete_lyapunov(step, 2 * step_size * np.eye(2)),
    )
    assert z.mean(0) == pytest.approx(mean, abs=4 * np.sqrt(s.max() / chains))
    error = np.sqrt((np.outer(np.diag(s), np.diag(s)) + s**2) / chains)
    assert (np.abs(np.cov(z.T) - s) <= 4 * error).all()
    # the posterior of the same circuit is another law
    posterior = np.linalg.inv(np.eye(2) + PRECISION * W.T @ W)
    assert (np.abs(np.cov(z.T) - posterior) > 8 * error).any()
