"""`report`: one self-contained page about one run, or about several side by side."""

from collections.abc import Sequence
from pathlib import Path

from pcsim.cli.terminal import Bars, err, out


def report_command(paths: Sequence[Path], target: Path | None) -> None:
    """Writes the report and prints where it lies, what it found and what it warns of."""
    from importlib.metadata import version

    from pcsim.figures.run_view import view
    from pcsim.report.write import SECTIONS, write_report

    runs = [view(path) for path in paths]
    place = target or (runs[0].path / "report.html" if len(runs) == 1 else Path("report.html"))
    bars = Bars()
    with bars.task("report", len(SECTIONS)) as tick:
        page = write_report(runs, place, made_by=f"pcsim {version('pcsim')}", tick=tick)
    for line in page.summary:
        out.print(line, markup=False)
    if page.cautions:
        err.print(f"{len(page.cautions)} warnings stand at the top of the page", markup=False)
    out.print(f"{place}", markup=False)
