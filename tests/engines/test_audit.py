"""`pcsim audit`: what is local is certified, what is not is found, and the grain is said.

Oracle: the graph itself, and controls that are non-local by construction.
"""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from pcsim.circuit.layers.base import Pullback, Shape
from pcsim.circuit.read import load_circuit
from pcsim.cli import app
from pcsim.engines.audit import Row, audit, kernel_row
from pcsim.inference.kernels import KERNELS
from pcsim.inference.preconditioners import PRECONDITIONERS

ROOT = Path(__file__).parents[2]
CIRCUITS = sorted((ROOT / "circuits").glob("*.yaml"))


class Mixing:
    """y = x minus the mean over *rows*: what batch normalisation does."""

    shorthand: ClassVar[str | None] = None

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def parameters(self, shape: Shape, generator: torch.Generator) -> dict[str, Tensor]:
        return {}

    def forward(self, params: Mapping[str, Tensor], x: Tensor) -> tuple[Tensor, Any]:
        return x - x.mean(0), None

    def pullback(
        self, params: Mapping[str, Tensor], saved: Any, error: Tensor, *, message: bool, learn: bool
    ) -> Pullback:
        return Pullback(error - error.mean(0) if message else None, {})


class Eavesdropper(Mixing):
    """y = x, but the message carries what another edge of the same object last saw."""

    def __init__(self) -> None:
        self.heard: list[Tensor] = [torch.zeros(1)]

    def forward(self, params: Mapping[str, Tensor], x: Tensor) -> tuple[Tensor, Any]:
        self.heard.append(x)
        return x, None

    def pullback(
        self, params: Mapping[str, Tensor], saved: Any, error: Tensor, *, message: bool, learn: bool
    ) -> Pullback:
        return Pullback(error + self.heard[-2].sum(), {})


def chain(layer: Any, length: int = 4) -> dict[str, Any]:
    """a -> b -> c -> d of two units each, the same layer on every edge."""
    names = "abcd"[:length]
    nodes = {name: {"shape": [2], "distribution": {"gaussian": {"precision": 1.0}}} for name in names}
    edges = [{"from": p, "to": c, "layers": [layer]} for p, c in pairwise(names)]
    return {"nodes": nodes, "edges": edges}


def row(rows: tuple[Row, ...], what: str) -> Row:
    return next(r for r in rows if r.what == what)


@pytest.mark.parametrize("path", CIRCUITS, ids=lambda p: p.stem)
def test_every_circuit_of_the_package_is_local(path: Path) -> None:
    rows = audit(load_circuit(path))
    assert [r.what for r in rows if not r.local] == []
    assert any(r.what.startswith("update of") for r in rows)


def test_what_is_past_is_read_and_not_answered() -> None:
    """a_before → a → b: the error of a reads the frame before, and nothing is written back to it."""
    circuit = chain({"linear": 2}, 2)
    circuit["nodes"]["a_before"] = {"past": "a"}
    circuit["edges"].append({"from": "a_before", "to": "a", "layers": [{"linear": 2}]})
    rows = audit(load_circuit(circuit))
    assert set(row(rows, "update of a").reads) == {"a_before", "a", "b"}
    assert set(row(rows, "rule of a_before->a.0.weight").reads) == {"a_before", "ε(a)"}
    assert not [
        r.what
        for r in rows
        if r.what in ("update of a_before", "error of a_before", "message of a_before->a")
    ]
    assert all(r.local for r in rows)


def test_feedback_of_its_own_weights_is_local() -> None:
    """B ε reads the error at the other end of its synapses; where B is 0, the unit hears nothing of the child."""
    circuit = chain({"linear": 2}, 2)
    circuit["edges"][0]["feedback"] = {"weight": [[0.5, -1.0], [0.0, 2.0]]}
    rows = audit(load_circuit(circuit))
    assert row(rows, "message of a->b").reads == ("ε(b)",)
    assert row(rows, "message of a->b").grain == "synapse"
    assert set(row(rows, "update of a").reads) == {"a", "b"}
    circuit["edges"][0]["feedback"] = {"weight": [[0.0, 0.0], [0.0, 0.0]]}
    assert row(audit(load_circuit(circuit)), "update of a").reads == ("a",)


def test_a_lone_node_is_audited_free() -> None:
    """A root that is a leaf too: its full precision is read by its update, and it is not taken for an input."""
    circuit = {
        "nodes": {"a": {"shape": [2], "distribution": {"gaussian": {"precision": [[2.0, 0.5], [0.5, 1.0]]}}}}
    }
    rows = audit(load_circuit(circuit))
    assert row(rows, "update of a").reads == ("a",)
    assert row(rows, "update of a").grain == "node"


def test_the_neighbourhood_is_found_and_not_assumed() -> None:
    """In a chain a → b → c → d an update reads its own node, its parent and its child: all of them, and no more."""
    rows = audit(load_circuit(chain({"linear": 2})))
    assert set(row(rows, "update of b").reads) == {"a", "b", "c"}
    assert set(row(rows, "update of a").reads) == {"a", "b"}
    assert set(row(rows, "error of c").reads) == {"b", "c"}
    assert set(row(rows, "rule of b->c.0.weight").reads) == {"b", "ε(c)"}
    assert row(rows, "rule of b->c.0.bias").reads == ("ε(c)",)


def test_co_parents_are_neighbours() -> None:
    """a → c ← b: the two causes explain each other away through the error that they share."""
    circuit = chain({"linear": 2}, 3)
    circuit["edges"] = [{"from": p, "to": "c", "layers": [{"linear": 2}]} for p in "ab"]
    rows = audit(load_circuit(circuit))
    assert set(row(rows, "update of a").reads) == {"a", "b", "c"}
    assert all(r.local for r in rows)


@pytest.mark.parametrize(
    ("layers", "grain"),
    [
        ([{"linear": 2}], "synapse"),
        (["tanh", {"linear": 2}], "synapse"),
        ([{"linear": 3}, "tanh", {"linear": 2}], "node"),
        ([{"linear": 2}, "tanh"], "node"),
    ],
)
def test_grain_of_edges(layers: list[Any], grain: str) -> None:
    """Hebbian where one linear layer ends the edge; a function after the weights makes it per node."""
    circuit = chain("identity", 2)
    circuit["edges"][0]["layers"] = layers
    rows = audit(load_circuit(circuit))
    weight = next(i for i, layer in enumerate(layers) if isinstance(layer, dict))
    assert row(rows, f"rule of a->b.{weight}.weight").grain == grain
    assert row(rows, "update of a").grain == grain
    assert all(r.local for r in rows)


@pytest.mark.parametrize(
    ("distribution", "grain", "said"),
    [
        ({"gaussian": {"precision": [1.0, 2.0]}}, "unit", ""),
        ({"gaussian": {"precision": [[2.0, 1.0], [1.0, 2.0]]}}, "node", "full precision"),
        ("categorical", "node", "categorical"),
        ("bernoulli", "unit", ""),
    ],
)
def test_grain_of_nodes(distribution: Any, grain: str, said: str) -> None:
    circuit = chain({"linear": 2}, 2)
    circuit["nodes"]["b"]["distribution"] = distribution
    found = row(audit(load_circuit(circuit)), "error of b")
    assert (found.grain, found.local) == (grain, True)
    assert said in found.note


def test_rows_that_mix_are_found() -> None:
    rows = audit(load_circuit(chain(Mixing())))
    assert not row(rows, "a row: other rows").local


def test_an_edge_that_listens_elsewhere_is_found() -> None:
    rows = audit(load_circuit(chain(Eavesdropper())))
    assert [r.what for r in rows if not r.local and r.what.startswith("update")]


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_only_an_acceptance_test_is_not_local(name: str) -> None:
    """Metropolis needs the energy of the whole circuit; every other kernel reads its unit alone."""
    found = kernel_row(KERNELS[name](step_size=0.1), 0)
    assert found.local == (name != "mala")


@pytest.mark.parametrize("name", sorted(PRECONDITIONERS))
def test_preconditioners_are_local(name: str) -> None:
    assert kernel_row(KERNELS["langevin"](0.1, preconditioner=PRECONDITIONERS[name]()), 0).local


def test_command_exit_codes() -> None:
    study = str(ROOT / "studies" / "mnist_lpc.yaml")
    fine = CliRunner().invoke(app, ["audit", study])
    assert fine.exit_code == 0
    assert "outside this audit" in fine.output
    assert "deep edge" in fine.output
    wrong = CliRunner().invoke(
        app, ["audit", study, "inference.kernel.name=mala", "inference.preconditioner=none"]
    )
    assert wrong.exit_code == 1
    assert "NOT LOCAL" in wrong.output
