"""The posterior of one batch as a `Target`: drift by local messages, parameter gradient from the same pass."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from pcsim.circuit.source import dotted
from pcsim.engines.torch.program import Bound, NodePlan
from pcsim.errors import CircuitError, StudyError, nearest
from pcsim.inference.types import Point, Tree


class Evaluation(NamedTuple):
    """What rides along with the gradient of one evaluation."""

    errors: dict[str, Tensor]
    """ε per node, `[row, *shape]`."""
    energies: dict[str, Tensor] | None
    """−log p(z_n | η_n) per node, `[row]`, when the energy was asked for."""
    gradient: dict[str, Tensor] | None
    """∂U/∂θ summed over rows, per learned parameter, when the target learns."""


class Clamp(NamedTuple):
    """What is held at data: values per node `[row, *shape]`, and masks (1 = held) of partly held nodes."""

    values: Mapping[str, Tensor]
    masks: Mapping[str, Tensor] = {}


def rows_of(values: Mapping[str, Tensor], masks: Mapping[str, Tensor], n_chain: int) -> Clamp:
    """The clamp of a batch with every image repeated for its chains: row = image · n_chain + chain.

    `values` are `[image, *shape]`; a mask is one per image, `[image, *shape]`, or one for all.
    """
    return Clamp(
        {name: value.repeat_interleave(n_chain, 0) for name, value in values.items()},
        {
            name: mask.repeat_interleave(n_chain, 0) if mask.shape == values[name].shape else mask
            for name, mask in masks.items()
        },
    )


class Step(NamedTuple):
    """One node's work in an evaluation, with every decision about clamps made beforehand."""

    node: NodePlan
    free: bool
    mask: Tensor | None
    """Which entries of a discrete node count."""
    message: tuple[bool, ...]
    """Per parent edge: does the parent move, so that it needs the message?"""


class CircuitTarget:
    """U(z) = −log p(z, clamped) of a bound program; the free nodes' states are its leaves.

    Unclamped entries of a discrete leaf are marginalised: they drop out of energy and messages. The local
    drift −∂U/∂z_n = −∂E_n/∂z_n + Σ_children Jᵀ ε_child is assembled from what each node reads of itself and
    its children; the parameter gradient is made of the same errors.
    """

    def __init__(
        self,
        bound: Bound,
        clamp: Clamp,
        rows: int,
        *,
        learn: bool = False,
        mobility: Mapping[str, float] | None = None,
    ) -> None:
        clamp = with_past(bound, _checked(bound, clamp), rows)
        self.bound, self.clamp, self.rows, self.learn = bound, clamp, rows, learn
        partly = {name for name in clamp.masks if name in clamp.values}
        self.held = {n: v for n, v in clamp.values.items() if n not in partly}
        self.dropped = {n.name for n in bound.nodes if n.distribution.discrete and n.name not in clamp.values}
        _refuse_unobserved_parents(bound, self.dropped | {n for n in partly if _discrete(bound, n)})
        self.held |= {
            n: torch.where(clamp.masks[n].bool(), clamp.values[n], 0.0) for n in partly if _discrete(bound, n)
        }
        self.free = tuple(
            n.name for n in bound.nodes if n.name not in self.held and n.name not in self.dropped
        )
        self.masked = tuple(n for n in self.free if n in clamp.masks)
        self.node_mobility = dict(mobility or {})
        self.mobility = self._mobility()
        self.steps = tuple(
            self._plan(n) for n in bound.nodes if n.name not in self.dropped and n.past is None
        )

    def _plan(self, node: NodePlan) -> Step:
        mask = self.clamp.masks.get(node.name) if node.distribution.discrete else None
        message = tuple(self.bound.edges[i].parent in self.free for i in node.parents)
        return Step(node, node.name in self.free, mask, message)

    def _mobility(self) -> dict[str, float | Tensor]:
        """1/τ per free node (relative to the kernel's step size), 0 at the held entries of a partly clamped one."""
        result: dict[str, float | Tensor] = {n: f for n, f in self.node_mobility.items() if n in self.free}
        for name in self.masked:
            result[name] = (1.0 - self.clamp.masks[name]) * result.get(name, 1.0)
        return result

    def learning(self, learn: bool) -> "CircuitTarget":
        """The same target, with or without the parameter gradient."""
        return CircuitTarget(self.bound, self.clamp, self.rows, learn=learn, mobility=self.node_mobility)

    def start(self, z: Tree) -> Tree:
        """z with the held entries of partly clamped nodes put in place."""
        result = {name: z[name] for name in self.free}
        for name in self.masked:
            held = self.clamp.masks[name].bool()
            result[name] = torch.where(held, self.clamp.values[name], z[name])
        return result

    def evaluate(self, z: Tree, energy: bool) -> Point:
        """∂U/∂z of the free nodes, U when asked, and an `Evaluation` as aux."""
        values = {**self.held, **z}
        bound, learn = self.bound, self.learn
        grad: Tree = {}
        errors: dict[str, Tensor] = {}
        node_energies: dict[str, Tensor] = {}
        gradient: dict[str, Tensor] = {}
        for step in self.steps:
            node = step.node
            name = node.name
            eta, saved = bound.prediction(node, values, self.rows)
            local = node.distribution.local(
                node.params, values[name], eta, mask=step.mask, energy=energy, learn=learn
            )
            error = errors[name] = local.error
            if step.free and local.grad is not None:
                grad[name] = local.grad
            if energy:
                if local.energy is None:
                    raise CircuitError(f"node {name}: its distribution gave no energy when asked")
                node_energies[name] = local.energy
            if learn:
                _collect(gradient, node, local.gradient, error)
            for index, kept, message in zip(node.parents, saved, step.message, strict=True):
                if not (message or learn):
                    continue
                edge = bound.edges[index]
                back = edge.pullback(kept, error, message=message, learn=learn)
                if back.message is not None:
                    grad[edge.parent] = grad[edge.parent] - back.message
                for key, value in back.gradient.items():
                    gradient[f"{edge.key}.{key}"] = -value
        for name in self.masked:
            grad[name] = grad[name] * (1.0 - self.clamp.masks[name])
        total = sum(node_energies.values(), torch.zeros(())) if energy else None
        if total is not None and total.dim() == 0:  # every node was dropped
            total = next(iter(z.values())).new_zeros(self.rows)
        aux = Evaluation(errors, node_energies if energy else None, gradient if learn else None)
        return Point(grad, total, aux)


def _checked(bound: Bound, clamp: Clamp) -> Clamp:
    """The clamp with masks in the dtype of its values; `StudyError` for a name that is no clamped node."""
    names = [node.name for node in bound.nodes]
    for name in clamp.values:
        if name not in names:
            raise StudyError(f"{dotted(('clamp', name))}: no node {name!r}; {nearest(name, names)}")
    for name in clamp.masks:
        if name not in clamp.values:
            raise StudyError(f"{dotted(('mask', name))}: node {name} has a mask but no clamp")
    return Clamp(clamp.values, {n: m.to(clamp.values[n].dtype) for n, m in clamp.masks.items()})


def with_past(bound: Bound, clamp: Clamp, rows: int) -> Clamp:
    """The clamp with every past node held: at its value of the frame before where it is given, else its mean."""
    first = {
        n.name: n.mean.expand(rows, *n.shape) for n in bound.nodes if n.past and n.name not in clamp.values
    }
    return clamp._replace(values={**clamp.values, **first}) if first else clamp


def _collect(gradient: dict[str, Tensor], node: NodePlan, own: Mapping[str, Tensor], error: Tensor) -> None:
    for key, value in own.items():
        gradient[f"{node.name}.{key}"] = value
    if node.learn_mean:
        gradient[f"{node.name}.mean"] = -error.sum(0)


def _discrete(bound: Bound, name: str) -> bool:
    return next(n.distribution.discrete for n in bound.nodes if n.name == name)


def _refuse_unobserved_parents(bound: Bound, names: set[str]) -> None:
    for edge in bound.edges:
        if edge.parent in names:
            raise StudyError(
                f"{dotted(('clamp', edge.parent))}: node {edge.parent} is discrete and has a child "
                f"({edge.child}); clamp it wholly, gradients do not reach discrete values"
            )
