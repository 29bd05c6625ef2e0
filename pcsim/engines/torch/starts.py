"""Where a chain starts: a draw of the prior, of the encoder, a MAP estimate, or where it stood before."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from pcsim.engines.torch import encoder
from pcsim.engines.torch.encoder import Sweep
from pcsim.engines.torch.program import ancestral
from pcsim.engines.torch.target import CircuitTarget
from pcsim.errors import StudyError
from pcsim.inference.chain import run_chain
from pcsim.inference.types import Kernel, Rng, Tree


class Map(NamedTuple):
    """Start at a mode: descend for some steps from a draw of the prior (or the encoder, where there is one)."""

    kernel: Kernel
    steps: int


def prior_start(target: CircuitTarget, rng: Rng, given: Mapping[str, Tensor] | None = None) -> Tree:
    """Ancestral draws of the free nodes, `[row, *shape]`; `given` fixes some of them (the encoder's draws)."""
    known = {**target.held, **(given or {})}
    return target.start(ancestral(target.bound, rng, target.rows, known))


def encoder_start(target: CircuitTarget, rng: Rng, sweeps: Mapping[str, Sweep], n_chain: int) -> Tree:
    """Draws of q(z | x) for the encoded nodes, ancestral draws given those for the others."""
    if not sweeps:
        raise StudyError("start: encoder, but the circuit has no encoder for what is clamped")
    given = encoder.draw({n: s for n, s in sweeps.items() if n in target.free}, rng, n_chain)
    return prior_start(target, rng, given)


def map_start(target: CircuitTarget, rng: Rng, begin: Tree, descent: Map) -> Tree:
    """The position after `descent` from `begin`."""
    position: Tree = run_chain(descent.kernel, target, rng, begin, descent.steps).position
    return position
