"""An edge's map: a tuple of layers, applied in order, with no autograd on the way back.

Parameters of layer i are called `i.name` (`0.weight`). The inner loop takes them split: one mapping per
layer, from `split_parameters`. A split holds the tensors themselves, so one made once stays valid as long as
the optimiser writes in place; whoever replaces a tensor (another dtype, another device) splits again.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Generator, Tensor

from pcsim.circuit.layers.base import Layer, Pullback, Shape

Split = tuple[dict[str, Tensor], ...]


def chain_shapes(layers: Sequence[Layer], shape: Shape) -> tuple[Shape, ...]:
    """The shape before each layer and after the last; raises the `CircuitError` of the first misfit."""
    shapes = [shape]
    for layer in layers:
        shapes.append(layer.output_shape(shapes[-1]))
    return tuple(shapes)


def chain_parameters(layers: Sequence[Layer], shape: Shape, generator: Generator) -> dict[str, Tensor]:
    """Initial float64 parameters of all layers, `{"0.weight": …}`, drawn in the order of the layers."""
    shapes = chain_shapes(layers, shape)
    return {
        f"{index}.{name}": value
        for index, layer in enumerate(layers)
        for name, value in layer.parameters(shapes[index], generator).items()
    }


def split_parameters(layers: Sequence[Layer], params: Mapping[str, Tensor], prefix: str = "") -> Split:
    """One mapping per layer from a flat one; `prefix` is what stands before `0.weight` (`z->x.`)."""
    split: list[dict[str, Tensor]] = []
    for index in range(len(layers)):
        start = f"{prefix}{index}."
        split.append({name[len(start) :]: value for name, value in params.items() if name.startswith(start)})
    return tuple(split)


def chain_forward(layers: Sequence[Layer], params: Split, x: Tensor) -> tuple[Tensor, list[Any]]:
    """(f(x), what each layer saved), `[row, *input shape] → [row, *output shape]`."""
    saved: list[Any] = []
    for layer, own in zip(layers, params, strict=True):
        x, keep = layer.forward(own, x)
        saved.append(keep)
    return x, saved


def chain_pullback(
    layers: Sequence[Layer],
    params: Split,
    saved: Sequence[Any],
    error: Tensor,
    *,
    message: bool,
    learn: bool,
) -> Pullback:
    """Jᵀ error through the chain, with parameter gradients under the names of `chain_parameters`.

    Nothing is computed below the lowest layer that was asked for: without `message` the chain stops at its
    first layer with parameters, and without `learn` no parameter gradient is formed.
    """
    gradient: dict[str, Tensor] = {}
    bottom = 0 if message else next((i for i, own in enumerate(params) if own and learn), len(layers))
    for index in range(len(layers) - 1, bottom - 1, -1):
        step = layers[index].pullback(
            params[index], saved[index], error, message=message or index > bottom, learn=learn
        )
        for name, value in step.gradient.items():
            gradient[f"{index}.{name}"] = value
        if step.message is None:
            return Pullback(None, gradient)
        error = step.message
    return Pullback(error if message else None, gradient)
