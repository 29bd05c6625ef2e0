"""Every error that pcsim raises on purpose, and the lookup that names the nearest valid word."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


class PcsimError(Exception):
    """A mistake or a failure that a user can act on; the command line prints it and exits with code 2."""


class CircuitError(PcsimError, ValueError):
    """A circuit description that cannot be built."""


class StudyError(PcsimError, ValueError):
    """A study (or an override, or a call from Python) that cannot be run as written."""


class DataError(PcsimError, ValueError):
    """Images that are missing, damaged or not what the study says."""


class RunError(PcsimError, RuntimeError):
    """A run directory, checkpoint or trace that cannot be used."""


class AnalysisError(PcsimError, ValueError):
    """Arrays that an analysis cannot be done on: a dim that is missing, too few entries, names that differ."""


class Divergence(PcsimError, RuntimeError):
    """A chain left the region in which the step size is stable."""

    def __init__(self, step: int, node: str, energy: float, advice: str) -> None:
        self.step, self.node, self.energy = step, node, energy
        super().__init__(f"diverged at step {step}: node {node!r}, energy {energy:.6g}; {advice}")


def nearest(name: object, valid: Iterable[str]) -> str:
    """The end of an error message: the nearest valid names, or all of them when none is near."""
    names = sorted(valid)
    near = difflib.get_close_matches(str(name), names, n=3)
    return (
        f"did you mean {' or '.join(repr(n) for n in near)}?" if near else f"valid names: {', '.join(names)}"
    )


def pick(table: Mapping[str, T], name: str, what: str) -> T:
    """`table[name]`; a `StudyError` that says what was looked up and the nearest valid name otherwise."""
    if name not in table:
        raise StudyError(f"no {what} {name!r}; {nearest(name, table)}")
    return table[name]
