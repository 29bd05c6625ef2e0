"""The words of a drawing: what a node is, how precise its error, what an edge computes."""

import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from torch import Generator

from pcsim.circuit.distributions import DISTRIBUTIONS
from pcsim.circuit.graph import Edge, EncoderEdge, Node, Shape
from pcsim.circuit.layers import LAYERS
from pcsim.circuit.layers.chain import chain_parameters, chain_shapes

LONGEST = 3
"""An edge of more layers than these is summarised."""


def node_lines(node: Node, clamp: str | None) -> tuple[str, ...]:
    """What stands in a value node: name, shape, distribution, time constant, and at what it is held."""
    if node.past is not None:
        return node.name, f"{node.past}, one frame before", shape_words(node.shape)
    lines = [node.name, shape_words(node.shape), _name_of(node.distribution).replace("_", " ")]
    if node.tau is not None:
        lines.append(f"τ = {node.tau}")
    if clamp is not None:
        lines.append(clamp)
    return tuple(lines)


def error_lines(node: Node, root: bool) -> tuple[str, ...]:
    """What stands beside an error node: its precision (or scale), the mean of a root, its own time constant."""
    lines = [_spread_words(node)] if _spread_words(node) else []
    if root:
        lines.append(_values("mean", node.mean) + (", learned" if node.learn_mean else ""))
    if node.error_tau is not None:
        lines.append(f"τ = {node.error_tau}")
    if node.errors is not None and node.errors.split:
        lines.append("+ and − units")
    if node.adaptation is not None:
        lines.append("precision fatigues")
    return tuple(lines)


def edge_lines(edge: Edge, shape: Shape) -> tuple[str, ...]:
    """What an edge computes, from a parent of that shape: its layers, or their number and kinds, and its weights.

    Reshapes are left out: they compute nothing.
    """
    shapes = chain_shapes(edge.layers, shape)
    shown = [
        (_name_of(layer), a, b)
        for layer, a, b in zip(edge.layers, shapes[:-1], shapes[1:], strict=True)
        if _name_of(layer) != "reshape"
    ]
    params = chain_parameters(edge.layers, shape, Generator())
    count = sum(value.numel() for value in params.values())
    weights = f"{count:,} weight{'s' if count != 1 else ''}".replace(",", "\N{NO-BREAK SPACE}")
    single = [value for name, value in params.items() if name.endswith(".weight")]
    if count <= 2 and len(single) == 1 and single[0].numel() == 1 and _outright(edge):
        weights = f"weight {_number(float(single[0]))}"
    if len(shown) <= LONGEST:
        lines = [_layer_words(name, a, b) for name, a, b in shown] + ([weights] if count else [])
    else:
        deep = len({name.split(".")[0] for name in params})
        lines = [f"{deep} layers, {weights}", *_kinds([name for name, *_ in shown])]
    if isinstance(edge, EncoderEdge):
        lines.insert(0, f"encoder q({edge.child} | {edge.parent})")
    lines += [f"delay {edge.delay}"] if edge.delay else []
    lines += ["own feedback weights"] if edge.feedback else []
    return tuple(lines)


def shape_words(shape: Shape) -> str:
    """`20 units`, `1 × 28 × 28`."""
    if len(shape) == 1:
        return f"{shape[0]} unit{'s' if shape[0] != 1 else ''}"
    return " × ".join(map(str, shape))


def _layer_words(name: str, before: Shape, after: Shape) -> str:
    if name in ("linear", "gain") and math.prod(before) * math.prod(after) > 1:
        return f"{name} {'×'.join(map(str, before))} → {'×'.join(map(str, after))}"
    return name.replace("_", " ")


def _kinds(names: Sequence[str]) -> tuple[str, ...]:
    """`linear, 3 conv transpose, conv` in the order of the layers, and a second line with each activation once."""
    deep = [
        name for name in names if name in ("linear", "conv", "conv_transpose", "gain") or name not in LAYERS
    ]
    runs = [(name, len(list(group))) for name, group in groupby(deep)]
    words = [f"{count} {name}" if count > 1 else name for name, count in runs]
    between = list(dict.fromkeys(name for name in names if name not in deep))
    lines = [", ".join(words)] if words else []
    lines += [", ".join(between)] if between else []
    return tuple(line.replace("_", " ") for line in lines)


def _spread_words(node: Node) -> str:
    own: Any = node.distribution
    parts = []
    for word in ("precision", "scale", "dof"):
        if hasattr(own, word):
            learned = ", learned" if word in own.learn else ""
            parts.append(
                _values({"precision": "Π", "dof": "ν"}.get(word, word), getattr(own, word)) + learned
            )
    return "; ".join(parts)


def _values(word: str, value: Any) -> str:
    """`Π = 2`, `Π = 0.5 … 2`, `Π: 3 × 3 matrix`."""
    if not isinstance(value, tuple | list):
        return f"{word} = {_number(value)}"
    sizes: list[int] = []
    inner: Any = value
    while isinstance(inner, tuple | list):
        sizes.append(len(inner))
        inner = inner[0]
    if len(sizes) > 1:
        return f"{word}: {' × '.join(map(str, sizes))} " + ("matrix" if word == "Π" else "values")
    if len(value) <= 2:
        return f"{word} = {', '.join(map(_number, value))}"
    low, high = min(value), max(value)
    return f"{word} = {_number(low)} … {_number(high)}" if low < high else f"{word} = {_number(low)}"


def _number(value: float) -> str:
    return f"{value:.4g}".replace("-", "\N{MINUS SIGN}")


def _outright(edge: Edge) -> bool:
    """Whether the weights stand in the description: those that are drawn have no value to show."""
    return all(getattr(layer, "weight", ()) is not None for layer in edge.layers)


def _name_of(part: Any) -> str:
    """The YAML name of a distribution or layer; the class' name where it comes from Python."""
    for table in (DISTRIBUTIONS, LAYERS):
        for name, kind in table.items():
            if type(part) is kind:
                return str(name)
    return type(part).__name__
