"""Held in part: what a mask leaves out must not matter, whatever stands there."""

from typing import Any

import pytest
import torch
from torch import Tensor

from pcsim.circuit.read import load_circuit
from pcsim.engines.torch.program import Program
from pcsim.engines.torch.target import CircuitTarget, Clamp
from pcsim.errors import StudyError
from pcsim.inference.kernels import langevin
from pcsim.inference.rng import seed_stream
from pcsim.learning.draws import Draws
from pcsim.learning.learner import Batch, Method, learn_batch, make_learner
from pcsim.learning.optimizers import sgd
from tests.exact.oracle_circuits import F64

DATA = torch.tensor([[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 0.0]], dtype=F64)
MASK = torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=F64)
BAIT = (0.0, 77.0, torch.nan)


def described(leaf: str) -> dict[str, Any]:
    nodes = {"z": {"shape": [2], "distribution": "gaussian"}, "x": {"shape": [4], "distribution": leaf}}
    edges = [{"from": "z", "to": "x", "layers": [{"linear": 3}, "tanh", {"linear": 4}]}]
    return {"nodes": nodes, "edges": edges, "encoder": [{"from": "x", "to": "z", "layers": [{"linear": 4}]}]}


def with_bait(bait: float) -> Tensor:
    return torch.where(MASK.bool(), DATA, bait)


@pytest.mark.parametrize("leaf", ["bernoulli", "gaussian"])
def test_what_is_not_observed_does_not_matter(leaf: str) -> None:
    """Oracle: an update of θ and φ is the same, to the bit, with 0, 77 or NaN at the entries left out."""
    program = Program(load_circuit(described(leaf)))
    ends = []
    for bait in BAIT:
        params = program.initial_parameters(torch.Generator().manual_seed(0))
        learner = make_learner(program, params, lambda p: sgd(p, 0.1), lambda p: sgd(p, 0.1))
        method = Method(langevin(0.1), 4, "encoder", Draws(), "jeffreys", 0, n_chain=3)
        batch = Batch({"x": with_bait(bait)}, {"x": MASK}, torch.arange(2))
        learn_batch(learner, method, batch, seed_stream(1), 0)
        ends.append(params)
    for end in ends[1:]:
        assert all(torch.equal(end[n], ends[0][n]) for n in end)


def test_masks_of_any_dtype() -> None:
    """Oracle: a boolean mask and a mask of numbers give the same gradient and the same held entries."""
    program = Program(load_circuit(described("gaussian")))
    bound = program.bind(program.initial_parameters(torch.Generator()))
    z = {"z": torch.ones(2, 2, dtype=F64), "x": torch.ones(2, 4, dtype=F64)}
    points = []
    for mask in (MASK, MASK.bool(), MASK.to(torch.uint8)):
        target = CircuitTarget(bound, Clamp({"x": DATA}, {"x": mask}), 2)
        points.append(target.evaluate(target.start(z), False).grad)
    assert all(torch.equal(p[n], points[0][n]) for p in points for n in p)


@pytest.mark.parametrize(
    ("clamp", "message"),
    [
        (Clamp({"y": DATA}), "clamp.y: no node 'y'"),
        (Clamp({}, {"x": MASK}), "mask.x: node x has a mask but no clamp"),
    ],
)
def test_a_clamp_of_nothing_is_refused(clamp: Clamp, message: str) -> None:
    """A misspelt name would leave the circuit unclamped without a word."""
    program = Program(load_circuit(described("gaussian")))
    with pytest.raises(StudyError) as caught:
        CircuitTarget(program.bind(program.initial_parameters(torch.Generator())), clamp, 2)
    assert message in str(caught.value)
