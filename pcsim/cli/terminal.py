"""What the commands share: the reporter with bars, and errors without tracebacks."""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from pcsim.errors import PcsimError

WIDE = 200
"""Columns of a table that goes to a file or another program."""
out = Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)
err = Console(stderr=True, highlight=False, soft_wrap=True)
P = ParamSpec("P")
R = TypeVar("R")


class Bars:
    """Progress bars with the time left on a terminal; plain lines only when the output goes elsewhere."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._progress: Progress | None = None

    @contextlib.contextmanager
    def task(self, what: str, total: int, done: int = 0) -> Iterator[Callable[[int], None]]:
        """A bar for `total` units of work; nested tasks stand below each other."""
        if not self._live:
            yield lambda amount: None
            return
        outer = self._progress is None
        progress = self._progress = self._progress or _progress()
        with progress if outer else contextlib.nullcontext():
            bar = progress.add_task(what, total=total, completed=done)
            try:
                yield lambda amount: progress.advance(bar, amount)
            finally:
                progress.remove_task(bar) if not outer else progress.refresh()
                if outer:
                    self._progress = None

    @contextlib.contextmanager
    def meter(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """A bar for work that reports (done, total) itself."""
        if not self._live:
            yield lambda done, total: None
            return
        with _progress() as progress:
            bar = progress.add_task(what, total=None)
            yield lambda done, total: progress.update(bar, completed=done, total=total)

    def say(self, text: str) -> None:
        """One line on the error stream, so that standard output stays the command's result."""
        err.print(text, markup=False)


def _progress() -> Progress:
    return Progress(
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=err, transient=True,
    )  # fmt: skip


def friendly(command: Callable[P, R]) -> Callable[P, R]:
    """The command with a user's mistake printed in words and exit code 2, never as a traceback."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except PcsimError as failure:
            from pcsim.errors import Divergence

            err.print(f"error: {failure}", style="red", markup=False)
            raise SystemExit(3 if isinstance(failure, Divergence) else 2) from None
        except BrokenPipeError:
            sys.stderr.close()
            raise SystemExit(0) from None
        except OSError as failure:
            where = f"{failure.filename}: " if failure.filename else ""
            err.print(f"error: {where}{failure.strerror or failure}", style="red", markup=False)
            raise SystemExit(2) from None

    return wrapped


def table(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    """A table on standard output."""
    from rich.table import Table

    drawn = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(*(str(cell) for cell in row))
    out.print(drawn)
