"""A study from Python, as `pcsim run` runs it: what notebooks use for traces that take longer than a cell."""

from pathlib import Path

from pcsim.study import run as running
from pcsim.study.build import build
from pcsim.study.drawing import check_figures, draw_figures, missing_figures
from pcsim.study.load import load_study
from pcsim.study.milestones import milestones_of
from pcsim.study.reporter import Reporter, Silent
from pcsim.study.run_handle import Run, open_run
from pcsim.study.stopping import Stopper
from pcsim.study.training import materials_of


def run(
    study: str | Path,
    *overrides: str,
    out: str | Path | None = None,
    fresh: bool = False,
    reporter: Reporter | None = None,
) -> Run:
    """Run a study file with `key.path=value` overrides to its end and open what it left.

    As `pcsim run`: a complete run is not recomputed, a stopped one goes on where it was (Ctrl-C loses no more than the
    work since the last checkpoint), `fresh` starts anew. out: the run's directory; default `runs/<study>/<hash>` below
    the working directory. Silent unless a reporter is given. Raises `StudyError`, `DataError`, `RunError` and
    `Divergence`.
    """
    speak = reporter or Silent()
    plan = build(load_study(Path(study), overrides))
    milestones_of(plan)
    check_figures(plan)
    materials = materials_of(plan)
    fingerprint = materials.images.fingerprint if materials.images else ""
    run_to = running.run_directory(plan, fingerprint, None if out is None else Path(out))
    if fresh:
        running.fresh(run_to)
    if running.is_complete(run_to, plan, fingerprint):
        draw_figures(plan, run_to, speak, missing_figures(plan, run_to))
    else:
        running.run(plan, run_to, materials, speak, Stopper())
        draw_figures(plan, run_to, speak, plan.study.figures)
    return open_run(run_to.path)
