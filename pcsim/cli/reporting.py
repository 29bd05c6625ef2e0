"""`report`: one self-contained page about one run, or about several side by side."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pcsim.cli.terminal import Bars, err, out

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pcsim.figures.run_view import RunView


def report_command(paths: Sequence[Path], target: Path | None) -> None:
    """Writes the report and prints where it lies, what it found and what it warns of."""
    from importlib.metadata import version

    from pcsim.figures.run_view import view
    from pcsim.report.write import SECTIONS, write_report

    runs = [view(path) for path in paths]
    place = target or (runs[0].path / "report.html" if len(runs) == 1 else Path("report.html"))
    bars = Bars()
    with bars.task("report", len(SECTIONS)) as tick:
        page = write_report(
            runs, place, circuits=circuits_of(runs), made_by=f"pcsim {version('pcsim')}", tick=tick
        )
    for question, answer in page.summary:
        out.print(f"{question} {answer}", markup=False)
    if page.warned:
        count = len(page.warned)
        words = "warning stands" if count == 1 else "warnings stand"
        err.print(f"{count} {words} at the top of the page", markup=False)
    out.print(f"{place}", markup=False)


def circuits_of(runs: "Sequence[RunView]") -> "list[tuple[str, Figure]]":
    """(caption, picture) of every circuit among the runs, with what their studies hold; equal ones once."""
    from pcsim.circuit.drawing import drawing
    from pcsim.circuit.read import load_circuit
    from pcsim.figures import circuit as picture
    from pcsim.figures.style import house_style

    seen: dict[str, tuple[RunView, list[str]]] = {}
    for run in runs:
        given = run.study.get("circuit")
        if isinstance(given, dict):
            key = json.dumps([given, sorted(run.study.get("clamp") or {})], sort_keys=True, default=str)
            seen.setdefault(key, (run, []))[1].append(run.study_name)
    figures = []
    for run, names in seen.values():
        circuit = load_circuit(run.study["circuit"])
        with house_style():
            drawn = picture.circuit(drawing(circuit, _held(run)), "", circuit.description)
        figures.append((f"The circuit of {' and '.join(dict.fromkeys(names))}.", drawn))
    return figures


def _held(run: "RunView") -> dict[str, str]:
    """What the study holds, in words."""
    masked = run.study.get("mask") or {}
    held = {}
    for name, value in (run.study.get("clamp") or {}).items():
        at = f" at {value}" if isinstance(value, str | int | float) else ""
        held[name] = ("partly clamped" if name in masked else "clamped") + at
    return held
