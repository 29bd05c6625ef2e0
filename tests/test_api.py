"""The Python interface: circuits, chains and traces without files, and a caller's own parts in them."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import pcsim
from pcsim.circuit.distributions import from_log_prob
from pcsim.errors import CircuitError, StudyError
from pcsim.inference.types import Info, Kernel

CHAINS = 2000
TWO_NODES = {
    "nodes": {
        "z": {"shape": [1], "distribution": {"gaussian": {"precision": 1.0}}, "mean": [0.2]},
        "x": {"shape": [1], "distribution": "gaussian"},
    },
    "edges": [{"from": "z", "to": "x", "layers": [{"linear": {"weight": [[2.0]]}}]}],
}


def final_values(trace: object, node: str = "z") -> np.ndarray:
    """Values at the last step, over chains."""
    return trace[node]["value"].isel(step=-1, image=0).to_numpy().ravel()  # type: ignore[index]


def check_posterior(values: np.ndarray, step_size: float) -> None:
    """N(.44, 1/(5(1 − 5γ/2))): the closed form with its step-size bias; 4 standard errors of independent chains.

    x = 1, x | z ~ N(2z, 1), z ~ N(.2, 1): precision 1 + 4 = 5, mean (.2 + 2)/5.
    """
    variance = 1 / (5 * (1 - 5 * step_size / 2))
    assert abs(values.mean() - 0.44) < 4 * math.sqrt(variance / CHAINS)
    assert abs(values.var() / variance - 1) < 4 * math.sqrt(2 / CHAINS)


def test_sample_reaches_the_posterior() -> None:
    trace = pcsim.sample(TWO_NODES, {"x": [[1.0]]}, pcsim.langevin(0.1), 100, chains=CHAINS)
    check_posterior(final_values(trace), 0.1)
    assert trace["z"]["value"].dtype == np.float64


def test_own_kernel() -> None:
    """A kernel is any pair of functions; this one is Langevin written anew."""

    def init(target, rng, position):
        return Own(position, target.evaluate(position, False))

    def step(target, rng, state):
        position = {
            n: z - 0.1 * state.point.grad[n] + math.sqrt(0.2) * rng.normal(z)
            for n, z in state.position.items()
        }
        return Own(position, target.evaluate(position, False)), Info(0.1)

    from collections import namedtuple

    Own = namedtuple("Own", ["position", "point"])
    trace = pcsim.sample(TWO_NODES, {"x": [[1.0]]}, Kernel(init, step), 100, chains=CHAINS)
    check_posterior(final_values(trace), 0.1)


def test_own_edge_and_own_distribution() -> None:
    """An nn.Module for the edge and a log-density for the node give the same posterior."""
    edge = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    nn.init.constant_(edge.weight, 2.0)
    normal = from_log_prob(
        lambda params, z, eta: -0.5 * ((z - eta) ** 2).sum(1) - 0.5 * math.log(2 * math.pi),
        lambda params, eta, draws: eta + draws.normal(eta),
    )
    circuit = {
        "nodes": {"z": TWO_NODES["nodes"]["z"], "x": {"shape": [1], "distribution": normal}},
        "edges": [{"from": "z", "to": "x", "layers": [edge]}],
    }
    trace = pcsim.sample(circuit, {"x": [[1.0]]}, pcsim.langevin(0.1), 100, chains=CHAINS)
    check_posterior(final_values(trace), 0.1)


def test_masked_entries_are_sampled() -> None:
    """x1 held, x2 free: both given z are N(2z, 1), so x2's posterior is N(2·.44, 1 + 4/5) at small steps."""
    circuit = {
        "nodes": {**TWO_NODES["nodes"], "x": {"shape": [2], "distribution": "gaussian"}},
        "edges": [{"from": "z", "to": "x", "layers": [{"linear": {"weight": [[2.0], [2.0]]}}]}],
    }
    step_size = 0.01
    trace = pcsim.sample(
        circuit, {"x": [[1.0, 0.0]]}, pcsim.langevin(step_size), 1200, chains=CHAINS, masks={"x": [1.0, 0.0]},
        probes=(pcsim.Probe(("value",), every=600),),
    )  # fmt: skip
    values = trace["x"]["value"].isel(step=-1, image=0).to_numpy()
    assert (values[:, 0] == 1.0).all()
    # z, x2 jointly Gaussian of precision [[9, -2], [-2, 1]]; the step adds the known bias
    precision = np.array([[9.0, -2.0], [-2.0, 1.0]])
    covariance = np.linalg.inv(precision @ (np.eye(2) - step_size / 2 * precision))
    assert abs(values[:, 1].mean() - 0.88) < 4 * math.sqrt(covariance[1, 1] / CHAINS)
    assert abs(values[:, 1].var() / covariance[1, 1] - 1) < 4 * math.sqrt(2 / CHAINS)


def test_train_lowers_the_energy_and_weights_travel() -> None:
    digits = pcsim.datasets.load("digits").train
    circuit = {
        "nodes": {
            "z": {"shape": [8], "distribution": "gaussian"},
            "x": {"shape": [1, 8, 8], "distribution": "bernoulli"},
        },
        "edges": [{"from": "z", "to": "x", "layers": [{"linear": 64}, {"reshape": [1, 8, 8]}]}],
    }
    trained = pcsim.train(circuit, digits, pcsim.langevin(0.05), 10, 60, step_size=1e-2, batch_size=32)
    assert np.mean(trained.energy[-10:]) < np.mean(trained.energy[:10]) - 3 * np.std(trained.energy[-10:])
    same = pcsim.sample(circuit, digits[:2], pcsim.langevin(0.05), 5, weights=trained)
    again = pcsim.sample(circuit, digits[:2], pcsim.langevin(0.05), 5, weights=trained.params)
    assert same["z"]["value"].identical(again["z"]["value"])
    assert same["z"]["value"].dtype == np.float32


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: pcsim.load("circuits/mnisst.yaml"), ["no such circuit file"]),
        (lambda: pcsim.sample(TWO_NODES, {"y": [[1.0]]}, pcsim.langevin(0.1), 5), ["no node 'y'", "valid names: x, z"]),
        (lambda: pcsim.sample(TWO_NODES, [[1.0, 2.0]], pcsim.langevin(0.1), 5), ["node x takes [image, 1]", "[1, 2]"]),
        (lambda: pcsim.sample(TWO_NODES, [[math.nan]], pcsim.langevin(0.1), 5), ["node x", "not all finite"]),
        (lambda: pcsim.sample(TWO_NODES, [[1.0]], pcsim.langevin(0.1), 5, start="encoder"), ["no encoder"]),
        (lambda: pcsim.sample(TWO_NODES, [[1.0]], pcsim.langevin(0.1), 5, start="pior"), ["did you mean 'prior'"]),
        (lambda: pcsim.train(TWO_NODES, [[1.0]], pcsim.langevin(0.1), 5, 1), ["batch of 64", "1 images"]),
        (lambda: pcsim.open("runs/nowhere"), ["not a run directory"]),
    ],
)  # fmt: skip
def test_mistakes_are_explained(call, words) -> None:
    with pytest.raises((StudyError, CircuitError, RuntimeError)) as caught:
        call()
    for word in words:
        assert word in str(caught.value)


def test_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="sampel"):
        pcsim.sampel  # noqa: B018  # the access is the test


def test_module_in_yaml_form_that_mixes_rows_is_refused() -> None:
    circuit = {
        "nodes": {
            "z": {"shape": [2], "distribution": "gaussian"},
            "x": {"shape": [2], "distribution": "gaussian"},
        },
        "edges": [{"from": "z", "to": "x", "layers": [nn.BatchNorm1d(2)]}],
    }
    with pytest.raises(CircuitError, match="rows"):
        pcsim.load(circuit)


def test_weights_of_another_circuit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no parameter"):
        pcsim.sample(TWO_NODES, [[1.0]], pcsim.langevin(0.1), 5, weights={"a": torch.zeros(1)})
