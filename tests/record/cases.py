"""Layouts and blocks shared by the tests of the trace."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcsim.record import Block, Coord, Layout, Variable, phases, recorded_steps
from pcsim.record.layout import count_before

VARIABLES = (
    Variable("energy"),
    Variable("gradient_norm", every=4),
    Variable("acceptance", lead=()),
    Variable("temperature", every=None, lead=()),
    Variable("z/value", (3,), select=(0, 5, 6)),
    Variable("z/error", (3,), select=(0, 5, 6), dtype="float64"),
    Variable("z/precision", (3,), None, (), select=(0, 5, 6)),
    Variable("x/observed", (1, 2, 5), None, ("image",), "uint8", per_update=False),
    Variable("x/error", (1, 2, 5), 2, dtype="float16"),
    Variable("x/energy"),
    Variable("encoder/z/mean", (3,), None, ("image",), select=(0, 5, 6)),
)
STEPS = recorded_steps(-6, 11)


def layout(updates: tuple[int, ...] | None = None, block: int = 8, compression: str = "none") -> Layout:
    """3 images × 2 chains, 18 steps from −6, blocks of 8, 8 and 2."""
    label = Coord("label", ("image",), np.array([7, 1, 4]))
    attrs = {"circuit": "{}", "study": "toy", "seed": 3, "engine": "torch", "versions": {"pcsim": "0.1.0"}}
    return Layout(VARIABLES, 3, 2, STEPS, block, updates, (phases(STEPS), label), attrs, compression)


def recording(plan: Layout, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Random values `[entry, row, *shape]` of every variable, in its dtype."""
    rng = np.random.default_rng(seed)
    found = {}
    for v in plan.variables:
        rows = {(): (), ("image",): (plan.n_image,), ("image", "chain"): (plan.n_row,)}[v.lead]
        entries = () if v.every is None else (count_before(v, plan.steps, len(plan.steps)),)
        found[v.path] = (100 * rng.random((*entries, *rows, *v.shape))).astype(v.dtype)
    return found


def block(plan: Layout, data: dict[str, NDArray[Any]], first: int, **calls: Any) -> Block:
    """The block of the recording that starts at step index `first`."""
    count = min(plan.block, len(plan.steps) - first)
    arrays = {
        v.path: data[v.path][count_before(v, plan.steps, first) : count_before(v, plan.steps, first + count)]
        for v in plan.stepped
    }
    return Block(first, count, arrays, **calls)


def static(plan: Layout, data: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The variables that are stored once."""
    return {v.path: data[v.path] for v in plan.static}
