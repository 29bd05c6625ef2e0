"""What a trace holds, as plain records: variables, dims, coordinates, and how many bytes they take."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import lcm, prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pcsim.errors import StudyError, nearest

SCHEMA_NAME, SCHEMA_VERSION = "pcsim-trace", 1
LEADS = ((), ("image",), ("image", "chain"))
DTYPES = ("float16", "float32", "float64", "uint8", "int32", "int64", "bool")
COMPRESSIONS = ("none", "lz4", "zstd")
AXES = {0: (), 1: ("unit",), 3: ("channel", "y", "x")}


def axes_of(shape: tuple[int, ...]) -> tuple[str, ...]:
    """Names of a node's own axes: `unit`; `channel, y, x`; otherwise `axis_0, axis_1, …`."""
    return AXES.get(len(shape), tuple(f"axis_{i}" for i in range(len(shape))))


class Variable(NamedTuple):
    """One array of the trace."""

    path: str
    """`group/name`: `z/value`, `encoder/z/mean`; a bare name (`energy`) stands at the root."""
    shape: tuple[int, ...] = ()
    """Shape of one recorded entry, without image, chain, step and update (after the selection of units)."""
    every: int | None = 1
    """Recorded at the steps that it divides, so that step 0 is always among them; None: stored once."""
    lead: tuple[str, ...] = ("image", "chain")
    dtype: str = "float32"
    """float16 halves the file, has three digits, and an entry beyond ±65504 stops the recording."""
    axes: tuple[str, ...] | None = None
    select: tuple[int, ...] | None = None
    """True indices along the first own axis of the units that are recorded; None: all of them."""
    per_update: bool = True
    """Whether the variable has the `update` axis in a trace of several updates (what is clamped has not)."""
    units: str = "1"
    long_name: str = ""

    @property
    def group(self) -> str:
        """Path of the variable's group; the root is the empty string."""
        return self.path.rpartition("/")[0]

    @property
    def name(self) -> str:
        """Name within its group."""
        return self.path.rpartition("/")[2]

    @property
    def own_axes(self) -> tuple[str, ...]:
        """Names of the axes of one entry."""
        return axes_of(self.shape) if self.axes is None else self.axes


class Coord(NamedTuple):
    """A coordinate at the root that the layout cannot know by itself: labels, phase, physical time."""

    name: str
    dims: tuple[str, ...]
    values: NDArray[Any]
    units: str = "1"
    long_name: str = ""


@dataclass(frozen=True)
class Layout:
    """A whole trace, before a byte is written.

    Variables with the finest `every` lie on `step`. One that is thinned further (`every: k`) lies on a dim of its
    own, `step_<k>`, whose coordinate holds the same step numbers: a tree has one `step` for parent and child groups,
    so thinned variables could share it only by filling the gaps with NaN.
    `block` entries of `step` are written at a time, and one chunk of a file is one such block.
    """

    variables: tuple[Variable, ...]
    n_image: int
    n_chain: int
    steps: range
    """Coordinates of `step`; its stride is the finest `every` (`recorded_steps` makes it)."""
    block: int
    updates: tuple[int, ...] | None = None
    coords: tuple[Coord, ...] = ()
    attrs: Mapping[str, Any] = field(default_factory=dict)
    """Root attributes, JSON values: circuit, study, seed, engine, versions."""
    compression: str = "none"

    def __post_init__(self) -> None:
        """Raises `StudyError` for everything that could not be written or read back."""
        if self.n_image < 1 or self.n_chain < 1 or len(self.steps) < 1 or self.block < 1:
            raise StudyError(
                "a recording needs at least one image, one chain, one step and a block of one step"
            )
        if self.compression not in COMPRESSIONS:
            raise StudyError(
                f"no compression {self.compression!r}; {nearest(self.compression, COMPRESSIONS)}"
            )
        paths = [v.path for v in self.variables]
        if twice := {p for p in paths if paths.count(p) > 1}:
            raise StudyError(f"recorded twice: {', '.join(sorted(twice))}")
        for variable in self.variables:
            _check(variable, self)
        _check_dims(self)

    @property
    def n_row(self) -> int:
        """Rows of a state: image · n_chain + chain."""
        return self.n_image * self.n_chain

    @property
    def stepped(self) -> tuple[Variable, ...]:
        """Variables that grow with the steps."""
        return tuple(v for v in self.variables if v.every is not None)

    @property
    def static(self) -> tuple[Variable, ...]:
        """Variables stored once (per update)."""
        return tuple(v for v in self.variables if v.every is None)

    def fingerprint(self) -> str:
        """Hash of everything that decides where a byte goes; two layouts with the same one can share a store."""
        grid = (self.n_image, self.n_chain, self.steps, self.block, self.updates, self.compression)
        coords = [(c.name, c.dims, c.values.tolist()) for c in self.coords]
        order = (self.variables, grid, coords)
        return hashlib.sha256(repr(order).encode()).hexdigest()[:16]


def recorded_steps(first: int, last: int, every: int = 1) -> range:
    """Step numbers in [first, last] that `every` divides."""
    return range(-(-first // every) * every, last + 1, every)


def phases(steps: range) -> Coord:
    """The coordinate `phase(step)`: `spontaneous` before 0, `sweep` at 0, `evoked` after it."""
    names = ["spontaneous" if s < 0 else "evoked" if s > 0 else "sweep" for s in steps]
    return Coord("phase", ("step",), np.array(names), long_name="phase of the recording")


def steps_of(variable: Variable, steps: range) -> range:
    """The step numbers at which the variable is recorded."""
    return steps if variable.every is None else recorded_steps(steps[0], steps[-1], variable.every)


def step_dim(variable: Variable, steps: range) -> str:
    """Name of the variable's step dim: `step`, or `step_<every>` when it is thinned further than the finest."""
    return "step" if variable.every == steps.step else f"step_{variable.every}"


def count_before(variable: Variable, steps: range, index: int) -> int:
    """How many entries the variable has among the first `index` entries of `step`."""
    return len(steps_of(variable, steps[:index])) if index else 0


def chunk_of(variable: Variable, layout: Layout) -> int:
    """Entries of the variable in one block."""
    block = min(layout.block, len(layout.steps))
    every = variable.every or layout.steps.step
    full = block * layout.steps.step // every
    return max(1, full if block < len(layout.steps) else len(steps_of(variable, layout.steps)))


def dims_of(variable: Variable, layout: Layout) -> tuple[str, ...]:
    """All dims in the order of the file: update, image, chain, step, own axes."""
    update = ("update",) if layout.updates is not None and variable.per_update else ()
    step = () if variable.every is None else (step_dim(variable, layout.steps),)
    return (*update, *variable.lead, *step, *variable.own_axes)


def shape_of(variable: Variable, layout: Layout) -> tuple[int, ...]:
    """Shape in the file, in the order of `dims_of`."""
    update = (len(layout.updates),) if layout.updates is not None and variable.per_update else ()
    lead = (layout.n_image, layout.n_chain)[: len(variable.lead)]
    step = () if variable.every is None else (len(steps_of(variable, layout.steps)),)
    return (*update, *lead, *step, *variable.shape)


def trace_bytes(layout: Layout) -> dict[str, int]:
    """Bytes on disk per variable without compression (which noise barely allows); the sum is the trace."""
    return {v.path: prod(shape_of(v, layout)) * np.dtype(v.dtype).itemsize for v in layout.variables}


def entry_bytes(variable: Variable, n_row: int) -> int:
    """Bytes of one recorded step of the variable."""
    rows = n_row if variable.lead == ("image", "chain") else 1
    return rows * prod(variable.shape) * np.dtype(variable.dtype).itemsize


def block_bytes(layout: Layout) -> int:
    """Bytes of one block in memory; a recording holds three of them (`pcsim.record.buffer`)."""
    return sum(chunk_of(v, layout) * entry_bytes(v, layout.n_row) for v in layout.stepped)


def block_size(variables: tuple[Variable, ...], n_row: int, steps: range, budget: int = 16 * 2**20) -> int:
    """Steps in a block: at most 250 and at most `budget` bytes, in whole multiples of every thinning.

    A block costs about a millisecond however small it is, and holds what a killed run may lose.
    """
    stepped = [v for v in variables if v.every is not None]
    unit = lcm(*(v.every or 1 for v in stepped)) // steps.step if stepped else 1
    per_step = sum(entry_bytes(v, n_row) * steps.step / (v.every or 1) for v in stepped)
    most = min(250, int(budget / max(per_step, 1)))
    return min(max(most // max(unit, 1), 1) * max(unit, 1), len(steps))


def _check(v: Variable, layout: Layout) -> None:
    if v.dtype not in DTYPES:
        raise StudyError(f"{v.path}: no dtype {v.dtype!r}; {nearest(v.dtype, DTYPES)}")
    if v.lead not in LEADS or (v.every is not None and v.lead == ("image",)):
        raise StudyError(
            f"{v.path}: rows are (image, chain) or none, or (image) when stored once; got {v.lead}"
        )
    if len(v.own_axes) != len(v.shape):
        raise StudyError(f"{v.path}: axes {v.own_axes} do not name the shape {v.shape}")
    if v.select is not None and (not v.shape or len(v.select) != v.shape[0]):
        raise StudyError(f"{v.path}: {len(v.select)} selected units, but the shape is {v.shape}")
    if v.every is None:
        return
    if v.every < 1 or v.every % layout.steps.step:
        raise StudyError(
            f"{v.path}: every: {v.every} must be a multiple of the finest probe's every: {layout.steps.step}"
        )
    if layout.block < len(layout.steps) and layout.block * layout.steps.step % v.every:
        raise StudyError(f"{v.path}: every: {v.every} does not divide the block of {layout.block} steps")
    if not steps_of(v, layout.steps):
        raise StudyError(
            f"{v.path}: every: {v.every} leaves no step in {layout.steps[0]} … {layout.steps[-1]}"
        )


def _check_dims(layout: Layout) -> None:
    seen: dict[tuple[str, str], tuple[str, object]] = {}
    for v in layout.variables:
        for i, (axis, size) in enumerate(zip(v.own_axes, v.shape, strict=True)):
            entry = (v.select if i == 0 else None, size)
            other, expected = seen.setdefault((v.group, axis), (v.path, entry))
            if entry != expected:
                raise StudyError(
                    f"{v.path} and {other} share the dim {axis!r}: select the same units for both"
                )
