"""From a checked study to the values that run it: circuit, program, kernel, method, clamp."""

import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import ConfigDict, Strict, StrictInt, create_model

from pcsim.circuit.graph import Circuit
from pcsim.circuit.read import load_circuit, seconds
from pcsim.circuit.source import Path_, Source, validate
from pcsim.engines.torch.program import Program
from pcsim.engines.torch.starts import Map
from pcsim.errors import CircuitError, StudyError, nearest
from pcsim.inference.kernels import KERNELS
from pcsim.inference.limits import positive
from pcsim.inference.preconditioners import PRECONDITIONERS
from pcsim.inference.types import Kernel
from pcsim.learning.draws import Draws
from pcsim.learning.learner import OBJECTIVES, Method, Start, check_objective
from pcsim.learning.optimizers import OPTIMIZERS
from pcsim.study.checks import check_clamp, check_evaluation, check_record
from pcsim.study.load import LoadedStudy
from pcsim.study.schema import Named, Study

STARTS = ("prior", "encoder", "previous", "map")
STRICT: Mapping[Any, Any] = {int: StrictInt, float: Annotated[float, Strict()]}
"""A number is not a text, and `true` is no number."""
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

    @property
    def study(self) -> Study:
        """The checked study."""
        return self.loaded.study


def build(loaded: LoadedStudy) -> Plan:
    """The plan of a study; raises `StudyError` or `CircuitError` at whatever cannot run as written."""
    study, source = loaded.study, loaded.source
    circuit = circuit_of(loaded)
    edge_dtype = torch.bfloat16 if study.edge_dtype == "bfloat16" else None
    check_clamp(circuit, source, study)
    check_record(circuit, source, study)
    check_evaluation(circuit, source, study)
    kernel = kernel_of(source, study)
    start = start_of(source, study, circuit)
    mobility = _mobility(circuit, source, study)
    method = method_of(source, study, circuit, kernel, start)
    if method is not None:
        method = method._replace(mobility=mobility)
    device = _device(source, study.device)
    dtype = dtype_of(study, circuit)
    return Plan(loaded, circuit, Program(circuit, edge_dtype), kernel, method, start, mobility, device, dtype)


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


def arguments_of(
    source: Source,
    path: Path_,
    function: Callable[..., Any],
    given: Mapping[str, Any],
    skip: tuple[str, ...] = (),
) -> dict[str, Any]:
    """`given` checked against a function's signature: unknown, missing and mistyped arguments are reported."""
    fields: dict[str, Any] = {
        name: (STRICT.get(p.annotation, p.annotation), ... if p.default is p.empty else p.default)
        for name, p in inspect.signature(function, eval_str=True).parameters.items()
        if name not in skip
    }
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    model = create_model(getattr(function, "__name__", "arguments"), __config__=config, **fields)
    checked = validate(source, path, model, dict(given))
    return {name: getattr(checked, name) for name in fields}


def chosen(
    source: Source,
    path: Path_,
    table: Mapping[str, Callable[..., Any]],
    named: Named,
    skip: tuple[str, ...] = (),
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The table's entry of that name, with its checked arguments."""
    if named.name not in table:
        source.fail(path, f"no {path[-1]} {named.name!r}; {nearest(named.name, table)}")
    function = table[named.name]
    return function, arguments_of(source, path, function, named.arguments, skip)


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


def device_of(name: str) -> torch.device:
    """`auto` is cuda where there is one; a device that is not there is an error, never a fallback.

    Convolutions and products are set to full float32 and to algorithms that give the same bits every time:
    the ten bits of TF32 would be seen by a likelihood whose σ is near 1/255.
    """
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise StudyError(f"no device {name!r}; {nearest(name, ('auto', 'cpu', 'cuda', 'cuda:1'))}")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as failure:
        raise StudyError(f"device {name!r} cannot be used here: {str(failure).splitlines()[0]}") from failure
    return device


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
    if study.dt is not None:
        try:
            seconds(study.dt)
        except CircuitError as failure:
            source.fail(("dt",), str(failure))
    for node in circuit.nodes.values():
        if node.tau is None:
            continue
        if study.dt is None:
            source.fail(
                ("dt",), f"node {node.name} has tau: {node.tau}; the study needs dt, for example 0.1 ms"
            )
        if step is not None:
            result[node.name] = seconds(study.dt) / seconds(node.tau) / float(step)
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
