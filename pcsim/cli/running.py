"""`run`, `check` and `infer`: from files to work."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pcsim.cli.terminal import Bars, out, table
from pcsim.errors import CircuitError, RunError, StudyError
from pcsim.study.load import load_study

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
    from pcsim.study import directory, run
    from pcsim.study.advice import warnings_of
    from pcsim.study.build import build, where
    from pcsim.study.drawing import check_figures, draw_figures
    from pcsim.study.milestones import milestones_of
    from pcsim.study.stopping import EXIT, Stopped, Stopper, listening
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
    if fresh:
        run.fresh(run_to)
    if run.is_complete(run_to, plan, fingerprint):
        out.print(f"{where(run_to.path)}: complete already; --fresh runs it again", markup=False)
        return
    bars = Bars()
    for warning in warnings_of(plan, materials):
        bars.say(f"warning: {warning}")
    progress = directory.read_manifest(run_to).get("status")
    bars.say(f"{where(run_to.path)}: {'going on' if progress else 'starting'} on {plan.device}")
    stopper = Stopper(seconds)
    try:
        with listening(stopper):
            run.run(plan, run_to, materials, bars, stopper)
            draw_figures(plan, run_to, bars)
    except Stopped as stop:
        bars.say(f"stopped ({stop.reason}); the same command goes on from here")
        raise SystemExit(EXIT[stop.reason]) from None
    out.print(f"{where(run_to.path)}: complete", markup=False)
    _show_results(run_to)


def _show_results(run_to: "RunDirectory") -> None:
    from pcsim.study.directory import read_metrics

    rows = [row for row in read_metrics(run_to.metrics) if row["kind"] == "evaluation"]
    if rows:
        last = rows[-1]
        skip = ("kind", "update", "seconds", "gradient_evaluations")
        shown = [
            [name, f"{value:.4g}"]
            for name, value in last.items()
            if name not in skip and not name.endswith("_standard_error")
        ]
        table(f"held-out images, update {last['update']}", ["measure", "mean"], shown)


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
        held = "held at " + str(plan.study.clamp[name])[:20] if name in plan.study.clamp else "free"
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


def readable(size: float) -> str:
    """Bytes as a reader likes them.

    >>> readable(1536)
    '1.5 KiB'
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def check_command(path: Path) -> str:
    """One word of praise; whatever is wrong is raised."""
    from pcsim.circuit.read import load_circuit
    from pcsim.circuit.source import read_yaml
    from pcsim.study.build import build
    from pcsim.study.drawing import check_figures
    from pcsim.study.milestones import milestones_of

    if path.is_file() and "nodes" in read_yaml(path, CircuitError).data:
        circuit = load_circuit(path)
        return f"a circuit of {len(circuit.nodes)} nodes and {len(circuit.edges)} edges, without mistakes"
    plan = build(load_study(path))
    milestones_of(plan)
    check_figures(plan)
    return f"a study of {len(plan.circuit.nodes)} nodes, without mistakes"


def infer_command(
    run_dir: Path, images: Path, out_dir: Path | None, steps: int | None, chains: int, bars: Bars
) -> None:
    """Record a trained run on a folder of one's own images."""
    from pcsim.api import open as open_run
    from pcsim.study.build import where

    if not images.is_dir():
        raise RunError(f"--images {images}: no such folder")
    target = out_dir or run_dir / "inferred" / images.resolve().name
    names = open_run(run_dir).infer_folder(images, target, steps=steps, chains=chains, reporter=bars)
    out.print(f"{len(names)} images: trace in {where(target / 'trace.zarr')}", markup=False)
