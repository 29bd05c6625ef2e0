"""Past values, time constants, delays and names: what a description says of dynamics is read or refused."""

import pytest

import pcsim
from pcsim.circuit import load_circuit
from pcsim.circuit.graph import Adaptation, ErrorUnits
from pcsim.circuit.times import hertz, seconds
from pcsim.errors import CircuitError
from pcsim.inference.kernels import langevin

PAST = {"past": "z"}
UNIT = {"shape": [2], "distribution": "gaussian"}


@pytest.mark.parametrize(
    ("edges", "encoder", "says"),
    [
        ([("x", "before")], [], r"edges\[2\].to: node before holds the past of node z; nothing predicts it"),
        ([], [("before", "z")], r"encoder\[0\].from: node before holds the past of node z"),
        ([], [("x", "before")], r"encoder\[0\].to: node before holds the past of node z"),
    ],
)
def test_the_past_is_given(edges: list[tuple[str, str]], encoder: list[tuple[str, str]], says: str) -> None:
    made = [("before", "z"), ("z", "x"), *edges]
    description = {
        "nodes": {"before": PAST, "z": UNIT, "x": UNIT},
        "edges": [{"from": a, "to": b, "layers": ["identity"]} for a, b in made],
        "encoder": [{"from": a, "to": b, "layers": [{"linear": 4}]} for a, b in encoder],
    }
    with pytest.raises(CircuitError, match=says):
        load_circuit(description)


def test_a_past_node_may_stand_before_or_behind_the_one_that_it_remembers() -> None:
    for names in (("before", "z"), ("z", "before")):
        nodes = {name: PAST if name == "before" else UNIT for name in names}
        circuit = load_circuit(
            {"nodes": nodes, "edges": [{"from": "before", "to": "z", "layers": ["identity"]}]}
        )
        assert circuit.past == {"before": "z"}
        assert circuit.nodes["before"].shape == (2,)
        graph = circuit.with_errors()
        assert set(graph.predecessors("ε(z)")) == {"before", "z"}
        assert "ε(before)" not in graph
        assert not list(graph.predecessors("before"))


@pytest.mark.parametrize(
    "name", ["second", "mV", "ms", "xi", "t", "dt", "i", "N", "lambda_", "exp", "self", "_"]
)
def test_units_and_words_of_a_simulator_are_names_of_nodes(name: str) -> None:
    """Both engines put prefixes before the names of nodes, so that none of them means anything else."""
    description = {
        "nodes": {name: UNIT, "x": UNIT},
        "edges": [{"from": name, "to": "x", "layers": [{"linear": 2}]}],
    }
    if name == "_":
        with pytest.raises(CircuitError, match="letters, digits and _ after a letter"):
            load_circuit(description)
        return
    trace = pcsim.sample(description, {"x": [[1.0, 2.0]]}, langevin(0.1), 3, chains=2)
    assert trace[name]["value"].shape == (1, 2, 4, 2)


def test_what_a_simulator_adds_is_read() -> None:
    description = {
        "nodes": {
            "z": {**UNIT, "tau": "10 ms", "error_tau": " 1e3 us", "errors": {"gain": [1, 2], "baseline": 3}},
            "x": {**UNIT, "adaptation": {"tau": "1 second", "strength": 3}, "errors": {"split": False}},
        },
        "edges": [{"from": "z", "to": "x", "layers": [{"linear": 2}], "delay": "2 ms",
                   "feedback": {"weight": [[1, 2], [3, 4]]}}],
    }  # fmt: skip
    circuit = load_circuit(description)
    z, x, edge = circuit.nodes["z"], circuit.nodes["x"], circuit.edges[0]
    assert z.errors == ErrorUnits(True, (1.0, 2.0), 3.0)
    assert (seconds(str(z.tau)), seconds(str(z.error_tau))) == pytest.approx((0.01, 0.001))
    assert x.adaptation == Adaptation("1 second", 3.0)
    assert x.errors == ErrorUnits(split=False)
    assert (edge.delay, edge.feedback) == ("2 ms", ((1.0, 2.0), (3.0, 4.0)))


def test_times_and_rates() -> None:
    assert [seconds(t) for t in ("1 s", "2ms", "3 us", "4 second", "5e-1 msecond")] == pytest.approx(
        [1, 2e-3, 3e-6, 4, 5e-4]
    )
    assert [hertz(r) for r in ("1 Hz", "2.5kHz")] == pytest.approx([1, 2500])
    for wrong in ("1", "ms", "1 m", "1 ms ms", 3, None, "0 s", "inf s", "1 Hz"):
        with pytest.raises(CircuitError, match="expected a positive time with its unit"):
            seconds(wrong)
    with pytest.raises(CircuitError, match="expected a positive rate with its unit, for example 100 Hz"):
        hertz("3 ms")
