"""In which precision a circuit computes, and what bfloat16 inside the edges costs."""

import numpy as np
import torch

from pcsim.circuit.read import load_circuit
from pcsim.engines.torch.program import Program
from pcsim.engines.torch.target import CircuitTarget, Clamp
from tests.exact.test_engine import F64, conv_description


def test_bfloat16_edges_are_close_within_their_rounding() -> None:
    """Oracle: float64. Entrywise bounds from u = 2⁻⁸ per rounding: z, W, b, the product, the sum; then back.

    |Δη| ≤ 4u(|W||z| + |b|) =: d, |Δε| ≤ Π d, |Δ message| ≤ |W|ᵀ(Π d + 4u|ε|), |Δ∂W| ≤ Σ(Π d + 4u|ε|)|z|.
    """
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(6, 4)), rng.normal(size=6)
    description = {
        "nodes": {
            "z": {"shape": [4], "distribution": "gaussian"},
            "x": {"shape": [6], "distribution": {"gaussian": {"precision": 4.0}}},
        },
        "edges": [
            {
                "from": "z",
                "to": "x",
                "layers": [{"linear": {"weight": weight.tolist(), "bias": bias.tolist()}}],
            }
        ],
    }
    circuit, rows = load_circuit(description), 50
    x, z = (torch.from_numpy(rng.normal(size=(rows, n))) for n in (6, 4))
    points = []
    for dtype, inside in ((F64, None), (torch.float32, torch.bfloat16)):
        program = Program(circuit, inside)
        bound = program.bind(program.initial_parameters(torch.Generator(), dtype))
        target = CircuitTarget(bound, Clamp({"x": x.to(dtype)}), rows, learn=True)
        points.append(target.evaluate({"z": z.to(dtype)}, True))
    exact, rounded = points
    assert rounded.grad["z"].dtype == torch.float32
    w, b = torch.from_numpy(np.abs(weight)), torch.from_numpy(np.abs(bias))
    unit = 4 * 2.0**-8
    error = 4 * unit * (z.abs() @ w.T + b) + unit * exact.aux.errors["x"].abs()
    assert ((rounded.grad["z"] - exact.grad["z"]).abs() <= 1.05 * error @ w).all()
    change = (rounded.aux.gradient["z->x.0.weight"] - exact.aux.gradient["z->x.0.weight"]).abs()
    assert (change <= 1.05 * error.T @ z.abs()).all()
    assert change.max() > 0  # it did run in bfloat16


def test_float64_is_the_default() -> None:
    """A circuit without data computes in double precision."""
    program = Program(load_circuit(conv_description()))
    assert {p.dtype for p in program.initial_parameters(torch.Generator()).values()} == {F64}
