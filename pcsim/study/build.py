"""From a checked study to the values that run it: circuit, program, kernel, method, clamp."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from pcsim.circuit.graph import Circuit
from pcsim.circuit.read import load_circuit
from pcsim.circuit.source import Path_, Source
from pcsim.circuit.times import seconds
from pcsim.engines.torch.program import Program
from pcsim.engines.torch.starts import Map
from pcsim.errors import CircuitError, StudyError, nearest
from pcsim.inference.kernels import KERNELS
from pcsim.inference.limits import positive
from pcsim.inference.noise import WHITE, Noise
from pcsim.inference.preconditioners import PRECONDITIONERS
from pcsim.inference.types import Kernel
from pcsim.learning.draws import Draws
from pcsim.learning.learner import OBJECTIVES, Method, Start, check_objective
from pcsim.learning.optimizers import OPTIMIZERS
from pcsim.study.arguments import arguments_of, chosen
from pcsim.study.checks import check_clamp, check_evaluation, check_record
from pcsim.study.checks_brian2 import check_simulation
from pcsim.study.device import device_of as device_of
from pcsim.study.engines import check_engine, step_of
from pcsim.study.load import LoadedStudy
from pcsim.study.noise_options import check_noise, noise_of
from pcsim.study.phases import Written, check_phases, read_phases
from pcsim.study.pictures import check_shown
from pcsim.study.schema import Named, Study
from pcsim.study.series import with_series

STARTS = ("prior", "encoder", "previous", "map")
PRECONDITIONED = ("langevin",)
"""Kernels that take a preconditioner."""


class Plan(NamedTuple):
    """Everything that a run needs and that is decided before any compute."""

    loaded: LoadedStudy
    circuit: Circuit
    program: Program
    kernel: Kernel
    method: Method | None
    start: Start
    mobility: Mapping[str, float]
    device: torch.device
    dtype: torch.dtype
    noise: Noise = WHITE
    phases: tuple[Written, ...] = ()
    """Of a stated stimulus; none where `record` says it all."""

    @property
    def study(self) -> Study:
        """The checked study."""
        return self.loaded.study


def build(loaded: LoadedStudy) -> Plan:
    """The plan of a study; raises `StudyError` or `CircuitError` at whatever cannot run as written."""
    loaded = self_contained(loaded)
    study, source = loaded.study, loaded.source
    circuit = circuit_of(loaded)
    check_engine(circuit, source, study)
    edge_dtype = torch.bfloat16 if study.edge_dtype == "bfloat16" else None
    check_clamp(circuit, source, study)
    check_record(circuit, source, study)
    phases = phases_of(loaded, circuit)
    check_evaluation(circuit, source, study)
    kernel = kernel_of(source, study)
    start = start_of(source, study, circuit)
    mobility = _mobility(circuit, source, study)
    method = method_of(source, study, circuit, kernel, start)
    if method is not None:
        method = method._replace(mobility=mobility)
    device = _device(source, "cpu" if study.engine == "brian2" else study.device)
    dtype = dtype_of(study, circuit)
    check_noise(source, study, kernel.temperature)
    noise = noise_of(source, study.noise, step_of(study))
    _check_warm_up(source, kernel, phases)
    program = Program(circuit, edge_dtype)
    plan = Plan(loaded, circuit, program, kernel, method, start, mobility, device, dtype, noise, phases)
    check_simulation(plan)
    return plan


def phases_of(loaded: LoadedStudy, circuit: Circuit) -> tuple[Written, ...]:
    """The phases of a stated stimulus, checked with every value in them; none without one."""
    study, source = loaded.study, loaded.source
    if study.stimulus is None or study.record is None:
        return ()
    phases = read_phases(source, ("stimulus",), study.stimulus, step_of(study))
    check_phases(circuit, source, study.clamp, study.mask, phases)
    images = study.record.images
    check_shown(circuit, source, study.clamp, phases, images if isinstance(images, int) else len(images))
    return phases


def self_contained(loaded: LoadedStudy) -> LoadedStudy:
    """The study with the numbers of its CSV files in place: they decide its results, not the files' names."""
    if loaded.study.stimulus is None:
        return loaded
    items = with_series(loaded.source, ("stimulus",), loaded.study.stimulus, loaded.folder)
    return loaded._replace(study=loaded.study.model_copy(update={"stimulus": items}))


def _check_warm_up(source: Source, kernel: Kernel, phases: tuple[Written, ...]) -> None:
    """Each phase starts the kernel anew: it must have room for what adapts first."""
    for phase in phases:
        if phase.steps <= kernel.warm_up:
            source.fail(
                (*phase.path, "steps"),
                f"the kernel adapts in the first {kernel.warm_up} steps of every phase, and this one has "
                f"{phase.steps}; write preconditioner: none, or a smaller window",
            )
        drive = phase.spec.onset["drive"] if isinstance(phase.spec.onset, dict) else phase.steps
        if min(drive, phase.steps - drive or drive) <= kernel.warm_up:
            source.fail(
                (*phase.path, "onset"),
                f"the kernel adapts in the first {kernel.warm_up} steps of a drive and of what comes after it, and "
                f"they have {drive} and {phase.steps - drive}; write preconditioner: none, or a smaller window",
            )


def circuit_of(loaded: LoadedStudy) -> Circuit:
    """The study's circuit, from its file or stated in place."""
    value = loaded.study.circuit
    if isinstance(value, str):
        try:
            return load_circuit(loaded.path(value))
        except CircuitError as failure:
            if not loaded.path(value).is_file():
                raise CircuitError(f"{loaded.source.where(('circuit',))}: {failure}") from failure
            raise
    return load_circuit(value)


def kernel_of(source: Source, study: Study) -> Kernel:
    """The transition that the study names, with its preconditioner."""
    inference, path = study.inference, ("inference", "kernel")
    function, arguments = chosen(source, path, KERNELS, inference.kernel, ("preconditioner",))
    if inference.kernel.name in PRECONDITIONED:
        make, options = chosen(
            source, ("inference", "preconditioner"), PRECONDITIONERS, inference.preconditioner
        )
        try:
            arguments["preconditioner"] = make(**options)
        except ValueError as failure:
            source.fail(("inference", "preconditioner"), str(failure).removeprefix("preconditioner."))
    elif "preconditioner" in inference.model_fields_set and inference.preconditioner.name != "none":
        source.fail(
            ("inference", "preconditioner"), f"kernel {inference.kernel.name} takes no preconditioner"
        )
    try:
        kernel: Kernel = function(**arguments)
    except ValueError as failure:
        source.fail(path, str(failure).removeprefix("kernel."))
    return kernel


def method_of(source: Source, study: Study, circuit: Circuit, kernel: Kernel, start: Any) -> Method | None:
    """How a batch is learned from; None for a study that only looks."""
    learning = study.learning
    if learning is None:
        return None
    objective = learning.encoder.objective
    place: Path_ = ("learning", "encoder", "objective")
    if learning.learner == "elbo":
        objective, place = "reverse", ("learning", "learner")
        if not circuit.encoder:
            source.fail(place, "elbo needs an encoder, and the circuit has none")
    if objective not in OBJECTIVES:
        source.fail(place, f"no objective {objective!r}; {nearest(objective, OBJECTIVES)}")
    try:
        check_objective(circuit, study.clamp, objective)
    except StudyError as failure:
        source.fail(place, str(failure))
    # checked here too, so that `pcsim check` sees them; the learner makes its own
    optimizer_of(source, ("learning", "optimizer"), learning.optimizer)
    if learning.encoder.optimizer is not None:
        optimizer_of(source, ("learning", "encoder", "optimizer"), learning.encoder.optimizer)
    if learning.learner == "elbo":
        if start != "encoder":
            source.fail(("inference", "start"), "learner: elbo infers by the encoder; write start: encoder")
        return Method(
            kernel, 0, "encoder", Draws("start"), "reverse", prior_batches=0, n_chain=learning.chains
        )
    which = learning.draws
    draws = (
        Draws("last", which["last"], learning.include_start)
        if isinstance(which, dict)
        else Draws(which, include_start=learning.include_start)
    )
    try:
        if learning.update == "batch":
            draws.check(study.inference.steps, kernel.warm_up)
    except StudyError as failure:
        source.fail(("learning", "draws"), str(failure))
    if learning.update == "step":
        if objective != "none" or start == "previous":
            source.fail(("learning", "update"), "step (incremental PC) learns no encoder and keeps no chains")
        if draws != Draws() or kernel.warm_up or study.inference.kernel.name == "mala":
            source.fail(
                ("learning", "update"),
                "step (incremental PC) learns at every step: it takes no draws, and no kernel that adapts or "
                "that compares energies (write preconditioner: none)",
            )
    return Method(
        kernel, study.inference.steps, start, draws, objective, learning.encoder.prior_batches,
        learning.update, learning.chains,
    )  # fmt: skip


def start_of(source: Source, study: Study, circuit: Circuit) -> Any:
    """`prior`, `encoder`, `previous`, or a `Map` descent."""
    named, path = study.inference.start, ("inference", "start")
    if named.name not in STARTS:
        source.fail(path, f"no start {named.name!r}; {nearest(named.name, STARTS)}")
    if named.name == "encoder" and not circuit.encoder:
        source.fail(path, "the circuit has no encoder")
    if named.name != "map":
        if named.arguments:
            source.fail(path, f"{named.name} takes no arguments, found {named.arguments}")
        return named.name
    given = dict(named.arguments)
    steps = given.pop("steps", 100)
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        source.fail((*path, "steps"), f"expected a positive number of steps, found {steps!r}")
    kernel_name = given.pop("kernel", "adam")
    if not isinstance(kernel_name, str) or kernel_name not in KERNELS:
        source.fail((*path, "kernel"), f"no kernel {kernel_name!r}; {nearest(kernel_name, KERNELS)}")
    arguments = arguments_of(source, path, KERNELS[kernel_name], given, ("preconditioner",))
    try:
        return Map(KERNELS[kernel_name](**arguments), steps)
    except ValueError as failure:
        source.fail(path, str(failure).removeprefix("kernel."))


def optimizer_of(
    source: Source, path: Path_, named: Named
) -> Callable[[list[torch.Tensor]], torch.optim.Optimizer]:
    """A function from parameters to the optimiser that the study names."""
    function, arguments = chosen(source, path, OPTIMIZERS, named, ("params",))
    try:
        function([torch.zeros(1)], **arguments)  # the optimiser checks its own ranges
        positive("step_size", arguments["step_size"])
    except ValueError as failure:
        source.fail(path, str(failure))
    return lambda params: function(params, **arguments)


def _device(source: Source, name: str) -> torch.device:
    try:
        return device_of(name)
    except StudyError as failure:
        source.fail(("device",), str(failure))


def dtype_of(study: Study, circuit: Circuit) -> torch.dtype:
    """float32 for images, float64 for circuits without data, unless the study says otherwise."""
    if study.dtype != "auto":
        return torch.float32 if study.dtype == "float32" else torch.float64
    return torch.float32 if study.data is not None else torch.float64


def _mobility(circuit: Circuit, source: Source, study: Study) -> dict[str, float]:
    """dt/τ per node, relative to the kernel's step size: γ_n = dt/τ_n where a node has a τ."""
    result: dict[str, float] = {}
    step = study.inference.kernel.arguments.get("step_size")
    dt = step_of(study)
    if dt is not None:
        try:
            seconds(dt)
        except CircuitError as failure:
            source.fail(("dt",), str(failure))
    for node in circuit.nodes.values():
        if node.tau is None:
            continue
        if dt is None:
            source.fail(
                ("dt",), f"node {node.name} has tau: {node.tau}; the study needs dt, for example 0.1 ms"
            )
        if step is not None:
            result[node.name] = seconds(dt) / seconds(node.tau) / float(step)
    return result


def version() -> str:
    """The package's version."""
    from importlib.metadata import version as installed

    return installed("pcsim")


def where(path: Path) -> str:
    """A path as a reader would type it: relative to the working directory where it lies below it."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
