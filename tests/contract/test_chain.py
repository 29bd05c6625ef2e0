"""Chains of layers against nn.Sequential, and a caller's own module as a layer."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pcsim.circuit.layers import LAYERS
from pcsim.circuit.layers.chain import (
    chain_forward,
    chain_parameters,
    chain_pullback,
    chain_shapes,
    split_parameters,
)
from pcsim.circuit.layers.module import from_module
from pcsim.errors import CircuitError

LAYER_LIST = (
    LAYERS["relu"](),
    LAYERS["linear"](units=8),
    LAYERS["silu"](),
    LAYERS["reshape"](shape=[8, 1, 1]),
    LAYERS["conv_transpose"](channels=3, kernel=4),
    LAYERS["tanh"](),
    LAYERS["conv"](channels=2, kernel=3, padding=1),
)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draws(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=rng(seed))


def sequential() -> nn.Sequential:
    return nn.Sequential(
        nn.ReLU(),
        nn.Linear(5, 8),
        nn.SiLU(),
        nn.Unflatten(1, (8, 1, 1)),
        nn.ConvTranspose2d(8, 3, 4),
        nn.Tanh(),
        nn.Conv2d(3, 2, 3, padding=1),
    ).double()


def test_shapes_and_parameter_names() -> None:
    shapes = chain_shapes(LAYER_LIST, (5,))
    assert shapes == ((5,), (5,), (8,), (8,), (8, 1, 1), (3, 4, 4), (3, 4, 4), (2, 4, 4))
    params = chain_parameters(LAYER_LIST, (5,), rng())
    wanted = {name: p.shape for name, p in sequential().named_parameters()}
    assert {name: p.shape for name, p in params.items()} == wanted


def test_chain_equals_autograd_of_sequential() -> None:
    params = chain_parameters(LAYER_LIST, (5,), rng())
    module = sequential()
    module.load_state_dict(params)
    x, error = draws(6, 5), draws(6, 2, 4, 4, seed=2)
    split = split_parameters(LAYER_LIST, params)
    y, saved = chain_forward(LAYER_LIST, split, x)
    back = chain_pullback(LAYER_LIST, split, saved, error, message=True, learn=True)
    leaf = x.clone().requires_grad_()
    true = module(leaf)
    true.backward(error)
    torch.testing.assert_close(y, true.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(back.message, leaf.grad, rtol=1e-12, atol=1e-12)
    wanted = {name: p.grad for name, p in module.named_parameters()}
    torch.testing.assert_close(back.gradient, wanted, rtol=1e-12, atol=1e-12)


def test_chain_gives_what_was_asked_for_and_stops_where_nothing_was() -> None:
    split = split_parameters(LAYER_LIST, chain_parameters(LAYER_LIST, (5,), rng()))
    x, error = draws(6, 5), draws(6, 2, 4, 4, seed=2)
    saved = chain_forward(LAYER_LIST, split, x)[1]
    both = chain_pullback(LAYER_LIST, split, saved, error, message=True, learn=True)
    message = chain_pullback(LAYER_LIST, split, saved, error, message=True, learn=False)
    # The relu below the lowest parameters must not be reached: what it saved is taken away.
    learn = chain_pullback(LAYER_LIST, split, [None, *saved[1:]], error, message=False, learn=True)
    torch.testing.assert_close(message.message, both.message)
    assert message.gradient == {}
    assert learn.message is None
    torch.testing.assert_close(learn.gradient, both.gradient)
    assert chain_pullback(LAYER_LIST, split, saved, error, message=False, learn=False) == (None, {})
    plain = (LAYERS["tanh"](),)
    assert chain_pullback(plain, ({},), [x], x, message=False, learn=True) == (None, {})


def test_an_edge_without_layers_is_the_identity() -> None:
    x = draws(2, 3)
    assert chain_forward((), (), x) == (x, [])
    assert chain_pullback((), (), [], x, message=True, learn=True) == (x, {})


def test_split_follows_updates_in_place_and_takes_a_prefix() -> None:
    params = {f"z->x.{k}": v for k, v in chain_parameters(LAYER_LIST, (5,), rng()).items()}
    split = split_parameters(LAYER_LIST, params, "z->x.")
    params["z->x.1.weight"].zero_()
    assert split[1].keys() == {"weight", "bias"}
    assert not split[1]["weight"].any()


def test_split_of_ten_layers_keeps_1_and_10_apart() -> None:
    layers = tuple(LAYERS["linear"](units=2) for _ in range(11))
    params = chain_parameters(layers, (2,), rng())
    split = split_parameters(layers, params)
    assert split[1]["weight"] is params["1.weight"]
    assert split[10]["weight"] is params["10.weight"]


# --------------------------------------------------------------------------- the caller's own module


class Gated(nn.Module):
    """A map that no layer of pcsim states, with a buffer and a parameter that it never uses."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
        self.gate = nn.Linear(3, 4, bias=False)
        self.unused = nn.Parameter(torch.ones(2))
        self.register_buffer("offset", torch.full((4,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) * torch.sigmoid(self.gate(x)) + self.offset


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_a_module_is_a_layer(mode: Callable[[], Any]) -> None:
    torch.manual_seed(0)
    module = Gated()
    layer = from_module(module)
    x, error = draws(5, 3), draws(5, 4, seed=2)
    leaf = x.clone().requires_grad_()
    true = module.double()(leaf)
    true.backward(error)
    with mode():
        params = layer.parameters((3,), rng())
        y, saved = layer.forward(params, x.clone())
        back = layer.pullback(params, saved, error.clone(), message=True, learn=True)
        again = layer.pullback(params, saved, error.clone(), message=True, learn=False)
    assert layer.output_shape((3,)) == (4,)
    assert not y.requires_grad
    assert params["inner.0.weight"].dtype == torch.float64
    torch.testing.assert_close(y, true.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(back.message, leaf.grad, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(again.message, leaf.grad, rtol=1e-12, atol=1e-12)
    assert again.gradient == {}
    wanted = {
        name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in module.named_parameters()
    }
    torch.testing.assert_close(back.gradient, wanted, rtol=1e-12, atol=1e-12)


def test_a_module_layer_stays_in_the_callers_graph() -> None:
    layer = from_module(Gated())
    params = layer.parameters((3,), rng())
    x = draws(2, 3).requires_grad_()
    y, saved = layer.forward(params, x)
    (found,) = torch.autograd.grad(y.sum(), x, retain_graph=True)
    back = layer.pullback(params, saved, torch.ones_like(y), message=True, learn=False)
    torch.testing.assert_close(back.message, found)


def test_frozen_parameters_of_a_module_are_not_learned() -> None:
    module = nn.Linear(3, 2)
    module.bias.requires_grad_(False)
    layer = from_module(module)
    params = layer.parameters((3,), rng())
    assert set(params) == {"weight"}
    x = draws(2, 3)
    torch.testing.assert_close(layer.forward(params, x)[0], module.double()(x).detach())


class Centred(nn.Module):
    """Subtracts the mean over rows: batch normalisation by another name."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


class Transposed(nn.Module):
    """Loses the row axis."""

    def forward(self, x: Tensor) -> Tensor:
        return x.t()


@pytest.mark.parametrize(
    "module", [nn.BatchNorm1d(3), nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).eval()]
)
def test_batch_normalisation_is_refused_by_type(module: nn.Module) -> None:
    with pytest.raises(CircuitError, match="batch normalisation"):
        from_module(module)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (Centred(), "mixes rows"),
        (nn.Dropout(), "draws noise"),
        (Transposed(), r"3 rows of \[4\] gave \[4, 3\]"),
        (nn.Linear(3, 2), r"does not take an input of shape \[4\]"),
        (nn.ReLU(inplace=True), "does not take an input"),
    ],
)
def test_what_cannot_be_a_layer_is_refused_once_the_shape_is_known(module: nn.Module, words: str) -> None:
    with pytest.raises(CircuitError, match=words):
        from_module(module).output_shape((4,))
