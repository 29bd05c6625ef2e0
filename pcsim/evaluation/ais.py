"""log p(x) of held-out images by annealed importance sampling from the prior to the posterior."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pcsim.engines.torch.program import Bound, Params, Program
from pcsim.engines.torch.target import CircuitTarget, rows_of
from pcsim.errors import StudyError, pick
from pcsim.evaluation.images import MAX_ROWS, Images, chunks
from pcsim.evaluation.tempered import DATA_ENERGY, Path, Tempered, temper
from pcsim.evaluation.weights import effective_sample_size, log_mean_exp, standard_error
from pcsim.inference.kernels import mala
from pcsim.inference.types import Point, Rng, Tree

MOVE = mala(1.0)
"""The move at every temperature; its step sizes ride in the target's mobility."""
TARGET_ACCEPTANCE = 0.574
GAIN = 0.5
"""How fast a pilot's log step size follows its acceptance; constant, since β moves on at every step."""
MEMORY = 0.7
"""Weight of the past in a pilot's mean of squared gradients."""
SMOOTHING = 4
"""Temperatures on each side over which the pilot's log step sizes are averaged: the mean sees ahead, so it
also takes out the pilot's lag."""


def sigmoidal(steps: int) -> list[float]:
    """β_0 = 0 … β_steps = 1, evenly spaced in logit from −4 to 4 and then stretched to [0, 1].

    Dense at both ends. Grosse, Ghahramani and Adams (2015), section 5.
    """
    raw = [1 / (1 + math.exp(-4 * (2 * k / steps - 1))) for k in range(steps + 1)]
    return [0.0, *((r - raw[0]) / (raw[-1] - raw[0]) for r in raw[1:-1]), 1.0]


def geometric(steps: int) -> list[float]:
    """β_0 = 0, then evenly spaced in log β from 1e-4 to 1: dense near the prior, for data far from it."""
    return [0.0, *(10 ** (4 * (k / (steps - 1) - 1)) for k in range(steps - 1)), 1.0]


def quadratic(steps: int) -> list[float]:
    """β_k = (k/steps)²: between the other two; the least spread of weights on Bernoulli generators of digits."""
    return [(k / steps) ** 2 for k in range(steps + 1)]


SCHEDULES: dict[str, Callable[[int], list[float]]] = {
    "quadratic": quadratic,
    "sigmoidal": sigmoidal,
    "geometric": geometric,
}


class Annealing(NamedTuple):
    """How the prior is annealed into the posterior."""

    particles: int = 16
    """Per image."""
    steps: int = 200
    """From β = 0 to 1: one evaluation per step and particle."""
    schedule: str = "quadratic"
    pilot_particles: int = 2
    """Per image, in the run that adapts the step sizes and is then thrown away."""
    max_rows: int = MAX_ROWS
    """Images times particles that are held in memory at once; draws do not depend on it."""


DEFAULT = Annealing()


class LogLikelihood(NamedTuple):
    """An estimate of log p(x) per image, with what is needed to judge it.

    exp(estimate) is unbiased for p(x), so by Jensen's inequality the estimate itself is a *lower bound in
    expectation*: it errs towards too low a likelihood, by about half the squared standard error.
    """

    log_likelihood: Tensor
    """log mean of the weights, nats, `[image]`; the joint density of everything that is clamped."""
    standard_error: Tensor
    """Of the estimate, by the delta method, `[image]`; too small where effective_sample_size is near 1."""
    effective_sample_size: Tensor
    """(Σw)²/Σw², between 1 and the number of particles, `[image]`."""
    acceptance: Tensor
    """Mean acceptance probability at each intermediate temperature, `[step − 1]`."""
    log_weight: Tensor
    """`[image, particle]`, float64."""


Mobilities = list[Tree]
"""Frozen step sizes: per move, per free node, `[image, 1, …]`."""


def annealed_log_likelihood(
    program: Program,
    params: Params,
    values: Mapping[str, Tensor],
    rng: Rng,
    settings: Annealing = DEFAULT,
    masks: Mapping[str, Tensor] | None = None,
) -> LogLikelihood:
    """log p(observed) per image along p(z) p(observed | z)^β, with MALA moves (Neal 2001).

    log w = Σ_k (β_k − β_{k−1}) log p(observed | z_{k−1}), z_0 ~ prior, z_k by one move that leaves the k-th
    density invariant. Step sizes come from a pilot run on other draws and are then constant: the weights
    would not be valid under unadjusted moves, nor under steps that adapt to the run they are used in.
    `values` are `[image, *shape]` per clamped node; unclamped discrete leaves are marginalised.

    Neal (2001), Statistics and Computing 11, 125-139.
    """
    betas = path_betas(settings)
    bound = program.bind(params)
    weights, accepted = [], []
    with torch.no_grad():
        for images in chunks(values, masks, rng, settings.particles, settings.max_rows):
            mobilities = pilot(bound, images, settings, betas)
            path = make_path(bound, images, settings.particles)
            log_weight, acceptance = anneal(path, images, betas, mobilities)
            weights.append(log_weight)
            accepted.append(acceptance * len(images))
    log_weight = torch.cat(weights)
    acceptance = torch.stack(accepted).sum(0) / len(log_weight)
    return LogLikelihood(
        log_mean_exp(log_weight),
        standard_error(log_weight),
        effective_sample_size(log_weight),
        acceptance,
        log_weight,
    )


def path_betas(settings: Annealing) -> list[float]:
    """The inverse temperatures 0 … 1; raises `StudyError` for settings that make no path."""
    if settings.steps < 2 or settings.particles < 1 or settings.pilot_particles < 1:
        raise StudyError(
            f"annealing needs steps >= 2 and at least one particle and pilot particle, found {settings}"
        )
    return pick(SCHEDULES, settings.schedule, "annealing schedule")(settings.steps)


def make_path(bound: Bound, images: Images, particles: int) -> Path:
    """The path of these images, `particles` rows each."""
    clamp = rows_of(images.clamp.values, images.clamp.masks, particles)
    return Path(CircuitTarget(bound, clamp, len(images) * particles))


def anneal(path: Path, images: Images, betas: list[float], mobilities: Mobilities) -> tuple[Tensor, Tensor]:
    """(log weights `[image, particle]`, mean acceptance `[step − 1]`) of one run from the prior."""
    rows = [per_row(path, m, path.rows // len(images)) for m in mobilities]
    state = MOVE.init(Tempered(path, betas[0], {}), images.rng, path.draw_prior(images.rng))
    total = torch.zeros(path.rows, dtype=torch.float64, device=state.point.energy.device)
    acceptance = []
    for k in range(1, len(betas)):
        change = betas[k] - betas[k - 1]
        total -= change * state.point.grad[DATA_ENERGY].double()
        if k == len(betas) - 1:
            break
        state, accepted = move(Tempered(path, betas[k], rows[k - 1]), images.rng, state, change)
        acceptance.append(accepted.mean())
    return total.reshape(len(images), -1), torch.stack(acceptance)


def move(target: Tempered, rng: Rng, state: Any, change: float) -> tuple[Any, Tensor]:
    """(State, acceptance `[row]`) after one move under the target's β, which is `change` from the state's."""
    if change:
        state = state._replace(point=temper(state.point, change))
    state, info = MOVE.step(target, rng, state)
    assert info.acceptance is not None  # MOVE is an adjusted kernel
    return state, info.acceptance


def per_row(path: Path, mobility: Tree, particles: int) -> Tree:
    """Step sizes of images as step sizes of rows, 0 at held entries."""
    rows = {name: m.repeat_interleave(particles, 0) for name, m in mobility.items()}
    return rows | {name: rows[name] * split.mobility for name, split in path.splits.items()}


# ------------------------------------------------------------------------------------- the pilot run


def pilot(bound: Bound, images: Images, settings: Annealing, betas: list[float]) -> Mobilities:
    """Step sizes per image, node and temperature, from a short run on draws of its own.

    γ G with G = 1/(mean of g² over a node's units): the inverse mean curvature, so that stiff and loose
    nodes both move; log γ follows acceptance − 0.574 (Roberts and Rosenthal 1998) as β rises. Per image,
    because posteriors differ in width, and so that an image's estimate depends on no other image.
    """
    path = make_path(bound, images, settings.pilot_particles)
    state = MOVE.init(Tempered(path, betas[0], {}), images.rng, path.draw_prior(images.rng))
    entries = sum(z[0].numel() for z in state.position.values())
    energy = state.point.energy
    log_step = torch.full((len(images),), math.log(1.36 / entries ** (1 / 3)), dtype=energy.dtype).to(
        energy.device
    )
    square: Tree = {}
    kept: list[Tree] = []
    for k in range(1, len(betas) - 1):
        point = temper(state.point, betas[k] - betas[k - 1])
        square = _mean_square(square, point, path, len(images))
        kept.append({name: log_step - s.log() for name, s in square.items()})
        mobility = {name: _shaped(m.exp(), state.position[name]) for name, m in kept[-1].items()}
        target = Tempered(path, betas[k], per_row(path, mobility, settings.pilot_particles))
        state, accepted = move(target, images.rng, state._replace(point=point), 0.0)
        log_step = log_step + GAIN * (accepted.reshape(len(images), -1).mean(1) - TARGET_ACCEPTANCE)
    smooth = {name: _smooth(torch.stack([m[name] for m in kept])).exp() for name in kept[0]}
    return [
        {name: _shaped(m[k], state.position[name]) for name, m in smooth.items()} for k in range(len(kept))
    ]


def _mean_square(square: Tree, point: Point, path: Path, n_image: int) -> Tree:
    """The running mean of g² over a node's free units and an image's particles, `[image]` per node."""
    result = {}
    for name in path.target.free:
        units = point.grad[name].reshape(n_image, -1).square()
        free = path.splits[name].mobility.mean() if name in path.splits else 1.0
        new = units.mean(1) / free + torch.finfo(units.dtype).tiny
        result[name] = new if name not in square else torch.lerp(new, square[name], MEMORY)
    return result


def _shaped(per_image: Tensor, like: Tensor) -> Tensor:
    return per_image.reshape(-1, *(1,) * (like.dim() - 1))


def _smooth(log_step: Tensor) -> Tensor:
    """Moving average along the path, `[step, image]`; the window shrinks at the ends."""
    return torch.nn.functional.avg_pool1d(
        log_step.T[:, None], 2 * SMOOTHING + 1, 1, SMOOTHING, count_include_pad=False
    )[:, 0].T
