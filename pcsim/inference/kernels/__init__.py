"""The kernels by name. To add one: a file with `name(step_size, ...) -> Kernel`, and a line here."""

from collections.abc import Callable

from pcsim.inference.kernels.adam import adam
from pcsim.inference.kernels.langevin import langevin
from pcsim.inference.kernels.mala import mala
from pcsim.inference.kernels.momentum import momentum
from pcsim.inference.types import Kernel

KERNELS: dict[str, Callable[..., Kernel]] = {
    "langevin": langevin,
    "mala": mala,
    "momentum": momentum,
    "adam": adam,
}

__all__ = ["KERNELS", "adam", "langevin", "mala", "momentum"]
