"""The Bernoulli distribution on {0, 1}, predicted by its logits."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from pcsim.circuit.distributions.base import Draws, Local, LocalText, Shape
from pcsim.circuit.distributions.record import Record, per_row


class Bernoulli(Record):
    """P(x = 1) = s(η), the logistic function of the logit; E = softplus(η) − x η.

    Grey values 0 < x < 1 are taken as the probability that the unit is on: E is then the cross-entropy, the
    mean energy of binary draws with that probability, and *not* a normalised density of x. Binarise data
    whose log-likelihoods are to be compared.
    """

    discrete: ClassVar[bool] = True
    data_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def parameters(self, shape: Shape) -> dict[str, Tensor]:
        """None."""
        return {}

    @property
    def learned(self) -> tuple[str, ...]:
        """None."""
        return ()

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
        """Error x − s(η), times the mask."""
        error = z - eta.sigmoid()
        if mask is not None:
            error.mul_(mask)
        if not energy:
            return Local(error, None, None, {})
        entropy = torch.nn.functional.binary_cross_entropy_with_logits(eta, z, reduction="none")
        return Local(error, None, per_row(entropy if mask is None else entropy * mask), {})

    def local_text(self, params: Mapping[str, Tensor], shape: Shape) -> LocalText:
        """x − s(η); the logistic function as a hyperbolic tangent, which cannot overflow."""
        return LocalText("z - 0.5*(1 + tanh(0.5*eta))", {}, own=None)

    def sample(self, params: Mapping[str, Tensor], eta: Tensor, draws: Draws) -> Tensor:
        """1 where a uniform draw falls below s(η), else 0."""
        return (draws.uniform(eta) < eta.sigmoid()).to(eta.dtype)

    def mean(self, params: Mapping[str, Tensor], eta: Tensor) -> Tensor:
        """s(η)."""
        return eta.sigmoid()
