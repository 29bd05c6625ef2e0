"""Small circuits whose evidence is known in closed form, with the numpy side of them."""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import multivariate_normal
from torch import Tensor

from pcsim.circuit import load_circuit
from pcsim.engines.torch.program import Params, Program, ancestral
from pcsim.inference.rng import seed_stream

Array = NDArray[np.float64]


class LinearGaussian(NamedTuple):
    """A linear-Gaussian circuit and its joint N(mean, covariance) over all nodes, stacked in order."""

    program: Program
    params: Params
    places: dict[str, slice]
    mean: Array
    covariance: Array

    def entries(self, names: list[str], masks: dict[str, Array] | None = None) -> Array:
        """Indices into the joint of the held entries of the named nodes."""
        parts = []
        for name in names:
            index = np.arange(self.places[name].start, self.places[name].stop)
            parts.append(index[(masks or {}).get(name, np.ones(len(index))).astype(bool)])
        return np.concatenate(parts)

    def log_evidence(self, x: Array, held: Array) -> Array:
        """log N(x; mean, covariance) of the held entries, per row of x."""
        density = multivariate_normal(self.mean[held], self.covariance[np.ix_(held, held)])
        return np.atleast_1d(density.logpdf(x))

    def conditional(self, x: Array, held: Array, wanted: Array) -> tuple[Array, Array]:
        """(Means per row of x, covariance) of the wanted entries given the held ones."""
        cross = self.covariance[np.ix_(wanted, held)]
        gain = cross @ np.linalg.inv(self.covariance[np.ix_(held, held)])
        mean = self.mean[wanted] + (x - self.mean[held]) @ gain.T
        return mean, self.covariance[np.ix_(wanted, wanted)] - gain @ cross.T


def linear_gaussian(
    sizes: dict[str, int], edges: list[tuple[str, str]], seed: int, encoder: list[Any] | None = None
) -> LinearGaussian:
    """Random weights, biases, means and precisions (per unit) on the given graph, nodes in causal order."""
    rng = np.random.default_rng(seed)
    total = sum(sizes.values())
    stops = np.cumsum(list(sizes.values()))
    places = {name: slice(int(b) - n, int(b)) for (name, n), b in zip(sizes.items(), stops, strict=True)}
    precision, offset, weight = rng.uniform(0.5, 4, total), np.zeros(total), np.zeros((total, total))
    nodes: dict[str, Any] = {}
    children = {child for _, child in edges}
    for name, n in sizes.items():
        nodes[name] = {
            "shape": [n],
            "distribution": {"gaussian": {"precision": precision[places[name]].tolist()}},
        }
        if name not in children:
            offset[places[name]] = rng.normal(size=n)
            nodes[name]["mean"] = offset[places[name]].tolist()
    specs = []
    for parent, child in edges:
        w, b = rng.normal(size=(sizes[child], sizes[parent])), rng.normal(size=sizes[child])
        weight[places[child], places[parent]] = w
        offset[places[child]] += b
        layers = [{"linear": {"weight": w.tolist(), "bias": b.tolist()}}]
        specs.append({"from": parent, "to": child, "layers": layers})
    spread = np.linalg.inv(np.eye(total) - weight)
    spec: dict[str, Any] = {"nodes": nodes, "edges": specs}
    program = Program(load_circuit(spec | ({"encoder": encoder} if encoder else {})))
    params = program.initial_parameters(torch.Generator().manual_seed(seed))
    return LinearGaussian(
        program, params, places, spread @ offset, spread @ np.diag(1 / precision) @ spread.T
    )


CASES: dict[str, tuple[dict[str, int], list[tuple[str, str]], list[str]]] = {
    "one_level": ({"z": 2, "x": 3}, [("z", "x")], ["x"]),
    "hierarchy": ({"top": 2, "mid": 3, "x": 4}, [("top", "mid"), ("mid", "x")], ["x"]),
    "skip_and_two_observed": (
        {"a": 2, "b": 1, "c": 2, "x": 2, "y": 2},
        [("a", "c"), ("b", "c"), ("c", "x"), ("a", "x"), ("b", "y"), ("c", "y")],
        ["x", "y"],
    ),
    "clamped_root": ({"cue": 2, "z": 2, "x": 3}, [("cue", "z"), ("cue", "x"), ("z", "x")], ["cue", "x"]),
    "observed_in_the_middle": (
        {"a": 2, "x": 2, "b": 2, "y": 1},
        [("a", "x"), ("x", "b"), ("b", "y")],
        ["x", "y"],
    ),
}
"""Sizes, edges and the observed nodes."""


def simulated(model: LinearGaussian, observed: list[str], n: int) -> dict[str, Tensor]:
    values = ancestral(model.program.bind(model.params), seed_stream(7), n, {})
    return {name: values[name] for name in observed}


def stacked(values: dict[str, Tensor], masks: dict[str, Any] | None = None) -> Array:
    parts = [v.numpy()[:, (masks or {}).get(n, np.ones(v.shape[1])).astype(bool)] for n, v in values.items()]
    return np.concatenate(parts, axis=1)
