"""The fast sweep: q(z | x) of every encoded node, its draws, and how its parameters φ move."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from pcsim.circuit.distributions.base import Draws
from pcsim.engines.torch.program import EdgePlan, Params, Program, plan_edge


class Sweep(NamedTuple):
    """q(z | x) = N(mean, diag(variance)) of one node for a batch of images, `[image, *node shape]`."""

    mean: Tensor
    variance: Tensor
    slope: Tensor
    """∂ variance / ∂ raw = σ(β·raw), for the way back."""
    plan: EdgePlan
    saved: Any


def encode(program: Program, params: Params, observed: Mapping[str, Tensor]) -> dict[str, Sweep]:
    """One forward pass of every encoder edge; `observed` holds the inputs, `[image, *shape]`."""
    sweeps = {}
    for edge in program.circuit.encoder:
        plan = plan_edge(edge, params, program.edge_dtype)
        out, saved = plan.forward(observed[edge.parent])
        mean, raw = out.chunk(2, dim=1)
        beta = edge.softplus_beta
        variance = functional.softplus(raw, beta=beta)
        sweeps[edge.child] = Sweep(mean, variance, torch.sigmoid(beta * raw), plan, saved)
    return sweeps


def encoder_input(values: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the encoder sees: the held entries; the others are zero, so that nothing leaks."""
    return {
        name: torch.where(masks[name].bool(), value, 0.0) if name in masks else value
        for name, value in values.items()
    }


def draw(sweeps: Mapping[str, Sweep], draws: Draws, n_chain: int) -> dict[str, Tensor]:
    """Reparameterised draws mean + sd·ξ, `[row, *node shape]`, n_chain rows per image."""
    result = {}
    for name, sweep in sweeps.items():
        mean = sweep.mean.repeat_interleave(n_chain, 0)
        scale = sweep.variance.sqrt().repeat_interleave(n_chain, 0)
        result[name] = mean + scale * draws.normal(mean)
    return result


def log_density(sweeps: Mapping[str, Sweep], z: Mapping[str, Tensor], n_chain: int) -> Tensor:
    """log q(z | x) summed over the encoded nodes, `[row]`."""
    total: Tensor | None = None
    for name, sweep in sweeps.items():
        mean = sweep.mean.repeat_interleave(n_chain, 0)
        variance = sweep.variance.repeat_interleave(n_chain, 0)
        terms = (z[name] - mean) ** 2 / variance + variance.log() + math.log(2 * math.pi)
        part = -0.5 * terms.flatten(1).sum(1)
        total = part if total is None else total + part
    assert total is not None
    return total


class Pull(NamedTuple):
    """∂loss/∂mean and ∂loss/∂variance of q per image, `[image, *node shape]`."""

    mean: Tensor
    variance: Tensor


def forward_kl(sweep: Sweep, first: Tensor, second: Tensor) -> Pull:
    """Pull of KL(p‖q) = −E_p[log q] + const, from the chain's moments E[z], E[z²] per image.

    −E log q = ½ log v + (E z² − 2μ E z + μ²)/(2v): the moments are all that the draws contribute, so the
    encoder is pulled back once per batch and not once per draw.
    """
    mean, variance = sweep.mean, sweep.variance
    spread = second - 2 * mean * first + mean**2
    return Pull((mean - first) / variance, 0.5 / variance - 0.5 * spread / variance**2)


def reverse_kl(sweep: Sweep, z: Tensor, grad: Tensor, n_chain: int) -> Pull:
    """Pull of KL(q‖p) = E_q[U(z)] − H(q) + const through the reparameterised draw z = μ + sd·ξ.

    ∂/∂μ = E[g], ∂/∂v = E[g ξ]/(2 sd) − 1/(2v), with g = ∂U/∂z at the draw: the drift that the chain's start
    needs anyway.
    """
    scale = sweep.variance.sqrt()
    shape = (len(sweep.mean), n_chain, *sweep.mean.shape[1:])
    g, noise = grad.reshape(shape), (z.reshape(shape) - sweep.mean[:, None]) / scale[:, None]
    return Pull(g.mean(1), 0.5 * (g * noise).mean(1) / scale - 0.5 / sweep.variance)


def gradient(sweep: Sweep, pull: Pull) -> Params:
    """∂loss/∂φ summed over images, from the pull on mean and variance, by the encoder's own pullback."""
    error = torch.cat((pull.mean, pull.variance * sweep.slope), dim=1)
    back = sweep.plan.pullback(sweep.saved, error, message=False, learn=True)
    return {f"{sweep.plan.key}.{name}": value for name, value in back.gradient.items()}
