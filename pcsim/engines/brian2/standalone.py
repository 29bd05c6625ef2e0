"""A run as one compiled C++ program: no Python in between, so all draws go in first and all states come out after."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import brian2
import numpy as np
import torch
from torch import Tensor

from pcsim.engines.brian2 import memory
from pcsim.engines.brian2.build import Assembly, assemble
from pcsim.engines.brian2.network import VISIT, Plan
from pcsim.engines.brian2.simulation import Visit, check_finite
from pcsim.engines.brian2.targets import check_target, processors
from pcsim.engines.brian2.unroll import Floats
from pcsim.engines.torch.target import Clamp
from pcsim.inference.types import Rng


def run_standalone(
    plan: Plan, start: Mapping[str, Tensor], rng: Rng, steps: int, visit: Visit, directory: Path
) -> None:
    """`steps` steps from `start` in a program compiled in `directory`; then `visit` for steps 0 … `steps`.

    The same draws as `Simulation.run`. Raises `MemoryLimitError` where the states of all steps would not fit, and
    `Divergence` at the first step that is not finite.
    """
    check_target("cpp_standalone")
    memory.check_memory(plan, steps, memory.LIMIT)
    draws = _draws(plan, rng, steps)
    with _device(directory):
        assembly = assemble(plan, draws)
        _place(plan, assembly, start)
        monitors = {}
        for kind, variable, names in (("value", "z", plan.shapes), ("error", "eps", plan.errors)):
            for name in names:
                monitors[kind, name] = brian2.StateMonitor(
                    assembly.groups[f"{kind}_{name}"], variable, record=True, clock=assembly.clock,
                    when="groups", order=VISIT, name=f"recorded_{kind}_{name}",
                )  # fmt: skip
        assembly.network.add(*monitors.values())
        assembly.network.run((steps + 1) * assembly.clock.dt, namespace={})
        brian2.get_device().build(directory=str(directory), compile=True, run=True, with_output=False)
        found = {
            key: np.asarray(getattr(monitor, "z" if key[0] == "value" else "eps")).T
            for key, monitor in monitors.items()
        }
    for step in range(steps + 1):
        at = {key: array[step].reshape(plan.rows, *plan.shapes[key[1]]) for key, array in found.items()}
        values = {name: at["value", name] for name in plan.shapes}
        check_finite(step, values)
        visit(step, values, {name: at["error", name] for name in plan.errors})


@contextmanager
def _device(directory: Path) -> Iterator[None]:
    """The C++ device within, with one compiler per processor; Brian2 knows of both globally, put back after."""
    preferences = brian2.prefs.devices.cpp_standalone
    arguments = preferences.extra_make_args_unix
    # Brian2's own `-j` starts as many compilers as there are files
    preferences.extra_make_args_unix = [f"-j{processors()}"]
    brian2.set_device("cpp_standalone", directory=str(directory), build_on_run=False)
    try:
        yield
    finally:
        preferences.extra_make_args_unix = arguments
        brian2.get_device().reinit()
        brian2.devices.reset_device()


def _draws(plan: Plan, rng: Rng, steps: int) -> dict[str, Floats]:
    """All draws in the order of the engine; the last row is never used, as the last step is only looked at."""
    names = plan.drawing(Clamp({}, {}))
    like = {n: torch.zeros(plan.rows, *plan.shapes[n], dtype=torch.float64) for n in names}
    draws = {n: np.zeros((steps + 1, like[n].numel())) for n in names}
    for step in range(steps):
        for name in plan.drawing(plan.clamp):
            draws[name][step] = rng.normal(like[name]).reshape(-1).numpy()
    return draws


def _place(plan: Plan, assembly: Assembly, start: Mapping[str, Tensor]) -> None:
    """The starting values and holds of a network that cannot be touched later."""
    clamp = plan.clamp
    for name, shape in plan.shapes.items():
        size = (plan.rows, *shape)
        value = torch.zeros(size, dtype=torch.float64)
        held = torch.zeros_like(value)
        if name in clamp.values:
            held = clamp.masks.get(name, torch.ones(())).double().expand(size)
            value = torch.where(held > 0, clamp.values[name].double(), value)
        if name in plan.free:
            value = torch.where(held > 0, value, start[name].double()) if name in start else value
        group = assembly.groups[f"value_{name}"]
        for variable in ("z", *(v for v in group.variables if v.startswith("past_"))):
            setattr(group, variable, value.reshape(-1).numpy())
        if name in plan.switched:
            kind = "value" if name in plan.free else "error"
            assembly.groups[f"{kind}_{name}"].held = held.reshape(-1).numpy()
