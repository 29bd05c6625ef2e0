"""How parameters move: torch's optimisers, by the names that studies use."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


def adam(
    params: Iterable[Tensor], step_size: float, betas: tuple[float, float] = (0.9, 0.999)
) -> torch.optim.Adam:
    """Adam (Kingma & Ba 2015), torch's implementation."""
    return torch.optim.Adam(list(params), lr=step_size, betas=betas)


def sgd(params: Iterable[Tensor], step_size: float, momentum: float = 0.0) -> torch.optim.SGD:
    """Plain gradient descent θ ← θ − α ∂U/∂θ, with optional heavy-ball momentum."""
    return torch.optim.SGD(list(params), lr=step_size, momentum=momentum)


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {"adam": adam, "sgd": sgd}


def descend(optimizer: torch.optim.Optimizer, params: dict[str, Tensor], gradient: dict[str, Tensor]) -> None:
    """One step of the optimiser, in place, down `gradient`."""
    for name, value in gradient.items():
        params[name].grad = value.to(params[name].dtype)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
