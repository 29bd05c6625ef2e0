"""From a YAML file or a Python mapping to a `Circuit`, or to the error that says what to mend and where."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from torch import nn

from pcsim.circuit.graph import Circuit, Edge, EncoderEdge, Node, Shape
from pcsim.circuit.layers import LAYERS, REFUSED
from pcsim.circuit.layers.base import Layer
from pcsim.circuit.layers.module import from_module
from pcsim.circuit.read_nodes import NODE_KEYS, PAST_KEYS, RESERVED, filled, number, read_nodes
from pcsim.circuit.source import Path_, Source, check_keys, choice, read_yaml, validate
from pcsim.circuit.structure import check_encoder, check_past, check_roots, in_order
from pcsim.circuit.times import check_time, seconds
from pcsim.errors import CircuitError, nearest

CIRCUIT_KEYS = ("description", "nodes", "edges", "encoder")
EDGE_KEYS = ("from", "to", "layers", "delay", "feedback")
__all__ = [
    "CIRCUIT_KEYS", "EDGE_KEYS", "ENCODER_KEYS", "NODE_KEYS", "PAST_KEYS", "RESERVED", "load_circuit", "seconds",
]  # fmt: skip
ENCODER_KEYS = ("from", "to", "layers", "softplus_beta")


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
    nodes = read_nodes(source, names)
    edges = tuple(
        _edge(source, ("edges", i), value, nodes) for i, value in enumerate(_list(source, data, "edges"))
    )
    check_past(source, nodes, edges)
    ordered = in_order(source, nodes, edges)
    check_roots(source, names, edges)
    encoder = tuple(
        _encoder_edge(source, ("encoder", i), value, nodes)
        for i, value in enumerate(_list(source, data, "encoder"))
    )
    check_encoder(source, nodes, encoder)
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
    delay = None if value.get("delay") is None else check_time(source, (*path, "delay"), value["delay"])
    feedback = _feedback(source, (*path, "feedback"), value.get("feedback"), layers, (parent, child))
    return Edge(parent.name, child.name, layers, delay, feedback)


def _feedback(
    source: Source, path: Path_, value: Any, layers: tuple[Layer, ...], ends: tuple[Node, Node]
) -> tuple[tuple[float, ...], ...] | None:
    """B `[in, out]` of an edge that is one linear layer."""
    if value is None:
        return None
    if len(layers) != 1 or not isinstance(layers[0], LAYERS["linear"]):
        source.fail(
            path, "feedback weights stand in for those of one linear layer, and this edge is more than that"
        )
    rows = check_keys(source, path, value, ("weight",), "feedback").get("weight")
    shape = (ends[0].shape[0], ends[1].shape[0])
    if rows is None or not filled(rows, shape):
        source.fail(
            (*path, "weight"), f"expected {shape[0]} rows of {shape[1]} numbers (in, out), found {rows!r}"
        )
    return tuple(tuple(float(w) for w in row) for row in rows)


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
    if not number(beta) or beta <= 0:
        source.fail((*path, "softplus_beta"), f"expected a positive number, found {beta!r}")
    return EncoderEdge(parent.name, child.name, layers, softplus_beta=float(beta))
