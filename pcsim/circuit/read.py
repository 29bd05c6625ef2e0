"""From a YAML file or a Python mapping to a `Circuit`, or to the error that says what to mend and where."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from torch import nn

from pcsim.circuit.distributions import DISTRIBUTIONS
from pcsim.circuit.distributions.base import Distribution
from pcsim.circuit.graph import Circuit, Edge, EncoderEdge, Node, Shape
from pcsim.circuit.layers import LAYERS, REFUSED
from pcsim.circuit.layers.base import Layer
from pcsim.circuit.layers.module import from_module
from pcsim.circuit.source import Path_, Source, check_keys, choice, read_yaml, validate
from pcsim.circuit.structure import check_encoder, check_roots, in_order
from pcsim.errors import CircuitError, nearest

CIRCUIT_KEYS = ("description", "nodes", "edges", "encoder")
NODE_KEYS = ("shape", "distribution", "mean", "learn", "tau", "error_tau")
EDGE_KEYS = ("from", "to", "layers")
ENCODER_KEYS = (*EDGE_KEYS, "softplus_beta")
TRACE_NAMES = (
    "energy",
    "gradient_norm",
    "acceptance",
    "step_size",
    "temperature",
    "encoder",
    "energy_minimum",
)
COORDINATES = ("image", "chain", "step", "update", "phase", "time", "label", "name")
RESERVED = frozenset((*TRACE_NAMES, *COORDINATES))
"""Names that the root of the trace uses for something else; both engines write the same trace."""
THINNED = re.compile(r"step_\d+")
"""The step coordinates of thinned probes, at the root of the trace too."""
TIME = re.compile(r"^\s*(\d+(\.\d*)?([eE][-+]?\d+)?)\s*(s|ms|us|second|msecond|usecond)\s*$")


def load_circuit(description: "Circuit | Mapping[str, Any] | str | Path") -> Circuit:
    """The circuit of a YAML file, or of a mapping of the same form; a `Circuit` passes unchanged.

    In a mapping, a layer may also be a `torch.nn.Module` or any `Layer`, and a distribution any
    `Distribution`. Raises `CircuitError` (`file:line: path: what`).
    """
    if isinstance(description, Circuit):
        return description
    if isinstance(description, Mapping):
        return read_circuit(Source("circuit", dict(description), {}, CircuitError))
    path = Path(description)
    if not path.is_file():
        others = [p.name for p in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        near = nearest(path.name, others) if others else f"{path.parent} holds no YAML files"
        raise CircuitError(f"{path}: no such circuit file; {near}")
    return read_circuit(read_yaml(path, CircuitError))


def read_circuit(source: Source) -> Circuit:
    """The circuit that a parsed description states."""
    data = check_keys(source, (), source.data, CIRCUIT_KEYS, "a circuit")
    names = check_keys(source, ("nodes",), data.get("nodes"), data.get("nodes") or (), "name: node")
    if not names:
        source.fail(("nodes",), "a circuit needs at least one node")
    nodes = {name: _node(source, name, value) for name, value in names.items()}
    edges = tuple(
        _edge(source, ("edges", i), value, nodes) for i, value in enumerate(_list(source, data, "edges"))
    )
    ordered = in_order(source, nodes, edges)
    check_roots(source, names, edges)
    encoder = tuple(
        _encoder_edge(source, ("encoder", i), value, nodes)
        for i, value in enumerate(_list(source, data, "encoder"))
    )
    check_encoder(source, encoder)
    return Circuit(ordered, edges, encoder, str(data.get("description", "")), _plain_spec(data))


def _list(source: Source, data: Mapping[str, Any], key: str) -> list[Any]:
    value = data.get(key) or []
    if not isinstance(value, list | tuple):
        source.fail((key,), f"expected a list, found {value!r}")
    return list(value)


def _plain_spec(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain_spec(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_spec(item) for item in value]
    return value if isinstance(value, bool | int | float | str | None) else repr(value)


# ---------------------------------------------------------------------------------------------- nodes


def _node(source: Source, name: str, value: Any) -> Node:
    path: Path_ = ("nodes", name)
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII):
        source.fail(path, f"a node's name is letters, digits and _ after a letter, found {name!r}")
    if name in RESERVED or THINNED.fullmatch(name):
        source.fail(path, f"the name {name!r} is taken by the trace; choose another, for example {name}_node")
    data = check_keys(source, path, value, NODE_KEYS, "a node")
    shape = _shape(source, (*path, "shape"), data.get("shape"))
    learn = _words(source, (*path, "learn"), data.get("learn", []))
    distribution = _distribution(
        source, path, data.get("distribution"), tuple(w for w in learn if w != "mean")
    )
    mean = data.get("mean", 0.0)
    _check_mean(source, (*path, "mean"), mean, shape)
    try:
        if "mean" in distribution.parameters(shape):
            source.fail((*path, "distribution"), "a parameter called 'mean' is the node's own; rename it")
    except ValueError as failure:
        source.fail((*path, "distribution"), str(failure))
    tau, error_tau = (_time(source, (*path, key), data.get(key)) for key in ("tau", "error_tau"))
    return Node(name, shape, distribution, mean, "mean" in learn, tau, error_tau)


def _shape(source: Source, path: Path_, value: Any) -> Shape:
    sizes = value if isinstance(value, list | tuple) else [value]
    if not sizes or not all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in sizes):
        source.fail(
            path, f"expected a list of positive sizes, for example [20] or [1, 28, 28], found {value!r}"
        )
    return tuple(sizes)


def _words(source: Source, path: Path_, value: Any) -> tuple[str, ...]:
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list | tuple) or not all(isinstance(w, str) for w in words):
        source.fail(path, f"expected a list of words, for example [precision], found {value!r}")
    return tuple(words)


def _distribution(source: Source, path: Path_, value: Any, learn: tuple[str, ...]) -> Distribution:
    here = (*path, "distribution")
    if value is None:
        source.fail(here, f"missing; one of {', '.join(DISTRIBUTIONS)}")
    if not isinstance(value, str | Mapping):
        return _own_distribution(source, here, value, learn)
    name, arguments, place = choice(source, here, value, "distribution")
    if name not in DISTRIBUTIONS:
        source.fail(here, f"no distribution {name!r}; {nearest(name, DISTRIBUTIONS)}")
    kind = DISTRIBUTIONS[name]
    if unknown := [word for word in learn if word not in kind.learnable]:
        words = ("mean", *kind.learnable)
        source.fail((*path, "learn"), f"{name} has no {unknown[0]!r} to learn; {nearest(unknown[0], words)}")
    if not isinstance(arguments, Mapping):
        source.fail(place, f"expected a mapping of {name}'s parameters, found {arguments!r}")
    if "learn" in arguments:
        source.fail((*place, "learn"), "learn stands at the node, beside distribution")
    made: Distribution = validate(source, place, kind, {**arguments, "learn": learn})
    return made


def _own_distribution(source: Source, path: Path_, value: Any, learn: tuple[str, ...]) -> Distribution:
    words = ("discrete", "data_range", "learned", "parameters", "local", "sample", "mean")
    missing = [word for word in words if not hasattr(value, word)]
    if missing or isinstance(value, type):
        what = f"it lacks {', '.join(missing)}" if missing else "it is a class, not an instance"
        source.fail(path, f"{value!r} is no distribution: {what}")
    if learn:
        source.fail(path, "a distribution from Python states what it learns itself")
    own: Distribution = value
    return own


def _check_mean(source: Source, path: Path_, mean: Any, shape: Shape) -> None:
    if not _number(mean) and not _filled(mean, shape):
        source.fail(path, f"expected a number or values of shape {list(shape)}, found {mean!r}")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _filled(value: Any, shape: Shape) -> bool:
    """Is `value` a nested list of finite numbers, of exactly that shape?"""
    if not shape:
        return _number(value)
    whole = isinstance(value, list | tuple) and len(value) == shape[0]
    return whole and all(_filled(item, shape[1:]) for item in value)


def _time(source: Source, path: Path_, value: Any) -> str | None:
    if value is None:
        return None
    match = TIME.match(value) if isinstance(value, str) else None
    if match is None or float(match.group(1)) <= 0:
        source.fail(path, f"expected a positive time with its unit, for example 10 ms, found {value!r}")
    return str(value).strip()


def seconds(time: str) -> float:
    """A checked time such as `10 ms`, in seconds.

    >>> seconds("10 ms")
    0.01
    """
    match = TIME.match(time)
    if match is None:
        raise CircuitError(f"{time!r} is not a time with its unit, for example 10 ms")
    return float(match.group(1)) * {"s": 1.0, "m": 1e-3, "u": 1e-6}[match.group(4)[0]]


# ---------------------------------------------------------------------------------------------- edges


def _ends(
    source: Source, path: Path_, value: Any, nodes: Mapping[str, Node], keys: tuple[str, ...]
) -> tuple[Node, Node, tuple[Layer, ...]]:
    data = check_keys(source, path, value, keys, "an edge")
    ends = []
    for key in ("from", "to"):
        if key not in data:
            source.fail((*path, key), "missing; this key is needed")
        name = data[key]
        if not isinstance(name, str) or name not in nodes:
            source.fail((*path, key), f"no node {name!r}; {nearest(name, nodes)}")
        ends.append(nodes[name])
    layers = data.get("layers")
    if not isinstance(layers, list | tuple) or not layers:
        source.fail((*path, "layers"), "expected a list of layers, for example [{linear: 256}, silu]; "
                    "identity is the empty map")  # fmt: skip
    return ends[0], ends[1], tuple(_layer(source, (*path, "layers", i), v) for i, v in enumerate(layers))


def _layer(source: Source, path: Path_, value: Any) -> Layer:
    if isinstance(value, nn.Module):
        return from_module(value)
    if not isinstance(value, str | Mapping):
        if callable(getattr(value, "pullback", None)):
            own: Layer = value
            return own
        source.fail(path, f"expected a layer's name or one {{name: arguments}} pair, found {value!r}")
    name, arguments, place = choice(source, path, value, "layer")
    if name in REFUSED:
        source.fail(path, f"{name} is refused: {REFUSED[name]}")
    if name not in LAYERS:
        source.fail(path, f"no layer {name!r}; {nearest(name, LAYERS)}")
    kind = LAYERS[name]
    if not isinstance(arguments, Mapping):
        if kind.shorthand is None:
            source.fail(place, f"{name} takes named arguments, found {arguments!r}")
        arguments = {kind.shorthand: arguments}
    model: type[BaseModel] = kind
    made: Layer = validate(source, place, model, dict(arguments))
    return made


def _flow(source: Source, path: Path_, parent: Node, layers: tuple[Layer, ...]) -> Shape:
    shape = parent.shape
    for index, layer in enumerate(layers):
        try:
            shape = layer.output_shape(shape)
        except CircuitError as failure:
            source.fail((*path, "layers", index), f"edge from {parent.name}: {failure}")
    return shape


def _edge(source: Source, path: Path_, value: Any, nodes: Mapping[str, Node]) -> Edge:
    parent, child, layers = _ends(source, path, value, nodes, EDGE_KEYS)
    shape = _flow(source, path, parent, layers)
    if shape != child.shape:
        source.fail(
            (*path, "layers"),
            f"edge {parent.name}->{child.name} ends in shape {list(shape)}, "
            f"but node {child.name} has shape {list(child.shape)}",
        )
    return Edge(parent.name, child.name, layers)


def _encoder_edge(source: Source, path: Path_, value: Any, nodes: Mapping[str, Node]) -> EncoderEdge:
    parent, child, layers = _ends(source, path, value, nodes, ENCODER_KEYS)
    shape, wanted = _flow(source, path, parent, layers), (2 * child.shape[0], *child.shape[1:])
    if shape != wanted:
        source.fail(
            (*path, "layers"),
            f"encoder {parent.name}->{child.name} ends in shape {list(shape)}, expected {list(wanted)}: "
            f"mean and variance of node {child.name}, whose shape is {list(child.shape)}",
        )
    if child.distribution.discrete:
        source.fail((*path, "to"), f"node {child.name} is discrete; an encoder gives continuous nodes only")
    beta = value.get("softplus_beta", 1.0)
    if not _number(beta) or beta <= 0:
        source.fail((*path, "softplus_beta"), f"expected a positive number, found {beta!r}")
    return EncoderEdge(parent.name, child.name, layers, float(beta))
