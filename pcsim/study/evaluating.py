"""What a study measures on held-out images: one summary line and one array per image."""

import math
from typing import Any

import numpy as np
from torch import Tensor

from pcsim.engines.torch.program import Params
from pcsim.errors import StudyError
from pcsim.evaluation.ais import Annealing, annealed_log_likelihood
from pcsim.evaluation.bounds import elbo, iwae
from pcsim.evaluation.reconstruction import Chain, grey_levels, reconstruct, sample_images
from pcsim.inference.rng import Stream, seed_stream
from pcsim.study.build import Plan
from pcsim.study.reporter import Reporter
from pcsim.study.stimuli import place
from pcsim.study.training import Materials

SHOWN = 16
"""Pictures that are kept of a reconstruction."""
Arrays = dict[str, Any]
Summary = dict[str, float]


def evaluate(
    plan: Plan, materials: Materials, params: Params, update: int, reporter: Reporter
) -> tuple[Summary, Arrays]:
    """All that the study's evaluation section asks for, at these parameters.

    Draws depend on the seed, the update and the measure alone. The first images of the held-out part are used,
    the same in every run of the same data and seed, so that runs can be compared image by image.
    """
    wanted = plan.study.evaluation
    measures = {"log_likelihood": _log_likelihood, "elbo": _elbo, "reconstruction": _reconstruction}
    active = [name for name in measures if getattr(wanted, name) is not None]
    summary: Summary = {}
    arrays: Arrays = {}
    n_image = max((getattr(wanted, name).images for name in active), default=0)
    values = _held_out(plan, materials, n_image)
    with reporter.task(f"evaluating at update {update}", len(active) + bool(wanted.samples)) as advance:
        for name in active:
            rng = seed_stream(plan.study.seed, "evaluation", name, update, device=plan.device)
            part_summary, part = measures[name](plan, materials, params, values, rng)
            summary |= part_summary
            arrays |= part
            advance(1)
        if wanted.samples:
            rng = seed_stream(plan.study.seed, "evaluation", "samples", update, device=plan.device)
            arrays |= _samples(plan, params, rng, wanted.samples)
            advance(1)
    arrays["image"] = np.arange(n_image)
    return summary, arrays


def _held_out(plan: Plan, materials: Materials, n_image: int) -> dict[str, Tensor]:
    if materials.split is None:
        return materials.clamping.values(None, np.zeros(1, np.int64))
    on = plan.study.evaluation.on
    part = getattr(materials.split, on)
    if n_image > len(part):
        raise StudyError(f"evaluation: {n_image} images wanted, but the {on} set has {len(part)}")
    return materials.clamping.values(place(part, plan.device), np.arange(n_image))


def _first(values: dict[str, Tensor], n: int) -> dict[str, Tensor]:
    return {name: value[:n] for name, value in values.items()}


def _statistics(name: str, per_image: Tensor) -> tuple[Summary, Arrays]:
    """Mean and standard error over images, and the images' own numbers."""
    data = per_image.double().cpu().numpy()
    spread = data.std(ddof=1) / math.sqrt(len(data)) if len(data) > 1 else math.nan
    return {name: float(data.mean()), f"{name}_standard_error": float(spread)}, {name: data}


def _log_likelihood(
    plan: Plan, materials: Materials, params: Params, values: dict[str, Tensor], rng: Stream
) -> tuple[Summary, Arrays]:
    wanted = plan.study.evaluation.log_likelihood
    assert wanted is not None
    here, masks = _first(values, wanted.images), materials.clamping.masks
    if wanted.method == "ais":
        settings = Annealing(particles=wanted.particles, steps=wanted.temperatures)
        annealed = annealed_log_likelihood(plan.program, params, here, rng, settings, masks)
        summary, arrays = _statistics("log_likelihood", annealed.log_likelihood)
        size = annealed.effective_sample_size
    else:
        weighted = iwae(plan.program, params, here, rng, wanted.samples, masks)
        summary, arrays = _statistics("log_likelihood", weighted.log_likelihood)
        size = weighted.effective_sample_size
    return summary | {"effective_sample_size": float(size.mean())}, arrays


def _elbo(
    plan: Plan, materials: Materials, params: Params, values: dict[str, Tensor], rng: Stream
) -> tuple[Summary, Arrays]:
    wanted = plan.study.evaluation.elbo
    assert wanted is not None
    here = _first(values, wanted.images)
    bound = elbo(plan.program, params, here, rng, wanted.samples, materials.clamping.masks)
    return _statistics("elbo", bound.elbo)


def _reconstruction(
    plan: Plan, materials: Materials, params: Params, values: dict[str, Tensor], rng: Stream
) -> tuple[Summary, Arrays]:
    wanted = plan.study.evaluation.reconstruction
    assert wanted is not None
    here = _first(values, wanted.images)
    start = "prior" if plan.start == "previous" else plan.start
    steps = plan.method.steps if plan.method else plan.study.inference.steps
    chain = Chain(plan.kernel, steps, start, wanted.chains, mobility=plan.mobility)
    result = reconstruct(plan.program, params, here, rng, chain, materials.clamping.masks)
    name = _shown_node(plan, list(result.mean_squared_error))
    summary, arrays = _statistics("reconstruction_error", result.mean_squared_error[name])
    if name in result.completion_error:
        more, per_image = _statistics("completion_error", result.completion_error[name])
        summary, arrays = summary | more, arrays | per_image
    node = plan.circuit.nodes[name]
    shape = materials.images.shape if materials.images else node.shape
    pictures = {"original": here[name], "reconstruction": result.pictures[name]}
    for key, value in pictures.items():
        grey = grey_levels(node.distribution, value[:SHOWN].reshape(-1, *shape))
        arrays[key] = grey.cpu().numpy().astype(np.float32)
    return summary, arrays


def _samples(plan: Plan, params: Params, rng: Stream, n: int) -> Arrays:
    pictures = sample_images(plan.program, params, rng, n)
    name = _shown_node(plan, list(pictures))
    node = plan.circuit.nodes[name]
    value = grey_levels(node.distribution, pictures[name])
    if value.dim() == 2:  # a flat node of a square image
        side = math.isqrt(value.shape[1])
        value = value.reshape(n, 1, side, -1) if side * side == value.shape[1] else value[:, None, None]
    return {"samples": value.cpu().numpy().astype(np.float32)}


def _shown_node(plan: Plan, names: list[str]) -> str:
    """The node that is clamped to images, else the first."""
    images = [n for n in names if plan.study.clamp.get(n) == "image"]
    return (images or names)[0]
