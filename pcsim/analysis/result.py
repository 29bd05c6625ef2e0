"""The form of every result: what it is, how it was estimated, and when it must not be read."""

from collections.abc import Iterable
from typing import NamedTuple, TypeVar

import xarray as xr

Result = TypeVar("Result", xr.DataArray, xr.Dataset)


class Meaning(NamedTuple):
    """What a reader of a result must know; it travels in the result's attributes."""

    long_name: str
    definition: str
    """The quantity, as an equation in plain text."""
    estimator: str
    """How it was computed from finitely many draws."""
    bias: str
    """Which way the estimate errs, and how much where that is known."""
    source: str
    """Author and year, or `derived`."""
    units: str = "1"


def described(result: Result, meaning: Meaning, cautions: Iterable[str] = ()) -> Result:
    """`result` with its meaning in `attrs`, and in `attrs["cautions"]` the reasons not to read it (none: [])."""
    return result.assign_attrs(**meaning._asdict(), cautions=list(dict.fromkeys(cautions)))


def cautions_of(*results: xr.DataArray | xr.Dataset) -> list[str]:
    """The cautions of all results, each once, in order; a stored result may hold one as plain text."""
    found: list[str] = []
    for result in results:
        held = result.attrs.get("cautions", [])
        found += [held] if isinstance(held, str) else list(held)
    return list(dict.fromkeys(text for text in found if text))
