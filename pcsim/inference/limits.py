"""Checks of hyperparameters at construction, so that a wrong one never reaches a step."""

import math

from pcsim.errors import StudyError


def positive(name: str, value: float) -> None:
    """Raises `StudyError` unless value is a finite number above 0."""
    if not (math.isfinite(value) and value > 0):
        raise StudyError(f"{name}: {value!r} must be a finite number above 0")


def not_negative(name: str, value: float) -> None:
    """Raises `StudyError` unless value is a finite number that is 0 or above."""
    if not (math.isfinite(value) and value >= 0):
        raise StudyError(f"{name}: {value!r} must be a finite number, 0 or above")


def below_one(name: str, value: float) -> None:
    """Raises `StudyError` unless 0 ≤ value < 1 (a decay or a momentum)."""
    if not 0 <= value < 1:
        raise StudyError(f"{name}: {value!r} must be at least 0 and below 1")


def count(name: str, value: int, least: int) -> None:
    """Raises `StudyError` unless value is a whole number of at least `least`."""
    if not isinstance(value, int) or value < least:
        raise StudyError(f"{name}: {value!r} must be a whole number of at least {least}")
