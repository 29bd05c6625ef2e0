"""The shipped circuits and studies made ready for tests: targets, paths of chains, closed forms, recorded runs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from typer.testing import CliRunner

from pcsim.circuit.read import load_circuit
from pcsim.circuit.source import read_yaml
from pcsim.cli import app
from pcsim.engines.torch.program import Program
from pcsim.engines.torch.target import CircuitTarget, Clamp
from pcsim.inference.chain import run_chain
from pcsim.inference.types import Kernel, Rng, Tree
from pcsim.learning.learner import Learner, make_learner
from pcsim.learning.optimizers import sgd
from tests.exact.gaussian_circuits import F64, GaussianCircuit

ROOT = Path(__file__).parents[2]
Array = NDArray[np.float64]


def described(name: str) -> dict[str, Any]:
    """The description that `circuits/name.yaml` holds, free to be changed."""
    return dict(json.loads(json.dumps(read_yaml(ROOT / "circuits" / f"{name}.yaml").data)))


def stated_in(study: str) -> dict[str, Any]:
    """The description of a circuit that a study states in place."""
    return dict(json.loads(json.dumps(read_yaml(ROOT / "studies" / f"{study}.yaml").data["circuit"])))


def joint_of(description: Mapping[str, Any]) -> GaussianCircuit:
    """N(mean, covariance) over all units of a linear-Gaussian description, from its numbers alone."""
    nodes = description["nodes"]
    stops = np.cumsum([node["shape"][0] for node in nodes.values()])
    parts = {n: slice(int(s - nodes[n]["shape"][0]), int(s)) for n, s in zip(nodes, stops, strict=True)}
    total = int(stops[-1])
    weights, precision, offset = np.zeros((total, total)), np.zeros((total, total)), np.zeros(total)
    for name, node in nodes.items():
        stated = np.asarray(node["distribution"]["gaussian"]["precision"], dtype=float)
        size = node["shape"][0]
        precision[parts[name], parts[name]] = stated if stated.ndim == 2 else np.diag(np.full(size, stated))
        offset[parts[name]] = node.get("mean", 0.0)
    for edge in description.get("edges", ()):
        here, (layer,) = (parts[edge["to"]], parts[edge["from"]]), edge["layers"]
        weights[here] = np.eye(total)[here[0], here[0]] if layer == "identity" else layer["linear"]["weight"]
        offset[here[0]] += 0.0 if layer == "identity" else layer["linear"].get("bias", 0.0)
    reach = np.linalg.inv(np.eye(total) - weights)
    return GaussianCircuit(
        dict(description), parts, reach @ offset, reach @ np.linalg.inv(precision) @ reach.T
    )


def target_of(description: Mapping[str, Any], held: Mapping[str, ArrayLike], rows: int) -> CircuitTarget:
    """The posterior of a circuit with some nodes held at one value in every row."""
    program = Program(load_circuit(description))
    bound = program.bind(program.initial_parameters(torch.Generator().manual_seed(0)))
    values = {n: torch.tensor(np.array(v), dtype=F64).expand(rows, -1).clone() for n, v in held.items()}
    return CircuitTarget(bound, Clamp(values), rows)


def path_of(
    kernel: Kernel, target: CircuitTarget, rng: Rng, start: Tree, steps: int
) -> dict[str, NDArray[np.float64]]:
    """Every position of a chain, `[step 0 … steps, row, unit]` per free node."""
    kept = [{n: z.clone() for n, z in start.items()}]

    def visit(step: int, state: Any, info: Any) -> None:
        kept.append(state.position)

    run_chain(kernel, target, rng, start, steps, visit)
    return {n: torch.stack([z[n] for z in kept]).numpy() for n in start}


def zeros(target: CircuitTarget) -> dict[str, Tensor]:
    """A start at 0, `[row, *shape]` per free node."""
    shapes = {n.name: n.shape for n in target.bound.nodes}
    return {n: torch.zeros(target.rows, *shapes[n], dtype=F64) for n in target.free}


def learner_of(description: Mapping[str, Any], rate: float) -> Learner:
    """A learner by plain gradient descent, of everything that the circuit lets learn."""
    program = Program(load_circuit(description))
    params = program.initial_parameters(torch.Generator().manual_seed(4))
    return make_learner(program, params, lambda p: sgd(p, rate), lambda p: sgd(p, rate))


def assert_mean(per_chain: ArrayLike, expected: ArrayLike, slack: float = 0.0) -> None:
    """The mean over independent chains (axis 0) is within 4 of its own standard errors of what is expected."""
    samples = np.asarray(per_chain, dtype=float)
    error = samples.std(0, ddof=1) / np.sqrt(len(samples))
    np.testing.assert_array_less(np.abs(samples.mean(0) - expected), 4 * error + slack)


def run_study(name: str, out: Path, *overrides: str) -> xr.DataTree:
    """The trace that `pcsim run studies/name.yaml` leaves; the run is complete."""
    arguments = ["run", str(ROOT / "studies" / f"{name}.yaml"), "--out", str(out), "threads=1", *overrides]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert json.loads((out / "manifest.json").read_text())["status"] == "complete"
    trace: xr.DataTree = xr.open_datatree(out / "trace.zarr", engine="zarr")
    return trace


def measured(out: Path, key: str) -> float:
    """The last value of one measure in a run's metrics."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return float([row[key] for row in rows if key in row][-1])
