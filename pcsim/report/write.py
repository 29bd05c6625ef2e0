"""The report of some runs: sections in the order in which a reader asks, written as one file."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from pcsim.errors import RunError
from pcsim.figures.run_view import RunView
from pcsim.figures.style import house_style
from pcsim.report import dynamics, fast_slow, overview, sampling
from pcsim.report.page import Page, Picture, Section, picture, render
from pcsim.report.subject import Missing, Subject, subjects

SECTIONS: dict[str, Callable[[Sequence[Subject]], Section]] = {
    "what": overview.what,
    "learned": overview.learned,
    "equilibrium": sampling.equilibrium,
    "principled": sampling.principled,
    "sweep_and_chain": fast_slow.sweep_and_chain,
    "decoded": fast_slow.decoded,
    "pictured": fast_slow.pictured,
    "in_time": dynamics.in_time,
    "variability": dynamics.variability,
}
"""In the order of the page. To add one: a function `name(runs) -> Section`, and a line here."""


def write_report(
    runs: Sequence[RunView], target: Path, *, circuits: Sequence[tuple[str, Figure]] = (), made_by: str = "",
    tick: Callable[[int], None] = lambda amount: None,
) -> Page:  # fmt: skip
    """Writes `target`, one self-contained page about the runs, and returns it; whole or not at all.

    `circuits`: (caption, figure) of the circuits, shown with what was run. A section whose runs lack what it needs is
    named, with the reason, at the end. Raises `RunError` without runs or where the page cannot be written.
    """
    if not runs:
        raise RunError("a report needs at least one run")
    page = page_of(subjects(runs), target, circuits, made_by, tick)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    partial.write_text(render(page), encoding="utf-8")
    os.replace(partial, target)
    return page


def page_of(
    runs: Sequence[Subject], target: Path, circuits: Sequence[tuple[str, Figure]], made_by: str,
    tick: Callable[[int], None] = lambda amount: None,
) -> Page:  # fmt: skip
    """The page as records."""
    made: list[Section] = []
    absent: list[tuple[str, str]] = []
    for name, section in SECTIONS.items():
        try:
            with house_style():
                made.append(section(runs))
        except Missing as reason:
            absent.append((name, str(reason)))
        tick(1)
    drawn = tuple(picture(figure, caption, wide=True) for caption, figure in circuits)
    made[0] = _with_pictures(made[0], drawn)
    if absent:
        made.append(_absent(absent))
    names = " and ".join(dict.fromkeys(s.run.study_name for s in runs))
    answers = tuple(f"{s.question} {s.answer}" for s in made if s.answer)
    return Page(f"pcsim: {names}", answers, tuple(made), _links(runs, target), made_by)


def _with_pictures(section: Section, drawn: tuple[Picture, ...]) -> Section:
    return section._replace(pictures=section.pictures + drawn)


def _absent(absent: Sequence[tuple[str, str]]) -> Section:
    lines = "\n".join(f"{name.replace('_', ' ')}: {reason}" for name, reason in absent)
    return Section("What could not be asked of these runs?", "", details=(("Reasons", lines),))


def _links(runs: Sequence[Subject], target: Path) -> tuple[tuple[str, str], ...]:
    """Relative links to what lies beside the page."""
    links = []
    for run in runs:
        for what, path in (("trace", "trace.zarr"), ("study", "study.yaml"), ("figures", "figures")):
            full = run.run.path / path
            if full.exists():
                relative = Path(os.path.relpath(full.resolve(), target.resolve().parent)).as_posix()
                links.append((f"{what} of {run.label}", relative))
    return tuple(links)
