"""What a study asks of Brian2 that it cannot build, step or hold in memory: refused at load, at its line."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from pcsim.circuit.source import Path_, Source
from pcsim.engines.brian2 import memory
from pcsim.engines.brian2.outline import Outline, outline_network
from pcsim.engines.brian2.plasticity import learned_names
from pcsim.engines.brian2.refusals import TimeStepError, check_curvature
from pcsim.engines.brian2.targets import check_target
from pcsim.engines.torch.target import Clamp
from pcsim.errors import CircuitError, StudyError
from pcsim.inference.rng import child_seed
from pcsim.study import checkpoint
from pcsim.study.engines import dynamics_of, simulator_of
from pcsim.study.phases import held_nodes, stimulus_nodes

if TYPE_CHECKING:
    from pcsim.study.build import Plan


def check_simulation(plan: "Plan") -> None:
    """Raise `StudyError` or `CircuitError` where Brian2 could not record the study; does nothing on torch.

    Precisions are those of the study's own weights, drawn or loaded where they exist already; the run checks again.
    """
    study, source = plan.study, plan.loaded.source
    simulator = simulator_of(study)
    if simulator is None or study.record is None:
        return
    with at(source, ("codegen",) if study.codegen else ("engine",)):
        check_target(simulator.codegen)
    if simulator.codegen == "cpp_standalone":
        _check_compiled(plan)
    with at(source, ("plasticity",)):
        learned_names(plan.circuit, simulator.plasticity)
    phases = _held(plan)
    everywhere = set(phases[0]).intersection(*phases)
    switched = {n for held in phases for n in held} - everywhere
    nothing = torch.zeros(())
    clamp = Clamp(dict.fromkeys(phases[0], nothing), {n: nothing for n in study.mask if n in phases[0]})
    images = study.record.images
    rows = (images if isinstance(images, int) else len(images)) * study.record.chains
    dynamics = dynamics_of(simulator, plan.kernel.temperature)
    place = ("dt",) if study.dt else ("engine",)
    with at(source, ("engine",), {TimeStepError: place, memory.MemoryLimitError: ("record",)}):
        outline = outline_network(
            plan.circuit, _parameters(plan), clamp, rows, dynamics, switched=sorted(switched)
        )  # fmt: skip
        _check_steps(outline, simulator.dt, simulator.step_size)
        if simulator.codegen == "cpp_standalone":
            _check_states(outline, rows, plan)


def _check_steps(outline: Outline, dt: float, step_size: float) -> None:
    roles = outline.roles
    whole = [n for n in roles.free if n not in roles.switched]
    check_curvature(whole, roles.nodes, outline.texts, dt, step_size)


def _check_states(outline: Outline, rows: int, plan: "Plan") -> None:
    """What a compiled program keeps of every step."""
    roles, record = outline.roles, plan.study.record
    assert record is not None
    steps = plan.phases[0].steps if plan.phases else record.steps
    shapes = {n: node.shape for n, node in roles.nodes.items()}
    memory.check_memory(memory.Extent(rows, shapes, tuple(outline.texts), roles.free), steps, memory.LIMIT)


def _check_compiled(plan: "Plan") -> None:
    """A compiled program runs without Python, so nothing can change at an onset, and nothing is read on the way."""
    record, source = plan.study.record, plan.loaded.source
    if plan.study.plasticity is not None:
        source.fail(
            ("plasticity",), "a compiled program does not hand back what it learned; use codegen: cython"
        )
    reason = (
        "codegen: cpp_standalone runs without Python, so nothing can change between its first step and its last; "
        "use codegen: cython, or record one phase"
    )
    if record is not None and record.spontaneous:
        source.fail(("record", "spontaneous"), reason)
    if len(plan.phases) > 1:
        source.fail(plan.phases[1].path, reason)
    if plan.phases and (plan.phases[0].frames or isinstance(plan.phases[0].spec.onset, dict)):
        source.fail(plan.phases[0].path, reason)


def _held(plan: "Plan") -> list[tuple[str, ...]]:
    """The nodes that each phase holds."""
    study = plan.study
    if plan.phases:
        stimulus = stimulus_nodes(plan.circuit, study.clamp, plan.phases)
        return [held_nodes(phase, study.clamp, stimulus) for phase in plan.phases]
    shown = tuple(study.clamp)
    if study.record is None or not study.record.spontaneous:
        return [shown]
    return [tuple(n for n in shown if study.clamp[n] != "image"), shown]


def _parameters(plan: "Plan") -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(child_seed(plan.study.seed, "weights"))
    params = plan.program.initial_parameters(generator)  # in float64, as Brian2 computes
    if plan.study.weights is not None and (path := plan.loaded.path(plan.study.weights)).exists():
        checkpoint.copy_into(params, checkpoint.load_weights(path), path)
    return params


@contextmanager
def at(
    source: Source, path: Path_, others: Mapping[type[Exception], Path_] | None = None
) -> Iterator[None]:  # fmt: skip
    """Errors from within get the line of `path`, or of the place that `others` names for their kind."""
    try:
        yield
    except (CircuitError, StudyError) as failure:
        place = (others or {}).get(type(failure), path)
        kind = StudyError if isinstance(failure, StudyError) else CircuitError
        raise kind(f"{source.where(place)}: {failure}") from failure
