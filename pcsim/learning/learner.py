"""One EM learner over chains; LPC, vanilla PC, MCPC, PGD, incremental PC and the VAE are its settings.

E: run chains on a batch and average ∂U/∂θ over the draws that count. M: one optimiser step on θ. The encoder
learns beside it, from the same chain. A VAE is the chain of no steps: θ and φ from the encoder's own draw.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

import networkx as nx
import torch
from torch import Tensor

from pcsim.circuit.graph import Circuit
from pcsim.engines.torch import encoder
from pcsim.engines.torch.encoder import Pull, Sweep
from pcsim.engines.torch.program import Params, Program
from pcsim.engines.torch.starts import Map, encoder_start, map_start, prior_start
from pcsim.engines.torch.target import CircuitTarget, Clamp, rows_of
from pcsim.errors import StudyError, pick
from pcsim.inference.chain import WithEnergy, check, guard_due, start_guard
from pcsim.inference.types import Kernel, Point, Rng, Tree
from pcsim.learning.draws import Draws, expectation
from pcsim.learning.optimizers import descend

OBJECTIVES: dict[str, tuple[float, float]] = {
    "none": (0.0, 0.0),
    "forward": (1.0, 0.0),
    "reverse": (0.0, 1.0),
    "jeffreys": (0.5, 0.5),
}
"""Encoder objectives as weights of (KL(p‖q), KL(q‖p))."""


Start = Literal["prior", "encoder", "previous"] | Map


class Method(NamedTuple):
    """Everything that says how a batch is learned from."""

    kernel: Kernel
    steps: int
    start: Start = "prior"
    draws: Draws = Draws()
    objective: str = "none"
    prior_batches: int = 50
    """In the first batches chains start from the prior, while the encoder already learns."""
    update: Literal["batch", "step"] = "batch"
    """θ moves once per batch, or with z at every step (incremental PC)."""
    n_chain: int = 1
    mobility: Mapping[str, float] = {}
    """dt/τ per node, relative to the kernel's step size."""


class Learner(NamedTuple):
    """A program's parameters with the optimisers that move them, and the state that outlives a batch."""

    program: Program
    params: Params
    theta: torch.optim.Optimizer | None
    phi: torch.optim.Optimizer | None
    previous: Tree
    """Persistent chains, `[training image · n_chain, *shape]`; empty unless `start: previous`."""


class Batch(NamedTuple):
    """Data of one update: values of the clamped nodes per image, masks, and which training images they are."""

    values: Mapping[str, Tensor]
    masks: Mapping[str, Tensor]
    images: Tensor
    """Indices into the training set, `[image]`."""


Optimizer = Callable[[list[Tensor]], torch.optim.Optimizer]


def make_learner(program: Program, params: Params, theta: Optimizer, phi: Optimizer) -> Learner:
    """A learner for every parameter that the circuit lets learn."""
    moving, fast = ([params[n] for n in names] for names in (program.learned, program.encoder_learned))
    return Learner(
        program, params, theta(moving) if moving else None, phi(fast) if fast else None, previous={}
    )


def check_objective(circuit: Circuit, held: Iterable[str], objective: str) -> None:
    """Raise `StudyError` where an encoder objective cannot be had, or would be wrong without a word.

    Reverse KL pulls ∂U/∂z at the encoder's draw. Through a free descendant that the encoder does not give, and
    that is drawn from its conditional instead, ∂U/∂z has mean zero: the likelihood would never reach φ.
    """
    if pick(OBJECTIVES, objective, "encoder objective") == (0.0, 0.0):
        return
    if not circuit.encoder:
        raise StudyError(f"objective {objective}: the circuit has no encoder")
    known = set(held)
    if lacking := [e.parent for e in circuit.encoder if e.parent not in known]:
        raise StudyError(
            f"objective {objective}: the encoder reads node {lacking[0]!r}, which is not clamped"
        )
    given = {e.child for e in circuit.encoder}
    for name in given if OBJECTIVES[objective][1] > 0 else ():
        if free := sorted(nx.descendants(circuit.graph, name) - known - given):
            raise StudyError(
                f"objective {objective}: {name} is encoded but its free descendant {free[0]!r} is not, so the "
                "reverse KL would not see the data; encode it too, or use objective: forward"
            )


class Outcome(NamedTuple):
    """Where a batch's chains ended, and what it cost."""

    target: CircuitTarget
    position: Tree
    gradient_evaluations: int
    """Evaluations of the batch's ∂U/∂z: the unit in which methods are compared at equal work."""

    def energy(self) -> Tensor:
        """U at the end of the chains under the new parameters, `[row]`."""
        energy = self.target.learning(False).evaluate(self.position, True).energy
        assert energy is not None
        return energy


def learn_batch(learner: Learner, method: Method, batch: Batch, rng: Rng, update: int) -> Outcome:
    """One update: θ descends the mean of ∂U/∂θ over draws, images and chains; φ its objective.

    Moves `learner.params` in place. Raises `Divergence` where a chain leaves the stable region.
    """
    program, params = learner.program, learner.params
    n_image = len(batch.images)
    rows = n_image * method.n_chain
    target = _target(learner, method, rows_of(batch.values, batch.masks, method.n_chain), rows)
    wants_sweep = method.objective != "none" or method.start == "encoder"
    sweeps = (
        encoder.encode(program, params, encoder.encoder_input(batch.values, batch.masks))
        if wants_sweep
        else {}
    )
    waits = (
        update < method.prior_batches and method.objective != "none"
    )  # an encoder that is given needs none
    warm = method.start == "encoder" and not waits
    start = _start(learner, method, batch, target, rng, sweeps if warm else {})
    cost = method.steps + 1 + (method.start.steps + 1 if isinstance(method.start, Map) else 0)
    if method.update == "step":
        state = _incremental(learner, method, target, rng, start)
        return Outcome(target, state.position, cost)
    needs_moments = OBJECTIVES[method.objective][0] > 0
    result = expectation(method.kernel, target, rng, start, method.steps, method.draws, moments=needs_moments)
    fast: Params = {}
    if learner.phi is not None and method.objective != "none":  # before θ moves: both from the same θ
        begin = (start, result.start) if warm else _fresh_draw(target, rng, sweeps, method.n_chain)
        moments = (result.first, result.second)
        fast = _encoder_gradient(method, sweeps, begin, moments, n_image)
        cost += 0 if warm else 1
    if learner.theta is not None:
        descend(learner.theta, params, {n: g / rows for n, g in result.gradient.items()})
    if learner.phi is not None and fast:
        descend(learner.phi, params, fast)
    if method.start == "previous":
        _keep(learner, batch, method.n_chain, result.state.position)
    if program.edge_dtype is not None:  # edges hold a cast copy of the weights, by now an old one
        target = _target(learner, method, target.clamp, rows)
    return Outcome(target, result.state.position, cost)


def _target(learner: Learner, method: Method, clamp: Clamp, rows: int) -> CircuitTarget:
    bound = learner.program.bind(learner.params)
    return CircuitTarget(bound, clamp, rows, mobility=method.mobility)


def _start(
    learner: Learner, method: Method, batch: Batch, target: CircuitTarget, rng: Rng, sweeps: dict[str, Sweep]
) -> Tree:
    if isinstance(method.start, Map):
        return map_start(target, rng, prior_start(target, rng), method.start)
    if method.start == "previous":
        rows = _persistent_rows(batch, method.n_chain)
        return target.start({name: z[rows] for name, z in learner.previous.items()})
    if sweeps:
        return encoder_start(target, rng, sweeps, method.n_chain)
    return prior_start(target, rng)


def _persistent_rows(batch: Batch, n_chain: int) -> Tensor:
    offsets = torch.arange(n_chain, device=batch.images.device)
    return (batch.images[:, None] * n_chain + offsets).flatten()


def _keep(learner: Learner, batch: Batch, n_chain: int, position: Tree) -> None:
    rows = _persistent_rows(batch, n_chain)
    for name, z in position.items():
        learner.previous[name][rows] = z


def _fresh_draw(
    target: CircuitTarget, rng: Rng, sweeps: Mapping[str, Sweep], n_chain: int
) -> tuple[Tree, Point]:
    """A draw of q and the drift there, for batches whose chains started elsewhere."""
    z = encoder_start(target, rng, sweeps, n_chain)
    return z, target.learning(False).evaluate(z, energy=False)


def _encoder_gradient(
    method: Method,
    sweeps: Mapping[str, Sweep],
    begin: tuple[Tree, Point],
    moments: tuple[Tree, Tree],
    n_image: int,
) -> Params:
    """Mean over images of ∂/∂φ of the weighted sum of KL(p‖q) and KL(q‖p)."""
    forward, reverse = OBJECTIVES[method.objective]
    position, point = begin
    result: Params = {}
    for name, sweep in sweeps.items():
        if name not in position:  # clamped: there is nothing to infer
            continue
        pulls: list[tuple[float, Pull]] = []
        if forward:
            first, second = (
                m[name].reshape(n_image, method.n_chain, *sweep.mean.shape[1:]).mean(1) for m in moments
            )
            pulls.append((forward, encoder.forward_kl(sweep, first, second)))
        if reverse:
            pulls.append(
                (reverse, encoder.reverse_kl(sweep, position[name], point.grad[name], method.n_chain))
            )
        mean = sum((w * p.mean for w, p in pulls), torch.zeros_like(sweep.mean))
        variance = sum((w * p.variance for w, p in pulls), torch.zeros_like(sweep.mean))
        result |= encoder.gradient(sweep, Pull(mean, variance))
    return {name: value / n_image for name, value in result.items()}


def _incremental(learner: Learner, method: Method, target: CircuitTarget, rng: Rng, start: Tree) -> Any:
    """z and θ move together: both from the errors at z^(t), θ first only in the order of writing."""
    if method.objective != "none" or method.start == "previous":
        raise StudyError(
            "learning.update: step moves θ along one chain; it takes no encoder objective and no start: previous"
        )
    if method.draws != Draws() or method.kernel.warm_up:
        raise StudyError(
            "learning.update: step learns at every step: it takes no draws, and no kernel that adapts (a frozen "
            "preconditioner, mala with adapt)"
        )
    if learner.theta is None:
        raise StudyError("learning.update: step needs something to learn; the circuit has no free parameter")
    moving = target.learning(True)
    state: Any = method.kernel.init(WithEnergy(moving), rng, start)
    guard = start_guard(moving, state.position, state.point, method.kernel.temperature)
    for step in range(1, method.steps + 1):
        gradient = {n: g / target.rows for n, g in state.point.aux.gradient.items()}
        descend(learner.theta, learner.params, gradient)
        if learner.program.edge_dtype is not None:  # edges hold a cast copy of the weights
            moving = _target(learner, method, target.clamp, target.rows).learning(True)
        state, info = method.kernel.step(moving, rng, state)
        if guard_due(step, method.steps):
            check(guard, moving, state, step, info)
    return state
