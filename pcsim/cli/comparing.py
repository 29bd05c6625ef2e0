"""`compare` and `figures`: from run directories to tables and pictures. No torch."""

from collections.abc import Sequence
from pathlib import Path

from pcsim.cli.terminal import err, out
from pcsim.errors import PcsimError

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
    folder = out_dir or Path("runs") / "comparisons" / "-".join(p.resolve().parent.name for p in runs)
    write_atomically(folder / "comparison.md", to_markdown(comparison).encode())
    write_atomically(folder / "comparison.json", to_json(comparison).encode())
    views = [view(path) for path in runs]
    for name in COMPARED:
        try:
            draw_to(name, views, folder)
        except PcsimError as failure:
            err.print(f"no figure {name}: {failure}", markup=False)
    out.print(f"tables and figures in {folder}", markup=False)


def figures_command(path: Path, names: Sequence[str] | None) -> None:
    """Draw the named figures, or those of the study."""
    from pcsim.figures.registry import FIGURES, draw_to
    from pcsim.figures.run_view import view

    run = view(path)
    for name in names or run.study.get("figures") or FIGURES:
        for file in draw_to(name, [run], path / "figures"):
            if file.suffix == ".png":
                out.print(str(file), markup=False)
