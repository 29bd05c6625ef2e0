"""Student's t distribution: errors that fade for outliers."""

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from pcsim.circuit.distributions.base import Draws, Local, LocalText, Shape
from pcsim.circuit.distributions.record import Record, per_row


class StudentT(Record):
    """E = ½(ν+1) log(1 + Π(z−η)²/ν) − log Γ(½(ν+1)) + log Γ(½ν) + ½ log(νπ/Π).

    Π is `precision` (a number; learned, the parameter is `log_precision`), ν is `dof` > 0. Π is the inverse
    squared scale: the variance is ν/(ν−2)/Π where ν > 2.
    """

    learnable: ClassVar[tuple[str, ...]] = ("precision",)
    precision: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    dof: float = Field(
        default=4.0, gt=0, allow_inf_nan=False
    )  # 4: the fewest whole ones with a fading fourth moment

    def parameters(self, shape: Shape) -> dict[str, Tensor]:
        """`log_precision` when it is learned."""
        if not self.learn:
            return {}
        return {"log_precision": torch.tensor(math.log(self.precision), dtype=torch.float64)}

    @property
    def learned(self) -> tuple[str, ...]:
        """`log_precision` when the precision is learned."""
        return ("log_precision",) if self.learn else ()

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
        """Error (ν+1) Π d / (ν + Π d²), d = z − η, which is also the own gradient; the mask plays no part."""
        difference = z - eta
        precision, log_precision = self._precision(params)
        square = difference.square().mul_(precision)
        error = difference.mul_(precision).mul_(self.dof + 1).div_(square + self.dof)
        learn = learn and bool(self.learn)
        gradient = {}
        if learn:
            slope = (square / (square + self.dof)).sum() * (0.5 * (self.dof + 1))
            gradient = {"log_precision": slope - 0.5 * z.numel()}
        value = None
        if energy:
            kernel = per_row(square.div_(self.dof).log1p_()) * (0.5 * (self.dof + 1))
            value = kernel + (z.numel() // len(z)) * (self._log_normaliser() - 0.5 * log_precision)
        return Local(error, error, value, gradient)

    def local_text(self, params: Mapping[str, Tensor], shape: Shape) -> LocalText:
        """(ν+1) Π d / (ν + Π d²), d = z − η."""
        precision = torch.as_tensor(self._precision(params)[0], dtype=torch.float64)
        dof = torch.tensor(self.dof, dtype=torch.float64)
        error = "(dof + 1)*precision*(z - eta)/(dof + precision*(z - eta)**2)"
        return LocalText(error, {"precision": precision, "dof": dof})

    def sample(self, params: Mapping[str, Tensor], eta: Tensor, draws: Draws) -> Tensor:
        """η + Π^(−½) sqrt(ν (u^(−2/ν) − 1)) cos 2πv with u on (0, 1], v uniform: exact for every ν > 0.

        Bailey (1994), Mathematics of Computation 62, 779-781.
        """
        u, v = 1 - draws.uniform(eta), draws.uniform(eta)
        radius = (self.dof * torch.expm1(u.log() * (-2 / self.dof))).sqrt()
        return eta + radius * torch.cos(2 * math.pi * v) * self._precision(params)[0] ** -0.5

    def mean(self, params: Mapping[str, Tensor], eta: Tensor) -> Tensor:
        """η (for ν ≤ 1, where no mean exists, the median)."""
        return eta

    def _precision(self, params: Mapping[str, Tensor]) -> tuple[float | Tensor, float | Tensor]:
        """(Π, log Π)."""
        if "log_precision" in params:
            return params["log_precision"].exp(), params["log_precision"]
        return self.precision, math.log(self.precision)

    def _log_normaliser(self) -> float:
        """The part of E per unit that depends on ν alone."""
        half = 0.5 * self.dof
        return math.lgamma(half) - math.lgamma(half + 0.5) + 0.5 * math.log(self.dof * math.pi)
