"""Law 1, 4 and 6 on whole circuits: messages against autograd of an energy that is written independently."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch import distributions as td

from pcsim.circuit.distributions.custom import from_log_prob
from pcsim.circuit.read import load_circuit
from pcsim.engines.torch.program import Params, Program
from pcsim.engines.torch.target import CircuitTarget, Clamp
from pcsim.inference.chain import run_chain
from pcsim.inference.kernels import adam, langevin, mala, momentum
from pcsim.inference.preconditioners import frozen
from pcsim.inference.rng import Draw, Recorder, Replay, seed_stream
from pcsim.inference.types import Kernel
from tests.exact import oracle_circuits as oracle

F64 = torch.float64
ROWS = 3


def perturbed(program: Program, seed: int = 0) -> Params:
    """Initial parameters, with the learned ones moved off their special values."""
    generator = torch.Generator().manual_seed(seed)
    params = program.initial_parameters(generator)
    for name in program.learned:
        noise = 0.1 * torch.randn(params[name].shape, generator=generator, dtype=F64)
        params[name] = params[name] + (noise.tril() if name.endswith("cholesky") else noise)
    return params


class Case:
    """A circuit with a clamp and a state."""

    def __init__(
        self, description: dict[str, Any], held: Mapping[str, str], seed: int, rows: int = ROWS
    ) -> None:
        rng = np.random.default_rng(seed)
        self.description, self.rows = description, rows
        self.program = Program(load_circuit(description))
        self.params = perturbed(self.program, seed)
        shapes = {n: (rows, *node.shape) for n, node in self.program.circuit.nodes.items()}
        given = {n: oracle.observation(kind, shapes[n], rng) for n, kind in held.items()}
        self.masks = {}
        for name, kind in held.items():
            if rng.random() < 0.6:
                shape = (*shapes[name][:-1], 1) if kind == "categorical" else shapes[name]
                mask = torch.from_numpy(rng.integers(0, 2, shape)).to(F64).expand(shapes[name])
                self.masks[name] = mask if rng.random() < 0.5 else mask[0]
        self.clamp = Clamp(given, self.masks)
        self.target = self.at(self.params)
        self.z = self.target.start(
            {n: torch.from_numpy(rng.normal(size=shapes[n])) for n in self.target.free}
        )

    def at(self, params: Params) -> CircuitTarget:
        return CircuitTarget(self.program.bind(params), self.clamp, self.rows, learn=True)

    def energy(self, params: Mapping[str, Tensor], z: Mapping[str, Tensor]) -> Tensor:
        values = {**self.clamp.values, **z}
        return oracle.energy(self.description, params, values, self.masks)


def assert_is_autograd(case: Case) -> None:
    """Energy, gradient and parameter gradient to 1e-11 relative to the largest entry of each."""
    z = {n: leaf.clone().requires_grad_() for n, leaf in case.z.items()}
    params = {n: p.clone().requires_grad_(n in case.program.learned) for n, p in case.params.items()}
    u = case.energy(params, z)
    wanted = [*z.values(), *(params[n] for n in case.program.learned)]
    slopes = torch.autograd.grad(u.sum(), wanted, allow_unused=True)
    point = case.target.evaluate(case.z, energy=True)
    assert point.energy is not None
    torch.testing.assert_close(point.energy, u.detach(), rtol=1e-11, atol=1e-11)
    for name, slope in zip(z, slopes, strict=False):
        free = 1 - case.masks[name] if name in case.masks else torch.ones(())
        exact = slope * free if slope is not None else torch.zeros_like(z[name])
        torch.testing.assert_close(point.grad[name], exact, rtol=1e-10, atol=1e-11 * (1 + exact.abs().max()))
    assert sum(e.sum() for e in point.aux.energies.values()).item() == pytest.approx(float(u.detach().sum()))
    for name, slope in zip(case.program.learned, slopes[len(z) :], strict=True):
        if slope is None:  # the parameters of a node that is not observed
            assert name not in point.aux.gradient
            continue
        torch.testing.assert_close(
            point.aux.gradient[name], slope, rtol=1e-10, atol=1e-11 * (1 + slope.abs().max()), msg=name
        )


def random_case(seed: int) -> Case:
    rng = np.random.default_rng(1000 + seed)
    kinds = tuple(str(k) for k in rng.choice(oracle.FREE, 3))
    leaves = (*(str(k) for k in rng.choice(oracle.LEAF, 2)), str(rng.choice(oracle.FREE)))
    acts = (*oracle.SMOOTH, "relu")
    description = oracle.random_description(seed, kinds, leaves, acts)
    held = {f"n{i}": kind for i, kind in enumerate(kinds + leaves) if i >= 3 or rng.random() < 0.3}
    if len(held) == 6:
        del held["n0"]
    if rng.random() < 0.3:
        del held["n3"]  # an unobserved discrete leaf
    return Case(description, held, seed)


@pytest.mark.parametrize("seed", range(40))
def test_messages_are_autograd_on_random_circuits(seed: int) -> None:
    """Oracle: autograd of `oracle.energy` on random DAGs, distributions, activations, clamps and masks."""
    assert_is_autograd(random_case(seed))


@pytest.mark.parametrize("kind", [*oracle.FREE, *oracle.LEAF])
def test_every_distribution_as_an_observed_leaf_with_two_parents(kind: str) -> None:
    """Oracle: as above, so that none is left to chance."""
    description = oracle.random_description(5, ("number", "learned matrix"), (kind,), ("tanh",))
    assert_is_autograd(Case(description, {"n2": kind}, 3))


def conv_description() -> dict[str, Any]:
    layers: list[Any] = [
        {"linear": 12},
        "silu",
        {"reshape": [3, 2, 2]},
        {"conv_transpose": {"channels": 4, "kernel": 4, "stride": 2, "padding": 1}},
        "tanh",
        {"conv": {"channels": 2, "kernel": 3, "padding": 1}},
    ]
    skip: list[Any] = [{"reshape": [5, 1, 1]}, {"conv_transpose": {"channels": 2, "kernel": 8}}]
    up: list[Any] = [{"conv_transpose": {"channels": 2, "kernel": 4, "stride": 2, "padding": 1}}]
    return {
        "nodes": {
            "z": {"shape": [5], "distribution": {"gaussian": {"precision": 1.0}}},
            "m": {"shape": [2, 4, 4], "distribution": {"gaussian": {"precision": 2.0}}, "learn": ["precision"]},
            "x": {"shape": [2, 8, 8], "distribution": {"discretised_gaussian": {"scale": 0.8}}, "learn": ["scale"]},
        },
        "edges": [
            {"from": "z", "to": "m", "layers": layers},
            {"from": "m", "to": "x", "layers": ["silu", *up]},
            {"from": "z", "to": "x", "layers": skip},
        ],
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_messages_are_autograd_on_a_conv_net(seed: int) -> None:
    """Oracle: F.conv2d and F.conv_transpose2d under autograd, with a skip edge and in-painting masks."""
    assert_is_autograd(Case(conv_description(), {"x": "discretised_gaussian"}, seed))


def test_own_module_and_own_distribution() -> None:
    """Oracle: F.linear, F.gelu and td.Gumbel under autograd for an nn.Module edge and `from_log_prob`."""
    module = nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2)).double()

    def gumbel(params: Mapping[str, Tensor], z: Tensor, eta: Tensor) -> Tensor:
        scale = params["log_scale"].exp()
        u = (z - eta) / scale
        return -u - (-u).exp() - params["log_scale"]

    own = from_log_prob(gumbel, lambda p, eta, d: eta, parameters={"log_scale": 0.3}, learn=["log_scale"])
    circuit = load_circuit(
        {
            "nodes": {
                "z": {"shape": [3], "distribution": "gaussian", "learn": ["mean"]},
                "x": {"shape": [2], "distribution": own},
            },
            "edges": [{"from": "z", "to": "x", "layers": [module]}],
        }
    )
    program = Program(circuit)
    params = perturbed(program)
    rng = np.random.default_rng(0)
    x, start = (torch.from_numpy(rng.normal(size=(ROWS, n))) for n in (2, 3))
    point = CircuitTarget(program.bind(params), Clamp({"x": x}), ROWS, learn=True).evaluate(
        {"z": start}, True
    )
    p = {n: v.clone().requires_grad_() for n, v in params.items()}
    z = start.clone().requires_grad_()
    hidden = F.gelu(F.linear(z, p["z->x.0.0.weight"], p["z->x.0.0.bias"]))
    eta = F.linear(hidden, p["z->x.0.2.weight"], p["z->x.0.2.bias"])
    u = -td.Normal(p["z.mean"].expand_as(z), 1.0).log_prob(z).sum(1)
    u = u - td.Gumbel(eta, p["x.log_scale"].exp()).log_prob(x).sum(1)
    slopes = torch.autograd.grad(u.sum(), [z, *(p[n] for n in program.learned)])
    assert point.energy is not None
    torch.testing.assert_close(point.energy, u.detach())
    torch.testing.assert_close(point.grad["z"], slopes[0])
    for name, slope in zip(program.learned, slopes[1:], strict=True):
        torch.testing.assert_close(point.aux.gradient[name], slope)


@pytest.mark.parametrize("seed", range(6))
def test_zero_temperature_never_raises_the_energy(seed: int) -> None:
    """Law 4. Oracle: exact Hessians of the written energy give γ λ_max < 2 at every point of the path."""
    kinds = ("learned matrix", "student_t", "number")
    description = oracle.random_description(seed, kinds, ("bernoulli", "list"), ("tanh", "silu", "softplus"))
    case = Case(description, {"n3": "bernoulli", "n4": "list"}, seed, rows=2)
    step, rng = 0.02, seed_stream(0, "unused")
    kernel = langevin(step, 0.0)
    state = kernel.init(case.target, rng, case.z)
    path = [state.position]
    for _ in range(150):
        state, _info = kernel.step(case.target, rng, state)
        path.append(state.position)
    u = torch.stack([case.energy(case.params, z) for z in path])
    assert max(curvature(case, z) for z in path[::15]) * step < 1.5
    assert (u.diff(dim=0) <= 1e-13 * u[0].abs()).all()
    assert (u[-1] < u[0]).all()


def curvature(case: Case, z: Mapping[str, Tensor]) -> float:
    """Largest |eigenvalue| of the Hessian over the rows together (block diagonal)."""
    names, sizes = list(z), [leaf.numel() for leaf in z.values()]

    def energy(vector: Tensor) -> Tensor:
        parts = dict(zip(names, vector.split(sizes), strict=True))
        return case.energy(case.params, {n: part.reshape(z[n].shape) for n, part in parts.items()}).sum()

    flat = torch.cat([leaf.flatten() for leaf in z.values()])
    hessian = torch.autograd.functional.hessian(energy, flat)
    return float(torch.linalg.eigvalsh(hessian).abs().max())


KERNELS: dict[str, Kernel] = {
    "langevin": langevin(0.02),
    "frozen": langevin(0.02, 1.0, frozen(5)),
    "mala": mala(0.02),
    "momentum": momentum(0.01, 0.5, 1.0),
    "adam": adam(0.02),
}


def dag_case() -> Case:
    return random_case(3)


def conv_case() -> Case:
    return Case(conv_description(), {"x": "discretised_gaussian"}, 0)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("make", [dag_case, conv_case], ids=["dag", "conv"])
def test_rows_are_independent(name: str, make: Any) -> None:
    """Law 6: permuted rows (start, data, masks, draws) give the permuted chain; summed gradients stay."""
    case = make()
    order = torch.tensor([2, 0, 1])
    masks = {n: m[order] if m.shape == case.clamp.values[n].shape else m for n, m in case.masks.items()}
    clamp = Clamp({n: v[order] for n, v in case.clamp.values.items()}, masks)
    other = CircuitTarget(case.program.bind(case.params), clamp, case.rows, learn=True)
    tape = Recorder(seed_stream(5, name))
    a = run_chain(KERNELS[name], case.target, tape, case.z, 30)
    draws = [Draw(d.kind, d.value[order]) for d in tape.tape]
    start = {n: z[order] for n, z in case.z.items()}
    b = run_chain(KERNELS[name], other, Replay(draws), start, 30)
    for leaf, z in a.position.items():
        torch.testing.assert_close(b.position[leaf], z[order], rtol=1e-9, atol=1e-9)
    for key, value in a.point.aux.gradient.items():
        torch.testing.assert_close(b.point.aux.gradient[key], value, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("seed", range(8))
def test_parameter_gradients_are_local(seed: int) -> None:
    """Locality: a parameter's gradient reads its node and that node's parents, and nothing else, to the bit."""
    case = random_case(seed)
    circuit = case.program.circuit
    base = case.target.evaluate(case.z, False).aux.gradient
    for moved in case.target.free:
        shifted = {**case.z, moved: case.z[moved] + 0.5}
        after = case.target.evaluate(shifted, False).aux.gradient
        for key in base:
            owner = key.split(".")[0].split("->")[-1]
            reads = {owner, *(e.parent for e in circuit.parents(owner))}
            if moved not in reads:
                assert torch.equal(base[key], after[key]), (key, moved)
