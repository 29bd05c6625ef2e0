"""A caller's own torch module as a layer, from Python."""

import copy
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from pydantic import ConfigDict
from torch import Generator, Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from pcsim.circuit.layers.base import Pullback, Shape
from pcsim.circuit.layers.common import Record
from pcsim.errors import CircuitError

RANDOM = (
    "answers two equal calls differently: it draws noise or keeps a state, so the energy would not be a "
    "function of the state; call .eval() on the module first"
)
MIXES = (
    "mixes rows: its output for one row changed with the other rows, so the energy of one chain would depend "
    "on the other chains and images; rows must stay independent"
)
NORMALISES = (
    "is batch normalisation, which computes its statistics over the rows of a batch, so the energy of one "
    "chain would depend on the other chains and images; rows must stay independent"
)


class Traced(NamedTuple):
    """One call of a module, with the graph that leads back from its output."""

    inputs: Tensor
    params: dict[str, Tensor]
    output: Tensor


class ModuleLayer(Record):
    """y = module(x) on `[row, *input shape]`, with its pullback by autograd over this module alone."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)
    shorthand: ClassVar[str | None] = None

    module: nn.Module

    def output_shape(self, shape: Shape) -> Shape:
        """The shape of module(x) without the row axis, by calling it on test inputs in float64.

        Raises `CircuitError` when the module does not take that shape, mixes rows, or answers two equal calls
        differently.
        """
        module = copy.deepcopy(self.module).double().cpu()
        name = type(self.module).__name__
        generator = torch.Generator().manual_seed(0)
        x, other = torch.randn(2, 3, *shape, dtype=torch.float64, generator=generator)
        other[0] = x[0]
        x.requires_grad_()  # an operation in place on the input would fail later: let it fail here
        try:
            y, again, mixed = module(x), module(x), module(other)
        except (RuntimeError, ValueError, TypeError, IndexError) as failure:
            raise CircuitError(
                f"{name} does not take an input of shape {list(shape)}: {failure}"
            ) from failure
        if not isinstance(y, Tensor) or y.shape[:1] != (3,):
            given = list(y.shape) if isinstance(y, Tensor) else type(y).__name__
            raise CircuitError(f"{name} must map [row, …] to [row, …]; 3 rows of {list(shape)} gave {given}")
        if not torch.equal(y, again):
            raise CircuitError(f"{name} {RANDOM}")
        if not torch.allclose(y[0], mixed[0], rtol=1e-9, atol=1e-12, equal_nan=True):
            raise CircuitError(f"{name} {MIXES}")
        return tuple(y.shape[1:])

    def parameters(self, shape: Shape, generator: Generator) -> dict[str, Tensor]:
        """The module's own parameters in float64 (nothing is drawn); frozen ones are left to the module."""
        named = self.module.named_parameters()
        return {name: p.detach().to(torch.float64, copy=True) for name, p in named if p.requires_grad}

    def forward(self, params: Mapping[str, Tensor], x: Tensor) -> tuple[Tensor, Traced]:
        """(module(x), its graph); the output has a graph only where the caller's own autograd needs one."""
        connected = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *params.values()))
        with torch.inference_mode(False), torch.enable_grad():
            inputs = _differentiable(x)
            leaves = {name: _differentiable(value) for name, value in params.items()}
            y = functional_call(self.module, {**_fixed(self.module, x), **leaves}, (inputs,))
        return (y if connected else y.detach()), Traced(inputs, leaves, y)

    def pullback(
        self, params: Mapping[str, Tensor], saved: Traced, error: Tensor, *, message: bool, learn: bool
    ) -> Pullback:
        """Jᵀε by one reverse pass through the module; parameters that it did not use have gradient 0."""
        wanted = [saved.inputs] * message + list(saved.params.values()) * learn
        if not wanted:
            return Pullback(None, {})
        with torch.inference_mode(False):
            # The graph is kept, as every layer's `saved` serves any number of pullbacks.
            found = torch.autograd.grad(
                saved.output,
                wanted,
                error.clone() if error.is_inference() else error,
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
        names = saved.params if learn else ()
        return Pullback(found[0] if message else None, dict(zip(names, found[int(message) :], strict=True)))


def from_module(module: nn.Module) -> ModuleLayer:
    """`module` as a layer; a copy is kept, so that later changes to the original change nothing here.

    Raises `CircuitError` for batch normalisation at any depth; whatever else mixes rows is found
    by a numerical test once the input's shape is known (`output_shape`).
    """
    for name, part in module.named_modules():
        if isinstance(part, _BatchNorm):
            where = f" (its part {name!r})" if name else ""
            raise CircuitError(f"{type(module).__name__}{where} {NORMALISES}")
    return ModuleLayer(module=copy.deepcopy(module))


def _differentiable(x: Tensor) -> Tensor:
    """x as a tensor that a graph can start from, connected to the caller's graph if it is in one."""
    if x.requires_grad:
        return x
    return (x.clone() if x.is_inference() else x.detach()).requires_grad_()


def _fixed(module: nn.Module, x: Tensor) -> dict[str, Any]:
    """Frozen parameters and buffers, on the device and in the precision of x."""
    frozen = {name: p for name, p in module.named_parameters() if not p.requires_grad}
    return {
        name: value.detach().to(x.device, x.dtype if value.is_floating_point() else value.dtype)
        for name, value in {**frozen, **dict(module.named_buffers())}.items()
    }
