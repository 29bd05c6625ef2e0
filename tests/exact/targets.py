"""Targets whose laws are known in closed form or by quadrature."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from scipy.integrate import quad
from torch import Tensor

from pcsim.inference.types import Point, Tree


class Gaussian:
    """U = ½ (z−m)ᵀ Λ (z−m), cut into named leaves `[row, size]`."""

    def __init__(
        self,
        precision: Tensor,
        mean: Tensor,
        leaves: Mapping[str, int] | None = None,
        mobility: Mapping[str, float | Tensor] | None = None,
    ) -> None:
        self.precision, self.mean = precision, mean
        self.leaves = dict(leaves) if leaves is not None else {"z": len(mean)}
        self.mobility = mobility if mobility is not None else {}

    def flat(self, z: Tree) -> Tensor:
        return torch.cat([z[name] for name in self.leaves], dim=1)

    def split(self, flat: Tensor) -> Tree:
        return dict(zip(self.leaves, flat.split(list(self.leaves.values()), dim=1), strict=True))

    def evaluate(self, z: Tree, energy: bool) -> Point:
        offset = self.flat(z) - self.mean
        grad = offset @ self.precision
        return Point(self.split(grad), 0.5 * (offset * grad).sum(1) if energy else None, None)


class Separable:
    """U = Σ u(z) over the entries of one leaf `z`, `[row, *shape]`."""

    mobility: Mapping[str, float | Tensor]

    def __init__(self, energy: Callable[[Tensor], Tensor], slope: Callable[[Tensor], Tensor]) -> None:
        self.energy, self.slope, self.mobility = energy, slope, {}

    def evaluate(self, z: Tree, energy: bool) -> Point:
        leaf = z["z"]
        total = self.energy(leaf).reshape(len(leaf), -1).sum(1) if energy else None
        return Point({"z": self.slope(leaf)}, total, None)


def two_wells(centre: float = 1.5, scale: float = 1.0) -> Separable:
    """u(s z), u = −log of a mixture of N(c, 1) and N(−c, 1): two wells for c > 1, −(c² − 1) ≤ u'' ≤ 1."""
    return Separable(
        lambda z: 0.5 * (scale * z) ** 2 - torch.logaddexp(centre * scale * z, -centre * scale * z),
        lambda z: scale * (scale * z - centre * torch.tanh(centre * scale * z)),
    )


def quartic() -> Separable:
    """u = z⁴/4 + z²/2 + z/2: skewed, with a slope that grows faster than any line."""
    return Separable(lambda z: z**4 / 4 + z**2 / 2 + z / 2, lambda z: z**3 + z + 0.5)


def expectation(target: Separable, f: Callable[[float], float], temperature: float = 1.0) -> float:
    """E f(z) under exp(−u/T) for one entry, by quadrature."""

    def weight(z: float) -> float:
        return float(np.exp(-float(target.energy(torch.tensor(z, dtype=torch.float64))) / temperature))

    total = quad(weight, -12, 12, limit=200)[0]
    return float(quad(lambda z: f(z) * weight(z), -12, 12, limit=200)[0] / total)


def exact_draws(target: Separable, n: int, temperature: float = 1.0, seed: int = 0) -> Tensor:
    """n draws of one entry, by inverting the distribution function on a fine grid."""
    grid = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    density = (-target.energy(grid) / temperature).exp()
    mass = torch.cumulative_trapezoid(density, grid)
    mass = torch.cat([mass.new_zeros(1), mass]) / mass[-1]
    u = np.random.default_rng(seed).random(n)
    return torch.from_numpy(np.interp(u, mass.numpy(), grid.numpy()))


def random_precision(dimensions: int, low: float, high: float, seed: int) -> Tensor:
    """A symmetric positive definite matrix with eigenvalues evenly spaced on [low, high], in random axes."""
    axes = np.linalg.qr(np.random.default_rng(seed).normal(size=(dimensions, dimensions)))[0]
    return torch.from_numpy(axes @ np.diag(np.linspace(low, high, dimensions)) @ axes.T)
