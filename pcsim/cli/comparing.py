"""`compare` and `figures`: from run directories to tables and pictures. No torch."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pcsim.cli.terminal import err, out
from pcsim.errors import PcsimError

if TYPE_CHECKING:
    from pcsim.figures.run_view import RunView

LONGEST = 150
"""Bytes of a folder's name; file systems take 255."""
COMPARED = ("samples", "reconstructions", "learning_curve", "energy", "trajectories", "gradient_norm")


def compare_command(runs: Sequence[Path], out_dir: Path | None) -> None:
    """Print the tables and draw the side-by-side figures."""
    from pcsim.figures.registry import draw_to
    from pcsim.figures.run_view import view
    from pcsim.study.comparison import compare
    from pcsim.study.comparison_text import tables_text, to_json, to_markdown
    from pcsim.study.directory import write_atomically

    comparison = compare(runs)
    for drawn in tables_text(comparison):
        out.print(drawn)
    views = [view(path) for path in runs]
    folder = out_dir or Path("runs") / "comparisons" / name_of(views)
    write_atomically(folder / "comparison.md", to_markdown(comparison).encode())
    write_atomically(folder / "comparison.json", to_json(comparison).encode())
    for name in COMPARED:
        try:
            draw_to(name, views, folder)
        except PcsimError as failure:
            err.print(f"no figure {name}: {failure}", markup=False)
    out.print(f"tables and figures in {folder}", markup=False)


def name_of(runs: Sequence["RunView"]) -> str:
    """Study and identity of every run, so that each comparison has a folder of its own.

    Where that is too long for a file system, a hash stands for the runs after the first.
    """
    parts = [f"{run.study_name}-{run.manifest.get('identity') or run.path.resolve().name}" for run in runs]
    whole = "+".join(parts)
    if len(whole.encode()) <= LONGEST:
        return whole
    digest = hashlib.sha256(whole.encode()).hexdigest()[:8]
    return f"{parts[0][:LONGEST]}+{len(parts) - 1}-others-{digest}"


def figures_command(path: Path, names: Sequence[str] | None) -> None:
    """Draw the named figures, or those of the study; of the latter, one without its data is left out."""
    from pcsim.figures.registry import FIGURES, draw_to
    from pcsim.figures.run_view import view

    run = view(path)
    for name in names or run.study.get("figures") or FIGURES:
        try:
            files = draw_to(name, [run], path / "figures")
        except PcsimError as failure:
            if names:
                raise
            err.print(f"no figure {name}: {failure}", markup=False)
            continue
        for file in files:
            if file.suffix == ".png":
                out.print(str(file), markup=False)
