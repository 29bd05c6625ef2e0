"""`run` and `infer`: from files to work."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pcsim.cli.results import show_results
from pcsim.cli.terminal import Bars, out, table
from pcsim.errors import RunError, StudyError
from pcsim.study.load import load_study
from pcsim.study.reporter import readable

if TYPE_CHECKING:
    from pcsim.study.build import Plan
    from pcsim.study.directory import RunDirectory
    from pcsim.study.training import Materials


def run_command(
    study: Path,
    overrides: Sequence[str],
    out_dir: Path | None,
    *,
    fresh: bool,
    dry_run: bool,
    max_time: str | None,
) -> None:
    """Run a study, or say that it is complete, or show what would run."""
    loaded = load_study(study, overrides)
    seconds = None if max_time is None else duration(max_time)
    from pcsim.study import run
    from pcsim.study.build import build, where
    from pcsim.study.drawing import check_figures, draw_figures, missing_figures
    from pcsim.study.milestones import milestones_of
    from pcsim.study.training import materials_of

    plan = build(loaded)
    milestones_of(plan)
    check_figures(plan)
    materials = materials_of(plan)
    fingerprint = materials.images.fingerprint if materials.images else ""
    run_to = run.run_directory(plan, fingerprint, out_dir)
    if dry_run:
        show_plan(plan, materials, run_to)
        return
    bars = Bars()
    if fresh:
        run.fresh(run_to)
    if run.is_complete(run_to, plan, fingerprint):
        out.print(f"{where(run_to.path)}: complete already; --fresh runs it again", markup=False)
        draw_figures(plan, run_to, bars, missing_figures(plan, run_to))
        return
    _carry_out(plan, run_to, materials, bars, seconds)
    out.print(f"{where(run_to.path)}: complete", markup=False)
    show_results(run_to, plan.study)


def _carry_out(
    plan: "Plan", run_to: "RunDirectory", materials: "Materials", bars: Bars, seconds: float | None
) -> None:
    """Run and draw; a stop, after so many seconds or by a signal, ends the process with its exit code."""
    from pcsim.study import directory, run
    from pcsim.study.advice import warnings_of
    from pcsim.study.build import where
    from pcsim.study.drawing import draw_figures
    from pcsim.study.stopping import EXIT, Stopped, Stopper, listening

    for warning in warnings_of(plan, materials):
        bars.say(f"warning: {warning}")
    progress = directory.read_manifest(run_to).get("status")
    bars.say(f"{where(run_to.path)}: {'going on' if progress else 'starting'} on {plan.device}")
    stopper = Stopper(seconds)
    try:
        with listening(stopper):
            run.run(plan, run_to, materials, bars, stopper)
            draw_figures(plan, run_to, bars, plan.study.figures)
    except Stopped as stop:
        bars.say(f"stopped ({stop.reason}); the same command goes on from here")
        raise SystemExit(EXIT[stop.reason]) from None


def duration(text: str) -> float:
    """`90`, `3600s`, `50m`, `2h` or `2h30m` in seconds.

    >>> duration("2h30m")
    9000.0
    """
    parts = re.fullmatch(r"\s*(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?\s*", text)
    if parts is None or not any(parts.groups()):
        raise StudyError(f"--max-time {text!r}: expected a time such as 3600s, 50m or 2h30m")
    hours, minutes, seconds = (int(p or 0) for p in parts.groups())
    return 3600.0 * hours + 60.0 * minutes + seconds


def show_plan(plan: "Plan", materials: "Materials", run_to: "RunDirectory") -> None:
    """The resolved study: shapes, parameters, memory and the size of the trace."""
    from pcsim.record import block_bytes, trace_bytes
    from pcsim.study import run
    from pcsim.study.advice import warnings_of
    from pcsim.study.build import where
    from pcsim.study.recorded import session_of
    from pcsim.study.training import initial_parameters

    params = initial_parameters(plan)
    out.print(run.resolved(plan).decode(), markup=False)
    rows = []
    for name, node in plan.circuit.nodes.items():
        before = plan.circuit.past.get(name)
        held = "held at " + str(plan.study.clamp[name])[:20] if name in plan.study.clamp else "free"
        held = held if before is None else f"held at {before}, one frame before"
        rows.append([name, "x".join(map(str, node.shape)), type(node.distribution).__name__, held])
    table("nodes", ["name", "shape", "distribution", ""], rows)
    counts = {
        "generative": sum(params[n].numel() for n in plan.program.learned),
        "encoder": sum(params[n].numel() for n in plan.program.encoder_learned),
    }
    size = sum(p.numel() * p.element_size() for p in params.values())
    rows = [[f"{what} parameters that learn", f"{n:,}"] for what, n in counts.items()]
    # weights, their gradient, two moments of the optimiser
    rows.append(["weights, gradients and optimiser", readable(4 * size)])
    if materials.split is not None:
        rows.append(
            ["training images", f"{len(materials.split.train):,} ({readable(materials.split.train.nbytes)})"]
        )
    if plan.study.record is not None:
        _, layout = session_of(plan, materials, params)
        rows.append(["trace on disk", readable(sum(trace_bytes(layout).values()))])
        rows.append(["recording in memory", readable(3 * block_bytes(layout))])
    rows += [["device, dtype", f"{plan.device}, {str(plan.dtype).removeprefix('torch.')}"],
             ["run directory", where(run_to.path)]]  # fmt: skip
    table("estimates", ["what", ""], rows)
    for warning in warnings_of(plan, materials):
        out.print(f"warning: {warning}", markup=False)


def infer_command(
    run_dir: Path, images: Path, out_dir: Path | None, *, steps: int | None, chains: int, fresh: bool
) -> None:
    """Record a trained run on a folder of one's own images."""
    from pcsim.api import open as open_run
    from pcsim.study.build import where

    if not images.is_dir():
        raise RunError(f"--images {images}: no such folder")
    target = out_dir or run_dir / "inferred" / images.resolve().name
    run = open_run(run_dir)
    names = run.infer_folder(images, target, steps=steps, chains=chains, reporter=Bars(), fresh=fresh)
    out.print(f"{len(names)} images: trace in {where(target / 'trace.zarr')}", markup=False)
