"""What a recording pass is, and what its trace holds: one circuit, a few images, phases, probes."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcsim.circuit.distributions import DiscretisedGaussian, Gaussian, StudentT
from pcsim.circuit.graph import Circuit
from pcsim.engines.brian2.network import Plasticity
from pcsim.engines.torch.program import NodePlan, Params, Program
from pcsim.engines.torch.starts import Map
from pcsim.errors import StudyError, nearest
from pcsim.inference.noise import WHITE, Noise
from pcsim.inference.types import Kernel
from pcsim.record import Coord, Layout, Variable, block_size, phases, recorded_steps
from pcsim.record.layout import axes_of
from pcsim.record.probes import probe
from pcsim.study.schedule import Schedule, plain_schedule

FLOATS = {torch.float32: "float32", torch.float64: "float64"}


class Wanted(NamedTuple):
    """One probe of a study: what, of which nodes and units, every how many steps."""

    read: tuple[str, ...]
    nodes: tuple[str, ...] | None = None
    units: tuple[int, ...] | None = None
    every: int = 1


def nothing_kept(params: Params) -> None:
    """Forgets what was learned."""


class Simulator(NamedTuple):
    """How a neural simulator steps a session."""

    dt: float
    """Seconds."""
    step_size: float
    """dt/tau of the nodes that state no tau."""
    codegen: str = "numpy"
    noise_on: Literal["values", "errors"] = "values"
    plasticity: Plasticity | None = None
    keep: Callable[[Params], None] = nothing_kept
    """What becomes of learned parameters, in torch's form; called before the last step is written."""


class Session(NamedTuple):
    """One circuit at one set of parameters, watched while it infers a few images."""

    program: Program
    params: Params
    kernel: Kernel
    start: str | Map
    values: Mapping[str, Tensor]
    """Clamped nodes, `[image, *shape]`."""
    masks: Mapping[str, Tensor]
    stimulus: tuple[str, ...]
    """Clamped nodes that are released in the spontaneous phase."""
    n_chain: int
    spontaneous: int
    steps: int
    probes: tuple[Wanted, ...]
    mobility: Mapping[str, float] = {}
    scalars: Mapping[str, float] = {}
    """Numbers that stand at the root of the trace: `step_size`, `temperature`."""
    schedule: Schedule | None = None
    """What `stimulus:` states; `spontaneous` and `steps` are then its first and last step (`scheduled`)."""
    noise: Noise = WHITE
    engine: str = "torch"
    simulator: Simulator | None = None
    """Of engine brian2."""

    @property
    def timeline(self) -> Schedule:
        """The schedule, stated or not."""
        if self.schedule is not None:
            return self.schedule
        encodes = self.start == "encoder"
        return plain_schedule(self.values, self.stimulus, self.spontaneous, self.steps, encodes)

    @property
    def n_image(self) -> int:
        """Number of images."""
        held = (
            [self.values, *(phase.held for phase in self.schedule.phases)] if self.schedule else [self.values]
        )
        return next((len(v) for values in held for v in values.values()), 1)


def scheduled(session: Session, schedule: Schedule) -> Session:
    """The session with a stated schedule."""
    return session._replace(schedule=schedule, spontaneous=-schedule.first, steps=schedule.last)


def layout_of(
    session: Session,
    *,
    dtype: str,
    block: int | None = None,
    updates: tuple[int, ...] | None = None,
    coords: tuple[Coord, ...] = (),
    attrs: Mapping[str, Any] | None = None,
) -> Layout:
    """What the trace of a session holds, before a step is taken."""
    circuit = session.program.circuit
    variables = [v for wanted in session.probes for v in _variables(circuit, wanted, dtype)]
    variables += _static(session, dtype)
    finest = min((w.every for w in session.probes), default=1)
    steps = recorded_steps(-session.spontaneous, session.steps, finest)
    fitting = block_size(tuple(variables), session.n_image * session.n_chain, steps)
    return Layout(
        tuple(variables), session.n_image, session.n_chain, steps,
        block=fitting if block is None else min(block, len(steps)), updates=updates,
        coords=(*_phase_coords(session, steps), *coords), attrs={**_stated_attrs(session), **(attrs or {})},
    )  # fmt: skip


def _phase_coords(session: Session, steps: range) -> tuple[Coord, ...]:
    """`phase(step)`; with a stated schedule also `frame(step)`, the index of the phase, and the `onset` of each."""
    schedule = session.schedule
    if schedule is None:
        return (phases(steps),)
    frames = np.array([schedule.frame(step) for step in steps])
    names = np.array([schedule.phases[frame].name for frame in frames])
    return (
        Coord("phase", ("step",), names, long_name="phase of the stimulus"),
        Coord("frame", ("step",), frames, long_name="index of the phase"),
        Coord("onset", ("onset",), np.array(schedule.onsets), long_name="step at which each phase begins"),
    )


def _stated_attrs(session: Session) -> dict[str, Any]:
    return {} if session.schedule is None else {"stimulus": session.schedule.record()}


def stated_values(session: Session) -> dict[str, NDArray[Any]]:
    """What a stated schedule shows and hides: `<node>/shown` and `<node>/truth`, `[image, onset, *shape]`.

    `shown`: nodes that some phase holds at values of its own, in every phase that holds them; where all that is
    shown are the images and what is made of them, nothing is stored again. `truth`: latents of simulated frames.
    NaN in the other phases.
    """
    if session.schedule is None:
        return {}
    phases, shapes = session.schedule.phases, session.program.circuit.nodes
    own = {n for p in phases for n in p.own}
    found: dict[str, NDArray[Any]] = {}
    for name in shapes:
        for key, held in (
            ("shown", [p.held if name in own else {} for p in phases]),
            ("truth", [p.truth for p in phases]),
        ):
            if not any(name in values for values in held):
                continue
            array = np.full((session.n_image, len(phases), *shapes[name].shape), np.nan)
            for index, values in enumerate(held):
                if name in values:
                    array[:, index] = values[name].cpu().double().numpy()
            found[f"{name}/{key}"] = array
    return found


def _whole_axes(session: Session, name: str, shape: tuple[int, ...]) -> tuple[str, ...]:
    """The axes of an array of all units: a dim belongs to one selection of units in a group."""
    nodes = session.program.circuit.nodes
    picked = any(name in (w.nodes or nodes) for w in session.probes if w.units is not None)
    return tuple(f"all_{axis}" if picked else axis for axis in axes_of(shape))


def _stated(session: Session, dtype: str) -> list[Variable]:
    texts = {"shown": "what the node is held at in each phase", "truth": "what the simulation drew"}
    found = []
    for path, array in stated_values(session).items():
        name, _, key = path.partition("/")
        axes = _whole_axes(session, name, array.shape[2:])
        found.append(
            Variable(path, array.shape[1:], None, ("image",), dtype, ("onset", *axes), long_name=texts[key])
        )
    return found


def _variables(circuit: Circuit, wanted: Wanted, dtype: str) -> list[Variable]:
    found = []
    for name in wanted.read:
        kind = probe(name)
        if kind.root and not wanted.nodes:
            found.append(
                Variable(name, every=wanted.every, dtype=dtype, units=kind.units, long_name=kind.long_name)
            )
        if not kind.node:
            continue
        moving = tuple(n for n in circuit.nodes if name == "value" or n not in circuit.past)
        for node_name in wanted.nodes or moving:
            if node_name not in circuit.nodes:
                raise StudyError(f"record.probes: no node {node_name!r}; {nearest(node_name, circuit.nodes)}")
            shape = circuit.nodes[node_name].shape if kind.per_unit else ()
            select = wanted.units if kind.per_unit else None
            if select is not None:
                if max(select) >= shape[0]:
                    raise StudyError(f"record.probes: node {node_name} has units 0 to {shape[0] - 1}")
                shape = (len(select), *shape[1:])
            found.append(
                Variable(
                    f"{node_name}/{name}", shape, wanted.every, dtype=dtype, select=select,
                    units=kind.units, long_name=kind.long_name,
                )
            )  # fmt: skip
    return found


def _static(session: Session, dtype: str) -> list[Variable]:
    circuit = session.program.circuit
    found = [
        Variable(f"{name}/observed", circuit.nodes[name].shape, None, ("image",), dtype,
                 _whole_axes(session, name, circuit.nodes[name].shape), per_update=False,
                 long_name="what the node is clamped to")
        for name in session.values
    ]  # fmt: skip
    recorded = {name for wanted in session.probes for name in wanted.read}
    found += [
        Variable(name, (), None, (), "float64", long_name=name.replace("_", " "))
        for name in session.scalars
        if name not in recorded
    ]
    for node in session.program.bind(session.params).nodes:
        value = precision_of(node)
        if value is not None:
            full = value.dim() == 2 and value.shape != node.shape
            axes = _whole_axes(session, node.name, value.shape[:1] if full else value.shape)
            axes = (*axes, "other_unit") if full else axes
            found.append(
                Variable(f"{node.name}/precision", tuple(value.shape), None, (), "float64", axes,
                         long_name="precision of the node's distribution")
            )  # fmt: skip
    found += _stated(session, dtype)
    if session.schedule is None and any("energy" in wanted.read for wanted in session.probes):
        found.append(
            Variable("energy_minimum", (), None, ("image",), "float64", units="nat",
                     long_name="least energy that descents from the chains' ends find")
        )  # fmt: skip
    for edge in circuit.encoder if {e.parent for e in circuit.encoder} <= set(session.values) else ():
        shape = circuit.nodes[edge.child].shape
        for name, text in (("mean", "mean of q(z|x)"), ("scale", "standard deviation of q(z|x)")):
            found.append(
                Variable(f"encoder/{edge.child}/{name}", shape, None, ("image",), dtype, long_name=text)
            )
    return found


def precision_of(node: NodePlan) -> Tensor | None:
    """The precision Π of a node: a number, per unit, or a matrix; None where the distribution has none."""
    distribution, params = node.distribution, node.params
    if isinstance(distribution, DiscretisedGaussian):
        log_scale = params.get("log_scale")
        sigma = torch.tensor(distribution.scale) if log_scale is None else 1 / 255 + log_scale.exp()
        return sigma.double() ** -2
    if not isinstance(distribution, Gaussian | StudentT):
        return None
    if "cholesky" in params:
        stored = params["cholesky"]
        factor = stored.tril(-1) + stored.diagonal().exp().diag_embed()
        return (factor @ factor.T).double()
    if "log_precision" in params:
        return params["log_precision"].exp().double()
    if "precision" in params:
        return params["precision"].double()
    return torch.tensor(distribution.precision, dtype=torch.float64)


def attributes(circuit: Circuit, **more: Any) -> dict[str, Any]:
    """Root attributes of a trace: the circuit as JSON, and whatever the caller knows."""
    return {"circuit": json.dumps(circuit.spec), **more}


def label_coord(labels: Tensor | None) -> tuple[Coord, ...]:
    """The images' labels as a coordinate, where there are any."""
    if labels is None:
        return ()
    return (
        Coord("label", ("image",), labels.cpu().numpy().astype(np.int64), long_name="class of the image"),
    )
