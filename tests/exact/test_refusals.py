"""What would be wrong without a word is refused, and what kernels may do in learning is counted right."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import pcsim
from pcsim.circuit.distributions import DISTRIBUTIONS, from_log_prob
from pcsim.circuit.distributions.base import Local
from pcsim.circuit.read import load_circuit
from pcsim.engines.torch.program import Program
from pcsim.engines.torch.target import CircuitTarget, Clamp
from pcsim.errors import CircuitError, StudyError
from pcsim.evaluation import Chain, grey_levels, reconstruct
from pcsim.inference.chain import run_chain
from pcsim.inference.kernels import langevin, mala
from pcsim.inference.preconditioners import frozen
from pcsim.inference.rng import seed_stream
from pcsim.learning.draws import Draws, expectation
from pcsim.learning.learner import check_objective

GAUSSIAN = {"shape": [1], "distribution": "gaussian"}
LINE = [{"linear": {"weight": [[2.0]]}}]


def two_nodes(**extra: Any) -> dict[str, Any]:
    """z ~ N(0, 1), x | z ~ N(2z, 1)."""
    return {
        "nodes": {"z": GAUSSIAN, "x": GAUSSIAN},
        "edges": [{"from": "z", "to": "x", "layers": LINE}],
        **extra,
    }


def target_of(description: dict[str, Any], rows: int = 4) -> CircuitTarget:
    """The posterior of x = 1."""
    program = Program(load_circuit(description))
    bound = program.bind(program.initial_parameters(torch.Generator().manual_seed(0)))
    return CircuitTarget(bound, Clamp({"x": torch.ones(rows, 1, dtype=torch.float64)}), rows)


@pytest.mark.parametrize("draws", [Draws("final"), Draws("all")])
def test_learning_with_a_kernel_that_stays(draws: Draws) -> None:
    """MALA with an enormous step rejects every move: the gradient is that of the start, by hand."""
    target = target_of(two_nodes())
    start = {"z": torch.full((4, 1), 0.3, dtype=torch.float64)}
    found = expectation(mala(1e6), target, seed_stream(0), start, 5, draws, moments=False)
    # U = ½(1 − w z)² + …: ∂U/∂w = −(1 − w z) z per row
    assert torch.allclose(found.gradient["z->x.0.weight"], torch.tensor(4 * -(1 - 2 * 0.3) * 0.3).double())


def test_hot_chains_are_not_stopped() -> None:
    """T = 300 on ½z²: energies of 150 are what they should be, and the guard knows the kernel's temperature."""
    circuit = {"nodes": {"z": GAUSSIAN}}
    program = Program(load_circuit(circuit))
    bound = program.bind(program.initial_parameters(torch.Generator()))
    target = CircuitTarget(bound, Clamp({}), 2000)
    state = run_chain(
        langevin(0.1, 300.0), target, seed_stream(1), {"z": torch.zeros(2000, 1, dtype=torch.float64)}, 100
    )
    variance = 300 / (1 - 0.05)  # T/(λ(1 − γλ/2)); within 4 standard errors of independent chains
    assert abs(float(state.position["z"].var()) / variance - 1) < 4 * math.sqrt(2 / 2000)


def test_reverse_kl_past_a_free_node_is_refused() -> None:
    """z → h → x with an encoder of z alone: ∂U/∂z at a prior draw of h says nothing of x."""
    circuit = load_circuit(
        {
            "nodes": {"z": GAUSSIAN, "h": GAUSSIAN, "x": GAUSSIAN},
            "edges": [{"from": "z", "to": "h", "layers": LINE}, {"from": "h", "to": "x", "layers": LINE}],
            "encoder": [{"from": "x", "to": "z", "layers": [{"linear": 2}]}],
        }
    )
    for objective in ("reverse", "jeffreys"):
        with pytest.raises(StudyError, match="free descendant 'h'"):
            check_objective(circuit, ["x"], objective)
    check_objective(circuit, ["x"], "forward")
    check_objective(circuit, ["x", "h"], "reverse")


@pytest.mark.parametrize("name", sorted(DISTRIBUTIONS))
def test_pictures_come_back_as_they_went_in(name: str) -> None:
    """Grey levels undo the scaling of images, for every distribution."""
    distribution = DISTRIBUTIONS[name]()
    low, high = distribution.data_range
    grey = torch.linspace(0, 1, 5)
    assert torch.allclose(grey_levels(distribution, low + grey * (high - low)), grey)


def test_energy_that_is_missing_is_an_error() -> None:
    class Silent:
        discrete, data_range, learned, learn = False, (-1.0, 1.0), (), ()

        def parameters(self, shape):
            return {}

        def local(self, params, z, eta, *, mask=None, energy=False, learn=False):
            return Local(z - eta, z - eta, None, {})

        def sample(self, params, eta, draws):
            return eta

        mean = sample

    description = two_nodes()
    description["nodes"] = {"z": GAUSSIAN, "x": {"shape": [1], "distribution": Silent()}}
    target = target_of(description)
    target.evaluate({"z": torch.zeros(4, 1, dtype=torch.float64)}, energy=False)
    with pytest.raises(CircuitError, match=r"node x.*no energy"):
        target.evaluate({"z": torch.zeros(4, 1, dtype=torch.float64)}, energy=True)


def test_a_parameter_called_mean_is_refused() -> None:
    own = from_log_prob(
        lambda p, z, eta: -0.5 * ((z - eta - p["mean"]) ** 2).sum(1),
        lambda p, eta, draws: eta,
        parameters={"mean": torch.zeros(1)},
    )
    with pytest.raises(CircuitError, match="rename"):
        load_circuit({"nodes": {"z": {"shape": [1], "distribution": own}}})


def test_draws_of_the_warm_up_make_no_reconstruction() -> None:
    program = Program(load_circuit(two_nodes()))
    params = program.initial_parameters(torch.Generator().manual_seed(0))
    chain = Chain(langevin(0.1, preconditioner=frozen(20)), 10, draws=1)
    with pytest.raises(StudyError, match="warm-up of 20"):
        reconstruct(program, params, {"x": torch.ones(1, 1).double()}, seed_stream(0), chain)


CATEGORICAL = {"nodes": {"c": {"shape": [3], "distribution": "categorical"}}}
BERNOULLI = {"nodes": {"b": {"shape": [2], "distribution": "bernoulli"}}}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: sample(BERNOULLI, np.array([[0, 1]], np.uint8)), "0 and 1 only"),
        (lambda: sample(BERNOULLI, [[7.0, -3.0]]), r"must lie in \[0, 1\]"),
        (lambda: sample(two_nodes(), [[1.0]], masks={"z": [1.0]}), "no data to be held at"),
        (lambda: sample(two_nodes(), [[1.0]], masks={"x": [0.5]}), "1 .* and 0"),
        (lambda: sample(two_nodes(), [[1.0]], masks={"x": [1.0, 0.0]}), r"takes \[1\]"),
        (lambda: train(two_nodes(), objective="forward"), "no encoder"),
        (lambda: train(two_nodes(), objective="forwrad"), "did you mean 'forward'"),
        (lambda: sample(timed(), [[1.0]]), "tau"),
    ],
)
def test_data_and_settings_that_cannot_be_meant(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(StudyError, match=words):
        call()


def test_one_hot_integers_stay_one_hot() -> None:
    """uint8 is scaled for images, never for classes."""
    trace = sample(
        {"nodes": {**CATEGORICAL["nodes"], "z": GAUSSIAN},
         "edges": [{"from": "z", "to": "c", "layers": [{"linear": 3}]}]},
        {"c": np.array([[0, 1, 0]], np.uint8)},
    )  # fmt: skip
    assert trace["c"]["observed"].to_numpy().tolist() == [[0.0, 1.0, 0.0]]


def sample(circuit: dict[str, Any], data: Any, **more: Any) -> Any:
    """A short chain."""
    return pcsim.sample(circuit, data, langevin(0.1), 3, **more)


def train(circuit: dict[str, Any], **more: Any) -> Any:
    """A short training."""
    return pcsim.train(circuit, np.ones((4, 1)), langevin(0.1), 3, 1, batch_size=4, **more)


def timed() -> dict[str, Any]:
    """A circuit with a time constant."""
    circuit = two_nodes()
    circuit["nodes"] = {"z": {**GAUSSIAN, "tau": "10 ms"}, "x": GAUSSIAN}
    return circuit
