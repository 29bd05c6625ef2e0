"""The report of some runs: sections in the order in which a reader asks, written as one file."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from pcsim.errors import AnalysisError, RunError
from pcsim.figures.run_view import RunView
from pcsim.figures.style import house_style
from pcsim.report import content, contrast, dynamics, fast_slow, noise, overview, sampling
from pcsim.report.page import Page, Section, picture, render
from pcsim.report.subject import Missing, Subject, subjects

SECTIONS: dict[str, Callable[[Sequence[Subject]], Section]] = {
    "What was run?": overview.what,
    "What did it learn?": overview.learned,
    "What does the noise change?": contrast.contrast,
    "Did the chains reach equilibrium?": sampling.equilibrium,
    "Is the noise principled sampling?": noise.principled,
    "What does the start do, and what is left to the chain?": fast_slow.sweep_and_chain,
    "When is the content there to be read?": content.decoded,
    "What does the path look like?": content.pictured,
    "How fast is the activity?": dynamics.in_time,
    "What does a stimulus do to variability?": dynamics.variability,
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
    absent: list[str] = []
    for name, section in SECTIONS.items():
        try:
            with house_style():
                made.append(section(runs))
        except (Missing, AnalysisError) as reason:
            absent.append(f"{name} {reason}")
        tick(1)
    drawn = tuple(picture(figure, caption) for caption, figure in circuits)
    made[0] = made[0]._replace(pictures=made[0].pictures + drawn)
    if absent:
        made.append(Section("What could not be asked of these runs?", "", notes=tuple(absent)))
    names = " and ".join(dict.fromkeys(s.run.study_name for s in runs))
    answers = tuple((s.question, s.answer) for s in made if s.answer)
    return Page(f"pcsim: {names}", answers, tuple(made), _links(runs, target), made_by)


def _links(runs: Sequence[Subject], target: Path) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    """Of every run, relative links to what lies beside the page."""
    links = []
    for run in runs:
        places = [("trace", "trace.zarr"), ("study", "study.yaml"), ("figures", "figures")]
        here = [(what, run.run.path / path) for what, path in places if (run.run.path / path).exists()]
        start = target.resolve().parent
        relative = [(what, Path(os.path.relpath(path.resolve(), start)).as_posix()) for what, path in here]
        links.append((run.label, tuple(relative)))
    return tuple(links)
