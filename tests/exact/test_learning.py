"""Law 7: the parameter gradient that streams from a chain is that of the evidence; memory does not grow."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from pcsim.engines.torch.program import Params, Program
from pcsim.engines.torch.target import CircuitTarget, Clamp
from pcsim.inference.kernels import langevin
from pcsim.inference.rng import seed_stream
from pcsim.inference.types import Tree
from pcsim.learning.draws import Draws, expectation
from tests.exact.gaussian_circuits import F64, Orthogonal, condition, random_circuit

UNUSED = seed_stream(0, "unused")


class Learning:
    """A linear-Gaussian circuit that learns every weight, bias, mean and precision, one image held."""

    def __init__(self, seed: int) -> None:
        self.joint = random_circuit(seed, 4)
        for described in self.joint.description["nodes"].values():
            described["learn"] = ["precision", *(["mean"] if "mean" in described else [])]
        self.circuit = self.joint.circuit
        self.program = Program(self.circuit)
        self.params = self.program.initial_parameters(torch.Generator())
        self.held = np.zeros(len(self.joint.mean), dtype=bool)
        for name in self.circuit.leaves:
            self.held[self.joint.parts[name]] = True
        self.values = np.random.default_rng(seed).normal(size=len(self.held))
        self.posterior = condition(self.joint, self.held, self.values)

    def target(self, rows: int) -> CircuitTarget:
        held = {n: torch.from_numpy(self.values[self.joint.parts[n]]) for n in self.circuit.leaves}
        clamp = Clamp({n: v.expand(rows, -1) for n, v in held.items()})
        return CircuitTarget(self.program.bind(self.params), clamp, rows, learn=True)

    def split(self, flat: Tensor) -> Tree:
        """Rows of all free units as a state."""
        full = torch.zeros(len(flat), len(self.held), dtype=F64)
        full[:, torch.from_numpy(self.posterior.free)] = flat
        return {n: full[:, part] for n, part in self.joint.parts.items() if n not in self.circuit.leaves}

    def evidence_gradient(self) -> Params:
        """−∂ log p(x)/∂θ by autograd of log N(x; m(θ), S(θ)), S from the parameters."""
        params = {n: p.clone().requires_grad_() for n, p in self.params.items()}
        names, parts = list(self.joint.parts), self.joint.parts
        rows: list[Tensor] = []
        means: list[Tensor] = []
        blocks: list[Tensor] = []
        total = len(self.held)
        eye = torch.eye(total, dtype=F64)
        reach: dict[str, Tensor] = {}
        mean: dict[str, Tensor] = {}
        for name in names:
            size = parts[name].stop - parts[name].start
            noise = self._covariance(params, name, size)
            own = torch.linalg.cholesky(noise) @ eye[parts[name]]
            centre = params.get(f"{name}.mean", torch.zeros(size, dtype=F64))
            for e in self.circuit.parents(name):
                weight = params[f"{e.key}.0.weight"]
                own = own + weight @ reach[e.parent]
                centre = centre + weight @ mean[e.parent] + params[f"{e.key}.0.bias"]
            reach[name], mean[name] = own, centre
        for name in self.circuit.leaves:
            rows.append(reach[name])
            means.append(mean[name])
            blocks.append(torch.from_numpy(self.values[parts[name]]))
        root = torch.cat(rows)
        density = torch.distributions.MultivariateNormal(torch.cat(means), root @ root.T)
        learned = [params[n] for n in self.program.learned]
        slopes = torch.autograd.grad(-density.log_prob(torch.cat(blocks)), learned)
        return dict(zip(self.program.learned, slopes, strict=True))

    def _covariance(self, params: Params, name: str, size: int) -> Tensor:
        if f"{name}.cholesky" in params:
            stored = params[f"{name}.cholesky"]
            factor = stored.tril(-1) + torch.diag(stored.diagonal().exp())
            return torch.linalg.inv(factor @ factor.T)
        return torch.diag((-params[f"{name}.log_precision"]).exp().expand(size))


def spread(mean: np.ndarray, covariance: np.ndarray) -> Tensor:
    """2n points whose mean and covariance are exactly these: m ± √n L_i; quadratics average exactly."""
    root = np.linalg.cholesky(covariance) * math.sqrt(len(mean))
    return torch.from_numpy(np.concatenate([mean + root.T, mean - root.T]))


def assert_gradients(found: Params, exact: Params, tolerance: float = 1e-9) -> None:
    assert found.keys() == exact.keys()
    for name, value in exact.items():
        scale = 1 + float(value.abs().max())
        torch.testing.assert_close(found[name], value, rtol=0, atol=tolerance * scale, msg=name)


@pytest.mark.parametrize("seed", range(8))
def test_fisher_identity(seed: int) -> None:
    """Oracle: −∂ log p(x)/∂θ of the exact evidence = mean of ∂U/∂θ over the exact posterior; to rounding."""
    case = Learning(seed)
    points = spread(case.posterior.mean, np.linalg.inv(case.posterior.precision))
    rows = len(points)
    start = case.split(points)
    result = expectation(langevin(0.1), case.target(rows), UNUSED, start, 0, Draws("start"), moments=False)
    assert_gradients({n: g / rows for n, g in result.gradient.items()}, case.evidence_gradient())


@pytest.mark.parametrize("seed", [1, 4])
def test_streaming_gradient_of_a_chain(seed: int) -> None:
    """Oracle: E ∂U/∂θ under the chain's own stationary N(m, C_ULA), from 2n exact points; to rounding.

    A stationary start with that covariance and draws with exact moments leave no sampling error in any of
    the counted draws z^(1) … z^(8); the difference to Fisher's identity is the bias of the step alone.
    """
    case = Learning(seed)
    step, steps = 0.8 / np.linalg.eigvalsh(case.posterior.precision).max(), 8
    size = len(case.posterior.mean)
    rows = (steps + 1) * size + 1
    covariance = case.posterior.ula(step, 1.0)
    points = spread(case.posterior.mean, covariance)
    at_points = case.target(len(points)).evaluate(case.split(points), False).aux.gradient
    exact = {n: g / len(points) for n, g in at_points.items()}
    rng = Orthogonal(rows)
    white = rng.normal(torch.zeros(rows, size, dtype=F64))
    start = torch.from_numpy(case.posterior.mean) + white @ torch.from_numpy(np.linalg.cholesky(covariance).T)
    result = expectation(
        langevin(step), case.target(rows), rng, case.split(start), steps, Draws(), moments=False
    )
    assert_gradients({n: g / rows for n, g in result.gradient.items()}, exact)
    fisher = case.evidence_gradient()
    assert max(float((fisher[n] - exact[n]).abs().max()) for n in exact) > 1e-3


def test_streaming_gradient_of_random_chains() -> None:
    """Oracle: as above with ordinary draws from the prior's mean; 5 s.e. of 40 independent batches of chains."""
    case = Learning(2)
    rates = np.linalg.eigvalsh(case.posterior.precision)
    step, rows = 1.0 / rates.max(), 50
    burn_in = int(np.ceil(np.log(1e-4) / np.log(1 - step * rates.min())))
    points = spread(case.posterior.mean, case.posterior.ula(step, 1.0))
    at_points = case.target(len(points)).evaluate(case.split(points), False).aux.gradient
    found: dict[str, list[Tensor]] = {n: [] for n in at_points}
    start = case.split(torch.zeros(rows, len(rates), dtype=F64))
    for batch in range(40):
        stream = seed_stream(3, "fisher", batch)
        result = expectation(
            langevin(step), case.target(rows), stream, start, burn_in + 20, Draws("last", 20), moments=False
        )
        for name, g in result.gradient.items():
            found[name].append(g / rows)
    for name, batches in found.items():
        g, exact = torch.stack(batches), at_points[name] / len(points)
        bound = 5 * g.std(0) / 40**0.5 + 1e-3 * (1e-9 + exact.abs())
        assert ((g.mean(0) - exact).abs() <= bound).all(), name


MEMORY = """
import resource, sys, torch
from pcsim.circuit.read import load_circuit
from pcsim.engines.torch.program import Program
from pcsim.engines.torch.target import CircuitTarget, Clamp
from pcsim.inference.kernels import langevin
from pcsim.inference.rng import seed_stream
from pcsim.learning.draws import Draws, expectation
torch.set_num_threads(1)
gauss = "gaussian"
circuit = load_circuit({
    "nodes": {"z": {"shape": [256], "distribution": gauss}, "y": {"shape": [256], "distribution": gauss},
              "x": {"shape": [784], "distribution": gauss}},
    "edges": [{"from": "z", "to": "y", "layers": ["tanh", {"linear": 256}]},
              {"from": "y", "to": "x", "layers": ["tanh", {"linear": 784}]}]})
program = Program(circuit)
params = program.initial_parameters(torch.Generator().manual_seed(0), torch.float32)
rows = 32
target = CircuitTarget(program.bind(params), Clamp({"x": torch.zeros(rows, 784)}), rows)
start = {"z": torch.zeros(rows, 256), "y": torch.zeros(rows, 256)}
expectation(langevin(0.05), target, seed_stream(0, "m"), start, int(sys.argv[1]), Draws(), moments=True)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_steps() -> None:
    """Peak resident memory at 3000 steps ≤ 1.02 of that at 300, parameter gradient and moments included."""
    peak = [
        int(subprocess.run([sys.executable, "-c", MEMORY, str(n)], capture_output=True, check=True).stdout)
        for n in (300, 3000)
    ]
    assert peak[1] <= 1.02 * peak[0], peak
