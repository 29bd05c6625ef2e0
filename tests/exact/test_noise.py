"""Noise that is not white, against closed forms on a linear node: its colour, what is shared, its spikes.

Estimates are over independent rows, with standard errors of their own; bounds are four of them.
"""

import math

import pytest
import torch
from torch import Tensor

from pcsim.errors import StudyError
from pcsim.inference.chain import run_chain
from pcsim.inference.kernels import langevin
from pcsim.inference.noise import Filter, Noise, skellam_table
from pcsim.inference.rng import Recorder, Replay, seed_stream
from pcsim.inference.types import Point, Tree

ROWS = 40_000
RATE = 2.0


class Linear:
    """U = λ z²/2 for every unit."""

    mobility: dict[str, float] = {}  # noqa: RUF012  # the protocol has an instance attribute, never written

    def evaluate(self, z: Tree, energy: bool) -> Point:
        """g = λ z."""
        total = sum(0.5 * RATE * x.flatten(1).square().sum(1) for x in z.values())
        return Point({n: RATE * x for n, x in z.items()}, total if energy else None, None)  # type: ignore[arg-type]


def end_of(noise: Noise, *, step_size: float, steps: int, units: int = 1, temperature: float = 1.0) -> Tensor:
    """The positions of a leaf `z` after a chain from 0, `[row, unit]`."""
    start = {"z": torch.zeros(ROWS, units, dtype=torch.float64)}
    rng = Filter(seed_stream(0, "noise", *map(str, noise)), noise)
    rng.leaves(start)
    end: Tree = run_chain(langevin(step_size, temperature), Linear(), rng, start, steps).position
    return end["z"]


def coloured_variance(step_size: float, temperature: float, colour_steps: float) -> float:
    """Var z of z' = b z + s n', n' = c n + (1 − c) ξ, exactly: s² V (1 + bc) / ((1 − bc)(1 − b²)), V = (1−c)/(1+c).

    E[z' n'] = X solves X = b c X + s V; Var z = b² Var z + 2 b s c X + s² V.
    """
    b, c = 1 - step_size * RATE, 1 - 1 / colour_steps
    own = (1 - c) / (1 + c)
    return 2 * step_size * temperature * own * (1 + b * c) / ((1 - b * c) * (1 - b * b))


@pytest.mark.parametrize("colour_steps", [1.0, 5.0, 20.0])
def test_coloured_noise_has_the_variance_of_its_difference_equation(colour_steps: float) -> None:
    z = end_of(Noise(colour_steps), step_size=0.05, steps=150, temperature=0.7)
    expected = coloured_variance(0.05, 0.7, colour_steps)
    assert float(z.var()) == pytest.approx(expected, abs=4 * expected * math.sqrt(2 / ROWS))


def test_the_difference_equation_tends_to_the_closed_form() -> None:
    """Var = T/(λ(1 + λτ_s)) as the step goes to 0 at fixed τ_s: the error falls in proportion to the step."""
    tau = 0.3
    limit = 0.7 / (RATE * (1 + RATE * tau))
    errors = [abs(coloured_variance(h, 0.7, tau / h) / limit - 1) for h in (1e-2, 1e-3, 1e-4)]
    assert errors[2] < 1e-3
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.1)


def test_white_is_the_source_itself() -> None:
    source, other = seed_stream(1, "a"), seed_stream(1, "a")
    made = Filter(source, Noise())
    made.leaves(["z"])
    like = torch.zeros(3, 2)
    assert torch.equal(made.normal(like), other.normal(like))


def test_shared_noise_correlates_the_units_of_a_row_and_no_others() -> None:
    c = 0.3
    z = end_of(Noise(shared=c), step_size=0.2, steps=40, units=3)
    expected = 2 * 0.2 / (1 - (1 - 0.2 * RATE) ** 2)
    assert z.var(0).tolist() == pytest.approx([expected] * 3, abs=4 * expected * math.sqrt(2 / ROWS))
    r = torch.corrcoef(z.T)
    error = (1 - c * c) / math.sqrt(ROWS)
    assert [float(r[0, 1]), float(r[0, 2]), float(r[1, 2])] == pytest.approx([c] * 3, abs=4 * error)
    rows = float(torch.corrcoef(torch.stack((z[:-1, 0], z[1:, 0])))[0, 1])
    assert rows == pytest.approx(0, abs=4 / math.sqrt(ROWS))


def test_a_shared_image_has_one_common_draw_per_row() -> None:
    made = Filter(seed_stream(2, "a"), Noise(shared=1.0))
    made.leaves(["x"])
    drawn = made.normal(torch.zeros(5, 3, 4, 4, dtype=torch.float64))
    assert drawn.flatten(1).std(1).max() < 1e-12
    assert drawn[:, 0, 0, 0].std() > 0.1


@pytest.mark.parametrize("spikes", [0.05, 0.2])
def test_shot_noise_has_its_variance_and_kurtosis(spikes: float) -> None:
    """z' = b z + s ξ, κ₄(ξ) = 1/ν_dt: excess kurtosis (1/ν_dt)(1 − b²)/(1 + b²), 1/(ντ) as the step goes to 0."""
    step_size, b = 0.05, 1 - 0.05 * RATE
    z = end_of(Noise(spikes=spikes), step_size=step_size, steps=80)[:, 0]
    variance = 2 * step_size / (1 - b * b)
    excess = (1 - b * b) / (1 + b * b) / spikes
    square = z.square()
    assert float(square.mean()) == pytest.approx(variance, abs=4 * float(square.std()) / math.sqrt(ROWS))
    # delta method for m4/m2² at a known mean of 0
    influence = z**4 / variance**2 - 2 * (excess + 3) * square / variance
    found = float((z**4).mean() / square.mean() ** 2 - 3)
    assert found == pytest.approx(excess, abs=4 * float(influence.std()) / math.sqrt(ROWS))
    # the trivial alternative: Gaussian noise has none
    assert excess > 8 * float(influence.std()) / math.sqrt(ROWS)
    tau_spikes = spikes / (step_size * RATE)
    assert excess == pytest.approx(1 / tau_spikes, rel=0.12)


def test_the_table_is_the_poisson_distribution() -> None:
    from scipy.stats import poisson

    for spikes in (0.1, 3.0, 60.0):
        table = skellam_table(spikes).numpy()
        assert table == pytest.approx(poisson.cdf(range(len(table)), spikes / 2), abs=1e-13)
        assert table[-1] == pytest.approx(1, abs=1e-13)


def test_coloured_shot_noise_replays() -> None:
    """The filter draws from its source alone: recorded draws give the same noise again."""
    noise, like = Noise(4.0, 0.2, 1.5), torch.zeros(6, 2, dtype=torch.float64)
    recorder = Recorder(seed_stream(3, "x"))
    first = Filter(recorder, noise)
    first.leaves(["a", "b"])
    told = [first.normal(like) for _ in range(6)]
    second = Filter(Replay(recorder.tape), noise)
    second.leaves(["a", "b"])
    assert all(torch.equal(x, second.normal(like)) for x in told)


def test_a_leaf_keeps_its_colour_from_phase_to_phase() -> None:
    noise, like = Noise(10.0), torch.zeros(1000, 1, dtype=torch.float64)
    made = Filter(seed_stream(4, "x"), noise)
    made.leaves(["a", "b"])
    last = {}
    for _ in range(60):
        last = {"a": made.normal(like), "b": made.normal(like)}
    made.leaves(["b"])
    r = float(torch.corrcoef(torch.cat((last["b"], made.normal(like)), 1).T)[0, 1])
    assert r == pytest.approx(0.9, abs=4 * (1 - 0.81) / math.sqrt(1000))


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        (Noise(0.5), "noise.tau: 0.5 steps"),
        (Noise(float("nan")), "noise.tau"),
        (Noise(shared=1.5), "noise.shared: 1.5 must be a correlation"),
        (Noise(spikes=0.0), "noise.shot: 0.0 must be a finite number above 0"),
    ],
)
def test_numbers_that_make_no_noise_are_refused(noise: Noise, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        Filter(seed_stream(0, "x"), noise)
