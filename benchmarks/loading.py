"""(e) Does the training loop wait for data? Share of time between asking for a batch and having its values.

`study.stimuli.batches` as the training loop uses it, with the images on the device (uint8) and memory-mapped
from a synthetic packed file (written first, removed at the end), under Langevin learning of the 64-pixel model.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from common import ROOT, arguments, report
from numpy.lib.format import open_memmap

from pcsim.circuit.graph import Circuit
from pcsim.circuit.read import load_circuit
from pcsim.datasets import Part
from pcsim.engines.torch.program import Program
from pcsim.inference.kernels import langevin
from pcsim.inference.rng import seed_stream
from pcsim.learning.draws import Draws
from pcsim.learning.learner import Batch, Method, learn_batch, make_learner
from pcsim.study.bench import BATCH, smooth_images
from pcsim.study.stimuli import Clamping, Order, Stimuli, batches, place

CPU = torch.device("cpu")


def write(path: Path, n: int) -> None:
    """A packed file of n images, in which every thousand repeats with another brightness."""
    block = smooth_images(1000).numpy()
    packed = open_memmap(path, mode="w+", dtype=np.uint8, shape=(n, 3, 64, 64))
    for start in range(0, n, len(block)):
        packed[start : start + len(block)] = (block + start // len(block))[: n - start]
    packed.flush()


def shares(circuit: Circuit, stimuli: Stimuli, steps: int, updates: int) -> tuple[float, float]:
    """(seconds waited, seconds in all) over `updates` updates, the first one left out."""
    program = Program(circuit)
    params = program.initial_parameters(torch.Generator().manual_seed(0), torch.float32)

    def adam(moving: list[torch.Tensor]) -> torch.optim.Optimizer:
        return torch.optim.Adam(moving, 1e-3)

    learner = make_learner(program, params, adam, adam)
    method = Method(langevin(1e-4), steps, "prior", Draws(), "jeffreys")
    clamping = Clamping(circuit.nodes, {"x": "image"}, {}, None, CPU, torch.float32)
    order = Order(len(stimuli.part), BATCH, 0)
    source = batches(clamping, stimuli, order, 0, updates + 1)
    waited, begin = 0.0, 0.0
    for number in range(updates + 1):
        asked = time.perf_counter()
        begin = asked if number == 1 else begin
        update, rows, values = next(source)
        waited += time.perf_counter() - asked if number else 0.0
        batch = Batch(values, {}, torch.from_numpy(rows))
        learn_batch(learner, method, batch, seed_stream(0, "bench", update), update)
    return waited, time.perf_counter() - begin


def main() -> None:
    """Resident and memory-mapped, at the paper's kind of chain and at the shortest useful one."""
    given = arguments(__doc__.splitlines()[0], images=100_000, updates=8)
    circuit = load_circuit(ROOT / "circuits" / "lpc_conv_64.yaml")
    rows, kept = {"packed file": f"{given.images:,} images, {given.images * 12288 / 1e9:.2f} GB"}, {}
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = Path(folder) / "train.npy"
        write(path, given.images)
        part = Part(np.load(path, mmap_mode="r"), np.arange(given.images), None)
        few = Part(part.source, np.arange(20_000), None)
        placed = {"resident": place(few, CPU), "memory-mapped": Stimuli(part, None, CPU)}
        for name, stimuli in placed.items():
            for steps in (10, 1):
                waited, total = shares(circuit, stimuli, steps, given.updates)
                rows[f"{name}, {steps} steps per update: share of time waiting"] = f"{waited / total:.2%}"
                kept[f"{name}, {steps}"] = {"waited": waited, "total": total, "updates": given.updates}
    report("loading", rows, given, seconds=kept)


if __name__ == "__main__":
    main()
