"""The recording pass on Brian2: the phases of a schedule in one run of one network, recorded as they pass."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pcsim.engines.brian2.network import Plan
from pcsim.engines.brian2.plan import plan_network
from pcsim.engines.brian2.simulation import Simulation, State
from pcsim.engines.brian2.standalone import run_standalone
from pcsim.engines.torch.drive import Driven
from pcsim.engines.torch.target import CircuitTarget, Evaluation
from pcsim.errors import Divergence, StudyError
from pcsim.inference.chain import Guard, check, guard_due, start_guard
from pcsim.inference.noise import WHITE, Filter
from pcsim.inference.rng import seed_stream
from pcsim.inference.types import Info, Point, Rng, Tree
from pcsim.record import TraceWriter
from pcsim.record.buffer import BlockBuffer
from pcsim.study.engines import dynamics_of
from pcsim.study.recording_torch import (
    Watch,
    least_energy,
    parts_of,
    phase_start,
    static_values,
    sweeps_of,
    target_of,
)
from pcsim.study.schedule import Schedule
from pcsim.study.session import Session, Simulator

FROM_THE_ENERGY = ("energy", "gradient_norm", "drift")
"""Probes that are made of the values by the circuit's own energy; the others are read from the network."""
ADVICE = "dt is too long for this circuit: a smaller dt (or kernel.step_size, where nodes have no tau), or a longer tau"


def record_on_brian2(
    session: Session, writer: TraceWriter, seed: int, path: tuple[str | int, ...], tick: Callable[[int], None]
) -> None:
    """As `pcsim.study.recording.record`, in float64 on the CPU.

    Draws come from the same streams in the same order as on torch, so a float64 study gives the same numbers to
    rounding. Values and errors are the network's; energy, drift and gradient norm are those of the circuit's density at
    these values, also where error units, delays or feedback weights make the network move otherwise. A pass that was
    cut short is simulated again from its start, and what is written already is skipped.
    """
    session = _in_double(session)
    simulator = session.simulator
    if simulator is None:
        raise StudyError("engine: brian2 needs a time step: state dt")
    chain = seed_stream(seed, *path, "chain")

    def shown(step: int, node: str) -> Rng:
        return seed_stream(seed, *path, "shown", step, node)

    static = static_values(session, session.program.bind(session.params))
    writer.put_static({v.path: static[v.path] for v in writer.layout.static if v.path in static})
    with torch.no_grad(), BlockBuffer(writer) as buffer:
        player = Player(
            session, chain, lambda target: Watch(target, buffer, writer.layout, shown), buffer, tick
        )
        _simulate(session, simulator, player)
        if any(v.path == "energy_minimum" for v in writer.layout.static):
            writer.put_static({"energy_minimum": least_energy(session, player.bound, chain, player.last)})


def switched_nodes(schedule: Schedule) -> tuple[str, ...]:
    """Nodes that some phases hold and others leave free."""
    held = [set(phase.held) for phase in schedule.phases]
    return tuple(sorted(set[str]().union(*held) - held[0].intersection(*held)))


def check_standalone(schedule: Schedule) -> None:
    """Raise `StudyError` where something would have to change while a compiled program runs."""
    if len(schedule.phases) > 1 or schedule.phases[0].onset == "drive":
        raise StudyError(
            "codegen: cpp_standalone runs without Python, so nothing can change between its first and its last step, "
            "and this study has an onset in between (record.spontaneous or stimulus); use codegen: cython"
        )


def _simulate(session: Session, simulator: Simulator, player: "Player") -> None:
    schedule, circuit = session.timeline, session.program.circuit
    dynamics = dynamics_of(simulator, session.kernel.temperature)
    drives = any(phase.onset == "drive" for phase in schedule.phases)
    plan = plan_network(
        circuit, session.params, player.target.clamp, player.target.rows, dynamics,
        switched=switched_nodes(schedule), driven=[e.child for e in circuit.encoder] if drives else (),
    )  # fmt: skip
    player.leaves(plan)
    steps = sum(schedule.moves(index) for index in range(len(schedule.phases)))
    try:
        if simulator.codegen == "cpp_standalone":
            check_standalone(schedule)
            with tempfile.TemporaryDirectory(prefix="pcsim-") as folder:
                run_standalone(plan, player.start, player.noise, steps, player, Path(folder) / "build")
            return
        simulation = Simulation(plan, simulator.codegen)
        player.attach(simulation)
        simulation.run(player.noise, steps, player)
    except Divergence as failure:
        raise Divergence(player.shown(failure.step), failure.node, failure.energy, ADVICE) from failure


class _Seen(NamedTuple):
    """One step as `Watch` reads it: a chain's state without what only a kernel needs."""

    position: Tree
    point: Point


class Player:
    """A visitor of a simulation: records every step, and at each onset changes what the network holds."""

    def __init__(
        self, session: Session, chain: Rng, watch: Callable[[CircuitTarget], Watch], buffer: BlockBuffer,
        tick: Callable[[int], None],
    ) -> None:  # fmt: skip
        self._session, self._schedule = session, session.timeline
        self.noise: Rng = chain if session.noise == WHITE else Filter(chain, session.noise)
        self.bound = session.program.bind(session.params)
        self._chain, self._watching, self._buffer, self._tick = chain, watch, buffer, tick
        self._info = Info(0.0 if session.simulator is None else session.simulator.step_size)
        self._simulation: Simulation | None = None
        self._begun, self._index = 0, 0
        self._enter(0, None)

    def attach(self, simulation: Simulation) -> None:
        """Put the simulation where the first phase starts; it is the one that onsets change from now on."""
        self._simulation = simulation
        self._change()

    def leaves(self, plan: Plan) -> None:
        """Tell shaped noise which nodes draw in the present phase."""
        if isinstance(self.noise, Filter):
            self.noise.leaves(plan.drawing(self.target.clamp))

    def shown(self, step: int) -> int:
        """The step of the trace that a step of the simulation is, in the present phase."""
        return self._schedule.onsets[self._index] + step - self._begun

    def __call__(self, step: int, values: State, errors: State) -> None:
        """What `Simulation.run` calls between two steps."""
        self._see(step, values, errors)
        while step == self._until:
            if self._parts:
                self._next_part()
                self._change()
            elif self._index + 1 < len(self._schedule.phases):
                before = {**self.target.held, **self.last.position}
                self._begun = step
                self._enter(self._index + 1, {n: v.clone() for n, v in before.items()})
                errors = self._change()
                self._see(step, values, errors)
            else:
                break

    def _enter(self, index: int, before: Tree | None) -> None:
        """The phase of that index, from where the one before it ended."""
        session, phase = self._session, self._schedule.phases[index]
        past = session.program.circuit.past
        known = {} if before is None else {n: before[of] for n, of in past.items()}
        self.target = target_of(session, self.bound, phase, known)
        sweeps = sweeps_of(session, phase.held)
        begun = self._schedule.onsets[index] > 0
        self.start = phase_start(session, phase, self.target, self._chain, sweeps, before, begun=begun)
        self._index, self._until = index, self._begun
        self._parts = parts_of(session, phase, self.target, sweeps, self._schedule.moves(index))
        self._next_part()
        self._watch = self._watching(self.target)
        self._onset = True

    def _next_part(self) -> None:
        (self._asked, moves), *self._parts = self._parts
        self._from, self._until = self._until, self._until + moves
        self._guard: Guard | None = None

    def _change(self) -> State:
        """The network as the present part has it, and its errors."""
        simulation, asked = self._simulation, self._asked
        assert simulation is not None  # cpp_standalone takes one phase
        if self._onset:
            self.leaves(simulation.plan)
            simulation.clamp(self.target.clamp)
            simulation.start(self.start)
        self._onset = False
        pull = asked.pull if isinstance(asked, Driven) else {}
        simulation.drive({name: (mean, 1 / variance) for name, (mean, variance) in pull.items()})
        return simulation.errors

    def _learn(self) -> None:
        """Evaluate with the weights of this moment from now on."""
        session, simulator = self._session, self._session.simulator
        if self._simulation is None or simulator is None or simulator.plasticity is None:
            return
        params = self._simulation.learned(session.params)
        asked, bound = self._asked, session.program.bind(params)
        self.bound = bound
        clamp, rows = self.target.clamp, self.target.rows
        self.target = CircuitTarget(bound, clamp, rows, mobility=session.mobility)
        self._asked = asked.on(self.target) if isinstance(asked, Driven) else self.target
        if self.shown(self._until) == self._schedule.last and self._step == self._until:
            simulator.keep(params)

    def _see(self, step: int, values: State, errors: State) -> None:
        shown, self._step = self.shown(step), step
        position = {n: torch.from_numpy(values[n]) for n in self.target.free}
        seen = shown in self._schedule.steps(self._index)
        due = self._buffer.due(shown) if seen else ()
        checked = self._guard is None or guard_due(step - self._from, self._until - self._from)
        point = self._point(position, errors, checked, due)
        self.last = _Seen(position, point)
        if self._guard is None:
            self._guard = start_guard(self._asked, position, point, self._session.kernel.temperature)
        elif checked:
            check(self._guard, self._asked, self.last, step, self._info)
        if seen:
            self._watch(shown, self.last, self._info if step > self._begun else None)
            self._tick(1)

    def _point(self, position: Tree, errors: State, checked: bool, due: tuple[str, ...]) -> Point:
        """Errors of the network; gradient and energies of the circuit at its values, where they are asked for."""
        names = [s.node.name for s in self.target.steps]
        own = {n: torch.from_numpy(errors[n]) for n in names}
        if not checked and not any(path.rpartition("/")[2] in FROM_THE_ENERGY for path in due):
            return Point({}, None, Evaluation(own, None, None))
        self._learn()
        found = self._asked.evaluate(position, True)
        return found._replace(aux=found.aux._replace(errors=own))


def _in_double(session: Session) -> Session:
    """The session in float64 on the CPU, as Brian2 computes."""
    schedule = session.schedule
    if schedule is not None:
        phases = tuple(p._replace(held=_doubles(p.held), truth=_doubles(p.truth)) for p in schedule.phases)
        schedule = Schedule(phases, schedule.stated)
    return session._replace(
        params=_doubles(session.params), values=_doubles(session.values), masks=_doubles(session.masks),
        schedule=schedule,
    )  # fmt: skip


def _doubles(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().double() for name, value in values.items()}
