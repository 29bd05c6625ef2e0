"""The schedule of a recording: which values are held in which phase, for how many steps; read by every engine."""

import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any, Literal, NamedTuple

import numpy as np
from torch import Tensor

from pcsim.circuit.source import Source
from pcsim.engines.torch.program import Params, Program, ancestral
from pcsim.inference.rng import Stream, seed_stream
from pcsim.study.phases import Written, held_nodes, stimulus_nodes
from pcsim.study.pictures import series_of, shuffled, transformed, value_of
from pcsim.study.schema import Transform

Onset = Literal["replace", "drive", "none"]


class Phase(NamedTuple):
    """One frame of a stimulus. Everything that no phase changes (masks, chains) stands in the session."""

    name: str
    steps: int
    held: Mapping[str, Tensor]
    """What is held, stimulus or not, `[image, *shape]`; past nodes are held beside it, by the engine."""
    own: tuple[str, ...] = ()
    """Those among them that are held at values of this phase: literal, of a series, or simulated."""
    released: tuple[str, ...] = ()
    """Stimulus nodes that are free in this phase."""
    blank: bool = False
    onset: Onset = "none"
    """What the encoder does when the phase begins.

    `replace`: chains start anew at its draws, as with `start: encoder`; `drive`: q(z | x) is one more factor,
    energy −log N(z; mean, variance) up to a constant, for `drive_steps` steps; `none`: states go on from where
    they stand.
    """
    drive_steps: int | None = None
    """None: as long as the phase lasts."""
    truth: Mapping[str, Tensor] = {}
    """The latents of a simulated frame, `[image, *shape]`."""
    show: str = "null"
    """What is shown, as it was written (JSON)."""
    transform: Mapping[str, Any] | None = None
    """As it was written."""


@dataclass(frozen=True)
class Schedule:
    """Phases in order. A phase of n steps is recorded n times: at its onset and after each step but the last.

    That one leads to the next onset; the last phase ends in one record more.
    """

    phases: tuple[Phase, ...]
    stated: bool = True
    """By `stimulus:`. If not, it is `record.spontaneous` and `record.steps`, and the last spontaneous step, which
    leads to the sweep, is left out: a spontaneous phase of S steps is S records."""

    @cached_property
    def onsets(self) -> tuple[int, ...]:
        """The step at which each phase begins; 0 is the first onset of a phase that is not blank."""
        begins = [0, *accumulate(phase.steps for phase in self.phases)]
        first = next((b for b, p in zip(begins, self.phases, strict=False) if not p.blank), 0)
        return tuple(b - first for b in begins[:-1])

    @property
    def first(self) -> int:
        """The first recorded step."""
        return self.onsets[0]

    @property
    def last(self) -> int:
        """The last recorded step."""
        return self.onsets[-1] + self.phases[-1].steps

    def steps(self, index: int) -> range:
        """The recorded steps of one phase."""
        begin, last = self.onsets[index], index == len(self.phases) - 1
        return range(begin, begin + self.phases[index].steps + last)

    def moves(self, index: int) -> int:
        """The steps that a chain takes in one phase."""
        bridged = self.stated or index == len(self.phases) - 1
        return self.phases[index].steps - (not bridged)

    def frame(self, step: int) -> int:
        """The index of the phase in which a step is recorded."""
        return bisect_right(self.onsets, step) - 1

    def record(self) -> str:
        """What was shown when, as JSON: the attribute `stimulus` of a trace."""
        return json.dumps(
            [
                {"frame": i, "name": p.name, "onset": begin, "steps": p.steps, "show": json.loads(p.show),
                 "encoder": p.onset, **({} if p.drive_steps is None else {"drive_steps": p.drive_steps}),
                 **({} if p.transform is None else {"transform": p.transform})}
                for i, (begin, p) in enumerate(zip(self.onsets, self.phases, strict=True))
            ]
        )  # fmt: skip


class Given(NamedTuple):
    """What a stated schedule is made of, beside its phases."""

    program: Program
    params: Params
    clamp: Mapping[str, Any]
    """The study's words for what is held: `image`, `label`, or values."""
    values: Mapping[str, Tensor]
    """Clamped nodes, `[image, *shape]`."""
    n_image: int
    encodes: bool
    """Do chains start at the encoder?"""
    seed: int
    source: Source


def plain_schedule(
    values: Mapping[str, Tensor], stimulus: Sequence[str], spontaneous: int, steps: int, encodes: bool
) -> Schedule:
    """Spontaneous activity with the stimulus released, then the stimulus: what a study without `stimulus:` runs."""
    shown = Phase("evoked", steps, values, onset="replace" if encodes else "none", show='"image"')
    if not spontaneous:
        return Schedule((shown,), stated=False)
    kept = {n: v for n, v in values.items() if n not in stimulus}
    blank = Phase("spontaneous", spontaneous, kept, released=tuple(stimulus), blank=True, show='"blank"')
    return Schedule((blank, shown), stated=False)


def stated_schedule(phases: Sequence[Written], given: Given) -> Schedule:
    """The schedule that a study or a caller states; phases are checked already (`check_phases`)."""
    maker = _Maker(given, stimulus_nodes(given.program.circuit, given.clamp, phases))
    return Schedule(tuple(made for index, phase in enumerate(phases) for made in maker.make(index, phase)))


class _Maker:
    """Turns written phases into phases; remembers the last simulated frame, from which a simulation goes on."""

    def __init__(self, given: Given, stimulus: tuple[str, ...]) -> None:
        self._given, self._stimulus = given, stimulus
        self._nodes = given.program.circuit.nodes
        self._like = next(iter(given.params.values()))
        self._truth: dict[str, Tensor] = {}

    def make(self, index: int, written: Written) -> Iterator[Phase]:
        """The phase, or one phase per frame of a series."""
        show, given = written.spec.show, self._given
        if not isinstance(show, dict) or not written.frames:
            self._truth = {}
            held = {n: v.to(self._like) for n, v in self._held(index, written).items()}
            yield self._phase(written, self._changed(written, held), {})
            return
        path = (*written.path, "show", "series")
        series: dict[str, Tensor] = {}
        if "series" in show:
            series = series_of(given.source, path, given.program.circuit, show["series"], given.n_image)
        length = len(next(iter(series.values()))) if series else show["simulate"]
        rng = seed_stream(given.seed, "stimulus", "simulate", index, device=self._like.device)
        for frame in range(length):
            here = {n: v[frame].to(self._like) for n, v in series.items()}
            if "simulate" in show:
                yield self._phase(written, *self._simulated(here, rng))
            else:
                self._truth = {}
                yield self._phase(written, self._changed(written, {**self._kept(), **here}), {})

    def _kept(self) -> dict[str, Tensor]:
        """What is held beside the stimulus."""
        return {n: v for n, v in self._given.values.items() if n not in self._stimulus}

    def _held(self, index: int, written: Written) -> dict[str, Tensor]:
        show, given = written.spec.show, self._given
        names = held_nodes(written, given.clamp, self._stimulus)
        held = {n: given.values[n] for n in names if n in given.values}
        shown = [n for n in self._stimulus if n in held]
        if show == "omission":
            return held | {n: self._zero(n) for n in self._stimulus}
        if show == "mask":
            rng = seed_stream(given.seed, "stimulus", "mask", index, device=self._like.device)
            return held | {n: shuffled(held[n], rng) for n in shown}
        if isinstance(show, str):
            return held
        if "image" in show:
            if show["image"] >= given.n_image:
                given.source.fail(
                    (*written.path, "show", "image"), f"image {show['image']} of {given.n_image} recorded images"
                )  # fmt: skip
            return held | {n: held[n][show["image"]].expand_as(held[n]) for n in shown}
        if "next" in show:
            return held | {n: held[n].roll(-show["next"], 0) for n in shown}
        for name, value in show.items():
            place = (*written.path, "show", name)
            held[name] = value_of(given.source, place, self._nodes[name], value, given.n_image)
        return held

    def _own(self, written: Written, held: Mapping[str, Tensor]) -> tuple[str, ...]:
        show = written.spec.show
        if not isinstance(show, dict):
            return ()
        return tuple(n for n in self._stimulus if n in held and (written.frames or n in show))

    def _zero(self, name: str) -> Tensor:
        return self._like.new_zeros(self._given.n_image, *self._nodes[name].shape)

    def _changed(self, written: Written, held: dict[str, Tensor]) -> dict[str, Tensor]:
        transform = written.spec.transform
        if transform == Transform():
            return held
        path, source = (*written.path, "transform"), self._given.source
        return {
            n: transformed(source, path, self._nodes[n], v, transform) if n in self._stimulus else v
            for n, v in held.items()
        }

    def _simulated(
        self, inputs: Mapping[str, Tensor], rng: Stream
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """What is held in the next frame of a simulation, and the latents behind it."""
        given, circuit = self._given, self._given.program.circuit
        past = {name: self._truth[of] for name, of in circuit.past.items() if of in self._truth}
        known = {**self._kept(), **inputs}
        drawn = ancestral(given.program.bind(given.params), rng, given.n_image, {**past, **known})
        self._truth = drawn
        held = {**known, **{n: drawn[n] for n in self._stimulus}}
        return held, {n: v for n, v in drawn.items() if n not in held and n not in circuit.past}

    def _phase(self, written: Written, held: dict[str, Tensor], truth: dict[str, Tensor]) -> Phase:
        spec = written.spec
        encoder = self._given.program.circuit.encoder
        sees = bool(encoder) and all(edge.parent in held for edge in encoder)
        onset: Any = spec.onset
        if onset is None:
            onset = "replace" if self._given.encodes and sees and spec.show != "blank" else "none"
        steps = onset["drive"] if isinstance(onset, dict) else None
        return Phase(
            spec.name or _name_of(spec.show), written.steps, held, self._own(written, held),
            tuple(n for n in self._stimulus if n not in held), spec.show == "blank",
            "drive" if isinstance(onset, dict) else onset, steps, truth, json.dumps(_plain(spec.show)),
            None if spec.transform == Transform() else spec.transform.model_dump(exclude_none=True),
        )  # fmt: skip


def _name_of(show: str | dict[str, Any]) -> str:
    """`blank`, `image 3`, `next 1`, `x`."""
    if isinstance(show, str):
        return show
    if "simulate" in show or "series" in show:
        return "simulate" if "simulate" in show else "series"
    words = [f"{n} {v}" if n in ("image", "next") else n for n, v in show.items()]
    return ", ".join(words)


LONGEST = 16
"""Numbers of a value that a trace quotes; of longer ones it says the shape."""


def _plain(value: Any) -> Any:
    """A value of `show` as JSON can hold it."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, str | int | float):
        return value
    array = np.asarray(value)
    return array.tolist() if array.size <= LONGEST else f"values of shape {list(array.shape)}"
