"""Ctrl-C, SIGTERM and --max-time: a run ends at the next safe place, with everything kept."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from pcsim.errors import PcsimError

EXIT = {"SIGINT": 130, "SIGTERM": 143, "max-time": 75}
"""Exit codes by reason; 75 is the shell's word for `try again later`."""


class Stopped(PcsimError):
    """The run was asked to end; the same command goes on from here."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"stopped ({reason})")


class Stopper:
    """Remembers a request to stop; raises it at once where nothing can be lost, else at the next check."""

    def __init__(self, max_seconds: float | None = None) -> None:
        self.reason: str | None = None
        self._end = time.monotonic() + max_seconds if max_seconds is not None else None
        self._safe = False

    def asked(self) -> bool:
        """Has somebody asked, or is the time up?"""
        if self.reason is None and self._end is not None and time.monotonic() > self._end:
            self.reason = "max-time"
        return self.reason is not None

    def check(self) -> None:
        """Raise `Stopped` if so."""
        if self.asked():
            assert self.reason is not None
            raise Stopped(self.reason)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        self.reason = signal.Signals(number).name
        if self._safe:
            self._safe = False  # a second signal must not break what the first one still has to close
            raise Stopped(self.reason)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, a signal is raised where it strikes: all that matters is already on disk."""
        self.check()
        self._safe = True
        try:
            yield
        finally:
            self._safe = False


@contextlib.contextmanager
def listening(stopper: Stopper) -> Iterator[Stopper]:
    """Route Ctrl-C and SIGTERM to the stopper (in the main thread; elsewhere signals are not ours)."""
    if threading.current_thread() is not threading.main_thread():
        yield stopper
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, stopper.handle) for number in numbers]
    try:
        yield stopper
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
