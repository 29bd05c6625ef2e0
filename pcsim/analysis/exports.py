"""Traces in the formats that neuroscientists' tools read: Neo, pynapple, Neurodata Without Borders."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pcsim.errors import AnalysisError

if TYPE_CHECKING:
    import neo
    import pynapple

Array = NDArray[Any]


def to_neo(values: Mapping[str, xr.DataArray], period: float | None = None) -> "neo.Block":
    """A Block with one Segment per image and chain (a trial), holding one AnalogSignal per array: time × units.

    `period`: seconds between neighbouring entries; None takes them from the coordinate `time` of a Brian2 trace. On
    torch a step has no duration in seconds: state the one that you give it. Rates are in Hz and times in s. Feature
    maps are flattened, their names are in the annotation `units_of_trace`. Loads a trial at a time into memory, all of
    them in the end. Needs the extra `neo`.
    """
    import neo
    import quantities

    block = neo.Block(name="pcsim", description="values of nodes; one segment per image and chain")
    trials: dict[tuple[int, int], Any] = {}
    for name, array in values.items():
        start, interval = _clock(name, array, period)
        for image, chain, trial in _trials(array):
            if (image, chain) not in trials:
                trials[image, chain] = neo.Segment(
                    name=f"image {image}, chain {chain}", image=image, chain=chain
                )
                block.segments.append(trials[image, chain])
            signal = neo.AnalogSignal(
                _flat(trial), units="dimensionless", name=name, t_start=start * quantities.s,
                sampling_rate=(1 / interval) * quantities.Hz, units_of_trace=_unit_names(trial),
            )  # fmt: skip
            trials[image, chain].analogsignals.append(signal)
    return block


def to_pynapple(value: xr.DataArray, period: float | None = None) -> "pynapple.TsdFrame":
    """One trial (one image, one chain: select them) as a TsdFrame, time in seconds, a column per unit.

    `period` as in `to_neo`; times start at the first step's time, negative before the stimulus. Needs the extra
    `pynapple`.
    """
    import pynapple

    for dim in ("image", "chain"):
        if value.sizes.get(dim, 1) > 1:
            raise AnalysisError(f"to pynapple: {value.sizes[dim]} along {dim!r}; select one of them")
    trial = value.squeeze([d for d in ("image", "chain") if d in value.dims])
    start, interval = _clock(str(value.name), value, period)
    time = start + interval * np.arange(trial.sizes[_step(trial)])
    return pynapple.TsdFrame(t=time, d=_flat(trial), columns=_unit_names(trial), time_units="s")


def to_nwb(
    values: Mapping[str, xr.DataArray], path: Path | str, start: datetime, identifier: str, description: str,
    period: float | None = None,
) -> Path:  # fmt: skip
    """Writes an NWB 2 file (HDF5): a TimeSeries per array in the processing module `pcsim`, and a trials table.

    Data are (time, image, chain, unit), feature maps flattened, times in seconds from `period` as in `to_neo`. `start`
    needs a time zone: NWB refuses naive ones. An existing file is refused. Returns the path. Needs the extra `nwb`.
    """
    from pynwb import NWBHDF5IO, NWBFile, TimeSeries

    where = Path(path)
    if where.exists():
        raise AnalysisError(f"{where} exists; NWB files are not overwritten")
    if start.tzinfo is None:
        raise AnalysisError("to NWB: the start needs a time zone, such as datetime.now(timezone.utc)")
    file = NWBFile(session_description=description, identifier=identifier, session_start_time=start)
    module = file.create_processing_module("pcsim", "states of a predictive-coding circuit")
    for name, array in values.items():
        first, interval = _clock(name, array, period)
        lead = [d for d in ("image", "chain") if d in array.dims]
        turned = array.transpose(_step(array), *lead, ...)
        data = turned.to_numpy().reshape(*(turned.sizes[d] for d in (_step(array), *lead)), -1)
        module.add(
            TimeSeries(
                name=name, data=data, unit=str(array.attrs.get("units", "1")), starting_time=first, rate=1 / interval,
                description=str(array.attrs.get("long_name", name)),
                comments=f"dims: time, {', '.join([*lead, 'unit'])}; units: {', '.join(_unit_names(array))}",
            )
        )  # fmt: skip
    with NWBHDF5IO(where, "w") as io:
        io.write(file)
    return where


def _step(array: xr.DataArray) -> str:
    for dim in array.dims:
        if str(dim) == "step" or str(dim).startswith("step_"):
            return str(dim)
    raise AnalysisError(f"{array.name}: no dim of steps among {', '.join(map(str, array.dims))}")


def _clock(name: str, array: xr.DataArray, period: float | None) -> tuple[float, float]:
    """Time of the first entry and distance of entries, in seconds; step 0 is at time 0."""
    dim = _step(array)
    if period is not None:
        if not period > 0:
            raise AnalysisError(f"{name}: a period of {period:g} s; it must be positive")
        steps = array[dim].values if dim in array.coords else np.arange(array.sizes[dim])
        every = float(steps[1] - steps[0]) if len(steps) > 1 else 1.0
        return float(steps[0]) / every * period, period
    if "time" not in array.coords or array.sizes[dim] < 2:
        raise AnalysisError(f"{name}: no coordinate `time`; give the period between entries in seconds")
    time = np.asarray(array["time"].values, dtype=np.float64)
    gaps = np.diff(time)
    if not np.allclose(gaps, gaps[0], rtol=1e-6):
        raise AnalysisError(f"{name}: entries are not evenly spaced in time")
    return float(time[0]), float(gaps.mean())


def _trials(array: xr.DataArray) -> Iterator[tuple[int, int, xr.DataArray]]:
    for image in range(array.sizes.get("image", 1)):
        for chain in range(array.sizes.get("chain", 1)):
            yield image, chain, array.isel({"image": image, "chain": chain}, missing_dims="ignore")


def _flat(trial: xr.DataArray) -> Array:
    turned = trial.transpose(_step(trial), ...)
    return turned.to_numpy().reshape(turned.sizes[_step(trial)], -1)


def _unit_names(array: xr.DataArray) -> list[str]:
    own = [str(d) for d in array.dims if d not in ("image", "chain", _step(array))]
    labels = [array[d].values if d in array.coords else np.arange(array.sizes[d]) for d in own]
    if not own:
        return ["0"]
    return [
        " ".join(map(str, at))
        for at in np.stack(np.meshgrid(*labels, indexing="ij"), -1).reshape(-1, len(own))
    ]
