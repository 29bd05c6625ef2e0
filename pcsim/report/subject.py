"""A run as the report reads it: its trace cut into phases, and the numbers that analyses need beside it."""

import json
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from pcsim.errors import RunError
from pcsim.figures.run_view import RunView, free_units, labels

LATE = 0.5
"""Averages over the stationary law begin after this share of the evoked steps."""
LEAST = 40
"""Stationary steps below which nothing is said of time series."""
LARGE = 2**26
"""Bytes of an array that is held whole: larger ones are thinned."""


class Missing(RunError):
    """What a section needs is not in the run; the report says so and goes on."""


class Subject(NamedTuple):
    """One run with its trace."""

    run: RunView
    label: str
    trace: xr.DataTree | None
    several: bool = False
    """Whether the page is about more runs than this one."""

    @property
    def temperature(self) -> float:
        """Temperature of the chain."""
        return self.run.temperature

    @property
    def step_size(self) -> float:
        """γ of the recorded chain, one number."""
        found = self._traced().data_vars.get("step_size")
        if found is None or found.ndim:
            raise Missing(f"{self.label}: no one step size in the trace (its kernel adapts it)")
        return float(found)

    @property
    def free_units(self) -> int:
        """D, the latent units that no data hold."""
        count = free_units(self.run, self._traced())
        if count is None:
            raise Missing(f"{self.label}: the number of free units is not known (a mask holds some)")
        return count

    @property
    def late(self) -> int:
        """The first step of what is taken as stationary: the second half of the evoked chain, after any warm-up."""
        last = int(self._traced()["step"].to_numpy()[-1])
        warm = int(self._traced().attrs.get("warm_up", 0))
        return warm + int(np.ceil(LATE * (last - warm)))

    @property
    def preconditioner(self) -> str:
        """Name of the preconditioner, `none` without one."""
        given = self._traced().attrs.get("preconditioner") or {}
        return str(given.get("name", "none")) if isinstance(given, dict) else str(given)

    def latents(self) -> tuple[str, ...]:
        """Nodes whose values were recorded and that no data hold, from the roots of the circuit to the data."""
        held = self.run.study.get("clamp") or {}
        found = tuple(node for node in self.recorded("value") if node not in held)
        if not found:
            raise Missing(f"{self.label}: no values of latent nodes were recorded")
        return found

    @property
    def nearest(self) -> str:
        """The recorded latent node nearest to the data; where one node stands for all, it is this one."""
        return self.latents()[-1]

    def depth(self) -> dict[str, int]:
        """The longest path from a root to every node."""
        circuit = json.loads(self._traced().attrs.get("circuit", "{}"))
        depth = dict.fromkeys(circuit.get("nodes", {}), 0)
        edges = [(str(edge["from"]), str(edge["to"])) for edge in circuit.get("edges", [])]
        for _ in depth:  # no path is longer than there are nodes
            for parent, child in edges:
                depth[child] = max(depth[child], min(depth[parent] + 1, len(depth)))
        return depth

    def recorded(self, name: str) -> tuple[str, ...]:
        """Nodes that recorded that variable, from the roots of the circuit to the data."""
        depth = self.depth()
        nodes = [node for node in self._traced().children if name in self.variables(node)]
        return tuple(sorted(nodes, key=lambda node: depth.get(node, 0)))

    def variables(self, path: str) -> tuple[str, ...]:
        """Names of what was recorded in a group, `z` or `encoder/z`; nothing for one that is not in the trace."""
        places = {group.path.strip("/"): group for group in self._traced().subtree}
        return tuple(str(name) for name in places[path].data_vars) if path in places else ()

    def read(self, path: str) -> xr.DataArray:
        """A variable of the trace, `energy` or `z/value`; feature maps become one dim `unit`."""
        node, _, name = path.rpartition("/")
        tree = self._traced()
        places = {group.path.strip("/"): group for group in tree.subtree}
        if node not in places or name not in places[node].data_vars:
            raise Missing(f"{self.label}: {path} was not recorded")
        value = places[node].to_dataset()[name]
        if (
            "label" in tree.coords and "image" in value.dims
        ):  # groups inherit only coordinates that are indexes
            value = value.assign_coords(label=("image", tree["label"].to_numpy()))
        if "step" not in value.dims and any(str(d).startswith("step_") for d in value.dims):
            spaced = next(str(d) for d in value.dims if str(d).startswith("step_"))
            value = value.rename({spaced: "step"})
        maps = [d for d in value.dims if d in ("channel", "y", "x") or str(d).startswith("axis_")]
        # flattening loads the array
        return thin(value).stack(unit=maps, create_index=False) if maps else value

    def spontaneous(self, path: str) -> xr.DataArray:
        """The steps before the stimulus."""
        value = self.read(path)
        part = value.isel(step=slice(0, int((value["step"].to_numpy() < 0).sum())))
        if part.sizes["step"] < LEAST:
            raise Missing(
                f"{self.label}: {part.sizes['step']} steps were recorded before the stimulus; "
                f"{LEAST} are needed"
            )
        return part

    def evoked(self, path: str) -> xr.DataArray:
        """The steps from the sweep (0) on."""
        value = self.read(path)
        return value.isel(step=slice(int((value["step"].to_numpy() < 0).sum()), None))

    def stationary(self, path: str) -> xr.DataArray:
        """The steps from `late` on."""
        value = self.read(path)
        part = value.isel(step=slice(int((value["step"].to_numpy() < self.late).sum()), None))
        if part.sizes["step"] < LEAST:
            raise Missing(
                f"{self.label}: {part.sizes['step']} steps were recorded in the second half of the chain; "
                f"{LEAST} are needed"
            )
        return part

    def _traced(self) -> xr.DataTree:
        if self.trace is None:
            raise Missing(f"{self.label}: nothing was recorded")
        return self.trace


def first_image(value: xr.DataArray) -> xr.DataArray:
    """The part of one image: what is drawn unit by unit."""
    return value.isel(image=0) if "image" in value.dims else value


def thin(value: xr.DataArray, budget: int = LARGE) -> xr.DataArray:
    """Every k-th step, step 0 among them, so that the array takes at most `budget` bytes; itself where it is smaller.

    For analyses that hold an array whole. Times stay right: the coordinate `step` tells the distances.
    """
    size = math.prod(value.shape) * value.dtype.itemsize
    every = -(-size // budget)
    if every <= 1:
        return value
    first = int(np.argmin(np.abs(value["step"].to_numpy()))) % every
    return value.isel(step=slice(first, None, every))


def subjects(runs: Sequence[RunView]) -> tuple[Subject, ...]:
    """The runs with their traces opened (lazily) and a short label each."""
    names = labels(runs)
    return tuple(
        Subject(run, name, run.trace() if run.has_trace else None, len(runs) > 1)
        for run, name in zip(runs, names, strict=True)
    )
