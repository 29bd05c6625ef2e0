"""Seeded random circuits with all that both engines can do, and the torch trajectory with its draws."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pcsim.circuit.graph import Circuit
from pcsim.circuit.read import load_circuit
from pcsim.circuit.times import seconds
from pcsim.engines.brian2.network import Dynamics
from pcsim.engines.torch.program import Params, Program
from pcsim.engines.torch.target import CircuitTarget, Clamp
from pcsim.inference.chain import run_chain
from pcsim.inference.kernels.langevin import langevin
from pcsim.inference.rng import Draw, Recorder, Stream
from tests.exact.oracle_circuits import FREE, observation, random_description

F64 = torch.float64
DT = 1e-3
STEP = 0.01
ROWS = 2
LEAVES = ("number", "list", "matrix", "laplace", "student_t", "bernoulli", "categorical")
ACTIVATIONS = ("tanh", "square", "silu", "softplus", "sigmoid", "relu", "identity")


class Case(NamedTuple):
    """One circuit at one set of parameters, clamped somehow, and where its chain starts."""

    circuit: Circuit
    params: Params
    clamp: Clamp
    start: dict[str, Tensor]
    dynamics: Dynamics


class Trajectory(NamedTuple):
    """What torch did: values and errors after steps 0 … n, `[step, row, *shape]`, and the draws it made."""

    values: dict[str, np.ndarray]
    errors: dict[str, np.ndarray]
    tape: list[Draw]


def case(seed: int) -> Case:
    """A DAG of three to four inner nodes and two leaves; a node with its own tau, a mask, an inner clamp."""
    rng = np.random.default_rng(seed)
    inner = tuple(rng.choice(FREE, size=rng.integers(3, 5)))
    leaves = tuple(rng.choice(LEAVES, size=2, replace=False))
    description = random_description(seed, inner, leaves, ACTIVATIONS)
    names = list(description["nodes"])
    description["nodes"][names[int(rng.integers(len(inner)))]]["tau"] = f"{rng.uniform(50, 400):.3f} ms"
    return finish(description, seed, dict(zip(names, inner + leaves, strict=True)))


def conv_case(seed: int) -> Case:
    """An image node under a transposed convolution, a convolution on top of it, and a skip edge by a reshape."""
    nodes = {
        "z": {"shape": [3], "distribution": "gaussian", "mean": [0.3, -0.2, 0.1], "learn": ["mean"]},
        "maps": {"shape": [2, 3, 3], "distribution": {"gaussian": {"precision": 2.0}}},
        "picture": {"shape": [1, 6, 6], "distribution": "bernoulli"},
        "summary": {"shape": [2, 2, 2], "distribution": {"student_t": {"precision": 1.5}}},
    }
    up = {"conv_transpose": {"channels": 1, "kernel": 4, "stride": 2, "padding": 1}}
    edges = [
        {"from": "z", "to": "maps", "layers": [{"linear": 18}, "silu", {"reshape": [2, 3, 3]}]},
        {"from": "maps", "to": "picture", "layers": ["tanh", up]},
        {"from": "maps", "to": "summary", "layers": [{"conv": {"channels": 2, "kernel": 2}}, "softplus"]},
        {"from": "z", "to": "summary", "layers": [{"linear": 8}, {"reshape": [2, 2, 2]}]},
    ]  # fmt: skip
    kinds = {"z": "number", "maps": "number", "picture": "bernoulli", "summary": "student_t"}
    return finish({"nodes": nodes, "edges": edges}, seed, kinds)


def finish(description: dict[str, Any], seed: int, kinds: dict[str, str]) -> Case:
    """The circuit with drawn weights, its first leaf clamped, its second one masked or left out by the seed."""
    rng = np.random.default_rng(seed + 1000)
    circuit = load_circuit(description)
    params = Program(circuit).initial_parameters(torch.Generator().manual_seed(seed))
    first, second = list(circuit.nodes)[-2:] if "picture" not in circuit.nodes else ("summary", "picture")
    values = {first: observation(kinds[first], (ROWS, *circuit.nodes[first].shape), rng)}
    masks = {}
    if seed % 3:
        shape = (ROWS, *circuit.nodes[second].shape)
        values[second] = observation(kinds[second], shape, rng)
        if seed % 3 == 2:
            whole = kinds[second] == "categorical"
            mask = torch.from_numpy(rng.integers(0, 2, shape[:-1] + ((1,) if whole else shape[-1:]))).to(F64)
            masks[second] = mask.expand(shape).clone()
    roots = [n for n in circuit.roots if n not in values]
    if seed % 4 == 3 and len(circuit.nodes) > 4:
        values[roots[0]] = torch.from_numpy(rng.normal(size=(ROWS, *circuit.nodes[roots[0]].shape)))
    start = {n: torch.from_numpy(0.5 * rng.normal(size=(ROWS, *v.shape))) for n, v in circuit.nodes.items()}
    return Case(circuit, params, Clamp(values, masks), start, Dynamics(DT, STEP))


def torch_run(c: Case, steps: int, seed: int = 0) -> Trajectory:
    """The torch engine's Langevin chain with recorded draws."""
    mobility = {n: DT / seconds(v.tau) / STEP for n, v in c.circuit.nodes.items() if v.tau is not None}
    target = CircuitTarget(Program(c.circuit).bind(c.params), c.clamp, ROWS, mobility=mobility)
    begin = target.start(c.start)
    rng = Recorder(Stream(torch.Generator().manual_seed(seed)))
    first = target.evaluate(begin, False)
    values = {n: [v.numpy().copy()] for n, v in begin.items()}
    errors = {n: [e.numpy().copy()] for n, e in first.aux.errors.items()}

    def visit(step: int, state: Any, info: Any) -> None:
        for n, v in state.position.items():
            values[n].append(v.numpy().copy())
        for n, e in state.point.aux.errors.items():
            errors[n].append(e.numpy().copy())

    run_chain(langevin(STEP, c.dynamics.temperature), target, rng, begin, steps, visit)
    return Trajectory(
        {n: np.stack(v) for n, v in values.items()}, {n: np.stack(e) for n, e in errors.items()}, rng.tape
    )
