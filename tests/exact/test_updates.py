"""Which draws are averaged, how θ moves with them, and that recording them changes nothing."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pcsim.circuit.read import load_circuit
from pcsim.engines.torch.program import Params, Program
from pcsim.engines.torch.starts import prior_start
from pcsim.engines.torch.target import CircuitTarget, Clamp
from pcsim.errors import StudyError
from pcsim.inference.chain import run_chain
from pcsim.inference.kernels import langevin
from pcsim.inference.preconditioners import frozen
from pcsim.inference.rng import Recorder, Replay, seed_stream
from pcsim.inference.types import Rng, Target, Tree
from pcsim.learning.draws import Draws, expectation
from pcsim.learning.learner import Batch, Learner, Method, learn_batch, make_learner
from pcsim.learning.optimizers import sgd
from pcsim.record import memory_tree, memory_writer
from pcsim.study.recording import record
from pcsim.study.session import Session, Wanted, layout_of
from tests.exact import oracle_circuits as oracle
from tests.exact.test_learning import UNUSED, Learning, assert_gradients

# --- which draws count


def nonlinear(rows: int) -> tuple[dict[str, Any], Program, Params, Clamp, Tree]:
    description = oracle.random_description(
        2, ("learned list", "number"), ("bernoulli", "learned matrix"), ("tanh",)
    )
    program = Program(load_circuit(description))
    params = program.initial_parameters(torch.Generator().manual_seed(1))
    rng = np.random.default_rng(0)
    shapes = {n: (rows, *node.shape) for n, node in program.circuit.nodes.items()}
    clamp = Clamp(
        {n: oracle.observation(k, shapes[n], rng) for n, k in (("n2", "bernoulli"), ("n3", "list"))}
    )
    return (
        description,
        program,
        params,
        clamp,
        {n: torch.from_numpy(rng.normal(size=shapes[n])) for n in ("n0", "n1")},
    )


DRAWS = {
    "all": (Draws(), range(1, 7)),
    "all with the start": (Draws(include_start=True), range(7)),
    "last 2": (Draws("last", 2), range(5, 7)),
    "final": (Draws("final"), range(6, 7)),
    "final with the start": (Draws("final", include_start=True), (0, 6)),
    "start": (Draws("start"), range(1)),
}


@pytest.mark.parametrize("name", DRAWS)
def test_draws_are_averaged(name: str) -> None:
    """Oracle: autograd of the written energy at the positions that a separate chain visits, then the mean."""
    draws, counted = DRAWS[name]
    description, program, params, clamp, start = nonlinear(5)
    target = CircuitTarget(program.bind(params), clamp, 5)
    tape, kernel = Recorder(seed_stream(1, "draws")), langevin(0.05)
    path = [start]
    run_chain(kernel, target, tape, start, 6, lambda t, state, info: path.append(state.position))
    exact: dict[str, Tensor] = {n: torch.zeros_like(params[n]) for n in program.learned}
    for step in counted:
        at = {n: p.clone().requires_grad_() for n, p in params.items()}
        u = oracle.energy(description, at, {**clamp.values, **path[step]}, {}).sum()
        for n, g in zip(
            program.learned, torch.autograd.grad(u, [at[n] for n in program.learned]), strict=True
        ):
            exact[n] += g / len(counted)
    result = expectation(kernel, target, Replay(tape.tape), start, 6, draws, moments=True)
    assert_gradients(result.gradient, exact)
    for n in start:
        torch.testing.assert_close(result.first[n], torch.stack([path[t][n] for t in counted]).mean(0))
        torch.testing.assert_close(result.second[n], torch.stack([path[t][n] ** 2 for t in counted]).mean(0))
    assert torch.equal(result.state.position["n0"], path[-1]["n0"])


def test_warm_up_is_never_averaged() -> None:
    """Oracle: with `frozen` over 4 steps, all of 9 draws means the last 5, bit for bit; 4 steps are refused."""
    _, program, params, clamp, start = nonlinear(3)
    target = CircuitTarget(program.bind(params), clamp, 3)
    kernel = langevin(0.05, 1.0, frozen(4))
    run = [
        expectation(kernel, target, seed_stream(2, "w"), start, 9, d, moments=True)
        for d in (Draws(), Draws("last", 5))
    ]
    assert all(torch.equal(run[0].gradient[n], run[1].gradient[n]) for n in program.learned)
    with pytest.raises(StudyError, match="steps leave no draw"):
        expectation(kernel, target, seed_stream(2, "w"), start, 4, Draws(), moments=False)


@pytest.mark.parametrize("steps", [1, 10, 100])
def test_gradient_scale_does_not_depend_on_steps(steps: int) -> None:
    """Oracle: at the mean of a linear-Gaussian posterior T = 0 stays, so every length has the same average."""
    case = Learning(3)
    start = case.split(torch.from_numpy(case.posterior.mean)[None])
    once = case.target(1).evaluate(start, False).aux.gradient
    run = expectation(langevin(0.05, 0.0), case.target(1), UNUSED, start, steps, Draws(), moments=False)
    assert_gradients(run.gradient, once)


# --- how θ moves


def learner(program: Program, params: Params, rate: float = 0.1) -> Learner:
    copy = {n: p.clone() for n, p in params.items()}
    return make_learner(program, copy, lambda p: sgd(p, rate), lambda p: sgd(p, rate))


def by_hand(description: Any, params: Params, values: Tree, names: tuple[str, ...]) -> tuple[Tree, Params]:
    """∂U/∂z and ∂U/∂θ (mean over rows) of the written energy."""
    z = {n: values[n].clone().requires_grad_() for n in ("n0", "n1")}
    at = {n: p.clone().requires_grad_() for n, p in params.items()}
    u = oracle.energy(description, at, {**values, **z}, {}).sum()
    slopes = torch.autograd.grad(u, [*z.values(), *(at[n] for n in names)])
    rows = len(values["n0"])
    return dict(zip(z, slopes, strict=False)), {n: g / rows for n, g in zip(names, slopes[2:], strict=True)}


@pytest.mark.parametrize("which", ["pgd", "incremental"])
def test_joint_moves_equal_a_hand_written_loop(which: str) -> None:
    """Oracle: particle gradient descent (persistent chains, θ and z from the same point) and incremental PC.

    z ← z − γ ∂U/∂z + √(2γ) ξ, θ ← θ − α mean ∂U/∂θ, both at the old (z, θ), with autograd of the written
    energy and the same draws. PGD: Kuntz, Lim and Johansen (2023), Eqs 3-4; iPC: Salvatori et al. (2024).
    """
    description, program, params, clamp, start = nonlinear(6)
    made, step, rate, steps = learner(program, params), 0.05, 0.1, 7
    tape = Recorder(seed_stream(4, which))
    batch = Batch(clamp.values, {}, torch.arange(6))
    if which == "pgd":
        made.previous.update({n: z.clone() for n, z in start.items()})
        method = Method(langevin(step), 1, "previous", Draws("start"))
        for update in range(steps):
            learn_batch(made, method, batch, tape, update)
        end: Tree = dict(made.previous)
    else:
        method = Method(langevin(step), steps, "prior", update="step")
        seen, method = watched(method)
        end = learn_batch(made, method, batch, tape, 0).position
        start, tape.tape = seen[0], tape.tape[2:]  # the first two draws made the start
    theta = {n: p.clone() for n, p in params.items()}
    z, replay = start, Replay(tape.tape)
    for _ in range(steps):
        grad, slope = by_hand(description, theta, {**clamp.values, **z}, program.learned)
        z = {n: v - step * grad[n] + math.sqrt(2 * step) * replay.normal(v) for n, v in z.items()}
        theta = {n: p - rate * slope[n] if n in slope else p for n, p in theta.items()}
    for n, v in z.items():
        torch.testing.assert_close(end[n], v, rtol=1e-10, atol=1e-10)
    for n, p in theta.items():
        torch.testing.assert_close(made.params[n], p, rtol=1e-10, atol=1e-10, msg=n)


def watched(method: Method) -> tuple[list[Tree], Method]:
    """The same method with a list that its chains' starts go to."""
    starts: list[Tree] = []
    inner = method.kernel

    def init(target: Target, rng: Rng, position: Tree) -> Any:
        starts.append(position)
        return inner.init(target, rng, position)

    return starts, method._replace(kernel=inner._replace(init=init))


def test_incremental_learning_refuses_what_it_would_ignore() -> None:
    """Persistent chains and encoder objectives have no place in a θ that moves with z."""
    _, program, params, clamp, _start = nonlinear(2)
    method = Method(langevin(0.05), 3, "prior", objective="forward", update="step")
    with pytest.raises(StudyError, match="update: step"):
        learn_batch(learner(program, params), method, Batch(clamp.values, {}, torch.arange(2)), UNUSED, 0)


def test_batch_mean_over_chains_and_images() -> None:
    """Oracle: θ moves by −α (mean over images and chains) of the written gradient at the chains' end."""
    description, program, params, clamp, _ = nonlinear(3)
    made = learner(program, params)
    method = Method(langevin(0.05), 4, "prior", Draws("final"), n_chain=5)
    out = learn_batch(made, method, Batch(clamp.values, {}, torch.arange(3)), seed_stream(6, "b"), 0)
    held = {n: v.repeat_interleave(5, 0) for n, v in clamp.values.items()}
    _, slope = by_hand(description, params, {**held, **out.position}, program.learned)
    for n, g in slope.items():
        torch.testing.assert_close(made.params[n], params[n] - 0.1 * g, rtol=1e-11, atol=1e-11)


# --- law 7: recording


def test_recording_does_not_change_a_bit() -> None:
    """Oracle: a bare chain from the same stream; the trace's z and energy are its own, bit for bit."""
    _, program, params, clamp, _ = nonlinear(3)
    probes = (Wanted(("value", "error"), ("n0", "n1")), Wanted(("energy",), every=3))
    kernel = langevin(0.05, 1.0, frozen(5))
    session = Session(program, params, kernel, "prior", clamp.values, {}, (), 2, 0, 40, probes)
    writer, store = memory_writer(layout_of(session, dtype="float64"))
    record(session, writer, 9, ("here",), lambda n: None)
    writer.close()
    trace = memory_tree(store)
    held = {n: v.repeat_interleave(2, 0) for n, v in clamp.values.items()}
    target = CircuitTarget(program.bind(params), Clamp(held), 6)
    stream: Rng = seed_stream(9, "here", "chain")
    path = [prior_start(target, stream)]
    run_chain(kernel, target, stream, path[0], 40, lambda t, state, info: path.append(state.position))
    for name in ("n0", "n1"):
        bare = torch.stack([z[name] for z in path], 1).reshape(3, 2, 41, -1).numpy()
        recorded = trace[name]["value"].transpose("image", "chain", "step", ...).to_numpy()
        assert (recorded == bare).all()
