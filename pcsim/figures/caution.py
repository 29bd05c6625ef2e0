"""The reasons not to read a result, printed in the figure that shows it."""

import textwrap
from collections.abc import Mapping

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pcsim.analysis.result import cautions_of

CAUTION = "#A3282D"
"""Dark red: used for nothing else in the figures."""
SIZE, LEADING = 6.0, 1.25
Result = xr.DataArray | xr.Dataset
MOST = 4
"""Cautions in one figure, the last of them the count of the rest."""
CHARACTERS_PER_INCH = 20
"""Of the house font at `SIZE` points, with room to spare."""


def caution(figure: Figure, *results: Result | Mapping[str, xr.DataArray] | Mapping[str, xr.Dataset]) -> None:
    """Prints the cautions of the results, each once, between the titles of the top panels and their axes.

    Of results by label, a caution that does not hold for all of them says for which it does.
    Call it last, when axes and titles stand; the figure grows by the height of the lines. Without cautions, nothing.
    """
    texts = [text for result in results for text in _named(result)]
    lines = _lines(list(dict.fromkeys(texts)), figure.get_figwidth())
    if not lines:
        return
    height = SIZE * LEADING * len(lines)
    top = _top_row(figure)
    for axes in top:
        # a title of a space where there is none: the layout keeps room for titles, not for this text
        title, size = axes.get_title(), axes.title.get_fontsize()
        axes.set_title(
            title or " ", pad=height + 8, color=axes.title.get_color(), fontsize=size if title else 1
        )
    figure.set_figheight(figure.get_figheight() + height / 72)
    note = top[0].annotate(
        "\n".join(lines), (0.02, 1.0), xycoords=("figure fraction", "axes fraction"), xytext=(0, 3),
        textcoords="offset points", va="bottom", fontsize=SIZE, color=CAUTION, linespacing=LEADING,
        annotation_clip=False,
    )  # fmt: skip
    note.set_gid("caution")
    note.set_in_layout(False)


def _named(given: Result | Mapping[str, xr.DataArray] | Mapping[str, xr.Dataset]) -> list[str]:
    if isinstance(given, xr.DataArray | xr.Dataset):
        return cautions_of(given)
    held: dict[str, list[str]] = {}
    for label, result in given.items():
        for text in cautions_of(result):
            held.setdefault(text, []).append(label)
    return [
        text if len(labels) == len(given) else f"{', '.join(labels)}: {text}" for text, labels in held.items()
    ]


def _lines(cautions: list[str], width: float) -> list[str]:
    most = int(CHARACTERS_PER_INCH * width)
    if len(cautions) > MOST:
        # never hide that there are more: the figure would turn into a page of text, the report lists all
        cautions = [
            *cautions[: MOST - 1],
            f"and {len(cautions) - MOST + 1} more cautions in the result's attributes",
        ]
    return [line for text in cautions for line in textwrap.wrap(f"▲ {text}", most, subsequent_indent="   ")]


def _top_row(figure: Figure) -> list[Axes]:
    """Axes of the first row; bars of colours have no place in the grid and are passed over."""
    placed = [(axes, spec) for axes in figure.axes if (spec := axes.get_subplotspec()) is not None]
    return [axes for axes, spec in placed if spec.rowspan.start == 0] or figure.axes[:1]
