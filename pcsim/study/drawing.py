"""The figures of a finished run, and the landscape that some of them stand on."""

from collections.abc import Sequence

import torch
import xarray as xr
from torch import Tensor

from pcsim.engines.torch.program import Bound
from pcsim.engines.torch.target import CircuitTarget, Clamp
from pcsim.errors import PcsimError, nearest
from pcsim.figures import landscape
from pcsim.figures.registry import FIGURES, draw_to
from pcsim.figures.run_view import RunView, view
from pcsim.study.build import Plan
from pcsim.study.checkpoint import copy_into, load_weights
from pcsim.study.directory import RunDirectory
from pcsim.study.load import LoadedStudy
from pcsim.study.milestones import milestones_of
from pcsim.study.reporter import Reporter
from pcsim.study.training import initial_parameters

ROWS = 256
"""States whose energy is computed at once: a 64-pixel model takes about a megabyte for each."""
IMAGES = 3
"""Images whose landscape is computed."""


def check_figures(plan: Plan) -> None:
    """Refuse a figure that does not exist, before anything runs."""
    check_figure_names(plan.loaded)


def check_figure_names(loaded: LoadedStudy) -> None:
    """Raise `StudyError` with every figure of a study that does not exist."""
    source = loaded.source
    unknown = [
        f"{source.where(('figures', index))}: no figure {name!r}; {nearest(name, FIGURES)}"
        for index, name in enumerate(loaded.study.figures)
        if name not in FIGURES
    ]
    if unknown:
        raise source.error("\n".join(unknown))


def missing_figures(plan: Plan, run_to: RunDirectory) -> list[str]:
    """The study's figures that are not drawn yet."""
    return [n for n in plan.study.figures if not (run_to.path / "figures" / f"{n}.png").is_file()]


def draw_figures(plan: Plan, run_to: RunDirectory, reporter: Reporter, names: Sequence[str]) -> None:
    """Draw those figures into `figures/`; one without its data says so and the others are drawn."""
    with reporter.task("drawing", len(names)) as advance:
        for name in names:
            try:
                run = view(run_to.path)
                if name == "trajectories" and run.has_trace:
                    _landscape(plan, run_to, run, reporter)
                draw_to(name, [run], run_to.path / "figures")
            except PcsimError as failure:
                reporter.say(f"no figure {name}: {failure}")
            advance(1)


def _landscape(plan: Plan, run_to: RunDirectory, run: RunView, reporter: Reporter) -> None:
    """Store the landscape where the weights that made the last trace are still there: only the last ones are."""
    stops = milestones_of(plan)
    if stops.recording and stops.recording[-1] == stops.last:
        store_landscape(plan, run_to, run)
        return
    reporter.say(
        f"trajectories without their landscape: recorded at update {max(stops.recording, default=0)}, "
        f"and the weights are those of update {stops.last}; record.at_updates with `last` gives one"
    )


def store_landscape(plan: Plan, run_to: RunDirectory, run: RunView) -> None:
    """−log p(z, x) on the plane of the first principal components of one chain, for the first images.

    Only for circuits with one free node whose value was recorded whole: else there is no one plane.
    """
    trace = run.trace()
    if plan.phases:  # what is clamped changes along the trace: there is no one landscape
        return
    free = [n for n in plan.circuit.nodes if n not in plan.study.clamp]
    node = free[0] if free else None
    if node is None or len(free) != 1 or f"/{node}" not in trace.groups or "value" not in trace[node]:
        return
    whole = trace[node]["value"].sizes.get("unit") == plan.circuit.nodes[node].shape[0]
    if not whole or trace.sizes.get("step", 0) < 3:
        return
    images = list(range(min(IMAGES, trace.sizes["image"])))
    grid = landscape.grid(trace, node, images)
    params = initial_parameters(plan)
    copy_into(params, load_weights(run_to.path), run_to.path)
    bound = plan.program.bind(params)
    energies = []
    for position in range(len(images)):
        here = grid["position"].isel(image=position)
        z = _tensor(plan, here).reshape(-1, *plan.circuit.nodes[node].shape)
        observed = {
            n: _tensor(plan, trace[n]["observed"].isel(image=images[position])) for n in plan.study.clamp
        }
        rows = [_energy(plan, bound, observed, node, part) for part in torch.split(z, ROWS)]
        energies.append(torch.cat(rows).reshape(here.shape[:-1]).cpu().double().numpy())
    grid["energy"] = (landscape.LANDSCAPE_DIMS, energies, {"units": "nat", "long_name": "-log p(z, x)"})
    landscape.save(grid, run_to.path)


def _energy(plan: Plan, bound: Bound, observed: dict[str, Tensor], node: str, z: Tensor) -> Tensor:
    """U of some states of one node under one image, `[row]`."""
    held = {n: x.expand(len(z), *plan.circuit.nodes[n].shape) for n, x in observed.items()}
    with torch.no_grad():
        energy = CircuitTarget(bound, Clamp(held), len(z)).evaluate({node: z}, True).energy
    assert energy is not None
    return energy


def _tensor(plan: Plan, array: xr.DataArray | xr.DataTree) -> Tensor:
    assert isinstance(array, xr.DataArray)
    return torch.as_tensor(array.to_numpy(), dtype=plan.dtype, device=plan.device)
