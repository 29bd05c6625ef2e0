"""Docstrings in plain text, with code in single backticks, as the reStructuredText that Sphinx reads."""

import re
from typing import Any

CODE = re.compile(r"`([^`]+)`")
SPECIAL = re.compile(r"(?<!\\)([*|\\]|_(?=\W|$))")
LAID_OUT = (" ", "- ")
"""How a row begins that is not running text."""


def converted(lines: list[str]) -> list[str]:
    """The same paragraphs: prose with its signs escaped, doctests as they are, what is laid out as it stands."""
    result: list[str] = []
    for block in re.split(r"\n\s*\n", "\n".join(lines).strip("\n")):
        result += [*_block(block.split("\n")), ""]
    return result


def _block(rows: list[str]) -> list[str]:
    """One paragraph: a doctest, a list, an introduced list, something laid out, or prose."""
    first, rest = rows[0], rows[1:]
    if first.lstrip().startswith(">>>"):
        return rows
    if first.startswith("- ") and _listed(rest):
        return [_prose(row) for row in rows]
    if first.rstrip().endswith(":") and rest and rest[0].startswith("- ") and _listed(rest):
        return [_prose(first), "", *(_prose(row) for row in rest)]
    if any(row.startswith(LAID_OUT) for row in rows):
        return ["::", "", *("  " + row for row in rows)]
    return [_prose(row) for row in rows]


def _listed(rows: list[str]) -> bool:
    return all(row.startswith(("- ", "  ")) for row in rows)


def _prose(row: str) -> str:
    """Code in double backticks; outside it, no sign that Sphinx would take for markup."""
    parts = CODE.split(row)
    text = ""
    for place, part in enumerate(parts):
        if place % 2 == 0:
            text += SPECIAL.sub(r"\\\1", part)
            continue
        before, after = text[-1:], parts[place + 1][:1]
        # markup ends at a word's edge: an escaped space lets `Moment`s be a word
        left, right = ("\\ " if letter.isalnum() else "" for letter in (before, after))
        text += f"{left}``{part}``{right}"
    return text


def convert(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """autodoc's hook: rewrites `lines` in place; what Python writes on the fields of named tuples goes."""
    lines[:] = [] if lines and lines[0].startswith("Alias for field number") else converted(lines)


def setup(app: Any) -> dict[str, bool]:
    """Registers the hook."""
    app.connect("autodoc-process-docstring", convert)
    return {"parallel_read_safe": True}
