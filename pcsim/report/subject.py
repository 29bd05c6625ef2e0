"""A run as the report reads it: its trace cut into phases, and the numbers that analyses need beside it."""

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


class Missing(RunError):
    """What a section needs is not in the run; the report says so and goes on."""


class Subject(NamedTuple):
    """One run with its trace."""

    run: RunView
    label: str
    trace: xr.DataTree | None

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
        """Nodes whose values were recorded and that no data hold."""
        held = self.run.study.get("clamp") or {}
        groups = self._traced().children
        found = tuple(n for n, group in groups.items() if "value" in group.data_vars and n not in held)
        if not found:
            raise Missing(f"{self.label}: no values of latent nodes were recorded")
        return found

    def read(self, path: str) -> xr.DataArray:
        """A variable of the trace, `energy` or `z/value`; feature maps become one dim `unit`."""
        node, _, name = path.rpartition("/")
        tree = self._traced()
        places = {group.path.strip("/"): group for group in tree.subtree}
        if node not in places or name not in places[node].data_vars:
            raise Missing(f"{self.label}: {path} was not recorded")
        value = places[node].to_dataset()[name]
        if "step" not in value.dims and any(str(d).startswith("step_") for d in value.dims):
            thin = next(str(d) for d in value.dims if str(d).startswith("step_"))
            value = value.rename({thin: "step"})
        maps = [d for d in ("channel", "y", "x") if d in value.dims]
        return value.stack(unit=maps).reset_index("unit", drop=True) if maps else value

    def spontaneous(self, path: str) -> xr.DataArray:
        """The steps before the stimulus."""
        value = self.read(path)
        part = value.isel(step=np.flatnonzero(value["step"].to_numpy() < 0))
        if part.sizes["step"] < LEAST:
            raise Missing(f"{self.label}: {part.sizes['step']} spontaneous steps; {LEAST} are needed")
        return part

    def evoked(self, path: str) -> xr.DataArray:
        """The steps from the sweep (0) on."""
        value = self.read(path)
        return value.isel(step=np.flatnonzero(value["step"].to_numpy() >= 0))

    def stationary(self, path: str) -> xr.DataArray:
        """The steps from `late` on."""
        value = self.read(path)
        part = value.isel(step=np.flatnonzero(value["step"].to_numpy() >= self.late))
        if part.sizes["step"] < LEAST:
            raise Missing(
                f"{self.label}: {part.sizes['step']} steps in the second half of the chain; {LEAST} are needed"
            )
        return part

    def _traced(self) -> xr.DataTree:
        if self.trace is None:
            raise Missing(f"{self.label}: nothing was recorded")
        return self.trace


def subjects(runs: Sequence[RunView]) -> tuple[Subject, ...]:
    """The runs with their traces opened (lazily) and a short label each."""
    names = labels(runs)
    return tuple(
        Subject(run, name, run.trace() if run.has_trace else None)
        for run, name in zip(runs, names, strict=True)
    )
