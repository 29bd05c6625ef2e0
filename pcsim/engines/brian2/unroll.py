"""An edge's layers as synapses: every weighted sum as a list of connections, every φ as text between them."""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcsim.circuit.graph import Edge
from pcsim.circuit.layers.activations import Activation
from pcsim.circuit.layers.base import Shape
from pcsim.circuit.layers.chain import Split, chain_shapes
from pcsim.circuit.layers.convolution import Conv, ConvTranspose
from pcsim.circuit.layers.linear import Linear
from pcsim.circuit.layers.reshape import Reshape
from pcsim.errors import CircuitError

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
SUMS = (Linear, Conv, ConvTranspose)
BLOCK = 1 << 22  # entries of the dense block of one push of basis vectors: 32 MiB


class Rate(NamedTuple):
    """y = φ(x) between two sums, as text in some variable."""

    value: str
    slope: str
    """φ'(x); for a chain of activations the product of their slopes."""

    @property
    def linear(self) -> bool:
        """Whether there is no activation at all."""
        return self.slope == "1.0"


class Stage(NamedTuple):
    """drive[post] = Σ weight · rate[pre] over synapses, then φ(drive + bias), for the units of one row."""

    pre: Indices
    post: Indices
    weight: Floats | None
    """None where the stage only hands on (an edge of activations alone)."""
    bias: Floats | None
    size: int
    """Units after the sum."""
    functions: tuple[Activation, ...]


class Unrolled(NamedTuple):
    """One edge: activations of the parent's own units, then stages; the last one ends in the child."""

    functions: tuple[Activation, ...]
    stages: tuple[Stage, ...]


def rate(functions: Sequence[Activation], x: str) -> Rate:
    """The composition of activations as text in the variable or expression x, and its derivative."""
    value, slope = x, "1.0"
    for layer in functions:
        if layer.name == "identity":
            continue
        own = _in(layer.function.derivative_text, value)
        slope = own if slope == "1.0" else f"({slope})*({own})"
        value = _in(layer.function.text, value)
    return Rate(value, slope)


def _in(text: str, x: str) -> str:
    """φ's text with its variable replaced."""
    return "(" + re.sub(r"\bx\b", x, text) + ")"


def synapse_count(edge: Edge, params: Split, shape: Shape) -> int:
    """Synapses of one row of the edge, without building any: all-ones kernels over all-ones inputs count
    the terms of every sum."""
    total = 0
    shapes = chain_shapes(edge.layers, shape)
    for layer, own, before in zip(edge.layers, params, shapes, strict=False):
        if isinstance(layer, SUMS):
            ones = {"weight": torch.ones_like(own["weight"])}
            total += round(float(layer.forward(ones, torch.ones(1, *before).double())[0].sum()))
    return total or math.prod(shape)


def unroll(edge: Edge, params: Split, shape: Shape) -> Unrolled:
    """The stages of one edge; raises `CircuitError` for a layer that is neither a weighted sum nor a φ."""
    shapes = chain_shapes(edge.layers, shape)
    first: list[Activation] = []
    stages: list[Stage] = []
    pending = first
    for layer, own, before, after in zip(edge.layers, params, shapes, shapes[1:], strict=False):
        if isinstance(layer, SUMS):
            pending = []
            stages.append(_stage(layer, own, before, after))
            stages[-1] = stages[-1]._replace(functions=())
        elif isinstance(layer, Activation):
            pending.append(layer)
        elif not isinstance(layer, Reshape):
            raise CircuitError(
                f"edge {edge.key}: layer {type(layer).__name__} has no local text: it is neither a weighted sum "
                "nor an elementwise function, so it cannot be written as synapses; use the torch engine"
            )
        if stages:
            stages[-1] = stages[-1]._replace(functions=tuple(pending))
    if not stages:
        units = np.arange(math.prod(shape))
        stages.append(Stage(units, units, None, None, len(units), ()))
    return Unrolled(tuple(first), tuple(stages))


def _stage(
    layer: Linear | Conv | ConvTranspose, params: dict[str, Tensor], before: Shape, after: Shape
) -> Stage:
    """One weighted sum, from the layer's own forward pass on basis vectors.

    Which synapses there are comes from kernels of ones, so that a weight that happens to be 0 keeps its
    synapse: learning may move it.
    """
    inputs, outputs = math.prod(before), math.prod(after)
    weight = {"weight": params["weight"].double()}
    ones = {"weight": torch.ones_like(weight["weight"])}
    pre, post, values = [], [], []
    rows = max(1, BLOCK // max(inputs, outputs))
    for start in range(0, inputs, rows):
        basis = torch.zeros(min(rows, inputs - start), inputs, dtype=torch.float64)
        basis[torch.arange(len(basis)), torch.arange(start, start + len(basis))] = 1
        basis = basis.reshape(len(basis), *before)
        there = (layer.forward(ones, basis)[0].reshape(len(basis), outputs) > 0.5).numpy()
        strength = layer.forward(weight, basis)[0].reshape(len(basis), outputs).numpy()
        i, j = there.nonzero()
        pre.append(i + start)
        post.append(j)
        values.append(strength[i, j])
    bias = None
    if "bias" in params:
        zero = torch.zeros(1, *before, dtype=torch.float64)
        bias = layer.forward({**weight, "bias": params["bias"].double()}, zero)[0].reshape(-1).numpy()
    joined = np.concatenate(values)
    return Stage(np.concatenate(pre), np.concatenate(post), joined, bias, outputs, ())
