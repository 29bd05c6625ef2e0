"""Exact laws of the Langevin chain on one or two coordinates: its transition density as a matrix on a grid.

z' = z − γ U'(z) + √(2γT) ξ has a Gaussian transition density. On a grid no coarser than its standard deviation the
trapezoidal rule for it is exact to 1e-8 and better, so that the step's own bias is part of what is expected, and
tolerances are sampling errors alone.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import splu

Array = NDArray[np.float64]
REACH = 6.0
"""Standard deviations that a window of transitions covers on each side; 2e-9 is beyond."""


class EulerLaw(NamedTuple):
    """Grid points `[point, axis]` and the transition matrix between them, rows from, columns to."""

    points: Array
    matrix: sparse.csr_matrix
    shape: tuple[int, ...]

    def stationary(self) -> Array:
        """Probability of every point in the long run; for one coordinate."""
        matrix = self.matrix.toarray()
        system = (matrix / matrix.sum(1, keepdims=True)).T - np.eye(len(matrix))
        system[-1] = 1.0  # one equation of the balance follows from the others
        mass: Array = np.linalg.solve(system, np.eye(len(matrix))[-1])
        return mass


def euler_law(
    axes: tuple[Array, ...], gradient: Callable[[Array], Array], step: float, temperature: float = 1.0
) -> EulerLaw:
    """The law of the chain on the product of evenly spaced axes; mass that leaves the grid is lost.

    gradient: ∂U/∂z at points `[point, axis]`. Grids must be no coarser than √(2γT).
    """
    scale = np.sqrt(2 * step * temperature)
    points = np.stack([a.ravel() for a in np.meshgrid(*axes, indexing="ij")], 1)
    centre = points - step * gradient(points)
    columns, weight = np.zeros((len(points), 1), dtype=np.int64), np.ones((len(points), 1))
    for axis, grid in enumerate(axes):
        width = grid[1] - grid[0]
        assert width <= scale
        count = int(np.ceil(2 * REACH * scale / width)) + 1
        first = np.ceil((centre[:, axis] - REACH * scale - grid[0]) / width).astype(np.int64)
        index = first[:, None] + np.arange(count)
        away = (grid[0] + index * width - centre[:, axis, None]) / scale
        density = np.exp(-(away**2) / 2)
        density /= density.sum(1, keepdims=True)  # the tails cut off would leak in every one of many steps
        density[(index < 0) | (index >= len(grid))] = 0.0
        index = index.clip(0, len(grid) - 1)
        columns = (columns[:, :, None] * len(grid) + index[:, None, :]).reshape(len(points), -1)
        weight = (weight[:, :, None] * density[:, None, :]).reshape(len(points), -1)
    rows = np.repeat(np.arange(len(points)), columns.shape[1])
    entries = (weight.ravel(), (rows, columns.ravel()))
    matrix = sparse.csr_matrix(entries, shape=(len(points), len(points)))
    return EulerLaw(points, matrix, tuple(len(a) for a in axes))


class Dwell(NamedTuple):
    """How long a chain of two mirror-symmetric modes stays in one, in steps."""

    mean: float
    variation: float
    """Standard deviation over mean."""
    survival: Array
    """P(dwell > k) for k = 0, 1, …"""


def dwell(law: EulerLaw, threshold: float, longest: int) -> Dwell:
    """The exact law of dwell times: a dwell ends when the *last* coordinate has crossed to −threshold.

    It begins where the mirrored chain has just crossed. The grid must be symmetric in the last coordinate, and
    the potential too. With Q the transitions that stay, the mean is e (1 − Q)⁻¹ 1 and the second factorial moment
    2 e Q (1 − Q)⁻² 1, for the entry distribution e = mirror(e (1 − Q)⁻¹ (P − Q)).
    """
    last = law.points[:, -1]
    inside = last > -threshold
    mirror = np.arange(len(last)).reshape(law.shape)[..., ::-1].ravel()
    stay = law.matrix[inside][:, inside].tocsc()
    leave = law.matrix[inside]
    solver = splu(sparse.identity(stay.shape[0], format="csc") - stay)
    entry = np.where(last > threshold, np.exp(-20 * (last - threshold)), 0.0)
    entry /= entry.sum()
    for _ in range(20):
        visits = solver.solve(entry[inside], trans="T")
        out = np.where(inside, 0.0, leave.T @ visits)
        entry = out[mirror] / out.sum()
    ones = np.ones(stay.shape[0])
    visits = solver.solve(entry[inside], trans="T")
    mean, second = visits.sum(), 2 * (visits @ (stay @ solver.solve(ones)))
    alive, survival = entry[inside], np.empty(longest + 1)
    for k in range(longest + 1):
        survival[k] = alive.sum()
        alive = stay.T @ alive
    return Dwell(float(mean), float(np.sqrt(second + mean - mean**2) / mean), survival)


def dwell_times(path: Array, threshold: float) -> list[tuple[Array, Array]]:
    """Per chain of `[step, chain]` the steps at which it changed sides, and the lengths of its complete dwells.

    Sides change at ±threshold, whichever is opposite; what is before the first change does not count.
    """
    result = []
    for chain in path.T:
        outside = np.flatnonzero(np.abs(chain) > threshold)
        side = np.sign(chain[outside])
        changes = outside[1:][np.diff(side) != 0]
        result.append((changes, np.diff(changes).astype(float)))
    return result


def surplus(found: list[tuple[Array, Array]], time: int, latest: int, survival: float) -> list[float]:
    """Per chain, Σ (dwell > time) − P(dwell > time) over the dwells that begin before `latest`; of mean zero.

    The path must go on for longer than `time` after `latest`: then no dwell that counts is cut off.
    """
    result = []
    for changes, _ in found:
        begins = changes[changes < latest]
        ends = np.append(changes, np.iinfo(np.int64).max)[1 : len(begins) + 1]
        result.append(float((ends - begins > time).sum() - survival * len(begins)))
    return result
