"""The loop around any kernel, its guard, and the curvature that limits a step size."""

import pytest
import torch

from pcsim.errors import Divergence
from pcsim.inference.chain import run_chain, start_guard
from pcsim.inference.kernels import langevin, mala
from pcsim.inference.rng import seed_stream
from pcsim.inference.stability import largest_curvature
from pcsim.inference.types import Info, Kernel, Point, Tree
from tests.contract.test_kernels import F64, ROWS, STEP, problem, start
from tests.exact.targets import Gaussian, random_precision


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
