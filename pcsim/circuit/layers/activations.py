"""Activations: one table of functions φ, each a layer that takes no value, `silu`."""

from collections.abc import Callable, Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Generator, Tensor

from pcsim.circuit.layers.base import Pullback, Shape
from pcsim.circuit.layers.common import Record

aten = torch.ops.aten
# log(1 + e^x) − x < 2⁻⁵⁷ beyond it, so x is exact in float64 (torch's default, 20, errs by 2e-9).
SOFTPLUS_LINEAR_FROM = 40.0


class Function(NamedTuple):
    """φ as torch computes it, and as text in x for engines that write equations."""

    apply: Callable[[Tensor], Tensor]
    """φ(x), entrywise."""
    backward: Callable[[Tensor, Tensor], Tensor]
    """(ε, saved) → φ'(x) ε, one fused kernel where torch has one."""
    saves_output: bool
    """What `saved` is: y = φ(x) where φ' is a function of y, else x."""
    text: str
    """φ as a Python expression in x."""
    derivative_text: str
    """φ' as a Python expression in x."""


# The logistic function is written with tanh because exp(−x) overflows at large negative x.
LOGISTIC = "0.5*(1 + tanh(0.5*x))"
LOGISTIC_SLOPE = "0.25*(1 - tanh(0.5*x)**2)"

FUNCTIONS: dict[str, Function] = {
    "identity": Function(lambda x: x, lambda e, x: e, False, "x", "1.0"),
    "tanh": Function(torch.tanh, lambda e, y: aten.tanh_backward(e, y), True, "tanh(x)", "1 - tanh(x)**2"),
    "sigmoid": Function(
        torch.sigmoid, lambda e, y: aten.sigmoid_backward(e, y), True, LOGISTIC, LOGISTIC_SLOPE
    ),
    "relu": Function(
        torch.relu, lambda e, y: aten.threshold_backward(e, y, 0), True, "x*int(x > 0)", "int(x > 0)"
    ),
    "silu": Function(
        lambda x: aten.silu(x),
        lambda e, x: aten.silu_backward(e, x),
        False,
        f"x*{LOGISTIC}",
        f"{LOGISTIC} + x*{LOGISTIC_SLOPE}",
    ),
    "softplus": Function(
        lambda x: aten.softplus(x, 1, SOFTPLUS_LINEAR_FROM),
        lambda e, x: aten.softplus_backward(e, x, 1, SOFTPLUS_LINEAR_FROM),
        False,
        "0.5*(x + abs(x)) + log(1 + exp(-abs(x)))",
        LOGISTIC,
    ),
    "square": Function(torch.square, lambda e, x: (e * x).mul_(2), False, "x**2", "2*x"),
}


class Activation(Record):
    """y = φ(x) entrywise on any shape; which φ is the class's `name` and `function`."""

    shorthand: ClassVar[str | None] = None
    name: ClassVar[str]
    function: ClassVar[Function]

    def output_shape(self, shape: Shape) -> Shape:
        """The input's."""
        return shape

    def parameters(self, shape: Shape, generator: Generator) -> dict[str, Tensor]:
        """None."""
        return {}

    def forward(self, params: Mapping[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        """(φ(x), x or φ(x), whichever gives the cheaper φ')."""
        function = self.function
        y = function.apply(x)
        return y, (y if function.saves_output else x)

    def pullback(
        self, params: Mapping[str, Tensor], saved: Tensor, error: Tensor, *, message: bool, learn: bool
    ) -> Pullback:
        """φ'(x) ⊙ ε."""
        return Pullback(self.function.backward(error, saved) if message else None, {})

    def __reduce__(self) -> tuple[Callable[[str], "Activation"], tuple[str]]:
        """By name, because pickle cannot find a class that stands in a dict."""
        return _by_name, (self.name,)


def _by_name(name: str) -> Activation:
    return ACTIVATIONS[name]()


def _layer(name: str, function: Function) -> type[Activation]:
    described = {"__module__": __name__, "__doc__": f"y = {function.text}, entrywise."}
    return type(name.capitalize(), (Activation,), {**described, "name": name, "function": function})


ACTIVATIONS: dict[str, type[Activation]] = {name: _layer(name, f) for name, f in FUNCTIONS.items()}
