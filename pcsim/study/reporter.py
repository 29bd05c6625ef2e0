"""How a long run speaks to whoever waits for it; silent unless a caller brings a reporter."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Protocol

Advance = Callable[[int], None]


class Reporter(Protocol):
    """Progress with an estimate of the time left, and plain lines."""

    def task(self, what: str, total: int, done: int = 0) -> contextlib.AbstractContextManager[Advance]:
        """A bar for `total` units of work of which `done` are done; the value advances it."""
        ...

    def say(self, text: str) -> None:
        """One line for the reader."""
        ...


class Silent:
    """A reporter for libraries, tests and batch jobs."""

    @contextlib.contextmanager
    def task(self, what: str, total: int, done: int = 0) -> Iterator[Advance]:
        """A bar that is not drawn."""
        yield lambda amount: None

    def say(self, text: str) -> None:
        """Nothing."""


def readable(size: float) -> str:
    """Bytes as a reader likes them.

    >>> readable(1536)
    '1.5 KiB'
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
