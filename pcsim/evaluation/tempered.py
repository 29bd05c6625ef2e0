"""The path from prior to posterior, U_β = U_prior + β U_data, with both gradients from one evaluation."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pcsim.circuit.distributions.base import Local
from pcsim.engines.torch.program import NodePlan
from pcsim.engines.torch.target import CircuitTarget, Step
from pcsim.errors import StudyError
from pcsim.inference.types import Point, Rng, Tree

DATA = "data:"
"""Marks a leaf that carries the data's share; no node's name holds a colon."""
DATA_ENERGY = "data:"


class Parts(NamedTuple):
    """One forward and one backward pass at one state, with prior and data kept apart."""

    prior: Tree
    """∂U_prior/∂z of the free nodes, `[row, *shape]`."""
    data: Tree
    """∂U_data/∂z, the messages that come from observed entries alone; absent where none arrive."""
    prior_energy: dict[str, Tensor]
    """−log p(z_n | η_n) of the free nodes (of their free entries), `[row]`."""
    data_energy: Tensor
    """−log p(observed entries | their parents), `[row]`."""


class Split(NamedTuple):
    """A partly held continuous node as two nodes: its held entries and its free ones, flattened."""

    held: NodePlan
    free: NodePlan
    held_index: Tensor
    free_index: Tensor
    mobility: Tensor
    """1 at free entries, 0 at held ones, `[1, *shape]`."""


class Path:
    """log p(z) + β log p(observed | z) of a circuit target, for any β.

    Observed are the wholly clamped nodes and the held entries of partly clamped ones; at β = 0 what is left
    is normalised, and `draw_prior` samples it exactly; at β = 1 it is the joint density, so the ratio of the
    normalisers is the evidence of everything that is clamped. Raises `StudyError` for a partly clamped
    continuous node whose entries cannot be taken apart.
    """

    def __init__(self, target: CircuitTarget) -> None:
        self.target, self.rows = target, target.rows
        if not target.free:
            raise StudyError("clamp: every node is held; nothing is left to integrate over")
        partly = [s for s in target.steps if s.free and s.node.name in target.clamp.masks]
        self.splits = {s.node.name: _split(s.node, target.clamp.masks[s.node.name]) for s in partly}

    def draw_prior(self, rng: Rng, given: Mapping[str, Tensor] | None = None) -> Tree:
        """Ancestral draws of the free nodes, `[row, *shape]`, with held entries in place before children are
        drawn; `given` fixes some free nodes (an encoder's draws)."""
        values: Tree = {**self.target.held, **(given or {})}
        for step in self.target.steps:
            name = step.node.name
            if name in values:
                continue
            eta, _ = self.target.bound.prediction(step.node, values, self.rows)
            values[name] = step.node.distribution.sample(step.node.params, eta.contiguous(), rng)
            if name in self.splits:
                held = self.target.clamp.masks[name].bool()
                values[name] = torch.where(held, self.target.clamp.values[name], values[name])
        return {name: values[name] for name in self.target.free}

    def evaluate(self, z: Tree, *, gradient: bool = True) -> Parts:
        """Energies and, unless only those are wanted, gradients of both parts."""
        values = {**self.target.held, **z}
        parts = Parts({}, {}, {}, next(iter(z.values())).new_zeros(self.rows))
        for step in self.target.steps:
            name = step.node.name
            eta, saved = self.target.bound.prediction(step.node, values, self.rows)
            if name in self.splits:
                parts = self._partly(parts, step, (values[name], eta, saved), gradient)
                continue
            local = step.node.distribution.local(
                step.node.params, values[name], eta, mask=step.mask, energy=True
            )
            parts = _add_energy(parts, name, local, step.free)
            if gradient:
                if step.free and local.grad is not None:
                    parts.prior[name] = local.grad
                self._messages(parts.prior if step.free else parts.data, step, saved, local.error)
        for name, split in self.splits.items():
            for gradients in (parts.prior, parts.data):
                if name in gradients:
                    gradients[name] = gradients[name] * split.mobility
        return parts

    def _messages(self, gradients: Tree, step: Step, saved: list[Any], error: Tensor) -> None:
        for index, kept, message in zip(step.node.parents, saved, step.message, strict=True):
            if not message:
                continue
            edge = self.target.bound.edges[index]
            back = edge.pullback(kept, error, message=True, learn=False).message
            if back is not None:
                known = gradients.get(edge.parent)
                gradients[edge.parent] = -back if known is None else known - back

    def _partly(
        self, parts: Parts, step: Step, at: tuple[Tensor, Tensor, list[Any]], gradient: bool
    ) -> Parts:
        """Both halves of a partly held node: the held entries weigh β, the free ones 1."""
        value, eta, saved = at
        split = self.splits[step.node.name]
        for free, node, index in (
            (False, split.held, split.held_index),
            (True, split.free, split.free_index),
        ):
            units = [t.reshape(self.rows, -1)[:, index] for t in (value, eta)]
            local = node.distribution.local(node.params, units[0], units[1], energy=True)
            parts = _add_energy(parts, step.node.name, local, free)
            if not gradient:
                continue
            if free and local.grad is not None:
                parts.prior[step.node.name] = _spread(local.grad, index, value)
            error = _spread(local.error, index, value)
            self._messages(parts.prior if free else parts.data, step, saved, error)
        return parts


class Tempered:
    """The `Target` of one β on a path; `mobility` is the step size of each leaf, free per row and unit.

    The data's share of gradient and energy rides along in `Point.grad` as extra leaves, not as aux: kernels
    move the leaves of the position only but select rows of all of them, so that what belongs to a kept row
    stays with it, and `temper` goes to the next β without an evaluation.
    """

    def __init__(self, path: Path, beta: float, mobility: Mapping[str, float | Tensor]) -> None:
        self.path, self.beta, self.mobility = path, beta, mobility

    def evaluate(self, z: Tree, energy: bool) -> Point:
        """Gradient and energy at z, from one forward and one backward pass."""
        parts = self.path.evaluate(z)
        total = sum(parts.prior_energy.values(), self.beta * parts.data_energy)
        grad: Tree = {DATA_ENERGY: parts.data_energy}
        for name, prior in parts.prior.items():
            data = parts.data.get(name)
            grad[name] = prior if data is None else prior + self.beta * data
            if data is not None:
                grad[DATA + name] = data
        return Point(grad, total, None)


def temper(point: Point, change: float) -> Point:
    """The same state's point with β changed by `change`: no new pass, ∂U_β/∂z is linear in β."""
    grad = dict(point.grad)
    for name, data in point.grad.items():
        if name.startswith(DATA) and name != DATA_ENERGY:
            node = name.removeprefix(DATA)
            grad[node] = torch.add(point.grad[node], data, alpha=change)
    assert point.energy is not None  # the target always gives it
    return Point(grad, torch.add(point.energy, point.grad[DATA_ENERGY], alpha=change), None)


def _add_energy(parts: Parts, name: str, local: Local, free: bool) -> Parts:
    if local.energy is None:
        raise StudyError(f"node {name}: its distribution gave no energy when asked")
    if not free:
        return parts._replace(data_energy=parts.data_energy + local.energy)
    parts.prior_energy[name] = local.energy
    return parts


def _spread(units: Tensor, index: Tensor, like: Tensor) -> Tensor:
    whole = units.new_zeros(len(units), like[0].numel())
    whole[:, index] = units
    return whole.reshape(like.shape)


def _split(node: NodePlan, mask: Tensor) -> Split:
    if mask.numel() != torch.Size(node.shape).numel():
        raise StudyError(
            f"clamp.{node.name}: a continuous node needs one mask of shape {list(node.shape)} for all "
            f"images, found {list(mask.shape)}"
        )
    held = mask.reshape(-1).bool()
    index = [m.nonzero().flatten() for m in (held, ~held)]
    mobility = (1 - mask).reshape(1, *node.shape)
    return Split(_part(node, index[0]), _part(node, index[1]), index[0], index[1], mobility)


def _part(node: NodePlan, index: Tensor) -> NodePlan:
    params = {}
    for name, value in node.params.items():
        if value.dim() and value.shape != node.shape:
            raise StudyError(
                f"clamp.{node.name}: its entries are correlated ({name}), so a mask cannot take them apart; "
                "clamp the whole node, or give it one precision per unit"
            )
        params[name] = value.reshape(-1)[index] if value.dim() else value
    return node._replace(shape=(len(index),), params=params)
