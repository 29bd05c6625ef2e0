"""A comparison as tables for the terminal, as Markdown and as JSON."""

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pcsim.study.comparable import METRICS
from pcsim.study.comparison import UNITS, Cell, Comparison, Row, Table
from pcsim.study.paired import Estimate

if TYPE_CHECKING:
    from rich.table import Table as RichTable

ARROWS = {"higher": "↑", "lower": "↓"}
SPENT = ("updates", "gradient evaluations", "seconds")


def tables_text(comparison: Comparison) -> list["RichTable"]:
    """One table per basis for a rich console; the last carries the notes in its caption."""
    from rich.table import Table as RichTable

    result = []
    for table in comparison.tables:
        lines = notes_of(table)
        if table is comparison.tables[-1]:
            lines += [legend(comparison), *comparison.notes]
        shown = RichTable(
            title=heading(table),
            caption="\n".join(lines) or None,
            title_justify="left",
            caption_justify="left",
            show_lines=True,
        )
        for i, name in enumerate(header(comparison, "\n")):
            shown.add_column(name, justify="left" if i == 0 else "right")
        for row in table.rows:
            shown.add_row(*cells_of(comparison, row, "\n"))
        result.append(shown)
    return result


def to_markdown(comparison: Comparison) -> str:
    """The same tables, their legend and the notes, as Markdown."""
    lines: list[str] = []
    for table in comparison.tables:
        columns = header(comparison, " ")
        lines += [f"### {heading(table)}", "", _line(columns), _line(["---"] + ["---:"] * (len(columns) - 1))]
        lines += [_line(cells_of(comparison, row, "<br>")) for row in table.rows]
        lines += ["", *(f"- {note}" for note in notes_of(table)), ""]
    lines += [legend(comparison), ""]
    lines += [f"- {note}" for note in comparison.notes]
    return "\n".join(lines).rstrip() + "\n"


def to_json(comparison: Comparison) -> str:
    """Everything that the comparison holds; numbers that are not finite become null."""
    content = {
        "reference": comparison.reference,
        "metrics": {name: METRICS[name]._asdict() for name in comparison.metrics},
        "tables": [_plain(table) for table in comparison.tables],
        "notes": comparison.notes,
        "data": comparison.data,
    }
    return json.dumps(_plain(content), indent=2, allow_nan=False) + "\n"


def heading(table: Table) -> str:
    """What is equal in a table, and how much of it there is."""
    title = table.title[0].upper() + table.title[1:]
    if table.budget is None:
        return title
    amount = f"{table.budget:.3g}" if table.basis == "seconds" else f"{table.budget:.0f}"
    return f"{title}: at most {amount} {UNITS[table.basis]}"


def header(comparison: Comparison, newline: str) -> list[str]:
    """Column titles: run, what was spent, and every metric with its unit and direction."""
    metrics = [METRICS[name] for name in comparison.metrics]
    spent = (words.replace(" ", newline) for words in SPENT)
    return ["run", *spent, *(f"{m.title} {ARROWS[m.better]}{newline}({m.units})" for m in metrics)]


def notes_of(table: Table) -> list[str]:
    """What must be known of single rows, below the table."""
    return [f"{row.label}: {row.note}" for row in table.rows if row.note]


def legend(comparison: Comparison) -> str:
    """How to read a cell, and which data it stands on."""
    data = comparison.data
    known = ", ".join(f"{key} {data[key]}" for key in ("name", "fingerprint") if key in data)
    return (
        f"mean ± standard error (↑ higher, ↓ lower is better); Δ: difference to {comparison.reference},"
        " paired by image and seed, with its 95 % t interval" + (f"; data: {known}" if known else "")
    )


def cells_of(comparison: Comparison, row: Row, newline: str) -> list[str]:
    """The texts of one row."""
    spent = [
        _span([r.update for r in row.readings]),
        _span([r.gradient_evaluations for r in row.readings]),
        _span([r.seconds for r in row.readings]),
    ]
    return [row.label, *spent, *(_cell(row.cells.get(name), newline) for name in comparison.metrics)]


def _cell(cell: Cell | None, newline: str) -> str:
    if cell is None:
        return "–"
    digits = _digits(cell.value)
    text = f"{cell.value.mean:.{digits}f}"
    if math.isfinite(cell.value.standard_error):
        text += f" ± {cell.value.standard_error:.{digits}f}"
    if cell.difference is None:
        return text
    digits = _digits(cell.difference)
    text += f"{newline}Δ {cell.difference.mean:+.{digits}f}"
    if math.isfinite(cell.difference.low):
        text += f" [{cell.difference.low:+.{digits}f}, {cell.difference.high:+.{digits}f}]"
    return text


def _digits(estimate: Estimate) -> int:
    """Decimals that show two figures of the standard error, but no more than six figures of the mean."""
    if not (estimate.standard_error > 0 and math.isfinite(estimate.mean)):
        return 3
    finest = max(estimate.standard_error, 1e-5 * abs(estimate.mean))
    return min(max(0, 1 - math.floor(math.log10(finest))), 8)


def _span(values: Sequence[float]) -> str:
    if not values:
        return "–"
    low, high = f"{min(values):.5g}", f"{max(values):.5g}"
    return low if low == high else f"{low} to {high}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _plain(value: Any) -> Any:
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
