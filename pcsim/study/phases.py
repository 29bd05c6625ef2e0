"""A stimulus as it is written: phases and repeats, checked against the circuit. No tensors in here."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pcsim.circuit.graph import Circuit
from pcsim.circuit.source import Path_, Source, validate
from pcsim.circuit.times import check_time, seconds
from pcsim.errors import nearest
from pcsim.study.schema import PhaseSpec, Repeat

OTHER_IMAGES = ("image", "next")
FRAMES = ("series", "simulate")
WORDS = (*OTHER_IMAGES, *FRAMES)
"""Keys of `show: {…}` that are no node names."""


class Written(NamedTuple):
    """One phase with the place at which its mistakes are reported."""

    spec: PhaseSpec
    path: Path_
    steps: int

    @property
    def frames(self) -> bool:
        """Is it a series of frames?"""
        return isinstance(self.spec.show, dict) and any(word in self.spec.show for word in FRAMES)

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes that it shows by name."""
        show = self.spec.show
        if not isinstance(show, dict):
            return ()
        given = show.get("series")
        named = tuple(given) if isinstance(given, Mapping) else ()
        return (*(n for n in show if n not in WORDS), *named)


def read_phases(
    source: Source, path: Path_, items: Sequence[Mapping[str, Any]], dt: str | None
) -> tuple[Written, ...]:
    """The phases in the order in which they are shown, repeats unrolled; raises `StudyError` at its line."""
    found = tuple(_read(source, path, items, dt))
    if not found:
        source.fail(path, "expected at least one phase, for example {show: image, steps: 100}")
    return found


def _read(
    source: Source, path: Path_, items: Sequence[Mapping[str, Any]], dt: str | None
) -> Iterator[Written]:
    for index, item in enumerate(items):
        here = (*path, index)
        if "repeat" in item or "phases" in item:
            again = validate(source, here, Repeat, item)
            phases = tuple(_read(source, (*here, "phases"), again.phases, dt))
            for _ in range(again.repeat):
                yield from phases
        else:
            spec = validate(source, here, PhaseSpec, item)
            yield Written(spec, here, _steps(source, here, spec, dt))


def _steps(source: Source, path: Path_, spec: PhaseSpec, dt: str | None) -> int:
    if (spec.steps is None) == (spec.time is None):
        source.fail(path, "expected either steps or time, for example steps: 100 or time: 50 ms")
    if spec.steps is not None:
        return spec.steps
    time = check_time(source, (*path, "time"), spec.time)
    if dt is None:
        source.fail((*path, "time"), f"{time} needs a dt, for example dt: 1 ms; or give steps")
    steps = seconds(time) / seconds(dt)
    if round(steps) < 1 or abs(steps - round(steps)) > 1e-6 * steps:
        source.fail((*path, "time"), f"{time} is {steps:g} steps of {dt}; expected a whole number of them")
    return round(steps)


def stimulus_nodes(circuit: Circuit, clamp: Mapping[str, Any], phases: Sequence[Written]) -> tuple[str, ...]:
    """The nodes that a schedule holds and releases, in the order of the circuit.

    Nodes held at the image and nodes that a phase names; where there are neither, every clamped node; without
    any, the leaves, which a simulation shows.
    """
    images = {n for n, what in clamp.items() if isinstance(what, str) and what == "image"}
    names = images | {n for phase in phases for n in phase.nodes}
    if not images and not names - _inputs(phases):
        names |= set(clamp) or set(circuit.leaves)
    return tuple(n for n in circuit.nodes if n in names)


def _inputs(phases: Sequence[Written]) -> set[str]:
    """Nodes that a simulation is given: the others are what it shows."""
    return {n for p in phases if isinstance(p.spec.show, dict) and "simulate" in p.spec.show for n in p.nodes}


def held_nodes(phase: Written, clamp: Mapping[str, Any], stimulus: Sequence[str]) -> tuple[str, ...]:
    """The nodes that a phase holds: what it shows, and what `clamp` holds beside the stimulus."""
    show = phase.spec.show
    kept = tuple(n for n in clamp if n not in stimulus)
    if show == "blank":
        return kept
    if show == "omission" or (isinstance(show, dict) and "simulate" in show):
        return (*kept, *stimulus)
    if isinstance(show, str) or any(word in show for word in OTHER_IMAGES):
        return tuple(clamp)
    return tuple(dict.fromkeys((*kept, *phase.nodes)))


def check_phases(
    circuit: Circuit, source: Source, clamp: Mapping[str, Any], masks: Mapping[str, Any],
    phases: Sequence[Written],
) -> None:  # fmt: skip
    """Refuse nodes that are not there, phases that show nothing, and phases in which nothing is left to infer."""
    stimulus = stimulus_nodes(circuit, clamp, phases)
    for phase in phases:
        _check_show(circuit, source, clamp, phase)
        held = held_nodes(phase, clamp, stimulus)
        free = [n for n in circuit.nodes if n not in circuit.past and (n not in held or n in masks)]
        where = (*phase.path, "show")
        if not free:
            source.fail(where, "every node is held in this phase; nothing is left to infer")
        for edge in circuit.edges:
            node = circuit.nodes[edge.parent]
            if node.distribution.discrete and edge.parent in free:
                source.fail(
                    where, f"node {edge.parent} is discrete and has a child ({edge.child}); it cannot be released"
                )  # fmt: skip
        _check_onset(circuit, source, phase, held)


def _check_show(circuit: Circuit, source: Source, clamp: Mapping[str, Any], phase: Written) -> None:
    show, where = phase.spec.show, (*phase.path, "show")
    if isinstance(show, str):
        if show in ("image", "mask") and not clamp:
            source.fail(where, f"{show} is what `clamp` holds, and no node is clamped")
        return
    for name in show:
        if name in WORDS and name in circuit.nodes:
            source.fail(where, f"{name} is both a word of a stimulus and a node; rename the node")
        if name not in WORDS and name not in circuit.nodes:
            source.fail(
                (*where, name), f"no node {name!r} and no word; {nearest(name, (*circuit.nodes, *WORDS))}"
            )
        if name in circuit.past:
            source.fail((*where, name), f"node {name} holds the frame before; it is not shown")
    words = [word for word in show if word in WORDS]
    if not show or (len(words) > 1 and set(words) != set(FRAMES)) or (words and len(words) < len(show)):
        source.fail(where, "expected nodes with values, or one of {image: k}, {next: k}, {series: …}, {simulate: n} "
                    f"({{simulate: n, series: …}} gives inputs), found {list(show)}")  # fmt: skip
    for word in ("image", "next", "simulate"):
        value, least = show.get(word, 1), 1 if word == "simulate" else 0
        if isinstance(value, bool) or not isinstance(value, int) or (value < least and word != "next"):
            source.fail((*where, word), f"expected a whole number from {least}, found {value!r}")
    if any(word in show for word in OTHER_IMAGES) and not clamp:
        source.fail(where, "no node is clamped to an image")


def _check_onset(circuit: Circuit, source: Source, phase: Written, held: Sequence[str]) -> None:
    onset, where = phase.spec.onset, (*phase.path, "onset")
    if onset in (None, "none"):
        return
    if not circuit.encoder:
        source.fail(where, "it is the encoder that acts at an onset, and the circuit has none")
    if lacking := [edge.parent for edge in circuit.encoder if edge.parent not in held]:
        source.fail(where, f"the encoder reads node {lacking[0]}, which this phase does not hold")
    if isinstance(onset, dict) and onset["drive"] > phase.steps:
        source.fail(
            where, f"a drive of {onset['drive']} steps is longer than the phase ({phase.steps} steps)"
        )
