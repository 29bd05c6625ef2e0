"""The recording pass: fixed held-out images, before the stimulus, at the sweep, and along the chain."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pcsim.engines.torch import encoder
from pcsim.engines.torch.program import Bound
from pcsim.engines.torch.starts import Map, encoder_start, map_start, prior_start
from pcsim.engines.torch.target import CircuitTarget, Clamp, rows_of
from pcsim.inference.chain import WithEnergy, check, guard_due, run_chain, start_guard
from pcsim.inference.kernels import adam
from pcsim.inference.rng import seed_stream
from pcsim.inference.types import Info, Kernel, Rng, Tree
from pcsim.record import Layout, TraceWriter
from pcsim.record.buffer import BlockBuffer
from pcsim.record.probes import PROBES, Moment
from pcsim.study.session import Session, precision_of

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


def record(
    session: Session, writer: TraceWriter, seed: int, path: tuple[str | int, ...], tick: Callable[[int], None]
) -> None:
    """Run the phases of a session and write them; the draws come from `seed` and `path` alone.

    Steps −S … −1 are spontaneous (the stimulus released), 0 is the sweep (the encoder's draw where the chain
    starts there, else where the chain stands), 1 … are evoked. Raises `Divergence`, the trace still readable.
    """
    device = next(iter(session.params.values())).device
    chain = seed_stream(seed, *path, "chain", device=device)

    def shown(step: int, node: str) -> Rng:
        return seed_stream(seed, *path, "shown", step, node, device=device)

    bound = session.program.bind(session.params)
    sweeps = _sweeps(session)
    static = _static_values(session, bound, sweeps)
    writer.put_static({v.path: static[v.path] for v in writer.layout.static if v.path in static})
    with torch.no_grad(), BlockBuffer(writer, device=device) as buffer:
        rows = session.n_image * session.n_chain
        evoked = CircuitTarget(bound, _clamp(session, tuple(session.values)), rows, mobility=session.mobility)
        before: Tree | None = None
        if session.spontaneous:
            kept = tuple(n for n in session.values if n not in session.stimulus)
            free = CircuitTarget(bound, _clamp(session, kept), rows, mobility=session.mobility)
            watch = Watch(free, buffer, writer.layout, shown)
            start = prior_start(free, chain)
            state = _phase(session.kernel, free, chain, start, range(-session.spontaneous, 0), watch, tick)
            before = {**free.held, **state.position}
        start = _evoked_start(session, evoked, chain, sweeps, before)
        watch = Watch(evoked, buffer, writer.layout, shown)
        state = _phase(session.kernel, evoked, chain, start, range(session.steps + 1), watch, tick)
        if any(v.path == "energy_minimum" for v in writer.layout.static):
            writer.put_static({"energy_minimum": _least_energy(session, bound, chain, state)})


def _least_energy(session: Session, bound: Bound, rng: Rng, state: Any) -> Any:
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


def _clamp(session: Session, names: tuple[str, ...]) -> Clamp:
    values = {n: session.values[n] for n in names}
    return rows_of(values, {n: m for n, m in session.masks.items() if n in names}, session.n_chain)


def _sweeps(session: Session) -> dict[str, encoder.Sweep]:
    edges = session.program.circuit.encoder
    if not edges or not {e.parent for e in edges} <= set(session.values):
        return {}
    seen = encoder.encoder_input(session.values, session.masks)
    return encoder.encode(session.program, session.params, seen)


def _evoked_start(
    session: Session, target: CircuitTarget, rng: Rng, sweeps: dict[str, encoder.Sweep], before: Tree | None
) -> Tree:
    if session.start == "encoder":
        return encoder_start(target, rng, sweeps, session.n_chain)
    here = prior_start(target, rng) if before is None else target.start(dict(before))
    if isinstance(session.start, Map):
        return map_start(target, rng, here, session.start)
    return here


def _phase(
    kernel: Kernel,
    target: CircuitTarget,
    rng: Rng,
    start: Tree,
    steps: range,
    watch: Watch,
    tick: Callable[[int], None],
) -> Any:
    """One chain from `start` (recorded as the first of `steps`) to the last of them."""
    ask = WithEnergy(target)
    state = kernel.init(ask, rng, start)
    guard = start_guard(target, state.position, state.point, kernel.temperature)
    watch(steps[0], state, None)
    tick(1)
    for done, step in enumerate(steps[1:], 1):
        due = guard_due(done, len(steps) - 1)
        state, info = kernel.step(ask if due or watch.wants_energy(step) else target, rng, state)
        if due:
            check(guard, target, state, done, info)
        watch(step, state, info)
        tick(1)
    return state


def _static_values(session: Session, bound: Bound, sweeps: dict[str, encoder.Sweep]) -> dict[str, Any]:
    values: dict[str, Any] = {f"{n}/observed": v.cpu().numpy() for n, v in session.values.items()}
    values |= session.scalars
    for node in bound.nodes:
        precision = precision_of(node)
        if precision is not None:
            values[f"{node.name}/precision"] = precision.cpu().numpy()
    for name, sweep in sweeps.items():
        values[f"encoder/{name}/mean"] = sweep.mean.cpu().numpy()
        values[f"encoder/{name}/scale"] = sweep.variance.sqrt().cpu().numpy()
    return values
