"""Docstrings in plain text, with code in single backticks, as the reStructuredText that Sphinx reads."""

import re
from typing import Any

CODE = re.compile(r"`([^`]+)`")
SPECIAL = re.compile(r"(?<!\\)([*|\\]|_(?=\W|$))")


def converted(lines: list[str]) -> list[str]:
    """The same paragraphs: prose with its signs escaped, doctests as they are, what is laid out as it stands."""
    result: list[str] = []
    for block in re.split(r"\n\s*\n", "\n".join(lines).strip("\n")):
        rows = block.split("\n")
        if rows[0].lstrip().startswith(">>>"):
            result += [*rows, ""]
        elif all(row.startswith("- ") or row.startswith("  ") for row in rows):
            result += [*(_prose(row) for row in rows), ""]
        elif len(rows) > 1 and rows[0].rstrip().endswith(":") and all(r.startswith(("- ", "  ")) for r in rows[1:]):
            result += [_prose(rows[0]), "", *(_prose(row) for row in rows[1:]), ""]
        elif any(row.startswith(" ") or row.startswith("- ") for row in rows):
            result += ["::", "", *("  " + row for row in rows), ""]
        else:
            result += [*(_prose(row) for row in rows), ""]
    return result


def _prose(row: str) -> str:
    """Code in double backticks; outside it, no sign that Sphinx would take for markup."""
    parts = CODE.split(row)
    return "".join(f"``{part}``" if place % 2 else SPECIAL.sub(r"\\\1", part) for place, part in enumerate(parts))


def convert(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """autodoc's hook: rewrites `lines` in place."""
    lines[:] = converted(lines)


def setup(app: Any) -> dict[str, bool]:
    """Registers the hook."""
    app.connect("autodoc-process-docstring", convert)
    return {"parallel_read_safe": True}
