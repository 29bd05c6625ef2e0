"""The Gaussian on the 256 grey levels of an image, scaled to [−1, 1]."""

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from pcsim.circuit.distributions.base import Draws, Local, LocalText, Shape
from pcsim.circuit.distributions.bins import HALF_BIN, Terms, bins, everywhere, gathered
from pcsim.circuit.distributions.record import Record, per_row
from pcsim.errors import CircuitError

# Entries in a block of rows, measured on CPU: fewer cost calls, more leave the cache.
_BLOCK = 1 << 18


class DiscretisedGaussian(Record):
    """P(x) = Φ((x + h − μ)/σ) − Φ((x − h − μ)/σ) on the levels x = −1, −1 + 2h … 1, half-bin h = 1/255.

    The outer bins are open, so that masses sum to one; η = μ. Nothing is clamped: `bins.py` has
    the forms that hold at any distance. σ is `scale` > 1/255, one number for the node; learned, the parameter
    is `log_scale` = s with σ = 1/255 + e^s (below one half-bin the data cannot tell).
    The default .3 is near the root mean square of natural images about what an early generator predicts.
    """

    discrete: ClassVar[bool] = True
    learnable: ClassVar[tuple[str, ...]] = ("scale",)
    scale: float = Field(default=0.3, gt=HALF_BIN, allow_inf_nan=False)

    def parameters(self, shape: Shape) -> dict[str, Tensor]:
        """`log_scale` when it is learned."""
        if not self.learn:
            return {}
        return {"log_scale": torch.tensor(math.log(self.scale - HALF_BIN), dtype=torch.float64)}

    @property
    def learned(self) -> tuple[str, ...]:
        """`log_scale` when the scale is learned."""
        return ("log_scale",) if self.learn else ()

    def local(
        self,
        params: Mapping[str, Tensor],
        z: Tensor,
        eta: Tensor,
        *,
        mask: Tensor | None = None,
        energy: bool = False,
        learn: bool = False,
    ) -> Local:
        """Error ∂ log P/∂μ, and from the same terms E and ∂E/∂s = (σ − h)/σ ∂E/∂ log σ; times the mask."""
        b = bins(self._sigma(params), order=4 if eta.dtype == torch.float32 else 10)
        learn = learn and bool(self.learn)
        cpu = z.device.type == "cpu"
        evaluate, rows = (gathered, max(1, _BLOCK // max(1, z[:1].numel()))) if cpu else (everywhere, len(z))
        error, slopes, energies = torch.empty_like(eta), [], []
        for start in range(0, len(z), rows):
            block = slice(start, start + rows)
            terms = evaluate(b, z[block], eta[block], learn, energy)
            if mask is not None:
                terms = _masked(terms, torch.broadcast_to(mask, z.shape)[block])
            error[block] = terms.error
            slopes += [] if terms.slope is None else [terms.slope.sum()]
            energies += [] if terms.energy is None else [per_row(terms.energy)]
        gradient = {"log_scale": (torch.stack(slopes).sum() * (1 - b.delta)).to(eta.dtype)} if learn else {}
        return Local(error, None, torch.cat(energies) if energy else None, gradient)

    def local_text(self, params: Mapping[str, Tensor], shape: Shape) -> LocalText:
        """None; raises `CircuitError`."""
        raise CircuitError(
            "discretised_gaussian has no local text: its error is a ratio of Gaussian tails, safe only in three "
            "forms (bins.py), and no single expression"
        )

    def sample(self, params: Mapping[str, Tensor], eta: Tensor, draws: Draws) -> Tensor:
        """μ + σξ taken to the nearest level and clipped, which is exact: the outer bins are open."""
        value = draws.normal(eta) * self._sigma(params) + eta
        return ((value + 1) / (2 * HALF_BIN)).round_().clamp_(0, 255).mul_(2 * HALF_BIN).sub_(1)

    def mean(self, params: Mapping[str, Tensor], eta: Tensor) -> Tensor:
        """E[x | μ], within 1e-4 (a hundredth of a level): the best guess of x in the model's own terms.

        Not μ clipped to [−1, 1], which for large σ lies outside what the levels can average to near ±1.
        E = 1 − 2h Σ_j Φ((b_j − μ)/σ) over the 255 bounds b_j is a midpoint rule on [−1, 1]; its integral (the
        mean of the clipped Gaussian) and first Euler-Maclaurin term are taken in closed form.
        """
        sigma = self._sigma(params)
        low, high = (-1 - eta) / sigma, (1 - eta) / sigma
        density_low, density_high = _density(low), _density(high)
        clipped = high * torch.special.ndtr(high) - low * torch.special.ndtr(low) + density_high - density_low
        ends = (density_high - density_low) / sigma * (HALF_BIN**2 / 6)
        return ends.add_(1).sub_(clipped * sigma)

    def _sigma(self, params: Mapping[str, Tensor]) -> float | Tensor:
        """σ."""
        return params["log_scale"].exp().add(HALF_BIN) if "log_scale" in params else self.scale


def _density(v: Tensor) -> Tensor:
    """φ(v) of the standard normal."""
    return v.square().mul_(-0.5).exp_().mul_(1 / math.sqrt(2 * math.pi))


def _masked(terms: Terms, seen: Tensor) -> Terms:
    """The terms of observed entries, 0 elsewhere; in place."""
    for term in terms:
        if term is not None:
            term.mul_(seen)
    return terms
