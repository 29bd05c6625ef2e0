"""How far annealed importance sampling is off, on data whose posterior draws are known exactly."""

from collections.abc import Collection
from typing import NamedTuple

import torch
from torch import Tensor

from pcsim.engines.torch.program import Params, Program, ancestral
from pcsim.evaluation.ais import (
    DEFAULT,
    MOVE,
    Annealing,
    Mobilities,
    anneal,
    make_path,
    move,
    path_betas,
    per_row,
    pilot,
)
from pcsim.evaluation.images import Images, chunks
from pcsim.evaluation.tempered import DATA_ENERGY, Path, Tempered
from pcsim.evaluation.weights import log_mean_exp
from pcsim.inference.types import Rng, Tree


class Bidirectional(NamedTuple):
    """log p(x) of simulated data between two stochastic bounds, `[image]` each."""

    lower: Tensor
    """Forward annealing: below log p(x) in expectation."""
    upper: Tensor
    """Reverse annealing from an exact posterior draw: above log p(x) in expectation."""

    @property
    def gap(self) -> Tensor:
        """Mean of upper − lower over images, nats: bounds the expected error of either."""
        return (self.upper - self.lower).mean()


def bidirectional(
    program: Program,
    params: Params,
    observed: Collection[str],
    rng: Rng,
    images: int,
    settings: Annealing = DEFAULT,
) -> Bidirectional:
    """Forward and reverse annealing on `images` data simulated from the circuit itself.

    The z that made x is one exact draw of p(z | x). From it the path is walked backwards with the same
    frozen moves, which are reversible: E[1/w] = 1/p(x), so −log mean 1/w is an upper bound in expectation.
    Grosse, Ghahramani and Adams (2015), arXiv:1511.02543.
    """
    betas = path_betas(settings)
    lower, upper = [], []
    with torch.no_grad():
        bound = program.bind(params)
        state = ancestral(bound, rng, images, {})
        values = {name: state[name] for name in observed}
        for some in chunks(values, None, rng, settings.particles, settings.max_rows):
            mobilities = pilot(bound, some, settings, betas)
            path = make_path(bound, some, settings.particles)
            lower.append(log_mean_exp(anneal(path, some, betas, mobilities)[0]))
            exact = {
                n: state[n][some.where].repeat_interleave(settings.particles, 0) for n in path.target.free
            }
            upper.append(-log_mean_exp(-_reverse(path, some, betas, mobilities, exact)))
    return Bidirectional(torch.cat(lower), torch.cat(upper))


def _reverse(path: Path, images: Images, betas: list[float], mobilities: Mobilities, exact: Tree) -> Tensor:
    """log w of the path walked from β = 1 to 0, starting at posterior draws, `[image, particle]`."""
    state = MOVE.init(Tempered(path, betas[-1], {}), images.rng, exact)
    total = torch.zeros(path.rows, dtype=torch.float64, device=state.point.energy.device)
    for k in range(len(betas) - 1, 0, -1):
        change = betas[k] - betas[k - 1]
        total -= change * state.point.grad[DATA_ENERGY].double()
        if k == 1:
            break
        mobility = per_row(path, mobilities[k - 2], path.rows // len(images))
        state, _ = move(Tempered(path, betas[k - 1], mobility), images.rng, state, -change)
    return total.reshape(len(images), -1)
