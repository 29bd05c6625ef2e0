"""What a circuit makes of held-out images, and what it makes from nothing: E[x | z] as pictures."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from pcsim.circuit.distributions import Distribution
from pcsim.engines.torch import encoder
from pcsim.engines.torch.program import Bound, Params, Program, ancestral
from pcsim.engines.torch.starts import Map, encoder_start, map_start, prior_start
from pcsim.engines.torch.target import CircuitTarget, rows_of
from pcsim.errors import StudyError
from pcsim.evaluation.images import MAX_ROWS, Images, chunks
from pcsim.inference.chain import run_chain
from pcsim.inference.types import Info, Kernel, Rng, Tree


class Chain(NamedTuple):
    """The inference that a reconstruction is made with."""

    kernel: Kernel
    steps: int
    start: Literal["prior", "encoder"] | Map = "prior"
    n_chain: int = 1
    draws: int = 1
    """The last draws of each chain that are averaged."""
    mobility: Mapping[str, float] = {}
    """dt/τ per node, relative to the kernel's step size."""


class Reconstruction(NamedTuple):
    """E[x | z] averaged over chains and draws, per clamped node that has parents."""

    pictures: dict[str, Tensor]
    """In the units of the data, `[image, *shape]`; entries that were masked are filled in as well."""
    mean_squared_error: dict[str, Tensor]
    """Mean over the held entries of (picture − data)², squared units of the data, `[image]`."""
    completion_error: dict[str, Tensor]
    """The same over the entries that a mask hid; `values` must hold the truth there."""


def reconstruct(
    program: Program,
    params: Params,
    values: Mapping[str, Tensor],
    rng: Rng,
    chain: Chain,
    masks: Mapping[str, Tensor] | None = None,
) -> Reconstruction:
    """Reconstructions of held-out images, `[image, *shape]`, by chains that see their held entries.

    The error is that of the *averaged* picture: with many chains it estimates that of the posterior mean
    E[x̂ | x], with one chain it holds the spread of the posterior as well. Compare runs at equal `n_chain` and
    `draws`. Raises `Divergence`, and `StudyError` where no clamped node has parents.
    """
    shown = [n for n in program.circuit.nodes if n in values and program.circuit.parents(n)]
    if not shown:
        raise StudyError("evaluation.reconstruction: no clamped node has parents that could predict it")
    _check(program, chain)
    bound = program.bind(params)
    kept: dict[str, list[Tensor]] = {name: [] for name in shown}
    with torch.no_grad():
        for images in chunks(values, masks, rng, chain.n_chain, max(MAX_ROWS, chain.n_chain)):
            sums = _pictures(program, params, bound, images, chain)
            for name in shown:
                kept[name].append(sums[name])
    pictures = {name: torch.cat(parts) for name, parts in kept.items()}
    squares = {name: (pictures[name] - values[name]).square() for name in shown}
    weights = {name: (masks or {}).get(name, torch.ones_like(values[name][:1])) for name in shown}
    hidden = [name for name in shown if name in (masks or {})]
    return Reconstruction(
        pictures,
        {name: _mean(squares[name], weights[name]) for name in shown},
        {name: _mean(squares[name], 1 - weights[name]) for name in hidden},
    )


def _check(program: Program, chain: Chain) -> None:
    if chain.n_chain < 1 or not 1 <= chain.draws <= (
        chain.steps - chain.kernel.warm_up if chain.steps else 1
    ):
        raise StudyError(
            f"evaluation.reconstruction: n_chain {chain.n_chain} and draws {chain.draws} must be at least 1, "
            f"and {chain.steps} steps after a warm-up of {chain.kernel.warm_up} must hold the draws"
        )
    if chain.start == "encoder" and not program.circuit.encoder:
        raise StudyError("evaluation.reconstruction: start: encoder needs an encoder; use start: prior")


def _mean(square: Tensor, weight: Tensor) -> Tensor:
    weight = weight.expand_as(square).flatten(1)
    return (square.flatten(1) * weight).sum(1) / weight.sum(1)


def _pictures(program: Program, params: Params, bound: Bound, images: Images, chain: Chain) -> Tree:
    clamp = images.clamp
    held = rows_of(clamp.values, clamp.masks, chain.n_chain)
    target = CircuitTarget(bound, held, len(images) * chain.n_chain, mobility=chain.mobility)
    if isinstance(chain.start, Map):
        begin = map_start(target, images.rng, prior_start(target, images.rng), chain.start)
    elif chain.start == "encoder":
        observed = encoder.encoder_input(clamp.values, clamp.masks)
        sweeps = encoder.encode(program, params, observed)
        begin = encoder_start(target, images.rng, sweeps, chain.n_chain)
    else:
        begin = prior_start(target, images.rng)
    sums: Tree = {}

    def visit(step: int, state: Any, info: Info) -> None:
        if step > chain.steps - chain.draws:
            _add(sums, bound, {**target.held, **state.position}, list(clamp.values))

    if chain.steps:
        run_chain(chain.kernel, target, images.rng, begin, chain.steps, visit)
    else:
        _add(sums, bound, {**target.held, **begin}, list(clamp.values))
    return {
        name: total.reshape(len(images), chain.n_chain, *total.shape[1:]).mean(1) / chain.draws
        for name, total in sums.items()
    }


def _add(sums: Tree, bound: Bound, values: Tree, names: list[str]) -> None:
    for name, mean in expected(bound, values, names).items():
        sums[name] = mean if name not in sums else sums[name] + mean


def expected(bound: Bound, values: Mapping[str, Tensor], names: list[str]) -> Tree:
    """E[z_n | parents] of the named nodes that have parents, `[row, *shape]`, in the units of the data."""
    rows = len(next(iter(values.values())))
    result = {}
    for node in bound.nodes:
        if node.name in names and node.parents:
            eta, _ = bound.prediction(node, values, rows)
            result[node.name] = node.distribution.mean(node.params, eta)
    return result


def sample_images(program: Program, params: Params, rng: Rng, n: int) -> Tree:
    """Expected values E[x | z] of the leaves with z from the prior, `[n, *shape]`, in the units of the data.

    Not draws of x: pictures without pixel noise, as publications show them.
    """
    bound = program.bind(params)
    with torch.no_grad():
        values = ancestral(bound, rng, n, {})
        return expected(bound, values, list(program.circuit.leaves))


def grey_levels(distribution: Distribution, picture: Tensor) -> Tensor:
    """A picture in the units of the data as grey levels in [0, 1], clipped."""
    low, high = distribution.data_range
    return ((picture - low) / (high - low)).clamp(0, 1)
