"""The only place that makes Brian2 objects: a `Plan` as a `Network`, with explicit names and namespaces."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import brian2
import numpy as np
from brian2.groups.neurongroup import SubexpressionUpdater

from pcsim.engines.brian2.network import LEARN, SHIFT, VISIT, Connections, Group, Learned, Plan
from pcsim.engines.brian2.plasticity import average_rows
from pcsim.engines.brian2.unroll import Floats
from pcsim.errors import StudyError


class Assembly(NamedTuple):
    """The live objects of one plan."""

    network: Any
    clock: Any
    groups: dict[str, Any]
    synapses: dict[str, Any]

    def array(self, group: str, variable: str) -> Floats:
        """The live array behind a variable, `[rows · units]` (not for cpp_standalone)."""
        found: Floats = self.groups[group].variables[variable].get_value()
        return found

    def parameter(self, place: Learned) -> Floats:
        """The live array of a parameter that learns, `[rows · n]`."""
        owner = self.synapses if place.owner in self.synapses else self.groups
        found: Floats = owner[place.owner].variables[place.variable].get_value()
        return found

    def fill_past(self, plan: Plan) -> None:
        """Let every delayed value have been for ever what it is now."""
        for record in plan.groups:
            for line in record.shift:
                variable = line.partition(" = ")[0]
                if variable.startswith("past_"):
                    self.groups[record.name].variables[variable].set_value(self.array(record.name, "z"))

    def evaluation(self) -> list[Any]:
        """Everything that runs before the errors may be read, in order: run by hand it moves nothing."""
        parts = (part for owner in self.network.objects for part in (owner, *owner.contained_objects))
        early = {p.name: p for p in parts if p.when == "groups" and p.order < VISIT}
        return sorted(early.values(), key=lambda part: (part.order, part.name))


@contextmanager
def code_target(name: str) -> Iterator[None]:
    """Code of that target is generated within; Brian2 knows of it by a global preference, put back after."""
    before = brian2.prefs.codegen.target
    brian2.prefs.codegen.target = name
    try:
        yield
    finally:
        brian2.prefs.codegen.target = before


def assemble(plan: Plan, draws: Mapping[str, Floats] | None = None) -> Assembly:
    """The network of a plan at its starting values; draws, `[step, rows · units]` per free node, become
    `TimedArray`s (without them `noise` is a variable that somebody fills before each step)."""
    if plan.learned and draws is not None:
        raise StudyError(
            "codegen: cpp_standalone cannot learn, because no Python runs between its steps to average over rows; "
            "use codegen: numpy or cython"
        )
    clock = brian2.Clock(dt=plan.dynamics.dt * brian2.second, name="clock")
    groups = {g.name: _group(g, plan, clock, draws) for g in plan.groups}
    for record in plan.groups:
        for variable, (owner, source) in record.links.items():
            setattr(groups[record.name], variable, brian2.linked_var(groups[owner], source))
    synapses = {c.name: _synapses(c, plan, groups, clock) for c in plan.synapses}
    network = brian2.Network(*groups.values(), *synapses.values(), name="network")
    assembly = Assembly(network, clock, groups, synapses)
    if plan.learned:
        arrays = {place: partial(assembly.parameter, place) for place in plan.learned}
        network.add(average_rows(brian2, plan, arrays, clock))
    return assembly


def _group(record: Group, plan: Plan, clock: Any, draws: Mapping[str, Floats] | None) -> Any:
    namespace: dict[str, Any] = dict(record.constants)
    namespace.update({name: value * brian2.second for name, value in record.times.items()})
    node = record.name.partition("_")[2]
    lines = list(record.lines)
    if draws is not None and "noise : 1" in lines:
        lines[lines.index("noise : 1")] = f"noise = draws_{node}(t, i) : 1"
        namespace[f"draws_{node}"] = brian2.TimedArray(draws[node], dt=clock.dt, name=f"draws_{node}")
    group = brian2.NeuronGroup(
        plan.rows * record.units, "\n".join(lines), method="euler", clock=clock, order=record.move,
        name=record.name, namespace=namespace,
    )  # fmt: skip
    for part in group.contained_objects:
        if isinstance(part, SubexpressionUpdater):
            # Brian2's own place is the start of a step, before the predictions that it needs are there.
            part.when, part.order = "groups", record.store
    for variable, value in record.arrays.items():
        setattr(group, variable, np.tile(value, plan.rows))
    for kind, lines_, order in (("shift", record.shift, SHIFT), ("learn", record.learn, LEARN)):
        if lines_:
            group.run_regularly(
                "\n".join(lines_), when="groups", order=order, clock=clock, name=f"{kind}_{record.name}"
            )
    return group


def _synapses(record: Connections, plan: Plan, groups: Mapping[str, Any], clock: Any) -> Any:
    source, target = groups[record.source], groups[record.target]
    synapses = brian2.Synapses(
        source, target, "\n".join(record.lines), clock=clock, name=record.name,
        namespace=dict(record.constants),
    )  # fmt: skip
    pre, post = (
        (np.arange(plan.rows)[:, None] * (len(end) // plan.rows) + one_row).ravel()
        for end, one_row in ((source, record.pre), (target, record.post))
    )
    synapses.connect(i=pre, j=post)
    for variable, value in record.arrays.items():
        setattr(synapses, variable, np.tile(value, plan.rows))
    for variable, order in record.orders.items():
        synapses.summed_updaters[variable].order = order
    if record.learn:
        synapses.run_regularly(
            "\n".join(record.learn), when="groups", order=LEARN, clock=clock, name=f"learn_{record.name}"
        )
    return synapses
