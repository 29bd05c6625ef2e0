"""Noise that is not white: coloured, shared between units, made of spikes; a filter around a chain's draws.

A kernel adds sqrt(2γT) ξ to its leaves; here ξ is replaced, the kernel unchanged. Every option keeps the variance
of the integrated noise (Var Σξ = number of steps, asymptotically), so that T means what it means without it.
"""

import math
from collections.abc import Iterable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from pcsim.errors import StudyError
from pcsim.inference import limits
from pcsim.inference.types import Rng, Tree

TAIL = 1e-17
"""Probability at which the table of a Poisson count ends."""
MOST = 1e6
"""Spikes per step beyond which the table would be long for nothing: the excess kurtosis is below 1e-6."""


class Noise(NamedTuple):
    """How the noise of a chain differs from independent white draws; the default does not."""

    colour_steps: float = 1.0
    """τ_s in steps: n ← (1 − a) n + a ξ with a = 1/colour_steps; 1 is white."""
    shared: float = 0.0
    """c, the correlation between the units of one node in one row: ξ = sqrt(1 − c) ξ_i + sqrt(c) ξ_0."""
    spikes: float | None = None
    """Spikes per step (ν dt) of an excitatory/inhibitory pair of Poisson inputs; None: Gaussian."""
    on: Literal["values", "errors"] = "values"
    """What it is added to; errors only where they have a state of their own."""

    def check(self) -> "Noise":
        """Itself; raises `StudyError` for numbers that make no noise."""
        if not self.colour_steps >= 1:
            raise StudyError(f"noise.tau: {self.colour_steps:g} steps; a colour shorter than a step is white")
        if not 0 <= self.shared <= 1:
            raise StudyError(f"noise.shared: {self.shared!r} must be a correlation, 0 to 1")
        if self.spikes is not None:
            limits.positive("noise.shot", self.spikes)
            if self.spikes > MOST:
                raise StudyError(
                    f"noise.shot: {self.spikes:g} spikes per step are Gaussian noise; leave shot out"
                )
        return self


WHITE = Noise()


class Filter:
    """An `Rng` whose normal draws are the noise of a chain: one per leaf and step, in the order of the leaves.

    The state n of the colour belongs to a leaf and starts at 0, as the variable of a neural simulator does; it
    is kept from phase to phase for the leaves that are there in both. Draws that are not a chain's noise
    (starts, ancestral draws) must be taken from the source itself.
    """

    def __init__(self, source: Rng, noise: Noise) -> None:
        self.source, self.noise = source, noise.check()
        self._table = None if noise.spikes is None else skellam_table(noise.spikes)
        self._names: tuple[str, ...] = ()
        self._next = 0
        self._coloured: Tree = {}

    def leaves(self, names: Iterable[str]) -> None:
        """Say which leaves the kernel asks for at each step, and in which order."""
        self._names, self._next = tuple(names), 0
        self._coloured = {n: v for n, v in self._coloured.items() if n in self._names}

    def normal(self, like: Tensor) -> Tensor:
        """The noise ξ of the next leaf, `[row, *shape]`, mean 0 and (white) variance 1."""
        name = self._names[self._next]
        self._next = (self._next + 1) % len(self._names)
        drawn = self._white(like)
        if self.noise.shared > 0:
            common = self._white(like[(slice(None), *(slice(1) for _ in like.shape[1:]))])
            drawn = math.sqrt(1 - self.noise.shared) * drawn + math.sqrt(self.noise.shared) * common
        if self.noise.colour_steps == 1:
            return drawn
        share = 1.0 / self.noise.colour_steps
        before = self._coloured.get(name)
        mixed = share * drawn if before is None else (1 - share) * before + share * drawn
        self._coloured[name] = mixed
        return mixed.clone()

    def uniform(self, like: Tensor) -> Tensor:
        """The source's uniform draws."""
        return self.source.uniform(like)

    def _white(self, like: Tensor) -> Tensor:
        if self._table is None:
            return self.source.normal(like)
        table, spikes = self._table.to(like.device), self.noise.spikes
        assert spikes is not None
        wide = like.double()  # single precision cannot tell the rare counts from none
        up, down = (torch.searchsorted(table, self.source.uniform(wide), right=True) for _ in "+-")
        return ((up - down) / math.sqrt(spikes)).to(like.dtype)


def skellam_table(spikes: float) -> Tensor:
    """The distribution function of a Poisson count of mean spikes/2, P(N ≤ 0), P(N ≤ 1), …, float64.

    A uniform draw u gives the count Σ_k [P(N ≤ k) ≤ u]. The pair's difference over sqrt(spikes) has variance 1 and
    excess kurtosis 1/spikes.
    """
    mean = spikes / 2
    log_p, total, count = -mean, 0.0, 0
    table = []
    while True:
        p = math.exp(log_p)
        total += p
        table.append(total)
        count += 1
        if count > mean and p < TAIL:
            return torch.tensor(table, dtype=torch.float64)
        log_p += math.log(mean / count)
