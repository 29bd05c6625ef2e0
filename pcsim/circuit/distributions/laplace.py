"""The Laplace distribution: absolute errors, constant push."""

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from pcsim.circuit.distributions.base import Draws, Local, LocalText, Shape
from pcsim.circuit.distributions.record import Record, per_row


class Laplace(Record):
    """E = |z − η| / b + log 2b with scale b; learned, the parameter is `log_scale` = log b, one number."""

    learnable: ClassVar[tuple[str, ...]] = ("scale",)
    scale: float = Field(default=1.0, gt=0, allow_inf_nan=False)

    def parameters(self, shape: Shape) -> dict[str, Tensor]:
        """`log_scale` when it is learned."""
        return {"log_scale": torch.tensor(math.log(self.scale), dtype=torch.float64)} if self.learn else {}

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
        """Error sign(z − η) / b, which is also the own gradient (0 at the kink); the mask plays no part."""
        difference = z - eta
        scale, log_scale = self._scale(params)
        error = difference.sign() / scale
        if not energy and not (learn and self.learn):
            return Local(error, error, None, {})
        distance = per_row(difference.abs_()) / scale
        value = distance + (z.numel() // len(z)) * (log_scale + math.log(2)) if energy else None
        gradient = {"log_scale": z.numel() - distance.sum()} if learn and self.learn else {}
        return Local(error, error, value, gradient)

    def local_text(self, params: Mapping[str, Tensor], shape: Shape) -> LocalText:
        """sign(z − η) / b."""
        scale = torch.as_tensor(self._scale(params)[0], dtype=torch.float64)
        return LocalText("sign(z - eta)/scale", {"scale": scale})

    def sample(self, params: Mapping[str, Tensor], eta: Tensor, draws: Draws) -> Tensor:
        """η ± b · (an exponential draw), the sign from a second draw: no uniform draw can give infinity."""
        size = -torch.log1p(-draws.uniform(eta))
        sign = torch.where(draws.uniform(eta) < 0.5, -1.0, 1.0).to(eta.dtype)
        return eta + sign * size * self._scale(params)[0]

    def mean(self, params: Mapping[str, Tensor], eta: Tensor) -> Tensor:
        """η."""
        return eta

    def _scale(self, params: Mapping[str, Tensor]) -> tuple[float | Tensor, float | Tensor]:
        """(b, log b)."""
        if "log_scale" in params:
            return params["log_scale"].exp(), params["log_scale"]
        return self.scale, math.log(self.scale)
