"""Every mistake in a circuit is refused at its line, with what was expected and the nearest valid name."""

import math
from pathlib import Path

import pytest
import torch

from pcsim.circuit import load_circuit
from pcsim.errors import CircuitError

GOOD = """\
description: two levels
nodes:
  z: {shape: [3], distribution: {gaussian: {precision: 1.0}}}
  x: {shape: [2], distribution: {gaussian: {precision: 2.0}}}
edges:
  - {from: z, to: x, layers: [{linear: 4}, tanh, {linear: 2}]}
encoder:
  - {from: x, to: z, layers: [{linear: 6}]}
"""

Z, X, EDGE, SWEEP = (line for line in GOOD.splitlines() if line.startswith(("  z", "  x", "  -")))
"""The four lines that say something: 3, 4, 6 and 8."""

# (line that is replaced, its replacement, line in the message, path, what the message says)
MISTAKES = {
    "top key": ("edges:", "edgse:", 5, "edgse", "unknown key; did you mean 'edges'?"),
    "node key": (Z, Z.replace("shape", "shpae"), 3, "nodes.z.shpae", "unknown key; did you mean 'shape'?"),
    "distribution": (Z, Z.replace("gaussian", "gausian"), 3, "nodes.z.distribution",
                     "no distribution 'gausian'; did you mean 'gaussian'"),
    "distribution argument": (Z, Z.replace("precision", "precison"), 3, "nodes.z.distribution.gaussian.precison",
                              "unknown key; did you mean 'precision'?"),
    "two distributions": (Z, "  z: {shape: [3], distribution: {gaussian: {}, laplace: {}}}", 3,
                          "nodes.z.distribution", "expected the name of a distribution or one {name: arguments} pair"),
    "no distribution": (Z, "  z: {shape: [3]}", 3, "nodes.z.distribution", "missing; one of gaussian"),
    "distribution with a number": (Z, "  z: {shape: [3], distribution: {gaussian: 2}}", 3,
                                   "nodes.z.distribution.gaussian", "expected a mapping of gaussian's parameters"),
    "negative precision": (Z, Z.replace("1.0", "-1.0"), 3, "nodes.z.distribution.gaussian.precision", "found -1.0"),
    "precision of another size": (Z, Z.replace("1.0", "[1.0, 1.0]"), 3, "nodes.z.distribution", "3"),
    "precision in words": (Z, Z.replace("1.0", "high"), 3, "nodes.z.distribution.gaussian.precision", "'high'"),
    "learn": (Z, Z.replace("}}}", "}}, learn: [precison]}"), 3, "nodes.z.learn",
              "gaussian has no 'precison' to learn; did you mean 'precision'?"),
    "learn a number": (Z, Z.replace("}}}", "}}, learn: 3}"), 3, "nodes.z.learn", "expected a list of words"),
    "learn inside": (Z, Z.replace("1.0", "1.0, learn: [precision]"), 3, "nodes.z.distribution.gaussian.learn",
                     "learn stands at the node, beside distribution"),
    "no shape": (Z, "  z: {distribution: bernoulli}", 3, "nodes.z.shape", "expected a list of positive sizes"),
    "shape of zero": (Z, Z.replace("[3]", "[0]"), 3, "nodes.z.shape", "found [0]"),
    "shape in words": (Z, Z.replace("[3]", "big"), 3, "nodes.z.shape", "found 'big'"),
    "shape true": (Z, Z.replace("[3]", "[true]"), 3, "nodes.z.shape", "found [True]"),
    "mean of another shape": (Z, Z.replace("}}}", "}}, mean: [1, 2]}"), 3, "nodes.z.mean",
                              "expected a number or values of shape [3], found [1, 2]"),
    "ragged mean": (Z, "  z: {shape: [2, 2], distribution: gaussian, mean: [[1, 2], [3]]}", 3, "nodes.z.mean",
                    "expected a number or values of shape [2, 2]"),
    "mean not a number": (Z, Z.replace("}}}", "}}, mean: .nan}"), 3, "nodes.z.mean", "expected a number"),
    "mean of a child": (X, X.replace("}}}", "}}, mean: 1.0}"), 4, "nodes.x.mean",
                        "node x has a parent (z), which predicts it"),
    "learned mean of a child": (X, X.replace("}}}", "}}, learn: [mean]}"), 4, "nodes.x.learn",
                                "mean: node x has a parent (z), which predicts it"),
    "tau without unit": (Z, Z.replace("}}}", "}}, tau: 10}"), 3, "nodes.z.tau",
                         "expected a positive time with its unit, for example 10 ms, found 10"),
    "tau in volts": (Z, Z.replace("}}}", "}}, tau: 5 mV}"), 3, "nodes.z.tau",
                     "with its unit, for example 10 ms, found '5 mV': mV is none of s, second, ms"),
    "tau as a rate": (Z, Z.replace("}}}", "}}, error_tau: 5 Hz}"), 3, "nodes.z.error_tau", "Hz is none of s, second"),
    "tau as a product": (Z, Z.replace("}}}", "}}, tau: 5*ms}"), 3, "nodes.z.tau", "found '5*ms'"),
    "negative tau": (Z, Z.replace("}}}", "}}, tau: -5 ms}"), 3, "nodes.z.tau", "found '-5 ms'"),
    "error units of a discrete node": (X, "  x: {shape: [2], distribution: bernoulli, error_tau: 1 ms}", 4,
                                       "nodes.x.error_tau", "node x is not Gaussian"),
    "rectified errors of a Laplace node": (X, "  x: {shape: [2], distribution: laplace, errors: {split: true}}", 4,
                                           "nodes.x.errors", "node x is not Gaussian"),
    "error key": (Z, Z.replace("}}}", "}}, errors: {gains: [1, 2]}}"), 3, "nodes.z.errors.gains",
                  "unknown key; did you mean 'gain'?"),
    "one gain": (Z, Z.replace("}}}", "}}, errors: {gain: 2.0}}"), 3, "nodes.z.errors.gain",
                 "expected two positive gains [g₊, g₋], found 2.0"),
    "negative gain": (Z, Z.replace("}}}", "}}, errors: {gain: [1, -1]}}"), 3, "nodes.z.errors.gain", "found [1, -1]"),
    "negative baseline": (Z, Z.replace("}}}", "}}, errors: {baseline: -1}}"), 3, "nodes.z.errors.baseline", "found -1"),
    "split of nothing": (Z, Z.replace("}}}", "}}, errors: {split: false, gain: [1, 2]}}"), 3, "nodes.z.errors.split",
                         "gain and baseline are those of split error units"),
    "adaptation without tau": (Z, Z.replace("}}}", "}}, adaptation: {strength: 1}}"), 3, "nodes.z.adaptation.tau",
                               "missing; this key is needed"),
    "adaptation strength": (Z, Z.replace("}}}", "}}, adaptation: {tau: 1 ms, strength: big}}"), 3,
                            "nodes.z.adaptation.strength", "found 'big'"),
    "adaptation of a matrix": (X, "  x: {shape: [2], distribution: {gaussian: {precision: [[2, 1], [1, 2]]}}, "
                               "adaptation: {tau: 1 ms, strength: 1}}", 4, "nodes.x.adaptation", "a full precision"),
    "past of nobody": (Z, Z + "\n  before: {past: y}", 4, "nodes.before.past",
                       "no node 'y' with a value of its own; valid names: x, z"),
    "past of the past": (Z, Z + "\n  before: {past: z}\n  long_before: {past: before}", 5, "nodes.long_before.past",
                         "no node 'before' with a value of its own"),
    "past of a discrete node": (X, "  x: {shape: [2], distribution: bernoulli}\n  before: {past: x}", 5,
                                "nodes.before.past", "node x is discrete: released, it has no value"),
    "past with a distribution": (Z, Z + "\n  before: {past: z, distribution: gaussian}", 4,
                                 "nodes.before.distribution", "it has only past and mean"),
    "past with another shape": (Z, Z + "\n  before: {past: z, shape: [4]}", 4, "nodes.before.shape",
                                "it has only past and mean"),
    "past key": (Z, Z + "\n  before: {past: z, maen: 0}", 4, "nodes.before.maen", "unknown key; did you mean 'mean'?"),
    "past with a ragged mean": (Z, Z + "\n  before: {past: z, mean: [1, 2]}", 4, "nodes.before.mean",
                                "values of shape [3]"),
    "past without edges": (Z, Z + "\n  before: {past: z}", 4, "nodes.before", "node before has no edge"),
    "delay without unit": (EDGE, EDGE.replace("]}", "], delay: 2}"), 6, "edges[0].delay",
                           "expected a positive time with its unit, for example 10 ms, found 2"),
    "feedback of a deep edge": (EDGE, EDGE.replace("]}", "], feedback: {weight: [[1, 2]]}}"), 6, "edges[0].feedback",
                                "feedback weights stand in for those of one linear layer"),
    "feedback of another shape": (EDGE, "  - {from: z, to: x, layers: [{linear: 2}], feedback: {weight: [[1, 2, 3]]}}",
                                  6, "edges[0].feedback.weight", "expected 3 rows of 2 numbers (in, out)"),
    "feedback in words": (EDGE, "  - {from: z, to: x, layers: [{linear: 2}], feedback: random}", 6,
                          "edges[0].feedback", "expected a mapping (feedback), found 'random'"),
    "delay of an encoder": (SWEEP, SWEEP.replace("]}", "], delay: 2 ms}"), 8, "encoder[0].delay", "unknown key"),
    "tau of zero": (Z, Z.replace("}}}", "}}, error_tau: 0 ms}"), 3, "nodes.z.error_tau", "found '0 ms'"),
    "node is a number": (Z, "  z: 3", 3, "nodes.z", "expected a mapping (a node), found 3"),
    "reserved name": (Z, Z.replace("  z:", "  energy:"), 3, "nodes.energy",
                      "the name 'energy' is taken by the trace; choose another, for example energy_node"),
    "reserved dimension": (Z, Z.replace("  z:", "  chain:"), 3, "nodes.chain", "is taken by the trace"),
    "thinned dimension": (Z, Z.replace("  z:", "  step_10:"), 3, "nodes.step_10", "is taken by the trace"),
    "name with a dash": (Z, Z.replace("  z:", "  z-1:"), 3, "nodes.z-1", "letters, digits and _ after a letter"),
    "name in Greek": (Z, Z.replace("  z:", "  ζ:"), 3, "nodes.ζ", "letters, digits and _ after a letter"),
    "edge key": (EDGE, EDGE.replace("layers", "layrs"), 6, "edges[0].layrs", "unknown key; did you mean 'layers'"),
    "edge from nowhere": (EDGE, EDGE.replace("from: z", "from: y"), 6, "edges[0].from",
                          "no node 'y'; valid names: x, z"),
    "edge from a list": (EDGE, EDGE.replace("from: z", "from: [z]"), 6, "edges[0].from", "no node ['z']"),
    "edge without end": (EDGE, EDGE.replace("to: x, ", ""), 6, "edges[0].to", "missing; this key is needed"),
    "edge is a word": (EDGE, "  - z->x", 6, "edges[0]", "expected a mapping (an edge), found 'z->x'"),
    "no layers": (EDGE, EDGE.partition("layers")[0] + "layers: []}", 6, "edges[0].layers", "expected a list of layers"),
    "layer": (EDGE, EDGE.replace("tanh", "tanhh"), 6, "edges[0].layers[1]", "no layer 'tanhh'; did you mean 'tanh'?"),
    "layer argument": (EDGE, EDGE.replace("{linear: 4}", "{linear: {feaures: 4}}"), 6,
                       "edges[0].layers[0].linear", "unknown key"),
    "layer of nothing": (EDGE, EDGE.replace("tanh", "3"), 6, "edges[0].layers[1]", "expected a layer's name"),
    "batch_norm": (EDGE, EDGE.replace("tanh", "batch_norm"), 6, "edges[0].layers[1]",
                   "batch_norm is refused: it computes its statistics over the rows of a batch"),
    "dropout": (EDGE, EDGE.replace("tanh", "{dropout: {p: 0.5}}"), 6, "edges[0].layers[1]",
                "dropout is refused: it draws noise of its own"),
    "edge of another shape": (EDGE, EDGE.replace("{linear: 2}", "{linear: 5}"), 6, "edges[0].layers",
                              "edge z->x ends in shape [5], but node x has shape [2]"),
    "reshape of another size": (EDGE, EDGE.replace("tanh", "{reshape: [3, 3]}"), 6, "edges[0].layers[1]",
                                "edge from z"),
    "conv on a vector": (EDGE, EDGE.replace("tanh", "{conv: {channels: 2, kernel: 3}}"), 6,
                         "edges[0].layers[1]", ""),
    "second edge": (EDGE, EDGE + "\n" + EDGE, 7, "edges[1]", "a second edge z->x; at most one per pair"),
    "cycle": (EDGE, EDGE + "\n  - {from: x, to: z, layers: [{linear: 3}]}", 5, "edges", "a circuit is acyclic"),
    "self": (EDGE, EDGE + "\n  - {from: z, to: z, layers: [{linear: 3}]}", 5, "edges",
             "a cycle: z -> z; a circuit is acyclic"),
    "isolated": (Z, Z + "\n" + Z.replace("  z:", "  alone:"), 4, "nodes.alone",
                 "node alone has no edge: no path leads from or to it"),
    "encoder key": (SWEEP, SWEEP.replace("layers", "layer"), 8, "encoder[0].layer",
                    "unknown key; did you mean 'layers'"),
    "encoder of another shape": (SWEEP, SWEEP.replace("linear: 6", "linear: 3"), 8, "encoder[0].layers",
                                 "encoder x->z ends in shape [3], expected [6]: mean and variance of node z, "
                                 "whose shape is [3]"),
    "two encoders": (SWEEP, SWEEP + "\n" + SWEEP, 8, "encoder[0].to", "node z has two encoders; one each"),
    "encoder of an encoder": (SWEEP, SWEEP + "\n  - {from: z, to: x, layers: [{linear: 4}]}", 8, "encoder[0].from",
                              "an encoder reads observed nodes only"),
    "softplus": (SWEEP, SWEEP.replace("]}", "], softplus_beta: 0}"), 8, "encoder[0].softplus_beta",
                 "expected a positive number, found 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_named_at_its_place(tmp_path: Path, name: str) -> None:
    old, new, line, path, message = MISTAKES[name]
    assert old in GOOD
    file = tmp_path / "c.yaml"
    file.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(CircuitError) as caught:
        load_circuit(file)
    text = str(caught.value)
    assert text.startswith(f"{file}:{line}: {path}"), text
    assert message in text


def test_good_circuit_loads(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(GOOD)
    assert list(load_circuit(file).nodes) == ["z", "x"]


def test_discrete_nodes_have_no_encoder(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(GOOD.replace(Z, "  z: {shape: [3], distribution: bernoulli}"))
    with pytest.raises(CircuitError, match="node z is discrete; an encoder gives continuous nodes only"):
        load_circuit(file)


def test_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "mnist.yaml").write_text(GOOD)
    with pytest.raises(CircuitError, match=r"mnits\.yaml: no such circuit file; did you mean 'mnist\.yaml'"):
        load_circuit(tmp_path / "mnits.yaml")
    with pytest.raises(CircuitError, match="empty holds no YAML files"):
        load_circuit(tmp_path / "empty" / "mnist.yaml")


def test_mistakes_in_a_mapping_name_their_path() -> None:
    """A circuit from Python has no lines, but paths."""
    with pytest.raises(CircuitError, match=r"^circuit: nodes: expected a mapping"):
        load_circuit({"nodes": ["z"]})
    with pytest.raises(CircuitError, match=r"^circuit: nodes: expected a mapping .*, found None"):
        load_circuit({})
    with pytest.raises(CircuitError, match="letters, digits and _ after a letter, found 1"):
        load_circuit({"nodes": {1: {}}})
    with pytest.raises(CircuitError, match=r"^circuit: edges: expected a list, found 'z->x'"):
        load_circuit({"nodes": {"z": {"shape": [1], "distribution": "gaussian"}}, "edges": "z->x"})
    with pytest.raises(
        CircuitError, match="is no distribution: it lacks discrete, data_range, learned, parameters, local"
    ):
        load_circuit({"nodes": {"z": {"shape": [1], "distribution": object()}}})


def test_batch_norm_module_is_refused() -> None:
    """The same refusal where the layer comes from Python as a module."""
    nodes = {name: {"shape": [2], "distribution": "gaussian"} for name in ("z", "x")}
    edge = {"from": "z", "to": "x", "layers": [torch.nn.BatchNorm1d(2)]}
    with pytest.raises(CircuitError, match="BatchNorm1d"):
        load_circuit({"nodes": nodes, "edges": [edge]})


def test_with_errors_is_the_neighbourhood_of_the_local_rule(tmp_path: Path) -> None:
    """A value reads its own error and its children's, an error its value and its parents: nothing else."""
    nodes = {name: {"shape": [1], "distribution": "gaussian"} for name in ("a", "b", "x")}
    edges = [{"from": p, "to": "x", "layers": ["identity"]} for p in ("a", "b")]
    graph = load_circuit({"nodes": nodes, "edges": edges}).with_errors()
    reads = {node: set(graph.predecessors(node)) for node in graph}
    assert reads == {
        "a": {"ε(a)", "ε(x)"}, "b": {"ε(b)", "ε(x)"}, "x": {"ε(x)"},
        "ε(a)": {"a"}, "ε(b)": {"b"}, "ε(x)": {"x", "a", "b"},
    }  # fmt: skip


def test_any_number_that_is_one(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(GOOD.replace("1.0", "1e-3"))
    distribution = load_circuit(file).nodes["z"].distribution
    assert math.isclose(distribution.precision, 1e-3)  # type: ignore[attr-defined]  # it is a Gaussian
