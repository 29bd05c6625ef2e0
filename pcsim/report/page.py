"""The page as plain records, and its one rendering: findings in, a self-contained HTML text out."""

import base64
import io
import math
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from pcsim.figures.style import house_style
from pcsim.report.cautions import Caution, Warned, at_the_top, condensed

WIDE = 4.8
"""Inches from which a figure takes the whole width."""


class Number(NamedTuple):
    """One number with its uncertainty and, where there is one, what theory expects."""

    value: float
    error: float | None = None
    """Standard error; None only for what is counted, or a diagnostic of errors itself."""
    unit: str = ""
    expected: float | None = None
    remark: str = ""
    digits: int = 4
    """Significant digits where there is no error."""
    least: bool = False
    """Whether the value is known to read low."""

    @property
    def shown(self) -> str:
        """Value ± error, with the digits that the error supports."""
        if not math.isfinite(self.value):
            return "not defined"
        text = with_error(self.value, self.error, self.digits)
        return f"{'at least ' if self.least else ''}{text} {self.unit}".rstrip()

    def noted(self, remark: str) -> "Number":
        """The number with a remark before the one that it has."""
        return self._replace(remark="; ".join(filter(None, (remark, self.remark))))


Cell = Number | str | None


class Picture(NamedTuple):
    """A figure as a data URI, with the sentence that says what to see in it."""

    source: str
    caption: str
    inches: float = 3.4
    """Its width on paper: all figures are shown at one scale, so that their letters have one size."""

    @property
    def wide(self) -> bool:
        """Whether it needs the whole width of the page."""
        return self.inches > WIDE


class Table(NamedTuple):
    """Numbers (or words) of several runs side by side: one column per run."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


class Section(NamedTuple):
    """One question of a reader, answered."""

    question: str
    answer: str
    """One to three sentences that state the finding."""
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()
    cautions: tuple[Caution, ...] = ()
    notes: tuple[str, ...] = ()
    """What was not computed for which run, and why; no warnings."""
    details: tuple[tuple[str, str], ...] = ()
    """(title, preformatted text) to unfold."""

    @property
    def warned(self) -> tuple[Warned, ...]:
        """One line for each kind of caution."""
        return condensed(self.cautions)

    @property
    def all_cautions(self) -> tuple[str, ...]:
        """Every sentence, where the lines of `warned` leave some out."""
        lines = tuple(dict.fromkeys(f"{c.run}: {c.text}" if c.run else c.text for c in self.cautions))
        return lines if len(lines) > sum(warned.sentences for warned in self.warned) else ()


class Page(NamedTuple):
    """A whole report."""

    title: str
    summary: tuple[tuple[str, str], ...]
    """(question, answer), the first thing after the warnings."""
    sections: tuple[Section, ...]
    links: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
    """Of every run its name and (what, relative path)."""
    made_by: str = ""

    @property
    def numbered(self) -> bool:
        """Whether any section has numbers, whose errors want an explanation."""
        return any(
            isinstance(c, Number) for s in self.sections for t in s.tables for _, cs in t.rows for c in cs
        )

    @property
    def warned(self) -> tuple[Warned, ...]:
        """The warnings at the top of the page: the most important kinds, with the sections that they concern."""
        return at_the_top([section.cautions for section in self.sections])


def with_error(value: float, error: float | None, digits: int = 4) -> str:
    """`1.23 ± 0.05`: two digits of the error, the value to the same place; `digits` without an error.

    >>> with_error(-91.234, 1.96)
    '−91.2 ± 2.0'
    >>> with_error(0.50312, None)
    '0.5031'
    """
    if error is None or not math.isfinite(error) or error == 0:
        text = f"{value:.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"
    else:
        places = max(0, 1 - math.floor(math.log10(abs(error))))
        text = f"{value:.{places}f} ± {error:.{places}f}"
    return text.replace("-", "−")


def picture(figure: Figure, caption: str, *, kind: str = "svg") -> Picture:
    """The figure embedded: as an image of its own, so that the names inside several drawings never meet.

    Letters become outlines: a phone has not the figure's font. `kind` is `png` for pictures made of pixels.
    """
    stream = io.BytesIO()
    undated = {"Date": None} if kind == "svg" else {}
    with house_style():
        import matplotlib

        with matplotlib.rc_context({"svg.fonttype": "path"}):
            figure.savefig(stream, format=kind, dpi=200, metadata=undated)
    mime = "image/svg+xml" if kind == "svg" else "image/png"
    data = base64.b64encode(stream.getvalue()).decode()
    return Picture(f"data:{mime};base64,{data}", caption, round(figure.get_figwidth(), 2))


def table(columns: Sequence[str], rows: Sequence[tuple[str, Sequence[Cell]]]) -> Table:
    """A table whose rows have one entry per column; empty rows are left out."""
    kept = tuple((name, tuple(cells)) for name, cells in rows if any(c is not None for c in cells))
    for name, cells in kept:
        if len(cells) != len(columns):
            raise ValueError(f"row {name!r} has {len(cells)} entries for {len(columns)} columns")
    return Table(tuple(columns), kept)


def render(page: Page) -> str:
    """The HTML text; everything that comes from users is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("pcsim.report"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("page.html").render(page=page)
