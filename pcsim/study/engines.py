"""What each engine refuses of a study, with the reason."""

from pcsim.circuit.graph import Circuit
from pcsim.circuit.source import Source
from pcsim.circuit.times import seconds
from pcsim.engines.brian2.network import Dynamics, Plasticity
from pcsim.engines.torch.refusals import refuse_dynamics
from pcsim.errors import CircuitError
from pcsim.study.recording import RECORDERS
from pcsim.study.schema import Evaluation, PlasticityOptions, Study
from pcsim.study.session import Simulator

BRIAN_STEP = "1 ms"
"""dt of a study on Brian2 that states none."""
CODEGEN = "numpy"
"""How Brian2 runs a study that says nothing of it."""


def step_of(study: Study) -> str | None:
    """The study's dt; None where steps have no duration."""
    return BRIAN_STEP if study.dt is None and study.engine == "brian2" else study.dt


def simulator_of(study: Study) -> Simulator | None:
    """How Brian2 steps the study; None on torch. Raises `CircuitError` for a dt that is no time."""
    dt = step_of(study)
    if study.engine == "torch" or dt is None:
        return None
    return Simulator(
        seconds(dt), float(study.inference.kernel.arguments["step_size"]), study.codegen or CODEGEN,
        "values" if study.noise is None else study.noise.on, plasticity_of(study.plasticity),
    )  # fmt: skip


def plasticity_of(options: PlasticityOptions | None) -> Plasticity | None:
    """The rules that the options state."""
    if options is None:
        return None
    names = None if options.parameters is None else tuple(options.parameters)
    return Plasticity(options.step_size, options.precision_step_size, options.every, names)


def dynamics_of(simulator: Simulator, temperature: float) -> Dynamics:
    """What Brian2 needs to know of time and noise."""
    return Dynamics(simulator.dt, simulator.step_size, temperature, simulator.noise_on, simulator.plasticity)


def check_engine(circuit: Circuit, source: Source, study: Study) -> None:
    """Refuse what the study's engine cannot run, with the reason."""
    if study.engine == "torch":
        if study.codegen is not None:
            source.fail(("codegen",), "only engine: brian2 generates code; torch takes device and threads")
        if study.plasticity is not None:
            source.fail(
                ("plasticity",),
                "torch learns from batches, between chains; write learning, or engine: brian2",
            )
        try:
            refuse_dynamics(circuit)
        except CircuitError as failure:
            raise CircuitError(f"{source.where(('circuit',))}: {failure}") from failure
        return
    if study.engine not in RECORDERS:
        source.fail(("engine",), f"{study.engine} cannot record here; {', '.join(RECORDERS)} can")
    if study.learning is not None:
        source.fail(
            ("learning",),
            "batches are learned on torch; on brian2 give the result, weights: RUN, or learn "
            "while the network runs: plasticity",
        )
    # the other measures are of the circuit's density, not of its dynamics: torch takes them whatever the engine
    if study.evaluation.reconstruction is not None:
        source.fail(
            ("evaluation", "reconstruction"), "it is made by chains of torch; brian2 runs the recording pass"
        )
    if study.plasticity is not None and study.evaluation != Evaluation():
        source.fail(("evaluation",), "it would measure the weights before the recording that teaches them; evaluate in "
                    "another study, with weights: RUN")  # fmt: skip
    if study.device not in ("auto", "cpu"):
        source.fail(("device",), f"brian2 runs on the CPU, in float64; found {study.device}")
    if study.edge_dtype is not None:
        source.fail(("edge_dtype",), "only torch computes edges in another precision; brian2 runs in float64")
    if study.record is None:
        source.fail(("engine",), "brian2 runs the recording pass, and this study has no record section")
    _check_kernel(source, study)


def _check_kernel(source: Source, study: Study) -> None:
    """Time constants are the only mobility of a neural simulator."""
    inference = study.inference
    if inference.kernel.name != "langevin":
        source.fail(
            ("inference", "kernel"), f"brian2 runs langevin, whose step is an Euler step; found {inference.kernel.name}"
        )  # fmt: skip
    if inference.preconditioner.name != "none":
        source.fail(
            ("inference", "preconditioner"),
            f"brian2 takes none: units have time constants (tau); found {inference.preconditioner.name}, "
            "write preconditioner: none",
        )
