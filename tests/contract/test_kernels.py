"""What every member of KERNELS and PRECONDITIONERS keeps."""

import inspect
from collections.abc import Callable
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from pcsim.errors import StudyError
from pcsim.inference.chain import run_chain
from pcsim.inference.kernels import KERNELS, langevin, mala
from pcsim.inference.preconditioners import PRECONDITIONERS, frozen
from pcsim.inference.rng import Draw, Recorder, Replay, Stream, seed_stream
from pcsim.inference.types import Info, Kernel, Point, Tree
from tests.exact.targets import Gaussian, random_precision

F64 = torch.float64
ROWS = 6
STEP = 0.05


def variants() -> dict[str, Callable[[], Kernel]]:
    """Every kernel as it comes, at other temperatures where it has one, and with every preconditioner."""
    made: dict[str, Callable[[], Kernel]] = {}
    for name, build in KERNELS.items():
        made[name] = lambda build=build: build(STEP)
        arguments = inspect.signature(build).parameters
        if "temperature" in arguments:
            made[f"{name}-hot"] = lambda build=build: build(STEP, temperature=0.7)
        if "preconditioner" in arguments:
            for rule, rule_of in PRECONDITIONERS.items():
                made[f"{name}-{rule}"] = lambda build=build, rule_of=rule_of: build(
                    STEP, preconditioner=rule_of()
                )
        if "adapt" in arguments:
            made[f"{name}-adapting"] = lambda build=build: build(STEP, adapt=4)
    made["langevin-vanilla"] = lambda: langevin(STEP, temperature=0.0)
    return made


each_kernel = pytest.mark.parametrize("build", [pytest.param(b, id=n) for n, b in variants().items()])


def problem(mobility: dict[str, float | Tensor] | None = None) -> Gaussian:
    return Gaussian(random_precision(5, 0.5, 4.0, 0), torch.arange(5, dtype=F64), {"a": 2, "b": 3}, mobility)


def start(rows: int = ROWS) -> Tree:
    flat = seed_stream(1, "start").normal(torch.zeros(rows, 5, dtype=F64))
    return problem().split(flat)


def record(kernel: Kernel, steps: int, target: Gaussian | None = None) -> tuple[Tree, list[Draw]]:
    rng = Recorder(seed_stream(2, "draws"))
    state = run_chain(kernel, target or problem(), rng, start(), steps)
    return state.position, rng.tape


@each_kernel
def test_state_and_info(build: Callable[[], Kernel]) -> None:
    """Oracle: the contract of `Kernel`: shapes and dtypes kept, argument untouched, point at the position."""
    kernel, target, rng = build(), problem(), seed_stream(0)
    state = kernel.init(target, rng, start())
    for _ in range(6):
        before = {name: leaf.clone() for name, leaf in state.position.items()}
        grad = {name: leaf.clone() for name, leaf in state.point.grad.items()}
        new, info = kernel.step(target, rng, state)
        assert isinstance(info, Info)
        assert info.acceptance is None or info.acceptance.shape == (ROWS,)
        exact = target.evaluate(new.position, True)
        for name, leaf in start().items():
            assert torch.equal(state.position[name], before[name])
            assert torch.equal(state.point.grad[name], grad[name])
            assert new.position[name].shape == leaf.shape
            assert new.position[name].dtype == leaf.dtype
            torch.testing.assert_close(new.point.grad[name], exact.grad[name], rtol=1e-12, atol=1e-12)
        if new.point.energy is not None:
            torch.testing.assert_close(new.point.energy, exact.energy, rtol=1e-12, atol=1e-12)
        state = new


@each_kernel
def test_replay_gives_the_same_chain(build: Callable[[], Kernel]) -> None:
    """Oracle: the recorded chain itself, bit for bit, with every draw used."""
    position, tape = record(build(), 8)
    replay = Replay(tape)
    again = run_chain(build(), problem(), replay, start(), 8).position
    assert replay.read == len(tape)
    assert all(torch.equal(again[name], leaf) for name, leaf in position.items())


@each_kernel
def test_rows_are_independent(build: Callable[[], Kernel]) -> None:
    """Oracle: law 6; permuting rows with their draws permutes the result, to rounding."""
    position, tape = record(build(), 8)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    permuted = Replay([Draw(d.kind, d.value[order]) for d in tape])
    again = run_chain(
        build(), problem(), permuted, {n: leaf[order] for n, leaf in start().items()}, 8
    ).position
    for name, leaf in position.items():
        torch.testing.assert_close(again[name], leaf[order], rtol=1e-10, atol=1e-10)


@each_kernel
@pytest.mark.parametrize("per_row", [False, True])
def test_mobility_zero_entries_stay(build: Callable[[], Kernel], per_row: bool) -> None:
    """Oracle: entries of mobility 0 keep their bits; the others move."""
    mask = torch.tensor([1.0, 0.0, 1.0], dtype=F64)
    mobility: dict[str, float | Tensor] = {"a": 0.0, "b": mask.repeat(ROWS, 1) if per_row else mask}
    position, _tape = record(build(), 12, problem(mobility))
    assert torch.equal(position["a"], start()["a"])
    assert torch.equal(position["b"][:, 1], start()["b"][:, 1])
    assert (position["b"][:, [0, 2]] != start()["b"][:, [0, 2]]).any(0).all()


@each_kernel
def test_restored_chain_continues_to_the_same_bits(build: Callable[[], Kernel]) -> None:
    """Oracle: the uninterrupted chain; state of kernel and stream go through a copy after five steps."""
    kernel, target = build(), problem()

    def steps(state, rng: Stream, n: int):
        for _ in range(n):
            state, _info = kernel.step(target, rng, state)
        return state

    rng = seed_stream(3)
    middle = steps(kernel.init(target, rng, start()), rng, 5)
    saved = rng.get_state()
    whole = steps(middle, rng, 5)
    other = seed_stream(99)
    other.set_state(saved)
    resumed = steps(middle, other, 5)
    assert all(torch.equal(resumed.position[n], leaf) for n, leaf in whole.position.items())


@each_kernel
def test_float32_and_scalar_nodes(build: Callable[[], Kernel]) -> None:
    """Oracle: a leaf `[row]` (node shape ()) and dtype float32 pass through unchanged."""

    class Bowl:
        mobility: ClassVar[dict[str, float]] = {}

        def evaluate(self, z: Tree, energy: bool) -> Point:
            return Point({"s": z["s"]}, 0.5 * z["s"] ** 2 if energy else None, None)

    position = run_chain(build(), Bowl(), seed_stream(0), {"s": torch.ones(4)}, 3).position["s"]
    assert position.shape == (4,)
    assert position.dtype == torch.float32


@pytest.mark.parametrize("name", list(KERNELS))
@pytest.mark.parametrize("step_size", [0.0, -0.1, float("nan"), float("inf")])
def test_step_sizes_that_are_none(name: str, step_size: float) -> None:
    with pytest.raises(StudyError, match=r"kernel\.step_size"):
        KERNELS[name](step_size)


@pytest.mark.parametrize("name", [n for n in PRECONDITIONERS if n != "none"])
def test_vanilla_refuses_a_preconditioner(name: str) -> None:
    with pytest.raises(StudyError, match="write preconditioner: none"):
        langevin(0.1, 0.0, PRECONDITIONERS[name]())


def test_a_decay_of_zero_is_another_sampler_than_none() -> None:
    """Oracle: at β = 0 the drift is γ·sign(g) (Adam's second moment without memory), not γ g."""
    kernel = langevin(0.1, 1.0, PRECONDITIONERS["corrected"](decay=0.0, epsilon=1e-300))
    zeros = [Draw("normal", torch.zeros_like(leaf)) for leaf in start().values()]
    moved = run_chain(kernel, problem(), Replay(zeros), start(), 1).position
    grad = problem().evaluate(start(), False).grad
    for name, leaf in start().items():
        torch.testing.assert_close(moved[name], leaf - 0.1 * grad[name].sign(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("build", "field"),
    [
        (lambda: langevin(0.1, -1.0), "kernel.temperature"),
        (lambda: mala(0.1, 0.0), "kernel.temperature"),
        (lambda: mala(0.1, adapt=-1), "kernel.adapt"),
        (lambda: mala(0.1, target_acceptance=1.0), "kernel.target_acceptance"),
        (lambda: KERNELS["momentum"](0.1, momentum=1.0), "kernel.momentum"),
        (lambda: KERNELS["adam"](0.1, square_decay=1.5), "kernel.square_decay"),
        (lambda: PRECONDITIONERS["corrected"](decay=1.0), "preconditioner.decay"),
        (lambda: frozen(window=0), "preconditioner.window"),
        (lambda: frozen(epsilon=0.0), "preconditioner.epsilon"),
    ],
)
def test_hyperparameters_out_of_range(build: Callable[[], object], field: str) -> None:
    with pytest.raises(StudyError, match=field):
        build()
