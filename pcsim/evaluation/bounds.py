"""Lower bounds on log p(x) by importance sampling from the encoder: ELBO and IWAE."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from pcsim.engines.torch import encoder
from pcsim.engines.torch.encoder import Sweep
from pcsim.engines.torch.program import Params, Program
from pcsim.errors import StudyError
from pcsim.evaluation.ais import make_path
from pcsim.evaluation.images import MAX_ROWS, Images, chunks
from pcsim.evaluation.tempered import Path
from pcsim.evaluation.weights import relative_error
from pcsim.inference.types import Rng

BLOCK = 32
"""Samples of one image that are drawn together; fixed, so that draws do not depend on memory."""


class Elbo(NamedTuple):
    """E_q[log w] per image, a lower bound on log p(x)."""

    elbo: Tensor
    """nats, `[image]`"""
    standard_error: Tensor
    """`[image]`; infinite for one sample."""


class Iwae(NamedTuple):
    """log (1/k) Σ w per image: a lower bound on log p(x) in expectation, tighter with every sample."""

    log_likelihood: Tensor
    """nats, `[image]`"""
    standard_error: Tensor
    """By the delta method, `[image]`; too small where effective_sample_size is near 1."""
    effective_sample_size: Tensor
    """(Σw)²/Σw², between 1 and k, `[image]`."""


class Sums(NamedTuple):
    """What is kept of the samples so far, float64 `[image]`; its size does not grow with their number."""

    mean: Tensor
    """Of log w."""
    square: Tensor
    """Σ (log w − mean)², merged block by block (Chan, Golub and LeVeque 1983)."""
    first: Tensor
    """log Σ w"""
    second: Tensor
    """log Σ w²"""


def elbo(
    program: Program,
    params: Params,
    values: Mapping[str, Tensor],
    rng: Rng,
    samples: int = 64,
    masks: Mapping[str, Tensor] | None = None,
) -> Elbo:
    """E_q[log p(x, z) − log q(z | x)] per image, with its Monte-Carlo standard error.

    Nodes without an encoder are drawn from their conditional prior, so their densities cancel. Kingma and
    Welling (2014), Eq. 2. Raises `StudyError` for a circuit without an encoder.
    """
    sums = _importance(program, params, values, rng, samples, masks or {})
    variance = sums.square / (samples - 1) if samples > 1 else torch.full_like(sums.square, math.inf)
    return Elbo(sums.mean, (variance / samples).sqrt())


def iwae(
    program: Program,
    params: Params,
    values: Mapping[str, Tensor],
    rng: Rng,
    samples: int = 64,
    masks: Mapping[str, Tensor] | None = None,
) -> Iwae:
    """log (1/k) Σ p(x, z_i)/q(z_i | x) per image, k = `samples` draws of the encoder.

    As `elbo` for nodes without an encoder. Burda, Grosse and Salakhutdinov (2016), Eq. 8.
    """
    sums = _importance(program, params, values, rng, samples, masks or {})
    effective = torch.exp(2 * sums.first - sums.second)
    return Iwae(sums.first - math.log(samples), relative_error(effective, samples), effective)


def _importance(
    program: Program,
    params: Params,
    values: Mapping[str, Tensor],
    rng: Rng,
    samples: int,
    masks: Mapping[str, Tensor],
) -> Sums:
    if not program.circuit.encoder:
        raise StudyError("evaluation: the circuit has no encoder, which ELBO and IWAE need; use ais")
    if samples < 1:
        raise StudyError(f"evaluation.samples: expected at least 1, found {samples}")
    with torch.no_grad():
        kept = [
            _chunk(program, params, images, samples)
            for images in chunks(values, masks, rng, min(samples, BLOCK), MAX_ROWS)
        ]
    return Sums(*(torch.cat(parts) for parts in zip(*kept, strict=True)))


def _chunk(program: Program, params: Params, images: Images, samples: int) -> Sums:
    observed = encoder.encoder_input(images.clamp.values, images.clamp.masks)
    sweeps = encoder.encode(program, params, observed)
    bound = program.bind(params)
    sums: Sums | None = None
    for begin in range(0, samples, BLOCK):
        block = min(BLOCK, samples - begin)
        path = make_path(bound, images, block)
        usable = {n: s for n, s in sweeps.items() if n in path.target.free and n not in path.splits}
        log_weight = _log_weight(path, usable, images, block).double().reshape(len(images), block)
        sums = _merge(sums, begin, log_weight)
    assert sums is not None
    return sums


def _log_weight(path: Path, sweeps: Mapping[str, Sweep], images: Images, block: int) -> Tensor:
    """log p(x, z) − log q(z | x), where nodes drawn from their prior have dropped out, `[row]`."""
    if not sweeps:
        raise StudyError(
            "evaluation: every node that the encoder gives is held; ELBO and IWAE need a free one"
        )
    drawn = encoder.draw(sweeps, images.rng, block)
    parts = path.evaluate(path.draw_prior(images.rng, drawn), gradient=False)
    log_joint = -sum((parts.prior_energy[name] for name in sweeps), parts.data_energy)
    return log_joint - encoder.log_density(sweeps, drawn, block)


def _merge(sums: Sums | None, before: int, log_weight: Tensor) -> Sums:
    block = log_weight.shape[1]
    mean = log_weight.mean(1)
    new = Sums(
        mean,
        (log_weight - mean[:, None]).square().sum(1),
        log_weight.logsumexp(1),
        (2 * log_weight).logsumexp(1),
    )
    if sums is None:
        return new
    share = block / (before + block)
    shift = new.mean - sums.mean
    return Sums(
        sums.mean + share * shift,
        sums.square + new.square + shift.square() * before * share,
        torch.logaddexp(sums.first, new.first),
        torch.logaddexp(sums.second, new.second),
    )
