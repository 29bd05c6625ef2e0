"""Random nonlinear circuits, and their energy written a second time with torch.distributions and functional.

Nothing here calls the package's layers, distributions or engine: the energy of a description is an ordinary
differentiable function, and autograd of it is the oracle.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch import distributions as td

F64 = torch.float64
SMOOTH = ("tanh", "sigmoid", "silu", "softplus", "square", "identity")
FREE = (
    "number",
    "list",
    "matrix",
    "learned number",
    "learned list",
    "learned matrix",
    "laplace",
    "student_t",
)
LEAF = ("bernoulli", "categorical", "discretised_gaussian")
ACTIVATIONS = {
    "tanh": torch.tanh,
    "sigmoid": lambda x: 1 / (1 + torch.exp(-x)),
    "relu": F.relu,
    "silu": lambda x: x / (1 + torch.exp(-x)),
    "softplus": lambda x: torch.log1p(torch.exp(x)),
    "square": lambda x: x * x,
    "identity": lambda x: x,
}


def cumulative(x: Tensor) -> Tensor:
    """Φ(x), to relative rounding in the lower tail (torch.special.ndtr is 1 + erf, and loses it there)."""
    return 0.5 * torch.erfc(x * -(0.5**0.5))


def node(kind: str, size: int, rng: np.random.Generator) -> dict[str, Any]:
    """A node's description."""
    made: dict[str, Any] = {"shape": [size], "distribution": kind}
    if kind in ("laplace", "student_t", "discretised_gaussian"):
        word = "precision" if kind == "student_t" else "scale"
        made |= {"distribution": {kind: {word: 0.8}}, "learn": [word]}
    elif kind not in LEAF:
        root = rng.normal(size=(size, size)) / 2
        matrix = (root @ root.T + np.eye(size)).tolist()
        values = {"number": 1.7, "list": rng.uniform(0.5, 2, size).tolist(), "matrix": matrix}
        made["distribution"] = {"gaussian": {"precision": values[kind.split()[-1]]}}
        if kind.startswith("learned"):
            made["learn"] = ["precision"]
    return made


def random_description(
    seed: int, kinds: tuple[str, ...], leaves: tuple[str, ...], activations: tuple[str, ...]
) -> dict[str, Any]:
    """A DAG of the nodes `kinds`, then `leaves` (each observed, several parents), with skip edges by chance."""
    rng = np.random.default_rng(seed)
    nodes: dict[str, Any] = {}
    edges: list[dict[str, Any]] = []
    for i, kind in enumerate(kinds + leaves):
        name, size = f"n{i}", int(rng.integers(2, 4))
        nodes[name] = node(kind, size, rng)
        earlier = [f"n{j}" for j in range(min(i, len(kinds)))]
        parents = [p for p in earlier if rng.random() < 0.5] or earlier[-1:]
        if i and i < len(kinds) and rng.random() < 0.25:
            parents = []  # a second root; every inner node gets a child below
        if not parents:
            nodes[name]["mean"] = rng.normal(size=size).tolist()
            nodes[name]["learn"] = [*nodes[name].get("learn", []), "mean"]
        edges += [edge(p, name, size, rng, activations) for p in parents]
    for i in range(len(kinds)):
        last = f"n{len(kinds)}"
        if f"n{i}" not in [e["from"] for e in edges]:
            edges.append(edge(f"n{i}", last, nodes[last]["shape"][0], rng, activations))
    return {"nodes": nodes, "edges": edges}


def edge(
    parent: str, child: str, size: int, rng: np.random.Generator, names: tuple[str, ...]
) -> dict[str, Any]:
    """One edge's description: linear, linear-φ, or linear-φ-linear-φ."""
    first, second = (str(rng.choice(names)) for _ in range(2))
    layers = [
        [{"linear": size}],
        [{"linear": size}, first],
        [first, {"linear": 5}, second, {"linear": size}],
    ][rng.integers(3)]
    return {"from": parent, "to": child, "layers": layers}


def run_edge(described: Mapping[str, Any], key: str, params: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """The edge's map, layer by layer, from its description."""
    for index, layer in enumerate(described["layers"]):
        name, value = (layer, None) if isinstance(layer, str) else next(iter(layer.items()))
        own = [params.get(f"{key}.{index}.{word}") for word in ("weight", "bias")]
        if name == "linear":
            x = F.linear(x, own[0], own[1])  # type: ignore[arg-type]  # a linear layer has its weight
        elif name == "conv":
            x = F.conv2d(x, own[0], own[1], value.get("stride", 1), value.get("padding", 0))
        elif name == "conv_transpose":
            x = F.conv_transpose2d(x, own[0], own[1], value.get("stride", 1), value.get("padding", 0))
        elif name == "reshape":
            x = x.reshape(len(x), *value)
        else:
            x = ACTIVATIONS[name](x)
    return x


def log_prob(
    described: Mapping[str, Any], name: str, params: Mapping[str, Tensor], z: Tensor, eta: Tensor
) -> Tensor:
    """log p(z | η) per entry (per row for a matrix and for classes)."""
    spec = described["distribution"]
    kind, value = (spec, {}) if isinstance(spec, str) else next(iter(spec.items()))
    get = params.get
    if kind == "bernoulli":
        return td.Bernoulli(logits=eta).log_prob(z)
    if kind == "categorical":
        return td.OneHotCategorical(logits=eta).log_prob(z)
    if kind == "laplace":
        return td.Laplace(eta, params[f"{name}.log_scale"].exp()).log_prob(z)
    if kind == "student_t":
        return td.StudentT(4.0, eta, params[f"{name}.log_precision"].exp() ** -0.5).log_prob(z)
    if kind == "discretised_gaussian":
        scale, bin_ = 1 / 255 + params[f"{name}.log_scale"].exp(), 1 / 255
        near = -(z - eta).abs()  # the lower tail, where differences of masses do not cancel
        inner = cumulative((near + bin_) / scale) - cumulative((near - bin_) / scale)
        edge_distance = torch.where(z > 0, eta - z, z - eta)
        outer = cumulative((edge_distance + bin_) / scale)
        return torch.where(z.abs() > 0.999, outer, inner).log()
    stored = get(f"{name}.cholesky")
    if stored is not None:
        factor = stored.tril(-1) + torch.diag(stored.diagonal().exp())
        rows = z.flatten(1)
        return td.MultivariateNormal(eta.flatten(1), precision_matrix=factor @ factor.T).log_prob(rows)
    log_precision, listed = get(f"{name}.log_precision"), get(f"{name}.precision")
    precision = log_precision.exp() if log_precision is not None else listed
    if precision is None:
        precision = torch.tensor(value.get("precision", 1.0), dtype=z.dtype)
    return td.Normal(eta, precision**-0.5).log_prob(z)


def energy(
    description: Mapping[str, Any],
    params: Mapping[str, Tensor],
    values: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
) -> Tensor:
    """U per row; nodes absent from `values` drop out, and so do masked-out entries of discrete nodes."""
    total = torch.zeros(len(next(iter(values.values()))), dtype=F64)
    for name, described in description["nodes"].items():
        if name not in values:
            continue
        z = values[name]
        incoming = [e for e in description["edges"] if e["to"] == name]
        shares = [run_edge(e, f"{e['from']}->{name}", params, values[e["from"]]) for e in incoming]
        eta = sum(shares[1:], shares[0]) if shares else params[f"{name}.mean"].expand_as(z)
        terms = log_prob(described, name, params, z, eta)
        spec = described["distribution"]
        kind = spec if isinstance(spec, str) else next(iter(spec))
        if kind in LEAF and name in masks:
            mask = masks[name].expand_as(z)
            terms = terms * (mask[..., 0] if kind == "categorical" else mask)
        total = total - terms.reshape(len(z), -1).sum(1)
    return total


def observation(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> Tensor:
    """Data that a leaf of that kind can hold."""
    if kind == "bernoulli":
        return torch.from_numpy(rng.integers(0, 2, shape)).to(F64)
    if kind == "categorical":
        return F.one_hot(torch.from_numpy(rng.integers(0, shape[-1], shape[:-1])), shape[-1]).to(F64)
    if kind == "discretised_gaussian":
        return torch.from_numpy(rng.integers(0, 256, shape)).to(F64) / 127.5 - 1
    return torch.from_numpy(rng.normal(size=shape))
