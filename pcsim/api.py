"""pcsim from Python: a circuit, a chain, a trace, without files. What notebooks use."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike
from torch import Tensor

from pcsim.circuit.distributions import Categorical
from pcsim.circuit.graph import Circuit, Node
from pcsim.circuit.read import load_circuit
from pcsim.circuit.source import Source, validate
from pcsim.engines.torch.program import Params, Program
from pcsim.engines.torch.refusals import refuse_dynamics
from pcsim.engines.torch.starts import Map
from pcsim.errors import StudyError, nearest
from pcsim.inference.noise import WHITE, Noise
from pcsim.inference.preconditioners import Preconditioner
from pcsim.inference.rng import child_seed, seed_stream
from pcsim.inference.types import Kernel
from pcsim.learning.draws import Draws, Which
from pcsim.learning.learner import Batch, Method, Start, check_objective, learn_batch, make_learner
from pcsim.learning.optimizers import adam
from pcsim.record.memory import memory_tree, memory_writer
from pcsim.study import checkpoint, recording
from pcsim.study.device import device_of
from pcsim.study.noise_options import noise_of
from pcsim.study.phases import check_phases, read_phases
from pcsim.study.pictures import check_shown
from pcsim.study.run_handle import Run, open_run
from pcsim.study.schedule import Given, Schedule, stated_schedule
from pcsim.study.schema import NoiseOptions
from pcsim.study.series import with_series
from pcsim.study.session import FLOATS, Session, Wanted, attributes, layout_of, scheduled
from pcsim.study.stimuli import Order

Data = Mapping[str, ArrayLike] | ArrayLike
EVERYTHING = (Wanted(("value", "error")), Wanted(("energy",)), Wanted(("gradient_norm",)))

load = load_circuit
open = open_run
Probe = Wanted


class Trained(NamedTuple):
    """What `train` gives back."""

    circuit: Circuit
    params: Params
    energy: list[float]
    """Mean energy of each batch at the end of its chains, under the updated parameters, nats per image."""

    def __repr__(self) -> str:
        numbers = sum(value.numel() for value in self.params.values())
        return f"Trained({len(self.energy)} updates of {numbers:,} parameters)"


def sample(
    circuit: Circuit | Mapping[str, Any] | str | Path,
    data: Data,
    kernel: Kernel,
    steps: int = 0,
    *,
    chains: int = 1,
    start: Start = "prior",
    spontaneous: int = 0,
    weights: Any = None,
    masks: Mapping[str, ArrayLike] | None = None,
    probes: tuple[Wanted, ...] = EVERYTHING,
    stimulus: Sequence[Mapping[str, Any]] | None = None,
    noise: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str = "auto",
) -> xr.DataTree:
    """Run chains on data and return their trace (`image, chain, step, unit`), as a study would record it.

    data: values of the clamped nodes `{node: [image, *shape]}`, or one array for the only leaf; uint8 images
    are scaled to the node's range. masks: per node, 1 = held at data. start: `prior`, `encoder` or a `Map`.
    weights: what `train` returned, a dict of parameters, a run directory or a safetensors file; default: the
    circuit's own, drawn from `seed`. stimulus: phases as in a study's `stimulus:`, in place of `steps` and
    `spontaneous`; values and series may be arrays, the clamped data are its images. noise: as a study's `noise:`,
    in steps, for the `langevin` kernel. Computes in float32 for float32 and uint8 data, else in
    float64. Raises `CircuitError`, `StudyError` and `Divergence`.
    """
    made = load_circuit(circuit)
    place = device_of(device)
    values = values_of(made, data, place)
    dtype = next(iter(values.values())).dtype if values else torch.float64
    check_start(made, start, values)
    program = Program(made)
    held = {n: mask_for(made, n, m, values) for n, m in (masks or {}).items()}
    session = Session(
        program, parameters_of(program, weights, seed, dtype, place), kernel, start, values, held,
        tuple(values), chains, spontaneous, steps, probes, noise=noise_from(noise, kernel),
    )  # fmt: skip
    if stimulus is not None:
        if steps or spontaneous:
            raise StudyError("stimulus says what is shown for how long; leave out steps and spontaneous")
        session = scheduled(session, schedule_from(session, stimulus, seed))
    layout = layout_of(session, dtype=FLOATS[dtype], attrs=attributes(made, seed=seed, engine="torch"))
    writer, store = memory_writer(layout)
    with writer:
        recording.record(session, writer, seed, ("sample",), lambda amount: None)
    return memory_tree(store)


def train(
    circuit: Circuit | Mapping[str, Any] | str | Path,
    data: Data,
    kernel: Kernel,
    steps: int,
    updates: int,
    *,
    start: Start = "prior",
    draws: Draws | Which = "all",
    objective: str = "none",
    prior_batches: int = 50,
    step_size: float = 1e-3,
    batch_size: int = 64,
    weights: Any = None,
    seed: int = 0,
    device: str = "auto",
) -> Trained:
    """Learn the circuit's weights (and encoder) from data by EM over chains, with Adam.

    kernel and steps: the chain of each batch; draws: which of its draws count (`all`, `final`, `start`, or a
    `Draws`); objective: of the encoder (`none`, `forward`, `reverse`, `jeffreys`); prior_batches: in the first
    batches chains that would start at a learning encoder start from the prior. data as for `sample`.
    steps = 0 with start `encoder`, draws `start`, objective `reverse` is a VAE. Raises as `sample` does.
    """
    made = load_circuit(circuit)
    place = device_of(device)
    values = values_of(made, data, place)
    if not values:
        raise StudyError("train needs data for at least one node")
    first = next(iter(values.values()))
    if batch_size > len(first):
        raise StudyError(f"a batch of {batch_size} is larger than the data ({len(first)} images)")
    if made.past:
        raise StudyError(
            f"train: node {next(iter(made.past))} holds the frame before, and batches are no sequence"
        )
    check_start(made, start, values)
    check_objective(made, values, objective)
    chosen = draws if isinstance(draws, Draws) else Draws(draws)
    if chosen.which not in get_args(Which):
        raise StudyError(f"draws: {chosen.which!r}; {nearest(chosen.which, get_args(Which))}")
    method = Method(kernel, steps, start, chosen, objective, prior_batches if steps else 0)
    program = Program(made)
    params = parameters_of(program, weights, seed, first.dtype, place)
    learner = make_learner(program, params, lambda p: adam(p, step_size), lambda p: adam(p, step_size))
    order = Order(len(first), batch_size, seed)
    energy = []
    for update in range(updates):
        rows = torch.from_numpy(order.rows(update)).to(place)
        batch = Batch({n: v[rows] for n, v in values.items()}, {}, rows)
        outcome = learn_batch(
            learner, method, batch, seed_stream(seed, "chain", update, device=place), update
        )
        energy.append(float(outcome.energy().mean()))
    return Trained(made, params, energy)


def schedule_from(session: Session, stimulus: Sequence[Mapping[str, Any]], seed: int) -> Schedule:
    """The schedule that a list of phases states; raises `StudyError` at the place of a mistake."""
    source = Source("sample", {"stimulus": list(stimulus)}, {}, StudyError)
    circuit = session.program.circuit
    clamp = dict.fromkeys(session.values, "image")
    items = with_series(source, ("stimulus",), stimulus, Path())
    phases = read_phases(source, ("stimulus",), items, None)
    check_phases(circuit, source, clamp, session.masks, phases)
    check_shown(circuit, source, clamp, phases, session.n_image)
    given = Given(
        session.program, session.params, clamp, session.values, session.n_image, session.start == "encoder",
        seed, source,
    )  # fmt: skip
    return stated_schedule(phases, given)


def noise_from(noise: Mapping[str, Any] | None, kernel: Kernel) -> Noise:
    """The noise that a mapping of the form of `noise:` states; raises `StudyError`."""
    if noise is None:
        return WHITE
    source = Source("sample", {"noise": dict(noise)}, {}, StudyError)
    options: NoiseOptions = validate(source, ("noise",), NoiseOptions, dict(noise))
    if options.on == "errors":
        source.fail(("noise", "on"), "errors have no state on torch; run the circuit as a study on brian2")
    if kernel.temperature == 0:
        source.fail(("noise",), "at temperature 0 there is no noise to shape")
    return noise_of(source, options, None)


def check_start(circuit: Circuit, start: Start, values: Mapping[str, Tensor]) -> None:
    """Raise `StudyError` for a start that does not exist, or that circuit and data cannot give."""
    refuse_dynamics(circuit)
    if given := [name for name in circuit.past if name in values]:
        raise StudyError(f"data: node {given[0]} holds the frame before; state its mean for the first frame")
    if timed := [node.name for node in circuit.nodes.values() if node.tau is not None]:
        raise StudyError(f"node {timed[0]} has a tau, which needs a dt: run the circuit as a study")
    if start not in ("prior", "encoder") and not isinstance(start, Map):
        raise StudyError(f"start: {start!r}; {nearest(start, ('prior', 'encoder'))}")
    if start != "encoder":
        return
    if not circuit.encoder:
        raise StudyError("start: the circuit has no encoder")
    if lacking := [edge.parent for edge in circuit.encoder if edge.parent not in values]:
        raise StudyError(f"start: the encoder reads node {lacking[0]!r}, for which there are no data")


def values_of(circuit: Circuit, data: Data, device: torch.device) -> dict[str, Tensor]:
    """Data as the values of clamped nodes, `{node: [image, *shape]}`, all of one dtype."""
    named = data if isinstance(data, Mapping) else {_only_leaf(circuit): data}
    result: dict[str, Tensor] = {}
    for name, given in named.items():
        if name not in circuit.nodes:
            raise StudyError(f"data: no node {name!r}; {nearest(name, circuit.nodes)}")
        node = circuit.nodes[name]
        value = (given if isinstance(given, Tensor) else torch.from_numpy(np.array(given))).to(device)
        if value.dim() == 0 or value.shape[1:].numel() != torch.Size(node.shape).numel():
            expected = f"[image, {', '.join(map(str, node.shape))}]"
            raise StudyError(f"data: node {name} takes {expected}, found {list(value.shape)}")
        result[name] = _in_range(node, value).reshape(len(value), *node.shape)
    if len({len(v) for v in result.values()}) > 1:
        sizes = ", ".join(f"{name} {len(v)}" for name, v in result.items())
        raise StudyError(f"data: different numbers of images: {sizes}")
    float32 = all(v.dtype == torch.float32 for v in result.values())
    return {n: v.to(torch.float32 if float32 else torch.float64) for n, v in result.items()}


def _in_range(node: Node, value: Tensor) -> Tensor:
    """uint8 images scaled to the node's range, other data as they are; refused where the node cannot take them."""
    low, high = node.distribution.data_range
    if value.dtype == torch.uint8 and not isinstance(node.distribution, Categorical):
        if bool((value <= 1).all()):
            raise StudyError(
                f"data: node {node.name}: uint8 of 0 and 1 only; images go to 255, other data as float"
            )
        value = value.float() * ((high - low) / 255) + low
    if not value.dtype.is_floating_point:
        value = value.to(torch.float64)
    if not bool(torch.isfinite(value).all()):
        raise StudyError(f"data: the values of node {node.name} are not all finite")
    if node.distribution.discrete and not bool(((value >= low) & (value <= high)).all()):
        raise StudyError(f"data: the values of node {node.name} must lie in [{low:g}, {high:g}]")
    return value


def mask_for(circuit: Circuit, name: str, mask: ArrayLike, values: Mapping[str, Tensor]) -> Tensor:
    """A mask in the dtype of its node's values: 1 held at data, 0 free; of the node's shape, or one per image."""
    if name not in values:
        raise StudyError(f"masks: node {name!r} has no data to be held at; {nearest(name, values)}")
    made = torch.as_tensor(np.asarray(mask)).to(values[name])
    if not bool(((made == 0) | (made == 1)).all()):
        raise StudyError(f"masks: node {name}: 1 (held at data) and 0 (free) only")
    if made.shape not in (values[name].shape, circuit.nodes[name].shape):
        shapes = f"{list(circuit.nodes[name].shape)} or {list(values[name].shape)}"
        raise StudyError(f"masks: node {name} takes {shapes}, found {list(made.shape)}")
    return made


def _only_leaf(circuit: Circuit) -> str:
    if len(circuit.leaves) != 1:
        raise StudyError(
            f"data: name the nodes, {{node: values}}; this circuit has the leaves {circuit.leaves}"
        )
    return circuit.leaves[0]


def parameters_of(
    program: Program, weights: Any, seed: int, dtype: torch.dtype, device: torch.device
) -> Params:
    """Fresh parameters from the seed, or those given, copied."""
    generator = torch.Generator().manual_seed(child_seed(seed, "weights"))
    params = program.initial_parameters(generator, dtype, device)
    if weights is None:
        return params
    if isinstance(weights, Trained):
        checkpoint.copy_into(params, weights.params, Path("weights"))
    elif isinstance(weights, Mapping):
        checkpoint.copy_into(params, dict(weights), Path("weights"))
    else:
        checkpoint.copy_into(params, checkpoint.load_weights(Path(weights)), Path(weights))
    return params


__all__ = ["Draws", "Map", "Preconditioner", "Probe", "Run", "Trained", "load", "open", "sample", "train"]
