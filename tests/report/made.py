"""Run directories whose chains are exact: Langevin steps on a quadratic energy, before and under a stimulus."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from ruamel.yaml import YAML

from pcsim.record.layout import Coord, Layout, Variable, phases, recorded_steps
from pcsim.record.writer import Block, TraceWriter

STEP_SIZE = 0.2
FLOOR = 60.0
"""Energy of the data at the mode."""


class Plan(NamedTuple):
    """What is recorded."""

    temperature: float = 1.0
    images: int = 3
    chains: int = 8
    units: int = 4
    spontaneous: int = 160
    steps: int = 400
    block: int = 100
    seed: int = 0


def curvature(units: int) -> NDArray[np.float64]:
    """Of every unit under a stimulus; before it, 1."""
    return np.linspace(1.5, 4.0, units)


def write_run(path: Path, plan: Plan, **study: Any) -> Path:
    """A complete run of such chains, with an encoder whose law is the posterior's mean and twice its variance."""
    path.mkdir(parents=True)
    settings = {
        "description": "Chains of which all is known",
        "seed": plan.seed,
        "circuit": circuit(plan.units),
        "clamp": {"x": "image"},
        "inference": {
            "kernel": {"name": "langevin", "step_size": STEP_SIZE, "temperature": plan.temperature},
            "preconditioner": {"name": "none"},
            "steps": plan.steps,
        },
    } | study
    with (path / "study.yaml").open("w") as handle:
        YAML(typ="safe", pure=True).dump(settings, handle)
    manifest = {"status": "complete", "study": path.name, "device": "cpu", "versions": {"pcsim": "0.1.0"}}
    (path / "manifest.json").write_text(json.dumps(manifest))
    (path / "metrics.jsonl").write_text("")
    layout = layout_of(plan)
    means = image_means(plan)
    with TraceWriter(path / "trace.zarr", layout) as writer:
        writer.put_static(static(plan, means))
        for block in blocks(plan, means):
            writer.put(block)
    return path


def circuit(units: int) -> dict[str, Any]:
    """z over x, both linear and Gaussian."""
    gaussian = {"gaussian": {"precision": 1.0}}
    weight = np.diag(np.sqrt(curvature(units) - 1)).tolist()
    return {
        "nodes": {
            "z": {"shape": [units], "distribution": gaussian},
            "x": {"shape": [units], "distribution": gaussian},
        },
        "edges": [{"from": "z", "to": "x", "layers": [{"linear": {"weight": weight, "bias": False}}]}],
    }


def layout_of(plan: Plan) -> Layout:
    """Energies, gradient norm, values and drift, and the encoder's law."""
    steps = recorded_steps(-plan.spontaneous, plan.steps)
    own = (plan.units,)
    variables = (
        Variable("energy"),
        Variable("gradient_norm"),
        Variable("energy_minimum", every=None, lead=("image",)),
        Variable("step_size", every=None, lead=()),
        Variable("temperature", every=None, lead=()),
        Variable("z/value", own),
        Variable("z/drift", own),
        Variable("z/energy"),
        Variable("encoder/z/mean", own, None, ("image",)),
        Variable("encoder/z/scale", own, None, ("image",)),
    )
    attrs = {
        "circuit": json.dumps(circuit(plan.units)),
        "study": "made",
        "seed": plan.seed,
        "engine": "torch",
        "preconditioner": {"name": "none"},
        "warm_up": 0,
    }
    label = Coord("label", ("image",), np.arange(plan.images) % 2)
    return Layout(variables, plan.images, plan.chains, steps, plan.block, None, (phases(steps), label), attrs)


def image_means(plan: Plan) -> NDArray[np.float64]:
    """Posterior mean of every image, `[image, unit]`; of two classes, by the sign of the first unit."""
    means = np.random.default_rng(plan.seed + 1000).standard_normal((plan.images, plan.units))
    means[:, 0] = np.where(np.arange(plan.images) % 2, 3.0, -3.0)
    return means


def static(plan: Plan, means: NDArray[np.float64]) -> Mapping[str, NDArray[Any]]:
    """What is stored once."""
    scale = np.sqrt(2 / curvature(plan.units))
    return {
        "energy_minimum": np.full(plan.images, FLOOR, np.float32),
        "step_size": np.array(STEP_SIZE, np.float32),
        "temperature": np.array(plan.temperature, np.float32),
        "encoder/z/mean": means.astype(np.float32),
        "encoder/z/scale": np.broadcast_to(scale, means.shape).astype(np.float32),
    }


def blocks(plan: Plan, means: NDArray[np.float64]) -> Iterator[Block]:
    """The chains, block by block: stationary before the stimulus, from the encoder at step 0."""
    rng = np.random.default_rng(plan.seed)
    steps = np.asarray(recorded_steps(-plan.spontaneous, plan.steps))
    centre = np.repeat(means, plan.chains, axis=0)
    evoked = curvature(plan.units)
    noise = np.sqrt(2 * STEP_SIZE * plan.temperature)
    z = rng.standard_normal(centre.shape) / np.sqrt(1 - STEP_SIZE / 2)
    for first in range(0, len(steps), plan.block):
        part = steps[first : first + plan.block]
        value = np.empty((len(part), *z.shape), np.float32)
        drift, energy = np.empty_like(value), np.empty((len(part), len(z)), np.float32)
        for i, step in enumerate(part):
            if step == 0:
                z = centre + rng.standard_normal(z.shape) * np.sqrt(2 / evoked)
            scale, middle = (evoked, centre) if step >= 0 else (np.ones(plan.units), 0.0)
            gradient = scale * (z - middle)
            value[i], drift[i] = z, -gradient
            energy[i] = 0.5 * (gradient * (z - middle)).sum(1) + FLOOR
            z = z - STEP_SIZE * gradient + noise * rng.standard_normal(z.shape)
        norm = np.sqrt((drift.astype(np.float64) ** 2).sum(-1)).astype(np.float32)
        arrays = {
            "energy": energy,
            "gradient_norm": norm,
            "z/value": value,
            "z/drift": drift,
            "z/energy": energy,
        }
        yield Block(first, len(part), arrays)
