"""What does the noise buy, and what the encoder? temperature × start × draws, and the VAE, on mnist5k.

Tuned on validation images with the same number of tries for each cell, then five seeds on test images. Runs that
are complete are not run again. Writes docs/results/factorial.json; docs/results.md discusses it.

    python benchmarks/factorial.py [--workers 2] [--out runs/factorial]
"""

import argparse
import itertools
import json
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

STUDY = Path(__file__).parents[1] / "studies" / "mnist_factorial.yaml"
RESULT = Path(__file__).parents[1] / "docs" / "results" / "factorial.json"
SEEDS = (0, 1, 2, 3, 4)
TUNING_SEED = 100
UPDATES, TUNING_UPDATES, STEPS = 400, 200, 50
EVALUATIONS = STEPS + 1
"""Gradient evaluations of one update of a chain; a VAE spends one."""
TUNING = (
    "evaluation.on=validation",
    "evaluation.log_likelihood.images=100",
    "evaluation.log_likelihood.particles=8",
    "evaluation.log_likelihood.temperatures=100",
    "evaluation.at_updates=[last]",
)
LEARNING_RATES = (3e-3, 1e-2)
DESCENTS = tuple(("none", g) for g in (0.01, 0.03, 0.1, 0.3))
SAMPLERS = (("none", 0.01), ("none", 0.03), ("frozen", 0.1), ("frozen", 0.3))
VAE_SECONDS = (4000, 2000, "[2500, 3200, last]")
"""Updates of the VAE that take about as long as 400 of the fastest chain, so that the equal time lies between marks."""
VAE_RATES = (3e-4, 6e-4, 1e-3, 2e-3, 3e-3, 5e-3, 1e-2, 2e-2)


class Cell(NamedTuple):
    """One cell of the design, and the settings that it is tuned over (eight for each)."""

    name: str
    fixed: tuple[str, ...]
    tries: tuple[tuple[str, ...], ...]
    updates: int = UPDATES
    tuning_updates: int = TUNING_UPDATES
    at_updates: str = "[200, last]"


class Job(NamedTuple):
    """One run."""

    out: Path
    overrides: tuple[str, ...]


def cells() -> list[Cell]:
    """The eight cells of temperature × start × draws, and the VAE at three budgets."""
    found = []
    for temperature, start, draws in itertools.product((0, 1), ("prior", "encoder"), ("final", "all")):
        fixed = [f"inference.kernel.temperature={temperature}", f"inference.start={start}"]
        fixed += [f"learning.draws={draws}"]
        if start == "prior":
            fixed += ["learning.encoder.objective=none"]
        tries = tuple(
            (
                f"inference.kernel.step_size={step_size}",
                f"inference.preconditioner={preconditioner}",
                f"learning.optimizer.step_size={rate}",
            )
            for rate in LEARNING_RATES
            for preconditioner, step_size in (SAMPLERS if temperature else DESCENTS)
        )
        found.append(Cell(f"T{temperature}-{start}-{draws}", tuple(fixed), tries))
    vae = ("learning.learner=elbo",)
    rates = tuple((f"learning.optimizer.step_size={rate}",) for rate in VAE_RATES)
    long = UPDATES * EVALUATIONS
    marks = f"[{UPDATES}, 2000, 7000, last]"
    return [
        *found,
        Cell("vae-equal-updates", vae, rates),
        Cell("vae-equal-seconds", vae, rates, *VAE_SECONDS),
        Cell("vae-equal-evaluations", vae, rates, long, TUNING_UPDATES * EVALUATIONS, marks),
    ]


def tuning_job(cell: Cell, index: int, out: Path) -> Job:
    """One try of a cell on validation images, at half the updates, with a seed of its own."""
    extra = (f"seed={TUNING_SEED}", f"learning.updates={cell.tuning_updates}", *TUNING)
    return Job(out / "tuning" / cell.name / str(index), (*cell.fixed, *cell.tries[index], *extra))


def final_job(cell: Cell, index: int, seed: int, out: Path) -> Job:
    """The chosen try of a cell with one seed, on test images."""
    extra = (f"seed={seed}", f"learning.updates={cell.updates}", f"evaluation.at_updates={cell.at_updates}")
    return Job(
        out / "final" / cell.name / f"try{index}-seed{seed}", (*cell.fixed, *cell.tries[index], *extra)
    )


def work(job: Job) -> tuple[Path, str]:
    """Run one job in this process on one thread; a chain that diverges is a result, and says so."""
    from pcsim.errors import Divergence
    from pcsim.study import run
    from pcsim.study.build import build
    from pcsim.study.directory import RunDirectory
    from pcsim.study.load import load_study
    from pcsim.study.reporter import Silent
    from pcsim.study.stopping import Stopper
    from pcsim.study.training import materials_of

    plan = build(load_study(STUDY, [*job.overrides, "threads=1", "device=cpu"]))
    materials = materials_of(plan)
    directory = RunDirectory(job.out)
    fingerprint = materials.images.fingerprint if materials.images else ""
    if run.is_complete(directory, plan, fingerprint):
        return job.out, "complete"
    try:
        run.run(plan, directory, materials, Silent(), Stopper())
    except Divergence as failure:
        return job.out, f"diverged: {failure}"
    return job.out, "complete"


def run_all(jobs: Sequence[Job], workers: int) -> None:
    """All jobs, some at a time, with a line for each."""
    begin = time.monotonic()
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for done, (path, status) in enumerate(pool.map(work, jobs), 1):
            left = (time.monotonic() - begin) / done * (len(jobs) - done)
            print(f"{done}/{len(jobs)} {path}: {status}; about {left / 60:.0f} min left", flush=True)


def evaluations(out: Path) -> list[dict[str, Any]]:
    """The evaluation rows of a run; none where it diverged."""
    path = out / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    return [row for row in rows if row["kind"] == "evaluation"]


def score(job: Job) -> float:
    """Validation log-likelihood at the end, −∞ for a run that diverged."""
    rows = evaluations(job.out)
    return float(rows[-1]["log_likelihood"]) if rows else -np.inf


def seconds_per_update(chosen: Iterable[tuple[Cell, int]], out: Path) -> dict[str, float]:
    """Median seconds of one update per cell on one thread, the cells interleaved, nothing else running."""
    from pcsim.study.timing import update_timer

    timers = {
        cell.name: update_timer(STUDY, [*cell.fixed, *cell.tries[index], "threads=1", "device=cpu"])
        for cell, index in chosen
    }
    times: dict[str, list[float]] = {name: [] for name in timers}
    for _ in range(25):
        for name, timer in timers.items():
            times[name].append(timer())
    return {name: float(np.median(values)) for name, values in times.items()}


def main() -> None:
    """Tune, run, time, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/factorial"))
    options = parser.parse_args()
    design = cells()
    tuning = {
        cell.name: [tuning_job(cell, i, options.out) for i in range(len(cell.tries))] for cell in design
    }
    run_all([job for jobs in tuning.values() for job in jobs], options.workers)
    scores = {name: [score(job) for job in jobs] for name, jobs in tuning.items()}
    best = {name: int(np.argmax(values)) for name, values in scores.items()}
    final = {c.name: [final_job(c, best[c.name], seed, options.out) for seed in SEEDS] for c in design}
    # seed by seed, so that an interrupted run has whole seeds to show
    run_all([final[c.name][i] for i in range(len(SEEDS)) for c in design], options.workers)
    result = {
        "seconds_per_update": seconds_per_update(((c, best[c.name]) for c in design), options.out),
        "cells": {
            c.name: {
                "chosen": c.tries[best[c.name]],
                "tries": [
                    {"settings": t, "validation_log_likelihood": s if np.isfinite(s) else None}
                    for t, s in zip(c.tries, scores[c.name], strict=True)
                ],
                "seeds": [evaluations(job.out) for job in final[c.name]],
            }
            for c in design
        },
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(f"wrote {RESULT}")


if __name__ == "__main__":
    main()
