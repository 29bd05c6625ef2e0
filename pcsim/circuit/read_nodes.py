"""One node of a description: name, shape, distribution, mean, and what a neural simulator adds to it."""

import math
import re
from collections.abc import Mapping
from typing import Any

from pcsim.circuit.distributions import DISTRIBUTIONS, Gaussian
from pcsim.circuit.distributions.base import Distribution
from pcsim.circuit.graph import Adaptation, ErrorUnits, Node, Shape
from pcsim.circuit.past import PastValue
from pcsim.circuit.source import Path_, Source, check_keys, choice, validate
from pcsim.circuit.times import check_time
from pcsim.errors import nearest

NODE_KEYS = ("shape", "distribution", "mean", "learn", "tau", "error_tau", "errors", "adaptation", "past")
PAST_KEYS = ("past", "mean")
GAUSSIAN_ONLY = ("error_tau", "errors", "adaptation")
TRACE_NAMES = (
    "energy",
    "gradient_norm",
    "acceptance",
    "step_size",
    "temperature",
    "encoder",
    "energy_minimum",
)
COORDINATES = ("image", "chain", "step", "update", "phase", "frame", "onset", "time", "label", "name")
RESERVED = frozenset((*TRACE_NAMES, *COORDINATES))
"""Names that the root of the trace uses for something else; both engines write the same trace."""
THINNED = re.compile(r"step_\d+")
"""The step coordinates of thinned probes, at the root of the trace too."""


def read_nodes(source: Source, names: Mapping[str, Any]) -> dict[str, Node]:
    """The nodes as written; a past node has the shape of the node that it remembers."""
    for name in names:
        _check_name(source, name)
    remembering = {n: v for n, v in names.items() if isinstance(v, Mapping) and "past" in v}
    own = {n: _node(source, n, v) for n, v in names.items() if n not in remembering}
    return {n: own[n] if n in own else _past_node(source, n, names[n], own) for n in names}


def _check_name(source: Source, name: Any) -> None:
    path: Path_ = ("nodes", name)
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII):
        source.fail(path, f"a node's name is letters, digits and _ after a letter, found {name!r}")
    if name in RESERVED or THINNED.fullmatch(name):
        source.fail(path, f"the name {name!r} is taken by the trace; choose another, for example {name}_node")


def _node(source: Source, name: str, value: Any) -> Node:
    path: Path_ = ("nodes", name)
    data = check_keys(source, path, value, NODE_KEYS, "a node")
    shape = _shape(source, (*path, "shape"), data.get("shape"))
    learn = _words(source, (*path, "learn"), data.get("learn", []))
    distribution = _distribution(
        source, path, data.get("distribution"), tuple(w for w in learn if w != "mean")
    )
    mean = data.get("mean", 0.0)
    _check_mean(source, (*path, "mean"), mean, shape)
    try:
        if "mean" in distribution.parameters(shape):
            source.fail((*path, "distribution"), "a parameter called 'mean' is the node's own; rename it")
    except ValueError as failure:
        source.fail((*path, "distribution"), str(failure))
    tau, error_tau = (
        check_time(source, (*path, key), data[key]) if data.get(key) is not None else None
        for key in ("tau", "error_tau")
    )
    for key in GAUSSIAN_ONLY:
        if data.get(key) is not None and not isinstance(distribution, Gaussian):
            source.fail((*path, key), f"node {name} is not Gaussian; only there is the error precision times "
                        "(z − η), which this key changes")  # fmt: skip
    return Node(
        name, shape, distribution, mean, "mean" in learn, tau, error_tau,
        errors=_error_units(source, (*path, "errors"), data.get("errors")),
        adaptation=_adaptation(source, path, data.get("adaptation"), distribution),
    )  # fmt: skip


def _past_node(source: Source, name: str, value: Any, own: Mapping[str, Node]) -> Node:
    path: Path_ = ("nodes", name)
    for key in value:
        if key in NODE_KEYS and key not in PAST_KEYS:
            source.fail((*path, key), f"node {name} remembers another one: it has only past and mean (what it "
                        "holds in the first frame)")  # fmt: skip
    data = check_keys(source, path, value, PAST_KEYS, "a past node")
    of = data["past"]
    if not isinstance(of, str) or of not in own:
        source.fail((*path, "past"), f"no node {of!r} with a value of its own; {nearest(of, own)}")
    if own[of].distribution.discrete:
        source.fail(
            (*path, "past"), f"node {of} is discrete: released, it has no value that could be remembered"
        )
    mean = data.get("mean", 0.0)
    _check_mean(source, (*path, "mean"), mean, own[of].shape)
    given: Distribution = PastValue()
    return Node(name, own[of].shape, given, mean, past=of)


def _error_units(source: Source, path: Path_, value: Any) -> ErrorUnits | None:
    if value is None:
        return None
    data = check_keys(source, path, value, ("split", "gain", "baseline"), "error units")
    if not isinstance(data.get("split", True), bool):
        source.fail((*path, "split"), f"expected true or false, found {data['split']!r}")
    if data.get("split") is False and len(data) > 1:
        source.fail((*path, "split"), "gain and baseline are those of split error units; write split: true")
    gain, baseline = data.get("gain", [1.0, 1.0]), data.get("baseline", 0.0)
    if not filled(gain, (2,)) or min(gain) <= 0:
        source.fail((*path, "gain"), f"expected two positive gains [g₊, g₋], found {gain!r}")
    if not number(baseline) or baseline < 0:
        source.fail((*path, "baseline"), f"expected a number of 0 or above, found {baseline!r}")
    return ErrorUnits(data.get("split", True), (float(gain[0]), float(gain[1])), float(baseline))


def _adaptation(source: Source, path: Path_, value: Any, distribution: Distribution) -> Adaptation | None:
    here = (*path, "adaptation")
    if value is None:
        return None
    data = check_keys(source, here, value, ("tau", "strength"), "an adaptation")
    for key in ("tau", "strength"):
        if key not in data:
            source.fail((*here, key), "missing; this key is needed")
    if not number(data["strength"]) or data["strength"] < 0:
        source.fail((*here, "strength"), f"expected a number of 0 or above, found {data['strength']!r}")
    precision = getattr(distribution, "precision", None)
    if isinstance(precision, list | tuple) and isinstance(precision[0], list | tuple):
        source.fail(here, "a full precision has no fatigue of single units; give a number or one per unit")
    return Adaptation(check_time(source, (*here, "tau"), data["tau"]), float(data["strength"]))


def _shape(source: Source, path: Path_, value: Any) -> Shape:
    sizes = value if isinstance(value, list | tuple) else [value]
    if not sizes or not all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in sizes):
        source.fail(
            path, f"expected a list of positive sizes, for example [20] or [1, 28, 28], found {value!r}"
        )
    return tuple(sizes)


def _words(source: Source, path: Path_, value: Any) -> tuple[str, ...]:
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list | tuple) or not all(isinstance(w, str) for w in words):
        source.fail(path, f"expected a list of words, for example [precision], found {value!r}")
    return tuple(words)


def _distribution(source: Source, path: Path_, value: Any, learn: tuple[str, ...]) -> Distribution:
    here = (*path, "distribution")
    if value is None:
        source.fail(here, f"missing; one of {', '.join(DISTRIBUTIONS)}")
    if not isinstance(value, str | Mapping):
        return _own_distribution(source, here, value, learn)
    name, arguments, place = choice(source, here, value, "distribution")
    if name not in DISTRIBUTIONS:
        source.fail(here, f"no distribution {name!r}; {nearest(name, DISTRIBUTIONS)}")
    kind = DISTRIBUTIONS[name]
    if unknown := [word for word in learn if word not in kind.learnable]:
        words = ("mean", *kind.learnable)
        source.fail((*path, "learn"), f"{name} has no {unknown[0]!r} to learn; {nearest(unknown[0], words)}")
    if not isinstance(arguments, Mapping):
        source.fail(place, f"expected a mapping of {name}'s parameters, found {arguments!r}")
    if "learn" in arguments:
        source.fail((*place, "learn"), "learn stands at the node, beside distribution")
    made: Distribution = validate(source, place, kind, {**arguments, "learn": learn})
    return made


def _own_distribution(source: Source, path: Path_, value: Any, learn: tuple[str, ...]) -> Distribution:
    words = ("discrete", "data_range", "learned", "parameters", "local", "sample", "mean")
    missing = [word for word in words if not hasattr(value, word)]
    if missing or isinstance(value, type):
        what = f"it lacks {', '.join(missing)}" if missing else "it is a class, not an instance"
        source.fail(path, f"{value!r} is no distribution: {what}")
    if learn:
        source.fail(path, "a distribution from Python states what it learns itself")
    own: Distribution = value
    return own


def _check_mean(source: Source, path: Path_, mean: Any, shape: Shape) -> None:
    if not number(mean) and not filled(mean, shape):
        source.fail(path, f"expected a number or values of shape {list(shape)}, found {mean!r}")


def number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def filled(value: Any, shape: Shape) -> bool:
    """Is `value` a nested list of finite numbers, of exactly that shape?"""
    if not shape:
        return number(value)
    whole = isinstance(value, list | tuple) and len(value) == shape[0]
    return whole and all(filled(item, shape[1:]) for item in value)
