"""Random linear-Gaussian circuits over random DAGs, and their closed forms in numpy."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcsim.circuit.graph import Circuit
from pcsim.circuit.read import load_circuit
from pcsim.engines.torch.program import Program
from pcsim.engines.torch.target import CircuitTarget, Clamp
from pcsim.inference.types import Tree

Array = NDArray[np.float64]
F64 = torch.float64


class GaussianCircuit(NamedTuple):
    """A circuit and its joint N(mean, covariance) over all units, nodes in the order of `parts`."""

    description: dict[str, Any]
    parts: dict[str, slice]
    mean: Array
    covariance: Array

    @property
    def circuit(self) -> Circuit:
        return load_circuit(self.description)

    def target(self, clamp: Clamp, rows: int, mobility: Mapping[str, float] | None = None) -> CircuitTarget:
        program = Program(self.circuit)
        bound = program.bind(program.initial_parameters(torch.Generator()))
        return CircuitTarget(bound, clamp, rows, mobility=mobility)


def random_precision(rng: np.random.Generator, size: int) -> tuple[Any, Array]:
    """A precision as a circuit states it (number, list or matrix, by chance), and as a matrix."""
    kind = rng.integers(3)
    if kind == 0:
        value = float(rng.uniform(0.5, 2.0))
        return value, value * np.eye(size)
    if kind == 1:
        units = rng.uniform(0.5, 2.0, size)
        return units.tolist(), np.diag(units)
    root = rng.normal(size=(size, size)) / 2
    matrix = root @ root.T + np.eye(size)
    return matrix.tolist(), matrix


def random_circuit(seed: int, n_node: int) -> GaussianCircuit:
    """n_node nodes of 1 to 3 units; every pair (earlier, later) is an edge with probability ½, none alone."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 4, n_node)
    stops = np.cumsum(sizes)
    parts = {f"n{i}": slice(int(stops[i] - sizes[i]), int(stops[i])) for i in range(n_node)}
    total = int(stops[-1])
    weights, precision, offset = np.zeros((total, total)), np.zeros((total, total)), np.zeros(total)
    nodes: dict[str, Any] = {}
    edges: list[dict[str, Any]] = []
    for child, part in parts.items():
        stated, precision[part, part] = random_precision(rng, part.stop - part.start)
        nodes[child] = {
            "shape": [part.stop - part.start],
            "distribution": {"gaussian": {"precision": stated}},
        }
        earlier = [n for n in nodes if n != child]
        chosen = [n for n in earlier if rng.random() < 0.5] or earlier[-1:]
        if not chosen or (len(nodes) == n_node - 1 and n_node > 3 and rng.random() < 0.5):
            chosen = []  # a root: the first node, and sometimes a later one (its only edge is the last node's)
            mean = rng.normal(size=part.stop - part.start)
            nodes[child]["mean"] = mean.tolist()
            offset[part] = mean
        if len(nodes) == n_node:  # whoever has no edge yet is a parent of the last node
            chosen = [n for n in earlier if n in chosen or all(n not in (e["from"], e["to"]) for e in edges)]
        for parent in chosen:
            weight = 0.8 * rng.normal(size=(part.stop - part.start, parts[parent].stop - parts[parent].start))
            bias = rng.normal(size=len(weight))
            layer = {"linear": {"weight": weight.tolist(), "bias": bias.tolist()}}
            edges.append({"from": parent, "to": child, "layers": [layer]})
            weights[part, parts[parent]] = weight
            offset[part] += bias
    reach = np.linalg.inv(np.eye(total) - weights)
    covariance = reach @ np.linalg.inv(precision) @ reach.T
    return GaussianCircuit({"nodes": nodes, "edges": edges}, parts, reach @ offset, covariance)


class Posterior(NamedTuple):
    """N(mean, precision⁻¹) of the free units given the held ones."""

    free: NDArray[np.int64]
    mean: Array
    precision: Array

    def ula(self, step: float, temperature: float, factor: Array | None = None) -> Array:
        """Stationary covariance T[Λ − (γ/2)ΛGΛ]⁻¹ of Langevin at step γ; G = diag(factor)."""
        g = np.eye(len(self.mean)) if factor is None else np.diag(factor)
        return temperature * np.linalg.inv(self.precision - step / 2 * self.precision @ g @ self.precision)


def condition(joint: GaussianCircuit, held: NDArray[np.bool_], values: Array) -> Posterior:
    """The posterior given `values[held]`, by the Schur complement of the joint *covariance*."""
    free, known = np.flatnonzero(~held), np.flatnonzero(held)
    s = joint.covariance
    gain = np.linalg.solve(s[np.ix_(known, known)], s[np.ix_(known, free)]).T
    mean = joint.mean[free] + gain @ (values[known] - joint.mean[known])
    return Posterior(free, mean, np.linalg.inv(s[np.ix_(free, free)] - gain @ s[np.ix_(known, free)]))


def clamp_of(joint: GaussianCircuit, held: NDArray[np.bool_], values: Array, rows: int) -> Clamp:
    """The clamp of those units: whole nodes outright, parts of a node by a mask (values elsewhere are bait)."""
    given: dict[str, Tensor] = {}
    masks: dict[str, Tensor] = {}
    for name, part in joint.parts.items():
        if not held[part].any():
            continue
        given[name] = torch.from_numpy(np.where(held[part], values[part], 77.0)).expand(rows, -1).clone()
        if not held[part].all():
            masks[name] = torch.from_numpy(held[part].astype(np.float64))
    return Clamp(given, masks)


def flat(joint: GaussianCircuit, z: Tree, posterior: Posterior) -> Tensor:
    """The free units of a state, `[row, free unit]`."""
    rows = len(next(iter(z.values())))
    everything = torch.full((rows, len(joint.mean)), torch.nan, dtype=F64)
    for name, leaf in z.items():
        everything[:, joint.parts[name]] = leaf
    return everything[:, torch.from_numpy(posterior.free)]


@lru_cache(maxsize=8)
def _orthogonal(rows: int, seed: int) -> Array:
    """√rows times an orthogonal matrix whose first column is constant."""
    square = np.random.default_rng(seed).normal(size=(rows, rows))
    square[:, 0] = 1.0
    columns: Array = np.linalg.qr(square)[0] * np.sqrt(rows)
    return columns


class Orthogonal:
    """Draws whose sample moments over rows are exactly those of independent normals: mean 0, covariance I.

    Within a block of `rows` rows all columns ever drawn are orthogonal to each other and to the constant, so
    whatever is linear in the draws has exactly its expected mean and covariance: no sampling error. Needs
    more rows than numbers drawn per row. Several images: the block is repeated.
    """

    def __init__(self, rows: int, seed: int = 0, images: int = 1) -> None:
        self.columns = torch.from_numpy(_orthogonal(rows, seed)).repeat(images, 1)
        self.used = 1

    def normal(self, like: Tensor) -> Tensor:
        size = like[0].numel()
        assert self.used + size <= self.columns.shape[1], "more draws than rows"
        block = self.columns[:, self.used : self.used + size]
        self.used += size
        return block.reshape(like.shape).to(like.dtype)

    def uniform(self, like: Tensor) -> Tensor:
        raise AssertionError("normal draws only")
