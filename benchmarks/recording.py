"""(c) What recording every step costs in wall-clock, on the hierarchy and on the 64-pixel model.

The same chain (Langevin for the images, vanilla steps for the hierarchy, guard included) runs alone, and with
`Watch` → `BlockBuffer` → `TraceWriter` as a recording pass does it, into a fresh trace on disk; creating and
closing the trace count.
"""

import shutil
import tempfile
from pathlib import Path

import torch
from common import ROOT, Race, arguments, faces, interleave, ratio, report, shown

from pcsim.circuit.read import load_circuit
from pcsim.inference.chain import run_chain
from pcsim.inference.rng import seed_stream
from pcsim.record import Layout, TraceWriter, Variable, block_size
from pcsim.record.buffer import BlockBuffer
from pcsim.study.bench import BATCH, Case, hierarchy, images_64
from pcsim.study.recording import Watch

HIERARCHY_STEPS = 300


def layout(case: Case, paths: dict[str, tuple[int, ...]], steps: int) -> Layout:
    """Those variables at every step of a chain, float32, uncompressed."""
    variables = tuple(Variable(path, shape) for path, shape in paths.items())
    numbers = range(1, steps + 1)
    return Layout(variables, case.target.rows, 1, numbers, block_size(variables, case.target.rows, numbers))


def recorded(case: Case, plan: Layout, folder: Path) -> None:
    """The chain with its recording."""
    where = folder / "trace.zarr"
    shutil.rmtree(where, ignore_errors=True)
    chain, shown_rng = seed_stream(0, "bench"), seed_stream(1, "bench")
    with TraceWriter(where, plan) as writer, BlockBuffer(writer) as buffer:
        watch = Watch(case.target, buffer, plan, shown_rng)
        run_chain(case.kernel, case.target, chain, case.start, len(plan.steps), watch)


def alone(case: Case, steps: int) -> None:
    """The same chain, watched by nobody."""
    run_chain(case.kernel, case.target, seed_stream(0, "bench"), case.start, steps)


@torch.no_grad()
def compare(case: Case, plans: dict[str, Layout], steps: int, repetitions: int, patience: float) -> Race:
    """The chain alone, twice (their ratio is the noise of the measurement), and with each recording."""
    with tempfile.TemporaryDirectory() as folder:
        works = {"alone": lambda: alone(case, steps), "alone again": lambda: alone(case, steps)}
        works |= {name: lambda p=plan: recorded(case, p, Path(folder)) for name, plan in plans.items()}
        return interleave(works, repetitions, steps, patience)


def main() -> None:
    """Both circuits; a recording's ratio to the chain alone is 1 + the share of wall-clock that it costs."""
    given = arguments(__doc__.splitlines()[0], repetitions=15, image_steps=40)
    small = hierarchy("cpu", 0.0)
    units = {"z0/value": (40,), "z1/value": (256,), "z2/value": (256,)}
    plans = {
        "40 latents": layout(small, {"z0/value": (40,)}, HIERARCHY_STEPS),
        "552 units": layout(small, units, HIERARCHY_STEPS),
    }
    races = {"hierarchy": compare(small, plans, HIERARCHY_STEPS, given.repetitions, given.patience)}
    large = images_64(faces(BATCH)[0], load_circuit(ROOT / "circuits" / "lpc_conv_64.yaml"))
    large = large._replace(target=large.target.learning(True))
    plans = {
        "40 latents": layout(large, {"z/value": (40,)}, given.image_steps),
        "pixel errors": layout(large, {"x/error": (3, 64, 64)}, given.image_steps),
    }
    repetitions = max(3, given.repetitions // 3)
    races["64-pixel model"] = compare(large, plans, given.image_steps, repetitions, given.patience)
    targets = {
        "hierarchy: 40 latents": 1.2,
        "hierarchy: 552 units": 1.6,
        "64-pixel model: 40 latents": 1.02,
    }
    rows, kept = {}, {}
    for circuit, race in races.items():
        rows[f"{circuit}: repetitions"] = race.conditions
        rows |= {
            f"{circuit}: {name}, ms per step": f"{t.milliseconds():.3f}" for name, t in race.times.items()
        }
        for name, timing in race.times.items():
            if name != "alone":
                value = ratio(timing, race.times["alone"])
                rows[f"{circuit}: {name} / alone"] = shown(value, targets.get(f"{circuit}: {name}"))
        kept[circuit] = {name: t.seconds for name, t in race.times.items()}
    report("recording", rows, given, seconds=kept)


if __name__ == "__main__":
    main()
