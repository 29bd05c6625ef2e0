"""The recording pass on torch: fixed held-out images, phase by phase, one chain through all of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pcsim.engines.torch import encoder
from pcsim.engines.torch.drive import Driven
from pcsim.engines.torch.program import Bound
from pcsim.engines.torch.starts import Map, encoder_start, map_start, prior_start
from pcsim.engines.torch.target import CircuitTarget, rows_of
from pcsim.inference.chain import WithEnergy, check, guard_due, run_chain, start_guard
from pcsim.inference.kernels import adam
from pcsim.inference.noise import WHITE, Filter
from pcsim.inference.rng import seed_stream
from pcsim.inference.types import Info, Kernel, Rng, Target, Tree
from pcsim.record import Layout, TraceWriter
from pcsim.record.buffer import BlockBuffer
from pcsim.record.probes import PROBES, Moment
from pcsim.study.schedule import Phase
from pcsim.study.session import Session, precision_of, stated_values

DESCENT = 150
"""Steps of each of the two descents that look for the least energy."""


class Watch:
    """Turns the states of one phase into `Moment`s and hands them to the buffer, at the steps that are recorded."""

    def __init__(
        self, target: CircuitTarget, buffer: BlockBuffer, layout: Layout, rng: Callable[[int, str], Rng]
    ) -> None:
        """`rng` gives the stream of ancestral draws of one step and node: a resumed pass skips steps."""
        self._target, self._buffer, self._rng = target, buffer, rng
        # discrete nodes that are not held, or held in part: what is not observed is shown as draws
        self._shown = (*target.dropped, *(n for n in target.clamp.masks if n in target.held))
        self._paths = {v.path: v for v in layout.stepped}
        shapes = {p: (target.rows, *_full_shape(target.bound, p)) for p in self._paths}
        device = target.bound.nodes[0].mean.device
        self._nothing = {p: torch.full(s, torch.nan, device=device) for p, s in shapes.items()}

    def wants_energy(self, step: int) -> bool:
        """Does a probe read the energy at this step?"""
        return any(PROBES[path.rpartition("/")[2]].energy for path in self._buffer.due(step))

    def __call__(self, step: int, state: Any, info: Info | None) -> None:
        """Record one step."""
        due = self._buffer.due(step)
        if not due:
            return
        moment = self._moment(step, state, info, due)
        values = {}
        for path in due:
            node, _, name = path.rpartition("/")
            value = PROBES[name].read(moment, node)
            values[path] = self._nothing[path] if value is None else value
        self._buffer.put(step, values)

    def _moment(self, step: int, state: Any, info: Info | None, due: tuple[str, ...]) -> Moment:
        point, target = state.point, self._target
        values = {**target.held, **state.position}
        for name in (n for n in self._shown if f"{n}/value" in due):
            drawn = _ancestral_value(target.bound, name, values, self._rng(step, name), target.rows)
            mask = target.clamp.masks.get(name)
            values[name] = drawn if mask is None else torch.where(mask.bool(), values[name], drawn)
        scaling = getattr(state, "scaling", None)
        step_size = info.step_size if info is not None and isinstance(info.step_size, Tensor) else None
        return Moment(
            values, point.grad, point.aux.errors, point.aux.energies or {}, point.energy,
            scaling.drift if scaling is not None else {}, info.acceptance if info else None, step_size,
        )  # fmt: skip


def _full_shape(bound: Bound, path: str) -> tuple[int, ...]:
    node, _, name = path.rpartition("/")
    if not PROBES[name].per_unit:
        return ()
    return next(n.shape for n in bound.nodes if n.name == node)


def _ancestral_value(bound: Bound, name: str, values: Tree, rng: Rng, rows: int) -> Tensor:
    """A draw of an unclamped discrete leaf given its parents: what the circuit would show there."""
    node = next(n for n in bound.nodes if n.name == name)
    eta, _ = bound.prediction(node, values, rows)
    return node.distribution.sample(node.params, eta.contiguous(), rng)


def record_on_torch(
    session: Session, writer: TraceWriter, seed: int, path: tuple[str | int, ...], tick: Callable[[int], None]
) -> None:
    """As `pcsim.study.recording.record`."""
    device = next(iter(session.params.values())).device
    chain = seed_stream(seed, *path, "chain", device=device)
    noisy = chain if session.noise == WHITE else Filter(chain, session.noise)

    def shown(step: int, node: str) -> Rng:
        return seed_stream(seed, *path, "shown", step, node, device=device)

    bound, schedule = session.program.bind(session.params), session.timeline
    static = static_values(session, bound)
    writer.put_static({v.path: static[v.path] for v in writer.layout.static if v.path in static})
    past = session.program.circuit.past
    before: Tree | None = None
    with torch.no_grad(), BlockBuffer(writer, device=device) as buffer:
        for index, phase in enumerate(schedule.phases):
            known = {n: before[of] for n, of in past.items()} if before is not None else {}
            target = target_of(session, bound, phase, known)
            sweeps = sweeps_of(session, phase.held)
            begun = schedule.onsets[index] > 0
            start = phase_start(session, phase, target, chain, sweeps, before, begun=begun)
            watch = Watch(target, buffer, writer.layout, shown)
            parts = parts_of(session, phase, target, sweeps, schedule.moves(index))
            state = _run(session.kernel, parts, noisy, start, schedule.steps(index), watch, tick)
            before = {**target.held, **state.position}
        if any(v.path == "energy_minimum" for v in writer.layout.static):
            writer.put_static({"energy_minimum": least_energy(session, bound, chain, state)})


def target_of(session: Session, bound: Bound, phase: Phase, known: Mapping[str, Tensor]) -> CircuitTarget:
    """The posterior of one phase; `known` are the past nodes, `[row, *shape]`."""
    masks = {n: m for n, m in session.masks.items() if n in phase.held}
    clamp = rows_of(phase.held, masks, session.n_chain)
    clamp = clamp._replace(values={**clamp.values, **known})
    return CircuitTarget(bound, clamp, session.n_image * session.n_chain, mobility=session.mobility)


def sweeps_of(session: Session, held: Mapping[str, Tensor]) -> dict[str, encoder.Sweep]:
    """What the encoder makes of the held values; empty where it lacks one of its inputs."""
    edges = session.program.circuit.encoder
    if not edges or not {e.parent for e in edges} <= set(held):
        return {}
    seen = encoder.encoder_input(held, session.masks)
    return encoder.encode(session.program, session.params, seen)


def phase_start(
    session: Session, phase: Phase, target: CircuitTarget, rng: Rng, sweeps: dict[str, encoder.Sweep],
    before: Tree | None, *, begun: bool,
) -> Tree:  # fmt: skip
    """Where the chain of a phase starts; `begun`: a stimulus was shown before."""
    if phase.onset == "replace":
        return encoder_start(target, rng, sweeps, session.n_chain)
    here = prior_start(target, rng) if before is None else target.start(dict(before))
    if isinstance(session.start, Map) and not phase.blank and not begun:
        return map_start(target, rng, here, session.start)
    return here


def parts_of(
    session: Session, phase: Phase, target: CircuitTarget, sweeps: dict[str, encoder.Sweep], moves: int
) -> list[tuple[Target, int]]:
    """The targets of one phase, and for how many steps each of them leads."""
    if phase.onset != "drive":
        return [(target, moves)]
    driven = Driven(target, sweeps, session.n_chain)
    first = moves if phase.drive_steps is None else phase.drive_steps
    return [(driven, first), *([(target, moves - first)] if first < moves else [])]


def least_energy(session: Session, bound: Bound, rng: Rng, state: Any) -> Any:
    """U after a descent from the best chain's end, `[image]`: where the energy of a sampler stands above.

    Adam with a large and then a small step, one row per image; an upper bound of the true minimum, as any
    descent gives.
    """
    energy = state.point.energy.reshape(session.n_image, session.n_chain)
    best = energy.argmin(1) + torch.arange(session.n_image, device=energy.device) * session.n_chain
    position = {name: z[best] for name, z in state.position.items()}
    values = rows_of(session.values, session.masks, 1)
    target = CircuitTarget(bound, values, session.n_image, mobility=session.mobility)
    for step_size in (0.05, 0.005):
        position = run_chain(adam(step_size), target, rng, position, DESCENT).position
    found = target.evaluate(position, True).energy
    assert found is not None
    return torch.minimum(found, energy.amin(1)).cpu().double().numpy()


def _run(
    kernel: Kernel, parts: Sequence[tuple[Target, int]], rng: Rng, start: Tree, steps: range, watch: Watch,
    tick: Callable[[int], None],
) -> Any:  # fmt: skip
    """One chain from `start` through its targets; recorded from the start on, at `steps`."""
    step, state = steps[0], None
    for target, moves in parts:
        ask = WithEnergy(target)
        if isinstance(rng, Filter):
            rng.leaves(start)
        state = kernel.init(ask, rng, start)
        guard = start_guard(target, state.position, state.point, kernel.temperature)
        if step == steps[0]:
            watch(step, state, None)
            tick(1)
        for done in range(1, moves + 1):
            step += 1
            due, seen = guard_due(done, moves), step in steps
            wanted = due or (seen and watch.wants_energy(step))
            state, info = kernel.step(ask if wanted else target, rng, state)
            if due:
                check(guard, target, state, done, info)
            if seen:
                watch(step, state, info)
                tick(1)
        start = state.position
    return state


def static_values(session: Session, bound: Bound) -> dict[str, Any]:
    values: dict[str, Any] = {f"{n}/observed": v.cpu().numpy() for n, v in session.values.items()}
    values |= session.scalars
    values |= stated_values(session)
    for node in bound.nodes:
        precision = precision_of(node)
        if precision is not None:
            values[f"{node.name}/precision"] = precision.cpu().numpy()
    for name, sweep in sweeps_of(session, session.values).items():
        values[f"encoder/{name}/mean"] = sweep.mean.cpu().numpy()
        values[f"encoder/{name}/scale"] = sweep.variance.sqrt().cpu().numpy()
    return values
