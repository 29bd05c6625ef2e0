"""From a study's `record` section to the session that it means and the layout of its trace."""

import inspect

import numpy as np

from pcsim.circuit.times import seconds
from pcsim.engines.torch.program import Params
from pcsim.inference.kernels import KERNELS
from pcsim.record import Coord, Layout, recorded_steps
from pcsim.study import directory
from pcsim.study.build import Plan
from pcsim.study.checks_brian2 import at
from pcsim.study.engines import CODEGEN, simulator_of, step_of
from pcsim.study.milestones import milestones_of
from pcsim.study.schedule import Given, stated_schedule
from pcsim.study.session import FLOATS, Session, Wanted, attributes, label_coord, layout_of, scheduled
from pcsim.study.stimuli import place
from pcsim.study.training import Materials


def probes_of(plan: Plan) -> tuple[Wanted, ...]:
    """The study's own probes, else values and errors of the free nodes and the energy.

    Never all of the clamped nodes by default: they do not move, and they are the largest.
    """
    study = plan.study
    if study.record is not None and study.record.probes:
        return tuple(
            Wanted(
                tuple(p.read), None if p.nodes is None else tuple(p.nodes),
                None if p.units is None else tuple(p.units), p.every,
            )
            for p in study.record.probes
        )  # fmt: skip
    held = {n for n in study.clamp if n not in study.mask} | set(plan.circuit.past)
    free = tuple(n for n in plan.circuit.nodes if n not in held)
    return Wanted(("value", "error"), free), Wanted(("energy",))


def session_of(plan: Plan, materials: Materials, params: Params) -> tuple[Session, Layout]:
    """What the study records, and the layout of its trace."""
    study = plan.study
    assert study.record is not None
    wanted = study.record
    rows = np.arange(wanted.images) if isinstance(wanted.images, int) else np.asarray(wanted.images)
    stimuli = None
    if materials.split is not None:
        if rows.max() >= len(materials.split.test):
            plan.loaded.source.fail(
                ("record", "images"), f"image {rows.max()} of {len(materials.split.test)} held-out images"
            )
        stimuli = place(materials.split.test, plan.device)
    values = materials.clamping.values(stimuli, rows)
    arguments = study.inference.kernel.arguments
    session = Session(
        plan.program, params, plan.kernel, "prior" if plan.start == "previous" else plan.start, values,
        materials.clamping.masks, tuple(n for n, what in study.clamp.items() if what == "image"),
        wanted.chains, wanted.spontaneous, wanted.steps,
        probes_of(plan),
        plan.mobility,
        {"step_size": arguments["step_size"], "temperature": temperature_of(plan)}
        if "step_size" in arguments else {},
        noise=plan.noise, engine=study.engine, simulator=simulator_of(study),
    )  # fmt: skip
    if plan.phases:
        given = Given(
            plan.program, params, study.clamp, values, len(rows), plan.start == "encoder", study.seed,
            plan.loaded.source,
        )  # fmt: skip
        session = scheduled(session, stated_schedule(plan.phases, given))
    updates = milestones_of(plan).recording
    labels = stimuli.labels(rows) if stimuli else None
    finest = min((p.every for p in wanted.probes), default=1)
    steps = recorded_steps(-session.spontaneous, session.steps, finest)
    attrs = attributes(
        plan.circuit,
        study=plan.loaded.name,
        seed=study.seed,
        engine=study.engine,
        **({} if study.engine == "torch" else {"codegen": study.codegen or CODEGEN}),
        kernel=study.inference.kernel.name,
        preconditioner=study.inference.preconditioner.model_dump(),
        warm_up=plan.kernel.warm_up,
        **({} if study.noise is None else {"noise": study.noise.model_dump(exclude_none=True)}),
        versions=directory.provenance("", 0)["versions"],
    )
    with at(plan.loaded.source, ("record",)):
        layout = layout_of(
            session,
            dtype=wanted.dtype or FLOATS[plan.dtype],
            block=wanted.block,
            updates=updates if len(updates) > 1 else None,
            coords=(*label_coord(labels), *time_coord(plan, steps)),
            attrs=attrs,
        )
    return session, layout


def temperature_of(plan: Plan) -> float:
    """The temperature of the study's chain: stated, or the kernel's default (0 for a descent)."""
    named = plan.study.inference.kernel
    default = inspect.signature(KERNELS[named.name]).parameters.get("temperature")
    return float(named.arguments.get("temperature", default.default if default else 0.0))


def time_coord(plan: Plan, steps: range) -> tuple[Coord, ...]:
    """Physical time of each step: dt·step in seconds with time constants, else γ·step in units of 1/curvature.

    A preconditioner makes every unit's clock run at its own pace: then there is no such time.
    """
    inference = plan.study.inference
    if inference.kernel.name != "langevin" or inference.preconditioner.name != "none":
        return ()
    dt = step_of(plan.study)
    if dt is not None:
        return (Coord("time", ("step",), np.asarray(steps) * seconds(dt), "s", "time"),)
    values = np.asarray(steps) * float(inference.kernel.arguments["step_size"])
    return (Coord("time", ("step",), values, "1", "time in units of the inverse curvature"),)
