"""Every layer against torch.nn with autograd, central differences, and the laws that a layer must keep."""

import math
import pickle
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from pcsim.circuit.layers import LAYERS, REFUSED
from pcsim.circuit.layers.activations import FUNCTIONS
from pcsim.errors import CircuitError

ROWS = 3
C, T = nn.Conv2d, nn.ConvTranspose2d
Case = tuple[str, dict[str, Any], tuple[int, ...], nn.Module]

# Each row: YAML name, arguments, input shape, torch's own module of the same map.
CASES: list[Case] = [
    ("linear", {"units": 4}, (5,), nn.Linear(5, 4)),
    ("linear", {"units": 4, "bias": False}, (5,), nn.Linear(5, 4, bias=False)),
    ("linear", {"weight": [[2.0, 1.0], [0.5, 3.0]], "bias": [0.1, 0.2]}, (2,), nn.Linear(2, 2)),
    ("conv", {"channels": 4, "kernel": 3}, (2, 6, 5), C(2, 4, 3)),
    ("conv", {"channels": 4, "kernel": 3, "stride": 3, "padding": 1}, (3, 7, 7), C(3, 4, 3, 3, 1)),
    ("conv", {"channels": 3, "kernel": 4, "stride": 2, "padding": 1, "bias": False}, (2, 5, 6),
     C(2, 3, 4, 2, 1, bias=False)),
    ("conv", {"channels": 1, "kernel": 1, "weight": [[[[2.0]], [[3.0]]]], "bias": [1.0]}, (2, 2, 3),
     C(2, 1, 1)),
    ("conv_transpose", {"channels": 4, "kernel": 4}, (5, 1, 1), T(5, 4, 4)),
    ("conv_transpose", {"channels": 4, "kernel": 4, "bias": False}, (5, 1, 1), T(5, 4, 4, bias=False)),
    ("conv_transpose", {"channels": 9, "kernel": 4, "stride": 2, "padding": 1}, (3, 4, 3), T(3, 9, 4, 2, 1)),
    ("conv_transpose", {"channels": 3, "kernel": 4, "stride": 2, "padding": 1}, (2, 4, 3), T(2, 3, 4, 2, 1)),
    ("conv_transpose", {"channels": 2, "kernel": 6, "stride": 2, "bias": False}, (2, 3, 3),
     T(2, 2, 6, 2, bias=False)),
    ("conv_transpose", {"channels": 2, "kernel": 6, "stride": 3, "padding": 2}, (2, 3, 2), T(2, 2, 6, 3, 2)),
    ("conv_transpose", {"channels": 2, "kernel": 3, "stride": 2, "padding": 1, "output_padding": 1},
     (3, 3, 2), T(3, 2, 3, 2, 1, 1)),
    ("conv_transpose", {"channels": 2, "kernel": 3, "stride": 2, "padding": 1}, (3, 3, 2), T(3, 2, 3, 2, 1)),
    ("conv_transpose", {"channels": 2, "kernel": 3, "stride": 1, "padding": 1}, (3, 1, 1), T(3, 2, 3, 1, 1)),
    ("reshape", {"shape": [2, 3, 1]}, (6,), nn.Unflatten(1, (2, 3, 1))),
    ("identity", {}, (2, 3), nn.Identity()),
    ("tanh", {}, (7,), nn.Tanh()),
    ("sigmoid", {}, (7,), nn.Sigmoid()),
    ("relu", {}, (7,), nn.ReLU()),
    ("silu", {}, (2, 3, 3), nn.SiLU()),
    ("softplus", {}, (7,), nn.Softplus(threshold=60)),
]  # fmt: skip
HAS_PARAMETERS = [case for case in CASES if list(case[3].parameters())]
DRAWN = [case for case in HAS_PARAMETERS if "weight" not in case[1]]


class Square(nn.Module):
    """x² for the oracle; torch.nn has none."""

    def forward(self, x: Tensor) -> Tensor:
        return x * x


class Gain(nn.Module):
    """½|s|² y with (s, y) = x, two and three units of it, for the oracle."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :2].norm(dim=1, keepdim=True) ** 2 / 2 * x[:, 2:]


CASES.append(("square", {}, (7,), Square()))
CASES.append(("gain", {"by": 2}, (5,), Gain()))


def label(case: Any) -> str:
    return f"{case[0]}-{case[1]}".replace(" ", "")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def prepared(case: Case, dtype: torch.dtype = torch.float64) -> tuple[Any, dict[str, Tensor], Tensor, Tensor]:
    """(layer, parameters, input, error): all in `dtype`."""
    name, arguments, shape, _ = case
    layer = LAYERS[name](**arguments)
    params = {k: v.to(dtype) for k, v in layer.parameters(shape, rng()).items()}
    x = torch.randn(ROWS, *shape, dtype=torch.float64, generator=rng(1))
    error = torch.randn(ROWS, *layer.output_shape(shape), dtype=torch.float64, generator=rng(2))
    return layer, params, x.to(dtype), error.to(dtype)


def oracle(
    case: Case, params: dict[str, Tensor], x: Tensor, error: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """(output, {"x": message, parameter: gradient}) of torch's module by autograd."""
    module = case[3].to(x.dtype)
    module.load_state_dict(params)
    module.zero_grad()
    x = x.clone().requires_grad_()
    y = module(x)
    y.backward(error)
    assert x.grad is not None
    return y.detach(), {
        "x": x.grad,
        **{k: p.grad for k, p in module.named_parameters() if p.grad is not None},
    }


def test_every_layer_has_a_case() -> None:
    assert {name for name, *_ in CASES} == set(LAYERS)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("case", CASES, ids=label)
def test_forward_and_pullback_equal_autograd_of_torch_nn(case: Case, dtype: torch.dtype) -> None:
    """Tolerance: 100 roundings relative to the largest value; every sum here has fewer than 100 terms."""
    layer, params, x, error = prepared(case, dtype)
    y, saved = layer.forward(params, x)
    back = layer.pullback(params, saved, error, message=True, learn=True)
    wanted_y, wanted = oracle(case, params, x, error)
    assert y.shape == (ROWS, *layer.output_shape(case[2])) == wanted_y.shape
    assert y.dtype == back.message.dtype == dtype
    found = {"x": back.message, **back.gradient}
    assert found.keys() == wanted.keys()
    for name, value in [("y", y), *found.items()]:
        true = wanted_y if name == "y" else wanted[name]
        bound = 100 * torch.finfo(dtype).eps * float(true.abs().max().clamp(min=1))
        torch.testing.assert_close(value, true, rtol=0, atol=bound, msg=name)


@pytest.mark.parametrize("case", CASES, ids=label)
def test_pullback_equals_central_differences(case: Case) -> None:
    """Oracle: (⟨ε, f(v + h d)⟩ − ⟨ε, f(v − h d)⟩)/2h along a random d, of error O(h²) + O(rounding/h)."""
    layer, params, x, error = prepared(case)
    back = layer.pullback(params, layer.forward(params, x)[1], error, message=True, learn=True)
    h = 1e-5
    for name, slope in {"x": back.message, **back.gradient}.items():
        d = torch.randn(slope.shape, dtype=torch.float64, generator=rng(3))

        def value(step: float, name: str = name, d: Tensor = d) -> float:
            moved = {k: v + step * d if k == name else v for k, v in params.items()}
            y = layer.forward(moved, x + step * d if name == "x" else x)[0]
            return float((error * y).sum())

        estimate = (value(h) - value(-h)) / (2 * h)
        assert estimate == pytest.approx(float((slope * d).sum()), rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("case", CASES, ids=label)
def test_rows_are_independent_and_gradients_add(case: Case) -> None:
    layer, params, x, error = prepared(case)
    y, saved = layer.forward(params, x)
    back = layer.pullback(params, saved, error, message=True, learn=True)
    total = {k: torch.zeros_like(v) for k, v in back.gradient.items()}
    for row in range(ROWS):
        own, kept = layer.forward(params, x[row : row + 1])
        alone = layer.pullback(params, kept, error[row : row + 1], message=True, learn=True)
        torch.testing.assert_close(own[0], y[row], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(alone.message[0], back.message[row], rtol=1e-12, atol=1e-12)
        for name, value in alone.gradient.items():
            total[name] += value
    torch.testing.assert_close(total, back.gradient, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", CASES, ids=label)
def test_flags_leave_out_what_was_not_asked_for_and_change_nothing_else(case: Case) -> None:
    layer, params, x, error = prepared(case)
    given = [v.clone() for v in (x, error, *params.values())]
    _, saved = layer.forward(params, x)
    both = layer.pullback(params, saved, error, message=True, learn=True)
    message = layer.pullback(params, saved, error, message=True, learn=False)
    learn = layer.pullback(params, saved, error, message=False, learn=True)
    assert layer.pullback(params, saved, error, message=False, learn=False) == (None, {})
    assert message.gradient == {}
    assert learn.message is None
    torch.testing.assert_close(message.message, both.message)
    torch.testing.assert_close(learn.gradient, both.gradient)
    torch.testing.assert_close([x, error, *params.values()], given, rtol=0, atol=0)


@pytest.mark.parametrize("case", HAS_PARAMETERS, ids=label)
def test_initial_parameters_have_the_shapes_of_torch_and_come_from_the_generator(case: Case) -> None:
    name, arguments, shape, module = case
    layer = LAYERS[name](**arguments)
    first, again, other = (layer.parameters(shape, rng(seed)) for seed in (0, 0, 1))
    assert {k: v.shape for k, v in first.items()} == {k: v.shape for k, v in module.named_parameters()}
    assert all(v.dtype == torch.float64 for v in first.values())
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    changed = not torch.equal(first["weight"], other["weight"])
    assert changed == ("weight" not in arguments)


@pytest.mark.parametrize(
    ("name", "arguments", "shape", "fan_in"),
    [
        ("linear", {"units": 200}, (100,), 100),
        ("conv", {"channels": 40, "kernel": 5}, (20, 8, 8), 20 * 25),
        ("conv_transpose", {"channels": 40, "kernel": 5}, (20, 8, 8), 40 * 25),
    ],
)
def test_initial_distribution_is_torchs(name: str, arguments: Any, shape: Any, fan_in: int) -> None:
    """U(±1/√fan_in): the bound is never passed; mean and second moment within 5 standard errors."""
    params = LAYERS[name](**arguments).parameters(shape, rng())
    bound = fan_in**-0.5
    for value in params.values():
        unit = value / bound
        assert unit.abs().max() <= 1
        assert abs(unit.mean()) < 5 * math.sqrt(1 / 3 / unit.numel())
        assert abs(unit.square().mean() - 1 / 3) < 5 * math.sqrt(4 / 45 / unit.numel())
    assert params["weight"].abs().max() > bound * (1 - 20 / params["weight"].numel())


@pytest.mark.parametrize(
    ("name", "arguments", "shape", "words"),
    [
        ("linear", {"units": 4}, (1, 28, 28), ["[units]", "[1, 28, 28]", "reshape: [784]"]),
        ("linear", {"weight": [[1.0, 2.0]]}, (3,), ["[2]", "[3]"]),
        ("conv", {"channels": 4, "kernel": 3}, (9,), ["[channel, y, x]", "[9]", "reshape"]),
        ("conv", {"channels": 4, "kernel": 5}, (1, 3, 3), ["[1, 3, 3]", "[4, -1, -1]"]),
        ("conv", {"channels": 1, "kernel": 1, "weight": [[[[1.0]]]]}, (2, 3, 3), ["[1, y, x]", "[2, 3, 3]"]),
        ("conv_transpose", {"channels": 4, "kernel": 3}, (9,), ["[channel, y, x]", "[9]", "reshape"]),
        (
            "conv_transpose",
            {"channels": 4, "kernel": 1, "padding": 2},
            (1, 2, 2),
            ["[1, 2, 2]", "[4, -2, -2]"],
        ),
        ("reshape", {"shape": [1, 28, 28]}, (783,), ["784 values", "[1, 28, 28]", "[783]"]),
        ("gain", {"by": 4}, (4,), ["more than 4 units", "[4]"]),
    ],
)
def test_a_misfit_names_both_shapes(name: str, arguments: Any, shape: Any, words: list[str]) -> None:
    with pytest.raises(CircuitError) as failure:
        LAYERS[name](**arguments).output_shape(shape)
    assert [word for word in words if word not in str(failure.value)] == []


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("linear", {}, "linear needs units"),
        ("linear", {"units": 0}, "greater than 0"),
        ("linear", {"units": True}, "valid integer"),
        ("linear", {"units": 2, "unit": 3}, "Extra inputs"),
        ("linear", {"units": 2, "bias": [1.0]}, "1 numbers for 2 outputs"),
        ("linear", {"units": 2, "bias": "yes"}, "true, false or a list of numbers"),
        ("linear", {"units": 3, "weight": [[1.0]]}, "weight has 1 rows"),
        ("linear", {"weight": [[1.0], [1.0, 2.0]]}, "one length"),
        ("linear", {"weight": [[1.0]], "bias": True}, "state the bias"),
        ("linear", {"weight": [[math.nan]]}, "finite"),
        ("conv", {"channels": 2}, "Field required"),
        ("conv", {"channels": 2, "kernel": 1, "weight": [[[[1.0]]]]}, r"expected \[2, in, 1, 1\]"),
        (
            "conv",
            {"channels": 1, "kernel": 1, "weight": [[[[1.0]], [[1.0, 2.0]]]]},
            "each level of one length",
        ),
        ("conv_transpose", {"channels": 2, "kernel": 1, "weight": [[[[1.0]]]]}, r"expected \[in, 2, 1, 1\]"),
        ("conv_transpose", {"channels": 2, "kernel": 3, "output_padding": 1}, "less than stride"),
        ("reshape", {"shape": []}, "at least 1 item"),
        ("tanh", {"units": 3}, "Extra inputs"),
    ],
)
def test_bad_descriptions_are_refused(name: str, arguments: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        LAYERS[name](**arguments)


def test_an_outright_weight_brings_no_bias_of_its_own() -> None:
    assert set(LAYERS["linear"](weight=[[2.0]]).parameters((1,), rng())) == {"weight"}


@pytest.mark.parametrize("case", CASES, ids=label)
def test_layers_are_values_that_can_be_stored(case: Case) -> None:
    layer = LAYERS[case[0]](**case[1])
    assert pickle.loads(pickle.dumps(layer)) == layer == LAYERS[case[0]](**case[1])


def test_layers_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        LAYERS["linear"](units=3).units = 4


def test_batch_normalisation_is_refused_with_the_reason() -> None:
    assert "rows must stay independent" in REFUSED["batch_norm"]
    assert not set(REFUSED) & set(LAYERS)


# ------------------------------------------------------------------------------ activations as text


PLAIN = {"tanh": math.tanh, "exp": math.exp, "log": math.log, "abs": abs, "int": int}


def evaluate(text: str, x: float) -> float:
    return float(eval(text, {"__builtins__": {}}, {**PLAIN, "x": x}))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_text_of_a_function_is_the_function(name: str) -> None:
    """Also far out, where a careless formula overflows; tolerance: rounding, relative to max(1, |φ|)."""
    function = FUNCTIONS[name]
    for x in (-800.0, -30.0, -2.5, -0.3, 0.2, 1.7, 25.0, 45.0, 800.0):
        point = torch.tensor([x], dtype=torch.float64)
        y = function.apply(point)
        slope = function.backward(torch.ones_like(point), y if function.saves_output else point)
        assert evaluate(function.text, x) == pytest.approx(float(y), rel=1e-14, abs=2e-14)
        assert evaluate(function.derivative_text, x) == pytest.approx(float(slope), rel=1e-14, abs=2e-14)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_text_of_the_derivative_equals_central_differences(name: str) -> None:
    h = 1e-5
    for x in (-3.1, -0.4, 0.6, 2.2):
        text = FUNCTIONS[name].text
        estimate = (evaluate(text, x + h) - evaluate(text, x - h)) / (2 * h)
        assert evaluate(FUNCTIONS[name].derivative_text, x) == pytest.approx(estimate, rel=1e-8, abs=1e-9)
