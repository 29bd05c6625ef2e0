"""`%load_ext pcsim.figures.notebook`: the house style in a Jupyter session, figures shown as vector graphics."""

import io
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from pcsim.figures.style import STYLE


def load_ipython_extension(shell: Any) -> None:
    """IPython's hook: sets fonts and lines for the session, and how a figure at the end of a cell is shown."""
    settings: Any = STYLE | {"svg.fonttype": "path"}  # a reader's browser need not have the font
    matplotlib.rcParams.update(settings)
    shell.display_formatter.formatters["image/svg+xml"].for_type(Figure, as_svg)


def as_svg(figure: Figure) -> str:
    """The figure as SVG text, the same each time."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
