"""The categorical distribution, one-hot over the last axis, predicted by its logits."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from pcsim.circuit.distributions.base import Draws, Local, LocalText, Shape
from pcsim.circuit.distributions.record import Record, per_row, units
from pcsim.errors import CircuitError


class Categorical(Record):
    """P(class k) = softmax(η)_k over the last axis; E = −Σ_k x_k log softmax(η)_k with x one-hot.

    A mask must be constant over the last axis: a class variable is observed or not as a whole.
    """

    discrete: ClassVar[bool] = True
    data_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def parameters(self, shape: Shape) -> dict[str, Tensor]:
        """None; raises `CircuitError` where the last axis cannot hold two classes."""
        if not shape or shape[-1] < 2:
            raise CircuitError(
                f"a categorical node of shape {list(shape)} needs two classes or more along its last axis"
            )
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
        """Error x − softmax(η), times the mask."""
        log_mass = eta.log_softmax(-1)
        error = z - log_mass.exp()
        if mask is not None:
            error.mul_(mask)
        if not energy:
            return Local(error, None, None, {})
        surprise = log_mass.mul_(z).neg_()
        return Local(error, None, per_row(surprise if mask is None else surprise.mul_(mask)), {})

    def local_text(self, params: Mapping[str, Tensor], shape: Shape) -> LocalText:
        """x_k − 1/Σ_j exp(η_j − η_k), the sum over the classes of one variable; it cannot give 0/0."""
        eye = torch.eye(units(shape) // shape[-1], dtype=torch.float64)
        together = torch.kron(eye, eye.new_ones(shape[-1], shape[-1]))
        return LocalText("z - 1/lateral", {}, None, "exp(eta_pre - eta_post)", together)

    def sample(self, params: Mapping[str, Tensor], eta: Tensor, draws: Draws) -> Tensor:
        """One-hot argmax of η + Gumbel noise, −log(−log u) (Gumbel, 1954); u = 0 never wins."""
        gumbel = -(-draws.uniform(eta).log()).log()
        winner = (eta + gumbel).argmax(-1, keepdim=True)
        return eta.new_zeros(eta.shape).scatter_(-1, winner, 1.0)

    def mean(self, params: Mapping[str, Tensor], eta: Tensor) -> Tensor:
        """softmax(η)."""
        return eta.softmax(-1)
