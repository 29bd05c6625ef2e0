"""What every member of KERNELS keeps, every preconditioner, and the loop, guard and draws around them."""

import inspect
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pcsim.errors import Divergence, StudyError
from pcsim.inference.chain import run_chain, start_guard
from pcsim.inference.kernels import KERNELS, langevin, mala
from pcsim.inference.preconditioners import PRECONDITIONERS, frozen
from pcsim.inference.rng import Draw, Recorder, Replay, Stream, child_seed, seed_stream
from pcsim.inference.stability import largest_curvature
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
        mobility: dict[str, float] = {}  # noqa: RUF012 (a protocol's property; never written)

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


# --- the loop and its guard


class Counting(Gaussian):
    """Counts evaluations, and those with an energy; gives an aux that is a sum over rows."""

    total = 0
    with_energy = 0

    def evaluate(self, z: Tree, energy: bool) -> Point:
        self.total += 1
        self.with_energy += energy
        point = super().evaluate(z, energy)
        return point._replace(aux=self.flat(z).sum(0))


def counting() -> Counting:
    return Counting(random_precision(5, 0.5, 4.0, 0), torch.arange(5, dtype=F64), {"a": 2, "b": 3})


def test_one_evaluation_per_step_and_energy_at_checks_only() -> None:
    """Oracle: 1 at the start and 1 a step; energy at the start and at steps 25, 50, 60."""
    target, visited = counting(), []
    run_chain(langevin(STEP), target, seed_stream(0), start(), 60, lambda t, s, i: visited.append(t))
    assert visited == list(range(1, 61))
    assert target.total == 61
    assert target.with_energy == 4


def test_adjusted_kernel_keeps_aux_at_the_kept_position() -> None:
    """Oracle: aux (a sum over rows, as a parameter gradient is) evaluated anew at the position."""
    target, kernel, mixed = counting(), mala(0.4), 0
    rng = seed_stream(0)
    state = kernel.init(target, rng, start())
    for _ in range(30):
        before = state.position["a"]
        state, _info = kernel.step(target, rng, state)
        moved = int((state.position["a"] != before).any(1).sum())
        mixed += 0 < moved < ROWS
        torch.testing.assert_close(
            state.point.aux, target.flat(state.position).sum(0), rtol=1e-12, atol=1e-12
        )
    assert mixed > 5


def test_divergence_names_step_node_and_energy() -> None:
    """Oracle: γλ = 2.4 on leaf b only; |1 − γλ|^(2t) lifts the energy over the limit before step 50."""
    precision = torch.diag(torch.tensor([1.0, 1.0, 24.0, 24.0, 24.0], dtype=F64))
    target = Gaussian(precision, torch.zeros(5, dtype=F64), {"a": 2, "b": 3})
    with pytest.raises(Divergence, match=r"step 25: node 'b', energy .*kernel\.step_size: 0\.025") as caught:
        run_chain(langevin(0.1), target, seed_stream(0), start(), 100)
    assert caught.value.step == 25
    assert caught.value.node == "b"
    assert caught.value.energy > 500


def test_divergence_to_not_a_number() -> None:
    """Oracle: γλ = 1e30 overflows within 25 steps; the guard still names a node."""
    target = Gaussian(torch.eye(5, dtype=F64) * 1e30, torch.zeros(5, dtype=F64), {"a": 2, "b": 3})
    with pytest.raises(Divergence, match="step 25: node 'a'"):
        run_chain(langevin(1.0), target, seed_stream(0), start(), 100)


def test_a_start_that_is_not_finite() -> None:
    z = start()
    z["b"][2, 1] = torch.nan
    with pytest.raises(Divergence, match=r"step 0: node 'b'.*check data"):
        run_chain(langevin(STEP), problem(), seed_stream(0), z, 10)


@pytest.mark.parametrize("stiffness", [1.0, 1.9, 1.97])
def test_guard_lets_stable_chains_pass(stiffness: float) -> None:
    """Oracle: γλ < 2 is stable, so chains from the minimum go on; at 1.97 the limit is 9 s.d. above ⟨U⟩."""
    target = Gaussian(torch.eye(40, dtype=F64) * stiffness, torch.zeros(40, dtype=F64))
    run_chain(langevin(1.0), target, seed_stream(0), {"z": torch.zeros(16, 40, dtype=F64)}, 1000)


def test_guard_limit() -> None:
    """Oracle: U₀ + 100 (D max(T, 1) + |U₀|) by hand."""
    target = Gaussian(torch.eye(2, dtype=F64), torch.zeros(2, dtype=F64))
    z = {"z": torch.tensor([[2.0, 0.0]], dtype=F64)}
    assert float(start_guard(target, z).limit) == 2 + 100 * (2 + 2)
    assert float(start_guard(target, z, temperature=3.0).limit) == 2 + 100 * (6 + 2)


def test_a_callers_own_kernel() -> None:
    """Oracle: a hand-written descent of z ← z/2 in the same loop."""

    def halve(target, rng, state):
        position = {name: leaf / 2 for name, leaf in state.position.items()}
        return state._replace(position=position, point=target.evaluate(position, False)), Info(0.5)

    kernel = Kernel(langevin(0.1).init, halve)
    position = run_chain(kernel, problem(), seed_stream(0), start(), 3).position
    assert torch.equal(position["a"], start()["a"] / 8)


def test_largest_curvature() -> None:
    """Oracle: eigvalsh; a Rayleigh quotient is never above, and 200 iterations close the gap."""
    precision = random_precision(5, 0.5, 4.0, 0)
    top = float(torch.linalg.eigvalsh(precision)[-1])
    found = largest_curvature(problem(), start(), seed_stream(0), 200)
    torch.testing.assert_close(found, torch.full((ROWS,), top, dtype=F64), rtol=1e-6, atol=0)
    assert (largest_curvature(problem(), start(), seed_stream(0), 3) < top * (1 + 1e-6)).all()
    factors = torch.tensor([0.3, 0.3, 2.0, 0.0, 1.0], dtype=F64)
    scaled = problem({"a": 0.3, "b": torch.tensor([2.0, 0.0, 1.0], dtype=F64)})
    top = float(torch.linalg.eigvalsh(factors.sqrt()[:, None] * precision * factors.sqrt())[-1])
    found = largest_curvature(scaled, start(), seed_stream(0), 200)
    torch.testing.assert_close(found, torch.full((ROWS,), top, dtype=F64), rtol=1e-6, atol=0)


# --- draws


def test_seed_tree_is_deterministic_and_names_are_independent() -> None:
    """Oracle: same path, same bits; other paths or seeds, correlations below 4 s.e. = 4/sqrt(n)."""
    like = torch.zeros(10_000, dtype=F64)
    paths: list[tuple[int, tuple[str | int, ...]]] = [
        (0, ()),
        (0, ("train",)),
        (0, ("train", 1)),
        (0, ("train", "1")),
        (0, ("train1",)),
        (0, (1, "train")),
        (1, ("train",)),
    ]
    draws = torch.stack([seed_stream(seed, *path).normal(like) for seed, path in paths])
    again = torch.stack([seed_stream(seed, *path).normal(like) for seed, path in reversed(paths)]).flip(0)
    assert torch.equal(draws, again)
    correlation = torch.corrcoef(draws) - torch.eye(len(paths), dtype=F64)
    assert correlation.abs().max() < 4 / 10_000**0.5
    assert len({child_seed(seed, *path) for seed, path in paths}) == len(paths)


def test_stream_does_not_touch_the_global_generator() -> None:
    before = torch.get_rng_state()
    seed_stream(0, "x").normal(torch.zeros(100))
    assert torch.equal(torch.get_rng_state(), before)


def test_stream_ignores_strides_and_keeps_dtype() -> None:
    like = torch.zeros(20, 30)
    a, b = seed_stream(0).normal(like), seed_stream(0).normal(torch.zeros(30, 20).T)
    assert torch.equal(a, b)
    assert seed_stream(0).uniform(like.double()).dtype == F64


@pytest.mark.parametrize(
    ("tape", "message"),
    [
        ([], "all 0 recorded draws are used"),
        (
            [Draw("normal", torch.zeros(2, 2))],
            r"draw 0 is normal of shape \(2, 2\), asked for is normal of shape \(3,\)",
        ),
        ([Draw("uniform", torch.zeros(3))], "draw 0 is uniform"),
    ],
)
def test_replay_says_what_is_wrong(tape: list[Draw], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        Replay(tape).normal(torch.zeros(3))


def test_replay_hands_out_copies() -> None:
    value = torch.ones(3)
    Replay([Draw("normal", value)]).normal(torch.zeros(3)).add_(5)
    assert torch.equal(value, torch.ones(3))


def test_seed_must_not_be_negative() -> None:
    with pytest.raises(StudyError, match="seed"):
        seed_stream(-1)
