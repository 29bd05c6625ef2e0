"""The page as plain records, and its one rendering: findings in, a self-contained HTML text out."""

import base64
import io
import math
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from pcsim.figures.style import house_style


class Number(NamedTuple):
    """One number with its uncertainty and, where there is one, what theory expects."""

    name: str
    value: float
    error: float | None = None
    """Standard error; None only for what is counted, not estimated."""
    unit: str = ""
    expected: float | None = None
    remark: str = ""

    @property
    def shown(self) -> str:
        """Value ± error, with the digits that the error supports."""
        if not math.isfinite(self.value):
            return "not defined"
        text = with_error(self.value, self.error)
        return f"{text} {self.unit}".rstrip()


Cell = Number | str | None


class Picture(NamedTuple):
    """A figure as a data URI, with the sentence that says what to see in it."""

    source: str
    caption: str
    wide: bool = False


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
    cautions: tuple[str, ...] = ()
    details: tuple[tuple[str, str], ...] = ()
    """(title, preformatted text) to unfold."""


class Warned(NamedTuple):
    """One kind of caution, as the top of the page shows it."""

    kind: str
    example: str
    questions: tuple[str, ...]


def kind_of(sentence: str) -> str:
    """What kind of caution it is: the sentence up to its numbers.

    >>> kind_of("LPC: must not be read as precise: fewer than 400 effective draws in 3 of 20 series")
    'must not be read as precise'
    """
    start = sentence.find("must not be read")
    return sentence[start:].split(":")[0].split(" in ")[0] if start >= 0 else sentence


class Page(NamedTuple):
    """A whole report."""

    title: str
    summary: tuple[str, ...]
    sections: tuple[Section, ...]
    links: tuple[tuple[str, str], ...] = ()
    """(what, relative path) of trace, study and run."""
    made_by: str = ""

    @property
    def cautions(self) -> tuple[Warned, ...]:
        """The kinds of cautions, each with its first sentence and every question that it concerns."""
        found: dict[str, Warned] = {}
        for section in self.sections:
            for sentence in section.cautions:
                kind = kind_of(sentence)
                earlier = found.get(kind, Warned(kind, sentence, ()))
                where = tuple(dict.fromkeys((*earlier.questions, section.question)))
                found[kind] = earlier._replace(questions=where)
        return tuple(found.values())


def with_error(value: float, error: float | None) -> str:
    """`1.23 ± 0.05`: two digits of the error, the value to the same place; four digits without an error.

    >>> with_error(-91.234, 1.96)
    '−91.2 ± 2.0'
    >>> with_error(0.50312, None)
    '0.5031'
    """
    if error is None or not math.isfinite(error) or error == 0:
        text = f"{value:.4g}"
    else:
        places = max(0, 1 - math.floor(math.log10(abs(error))))
        text = f"{value:.{places}f} ± {error:.{places}f}"
    return text.replace("-", "−")


def picture(figure: Figure, caption: str, *, wide: bool = False, kind: str = "svg") -> Picture:
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
    return Picture(f"data:{mime};base64,{data}", caption, wide)


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
