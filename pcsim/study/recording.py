"""The recording pass on the engine that a session names; this is the one place where it is chosen."""

import signal
import threading
from collections.abc import Callable

from pcsim.errors import pick
from pcsim.record import TraceWriter
from pcsim.study.recording_torch import Watch, record_on_torch
from pcsim.study.session import Session

__all__ = ["RECORDERS", "Watch", "record"]

Recorder = Callable[[Session, TraceWriter, int, tuple[str | int, ...], Callable[[int], None]], None]
"""`(session, writer, seed, path, tick)`: every phase of the session's schedule, written to the writer's layout."""


def _record_on_brian2(
    session: Session, writer: TraceWriter, seed: int, path: tuple[str | int, ...], tick: Callable[[int], None]
) -> None:
    """As `record`; Brian2 is imported here and not before, because importing it takes a second."""
    before = signal.getsignal(signal.SIGINT)
    from pcsim.study.recording_brian2 import record_on_brian2

    # importing Brian2 makes Ctrl-C end a simulation as if it were complete; whoever handled it goes on doing so
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, before)
    record_on_brian2(session, writer, seed, path, tick)


RECORDERS: dict[str, Recorder] = {"torch": record_on_torch, "brian2": _record_on_brian2}


def record(
    session: Session, writer: TraceWriter, seed: int, path: tuple[str | int, ...], tick: Callable[[int], None]
) -> None:
    """Run the schedule of a session and write it; the draws come from `seed` and `path` alone.

    Step 0 is the first onset of a stimulus (the sweep: the encoder's draw where the chain starts there, else
    where the chain stands), steps before it are spontaneous. Raises `Divergence`, the trace still readable.
    """
    pick(RECORDERS, session.engine, "engine")(session, writer, seed, path, tick)
