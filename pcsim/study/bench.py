"""The two circuits on which speed is measured, and how: used by `pcsim bench` and by the scripts in benchmarks/."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pcsim.circuit.graph import Circuit
from pcsim.circuit.read import load_circuit
from pcsim.engines.torch.program import Params, Program
from pcsim.engines.torch.target import CircuitTarget, Clamp
from pcsim.inference.chain import run_chain
from pcsim.inference.kernels import langevin
from pcsim.inference.rng import seed_stream
from pcsim.inference.types import Kernel, Tree
from pcsim.learning.draws import Draws, expectation

BATCH = 64
WARM_UP = 2

UNIT: Mapping[str, Any] = {"gaussian": {"precision": 1.0}}
HIERARCHY: Mapping[str, Any] = {
    "description": "The 40-256-256-784 hierarchy with tanh edges and unit precisions on which packages are compared",
    "nodes": {
        "z0": {"shape": [40], "distribution": UNIT},
        "z1": {"shape": [256], "distribution": UNIT},
        "z2": {"shape": [256], "distribution": UNIT},
        "x": {"shape": [784], "distribution": UNIT},
    },
    "edges": [
        {"from": "z0", "to": "z1", "layers": ["tanh", {"linear": 256}]},
        {"from": "z1", "to": "z2", "layers": ["tanh", {"linear": 256}]},
        {"from": "z2", "to": "x", "layers": ["tanh", {"linear": 784}]},
    ],
}


def _doubled(channels: int) -> dict[str, Any]:
    return {"conv_transpose": {"channels": channels, "kernel": 4, "stride": 2, "padding": 1}}


IMAGES_64: Mapping[str, Any] = {
    "description": "The generative model of circuits/lpc_conv_64.yaml, which an installed package does not bring along",
    "nodes": {
        "z": {"shape": [40], "distribution": UNIT},
        "x": {"shape": [3, 64, 64], "distribution": "discretised_gaussian", "learn": ["scale"]},
    },
    "edges": [
        {
            "from": "z",
            "to": "x",
            "layers": [
                {"linear": 256}, "silu", {"reshape": [256, 1, 1]},
                {"conv_transpose": {"channels": 64, "kernel": 4}}, "silu", _doubled(64), "silu",
                _doubled(32), "silu", _doubled(32), "silu", _doubled(3),
            ],
        }
    ],
}  # fmt: skip


class Case(NamedTuple):
    """A posterior with a kernel and a start: something whose steps can be timed."""

    program: Program
    params: Params
    target: CircuitTarget
    kernel: Kernel
    start: Tree


def case(circuit: Circuit, observed: Mapping[str, Tensor], kernel: Kernel) -> Case:
    """The posterior of `observed` (`[image, *shape]`, whose device and dtype it takes) under seeded weights."""
    like = next(iter(observed.values()))
    program = Program(circuit)
    params = program.initial_parameters(torch.Generator().manual_seed(0), like.dtype, like.device)
    target = CircuitTarget(program.bind(params), Clamp(observed), len(like))
    rng = seed_stream(0, "bench", "start", device=like.device)
    shapes = {name: (len(like), *circuit.nodes[name].shape) for name in target.free}
    start = {name: 0.1 * rng.normal(like.new_empty(shape)) for name, shape in shapes.items()}
    return Case(program, params, target, kernel, start)


def hierarchy(device: torch.device | str, temperature: float = 1.0, rows: int = BATCH) -> Case:
    """`HIERARCHY` with x clamped to uniform noise, float32, step size .05, no preconditioner."""
    circuit = load_circuit(HIERARCHY)
    x = seed_stream(0, "bench", "x").uniform(torch.empty(rows, 784)).to(device)
    return case(circuit, {"x": x}, langevin(0.05, temperature))


def images_64(pixels: Tensor, circuit: Circuit | None = None) -> Case:
    """The 64-pixel model with its x clamped to uint8 `pixels` `[image, 3, 64, 64]`, float32, Langevin."""
    x = pixels.to(torch.float32).mul_(2 / 255).sub_(1)
    return case(load_circuit(IMAGES_64) if circuit is None else circuit, {"x": x}, langevin(1e-4))


def smooth_images(n: int, size: int = 64, seed: int = 0) -> Tensor:
    """Synthetic colour images, uint8 `[n, 3, size, size]`: coarse noise blown up, a few % of it at 0 and 255."""
    coarse = seed_stream(seed, "bench", "images").normal(torch.empty(n, 3, 8, 8))
    smooth = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=False)
    return smooth.mul_(80).add_(128).clamp_(0, 255).round_().to(torch.uint8)


def run_steps(bench: Case, steps: int) -> None:
    """Inference alone: a chain with its guard, as a recording pass or a reader's call runs it."""
    device = next(iter(bench.start.values())).device
    run_chain(bench.kernel, bench.target, seed_stream(0, "bench", device=device), bench.start, steps)


def learn_steps(bench: Case, steps: int) -> None:
    """Inference with the parameter gradient of every draw, as the learner runs it on one batch."""
    rng = seed_stream(0, "bench", device=next(iter(bench.start.values())).device)
    with torch.no_grad():
        expectation(bench.kernel, bench.target, rng, bench.start, steps, Draws(), moments=False)


def seconds(work: Callable[[], None], device: torch.device | str, repetitions: int) -> float:
    """Median wall-clock of one call of `work`, after two calls that are not counted."""
    found = []
    for repetition in range(repetitions + WARM_UP):
        _wait(device)
        begin = time.perf_counter()
        work()
        _wait(device)
        if repetition >= WARM_UP:
            found.append(time.perf_counter() - begin)
    return statistics.median(found)


def _wait(device: torch.device | str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


class Speed(NamedTuple):
    """One line of `pcsim bench`."""

    what: str
    milliseconds: float
    """Per step of the whole batch."""
    images: float
    """Images · steps per second."""


def speeds(device: torch.device | str, tick: Callable[[int], None], repetitions: int = 5) -> list[Speed]:
    """A step of the 64-pixel model with its parameter gradient, and of the hierarchy; about 20 s on two cores."""
    image, vanilla = images_64(smooth_images(BATCH).to(device)), hierarchy(device, 0.0)
    noisy = vanilla._replace(kernel=langevin(0.05))
    works: list[tuple[str, Callable[[], None], int]] = [
        ("64-pixel model, Langevin step with parameter gradient", lambda: learn_steps(image, 10), 10),
        ("64-pixel model, Langevin step", lambda: run_steps(image, 10), 10),
        ("40-256-256-784 hierarchy, vanilla PC step", lambda: run_steps(vanilla, 300), 300),
        ("40-256-256-784 hierarchy, Langevin step", lambda: run_steps(noisy, 300), 300),
    ]
    result = []
    for what, work, steps in works:
        step = seconds(work, device, repetitions) / steps
        result.append(Speed(what, 1e3 * step, BATCH / step))
        tick(1)
    return result
