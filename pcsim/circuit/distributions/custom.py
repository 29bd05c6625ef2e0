"""A caller's own distribution, from its log-density: everything else by automatic differentiation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pcsim.circuit.distributions.base import Draws, Local, LocalText, Shape
from pcsim.circuit.distributions.record import per_row
from pcsim.errors import CircuitError, nearest

Params = Mapping[str, Tensor]


@dataclass(frozen=True)
class Custom:
    """A distribution given by functions of (params, z, η); `from_log_prob` makes and checks one."""

    discrete: ClassVar[bool] = False
    learnable: ClassVar[tuple[str, ...]] = ()
    data_range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    log_prob: Callable[[Params, Tensor, Tensor], Tensor]
    draw: Callable[[Params, Tensor, Draws], Tensor]
    expectation: Callable[[Params, Tensor], Tensor]
    initial: Mapping[str, Tensor]
    learn: tuple[str, ...] = ()

    def parameters(self, shape: Shape) -> dict[str, Tensor]:
        """The initial values in float64."""
        return {name: value.to(torch.float64, copy=True) for name, value in self.initial.items()}

    @property
    def learned(self) -> tuple[str, ...]:
        """The parameters that were asked to be learned."""
        return self.learn

    def local(
        self,
        params: Params,
        z: Tensor,
        eta: Tensor,
        *,
        mask: Tensor | None = None,
        energy: bool = False,
        learn: bool = False,
    ) -> Local:
        """All terms from one backward pass through `log_prob`; rows are independent, so their sum will do.

        Raises `CircuitError` when `log_prob` returns another shape than `[row]` or `[row, *shape]`, and when
        entries are masked but it has summed over them already.
        """
        words = self.learn if learn else ()
        with torch.enable_grad():
            at = {name: p.detach().requires_grad_(name in words) for name, p in params.items()}
            eta = eta.detach().requires_grad_()
            z = z.detach().requires_grad_(not self.discrete)
            value = -self._masked(self.log_prob(at, z, eta), z, mask)
            wanted = [eta] + ([] if self.discrete else [z]) + [at[name] for name in words]
            slopes = torch.autograd.grad(value.sum(), wanted, materialize_grads=True)
        grad = None if self.discrete else slopes[1]
        gradient = dict(zip(words, slopes[len(slopes) - len(words) :], strict=True))
        return Local(-slopes[0], grad, value.detach() if energy else None, gradient)

    def _masked(self, log_prob: Tensor, z: Tensor, mask: Tensor | None) -> Tensor:
        """log p per row."""
        if log_prob.shape == z.shape:
            masked = self.discrete and mask is not None
            return per_row(log_prob * mask if masked and mask is not None else log_prob)
        if log_prob.shape != z.shape[:1]:
            raise CircuitError(
                f"log_prob returned shape {list(log_prob.shape)} for values of shape {list(z.shape)}; "
                f"expected one number per row, {list(z.shape[:1])}, or per entry, {list(z.shape)}"
            )
        if self.discrete and mask is not None:
            raise CircuitError("log_prob must return one number per entry where some entries are masked")
        return log_prob

    def local_text(self, params: Params, shape: Shape) -> LocalText:
        """None; raises `CircuitError`."""
        raise CircuitError(
            "a distribution from log_prob has no local text: its error is found by automatic differentiation"
        )

    def sample(self, params: Params, eta: Tensor, draws: Draws) -> Tensor:
        """The caller's draw."""
        return self.draw(params, eta, draws)

    def mean(self, params: Params, eta: Tensor) -> Tensor:
        """The caller's mean."""
        return self.expectation(params, eta)


@dataclass(frozen=True)
class CustomDiscrete(Custom):
    """`Custom` on a discrete set: no gradient for z, and masks drop entries."""

    discrete: ClassVar[bool] = True


def _location(params: Params, eta: Tensor) -> Tensor:
    return eta


def from_log_prob(
    log_prob: Callable[[Params, Tensor, Tensor], Tensor],
    sample: Callable[[Params, Tensor, Draws], Tensor],
    *,
    parameters: Mapping[str, Tensor | float] | None = None,
    learn: Sequence[str] = (),
    discrete: bool = False,
    mean: Callable[[Params, Tensor], Tensor] = _location,
) -> Custom:
    """A distribution from `log_prob(params, z, eta) → [row]` (or `[row, *shape]`, summed here), normalised.

    `sample(params, eta, draws)` draws z from `draws.normal` or `draws.uniform`; `mean(params, eta)` is E[z|η]
    (η unless given); `parameters` holds initial values, of which `learn` names those that learning may move.
    Raises `CircuitError` when `learn` names something else.
    """
    initial = {name: torch.as_tensor(value) for name, value in (parameters or {}).items()}
    for name in learn:
        if name not in initial:
            raise CircuitError(f"learn: no parameter {name!r}; {nearest(name, initial)}")
    kind = CustomDiscrete if discrete else Custom
    return kind(log_prob, sample, mean, initial, tuple(learn))
