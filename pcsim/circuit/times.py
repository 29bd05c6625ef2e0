"""Times and rates with their units, as YAML files state them: `10 ms`, `100 Hz`."""

import math
import re

from pcsim.circuit.source import Path_, Source
from pcsim.errors import CircuitError

NUMBER = r"(\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)"
TIMES = {"s": 1.0, "second": 1.0, "ms": 1e-3, "msecond": 1e-3, "us": 1e-6, "usecond": 1e-6}
RATES = {"Hz": 1.0, "kHz": 1e3}
WITH_UNIT = re.compile(rf"^\s*{NUMBER}\s*([A-Za-z]\w*)\s*$", re.ASCII)


def seconds(time: object) -> float:
    """A time such as `10 ms`, in seconds.

    >>> seconds("10 ms")
    0.01
    """
    return _quantity(time, TIMES, "a positive time with its unit, for example 10 ms")


def hertz(rate: object) -> float:
    """A rate such as `100 Hz`, in 1/s.

    >>> hertz("2 kHz")
    2000.0
    """
    return _quantity(rate, RATES, "a positive rate with its unit, for example 100 Hz")


def check_time(source: Source, path: Path_, value: object) -> str:
    """The text of a positive time with its unit; fails at its line for anything else."""
    try:
        seconds(value)
    except CircuitError as failure:
        source.fail(path, str(failure))
    return str(value).strip()


def _quantity(text: object, units: dict[str, float], expected: str) -> float:
    match = WITH_UNIT.match(text) if isinstance(text, str) else None
    if match is not None and match.group(2) not in units:
        raise CircuitError(
            f"expected {expected}, found {text!r}: {match.group(2)} is none of {', '.join(units)}"
        )
    if match is None or not 0 < float(match.group(1)) < math.inf:
        raise CircuitError(f"expected {expected}, found {text!r}")
    return float(match.group(1)) * units[match.group(2)]
