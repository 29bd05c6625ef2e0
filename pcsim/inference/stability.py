"""How large a step size can be: the largest curvature of an energy, from gradients alone."""

import torch
from torch import Tensor

from pcsim.inference.types import Rng, Target, Tree


def largest_curvature(
    target: Target, z: Tree, rng: Rng, iterations: int = 30, scaling: Tree | None = None
) -> Tensor:
    """λ_max of S½ H S½ per row, `[row]`, by power iteration; H = ∂²U/∂z² at z, S = mobility · scaling.

    Langevin and vanilla PC leave their stable region where γ λ_max ≥ 2. H v is taken from a difference of
    gradients, exact up to rounding where the energy is quadratic; there the result, a Rayleigh quotient,
    is never above λ_max, so what it warns of is certain. One gradient per iteration, and one more.
    `scaling` is a preconditioner's G per leaf (`Scaling.drift`).
    """
    factor = {name: _root_factor(target, name, leaf, scaling) for name, leaf in z.items()}
    origin = target.evaluate(z, False).grad
    resolution = max(torch.finfo(leaf.dtype).eps for leaf in z.values()) ** (1 / 3)
    size = resolution * (1 + _norm(z))
    direction = _normalised({name: rng.normal(leaf) * (factor[name] > 0) for name, leaf in z.items()})
    curvature = torch.zeros_like(size)
    for _ in range(iterations):
        moved = {n: leaf + _rows(size, leaf) * factor[n] * direction[n] for n, leaf in z.items()}
        grad = target.evaluate(moved, False).grad
        image = {n: factor[n] * (grad[n] - origin[n]) / _rows(size, leaf) for n, leaf in z.items()}
        curvature = _dot(direction, image)
        direction = _normalised(image)
    return curvature


def _root_factor(target: Target, name: str, leaf: Tensor, scaling: Tree | None) -> Tensor:
    factor = torch.ones_like(leaf) * target.mobility.get(name, 1.0)
    return (factor if scaling is None else factor * scaling[name]).sqrt()


def _rows(per_row: Tensor, leaf: Tensor) -> Tensor:
    return per_row.reshape(-1, *(1,) * (leaf.dim() - 1))


def _dot(a: Tree, b: Tree) -> Tensor:
    return torch.stack([(a[n] * b[n]).reshape(a[n].shape[0], -1).sum(1) for n in a]).sum(0)


def _norm(a: Tree) -> Tensor:
    return _dot(a, a).sqrt()


def _normalised(a: Tree) -> Tree:
    norm = _norm(a)
    norm = torch.where(norm > 0, norm, torch.ones_like(norm))
    return {n: leaf / _rows(norm, leaf) for n, leaf in a.items()}
