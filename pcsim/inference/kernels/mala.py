"""The Metropolis-adjusted Langevin algorithm, with step sizes adapted before it is used."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pcsim.errors import StudyError
from pcsim.inference import limits
from pcsim.inference.types import Info, Kernel, Point, Rng, Target, Tree


class Adaptation(NamedTuple):
    """Step sizes per row, and their mean over the second half of the adaptation."""

    steps: int
    log_step: Tensor
    """`[row]`"""
    mean_log_step: Tensor
    """`[row]`"""


class MalaState(NamedTuple):
    """What the next step needs: the accepted position, its point (with the energy), the step sizes."""

    position: Tree
    point: Point
    adaptation: Adaptation


class Proposal(NamedTuple):
    """Where the step would go, and what its acceptance needs."""

    position: Tree
    noise: Tree
    step: Tree
    """γ M per leaf, broadcasting over the leaf."""


def mala(
    step_size: float, temperature: float = 1.0, adapt: int = 0, target_acceptance: float = 0.574
) -> Kernel:
    """z' = z − γ M g + sqrt(2γ T M) ξ, accepted per row with probability min(1, exp(r)): exact for exp(−U/T).

    r = (U − U')/T − ½ Σ (ξ'² − ξ²), where ξ' = sqrt(γM/(2T)) (g + g') − ξ is the draw that would lead back;
    written so, nothing is divided by γ or M and entries of mobility 0 drop out. In the first `adapt` steps
    each row's log γ moves by (acceptance − target_acceptance)·t^−0.6; then it stays at its mean over the
    second half. Those steps are the warm-up; afterwards the kernel is reversible. Proposals whose energy is
    not finite are rejected.

    One evaluation per step where the target's aux is None. Otherwise a second one at the kept position, when
    some rows moved and others did not: aux may be summed over rows (a parameter gradient) and cannot be
    chosen by row.
    Besag (1994), J. R. Stat. Soc. B 56; Roberts and Rosenthal (1998) for 0.574; Robbins and Monro (1951).
    """
    limits.positive("kernel.step_size", step_size)
    limits.count("kernel.adapt", adapt, 0)
    if not (math.isfinite(temperature) and temperature > 0):
        raise StudyError(
            f"kernel.temperature: mala needs a temperature above 0, got {temperature!r}; for a descent write "
            "kernel: langevin with temperature: 0"
        )
    if not 0 < target_acceptance < 1:
        raise StudyError(f"kernel.target_acceptance: {target_acceptance!r} must lie between 0 and 1")

    def init(target: Target, rng: Rng, position: Tree) -> MalaState:
        point = target.evaluate(position, True)
        log_step = torch.full_like(_energy(point), math.log(step_size))
        return MalaState(position, point, Adaptation(0, log_step, torch.zeros_like(log_step)))

    def step(target: Target, rng: Rng, state: MalaState) -> tuple[MalaState, Info]:
        row_step = state.adaptation.log_step.exp()
        proposal = _propose(target, rng, state, row_step, temperature)
        new = target.evaluate(proposal.position, True)
        log_ratio = _log_ratio(state.point, new, proposal, temperature)
        accepted = rng.uniform(log_ratio).log_() < log_ratio  # False where the ratio is not a number
        acceptance = log_ratio.clamp(max=0.0).exp_().nan_to_num_(nan=0.0)
        position, point = _keep(target, accepted, state, proposal.position, new)
        adaptation = state.adaptation
        if adaptation.steps < adapt:
            adaptation = _adapt(adaptation, acceptance - target_acceptance, adapt)
        return MalaState(position, point, adaptation), Info(row_step, acceptance)

    return Kernel(init, step, warm_up=adapt, temperature=temperature)


def _energy(point: Point) -> Tensor:
    if point.energy is None:
        raise StudyError("kernel mala: the target gave no energy where it was asked for")
    return point.energy


def _propose(target: Target, rng: Rng, state: MalaState, row_step: Tensor, temperature: float) -> Proposal:
    mobility = target.mobility
    position, noises, steps = {}, {}, {}
    for name, z in state.position.items():
        factor = mobility.get(name)
        step = row_step.to(z.dtype).reshape(-1, *(1,) * (z.dim() - 1))
        steps[name] = step = step if factor is None else step * factor
        noises[name] = noise = rng.normal(z)
        drifted = torch.addcmul(z, state.point.grad[name], step, value=-1)
        position[name] = drifted.addcmul_(noise, (2 * temperature * step).sqrt())
    return Proposal(position, noises, steps)


def _log_ratio(old: Point, new: Point, proposal: Proposal, temperature: float) -> Tensor:
    """log of π(z') q(z | z') / (π(z) q(z' | z)), `[row]`."""
    total = (_energy(old) - _energy(new)) / temperature
    for name, noise in proposal.noise.items():
        pull = (proposal.step[name] / (2 * temperature)).sqrt() * (old.grad[name] + new.grad[name])
        # ξ'² − ξ² = pull (pull − 2 ξ): no difference of two large squares
        change = torch.sub(pull, noise, alpha=2).mul_(pull)
        total = total - 0.5 * change.reshape(total.shape[0], -1).sum(1)
    return total


def _keep(
    target: Target, accepted: Tensor, state: MalaState, position: Tree, new: Point
) -> tuple[Tree, Point]:
    """Position and point after the accept step, rows chosen one by one."""
    moved = int(accepted.sum())
    if moved == accepted.shape[0]:
        return position, new
    if moved == 0:
        return state.position, state.point
    kept = _where(accepted, position, state.position)
    if new.aux is not None:
        return kept, target.evaluate(kept, True)
    energy = torch.where(accepted, _energy(new), _energy(state.point))
    return kept, Point(_where(accepted, new.grad, state.point.grad), energy, None)


def _where(rows: Tensor, new: Tree, old: Tree) -> Tree:
    return {n: torch.where(rows.reshape(-1, *(1,) * (x.dim() - 1)), x, old[n]) for n, x in new.items()}


def _adapt(adaptation: Adaptation, surplus: Tensor, steps: int) -> Adaptation:
    """One Robbins-Monro move of log γ; the last one puts the mean of the second half in its place."""
    count = adaptation.steps + 1
    log_step = adaptation.log_step + count**-0.6 * surplus
    averaged = count - steps // 2
    mean = adaptation.mean_log_step
    if averaged > 0:
        mean = torch.lerp(mean, log_step, 1.0 / averaged)
    return Adaptation(count, mean if count == steps else log_step, mean)
