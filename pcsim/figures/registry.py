"""The figures by the names that studies use. To add one: a function `name(runs, ...) -> Figure`, and a line here."""

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from pcsim.errors import pick
from pcsim.figures.chains import energy, gradient_norm
from pcsim.figures.learning_curve import learning_curve
from pcsim.figures.pictures import reconstructions, samples
from pcsim.figures.receptive_fields import end_stopping, receptive_fields
from pcsim.figures.run_view import RunView
from pcsim.figures.style import house_style, save
from pcsim.figures.trajectories import trajectories

FIGURES: dict[str, Callable[[Sequence[RunView]], Figure]] = {
    "samples": samples,
    "reconstructions": reconstructions,
    "energy": energy,
    "gradient_norm": gradient_norm,
    "trajectories": trajectories,
    "learning_curve": learning_curve,
    "receptive_fields": receptive_fields,
    "end_stopping": end_stopping,
}


def draw(name: str, runs: Sequence[RunView]) -> Figure:
    """The figure of that name in the house style.

    Raises `StudyError` for an unknown name and `RunError` where a run lacks what the figure shows.
    """
    figure = pick(FIGURES, name, "figure")
    with house_style():
        drawn = figure(runs)
        drawn.draw_without_rendering()  # a second layout pass: pictures of fixed shape settle only then
        return drawn


def draw_to(name: str, runs: Sequence[RunView], folder: Path) -> tuple[Path, ...]:
    """Draws and saves `folder/name` as .pdf, .svg and .png; returns the paths."""
    return save(draw(name, runs), folder / name)
