"""tpc_scalar, tpc_tracking and slow_fast_series: temporal predictive coding against filters in closed form."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import linalg
from typer.testing import CliRunner

import pcsim
from pcsim.cli import app
from pcsim.record import open_trace
from tests.circuits.kalman import StateSpace

CIRCUITS = Path(__file__).parents[2] / "circuits"
Array = NDArray[np.float64]


def scalar(a: float, q: float, c: float, r: float) -> StateSpace:
    return StateSpace(*(np.array([[value]]) for value in (a, c, q, r)))


def tracking() -> StateSpace:
    """C as the authors' code draws it."""
    projection = torch.randn(3, 3, generator=torch.Generator().manual_seed(200)).double().numpy()
    a = np.array([[1, 1e-3, 5e-7], [0, 1, 1e-3], [0, 0, 1]])
    return StateSpace(a, projection, np.eye(3), np.eye(3))


def slow_fast() -> StateSpace:
    """The state is (z2, z1): z1 follows the z2 of the same frame."""
    a2, a1 = np.exp(-0.25 / 10), np.exp(-0.25)
    follow = np.array([[1, 0], [1 - a1, 1]])
    a = follow @ np.diag([a2, a1])
    q = follow @ np.diag([1 - a2**2, 1 - a1**2]) @ follow.T
    return StateSpace(a, np.array([[0.0, 1.0]]), q, np.array([[0.25]]))


SYSTEMS = {"tpc_scalar": scalar(0.9, 1, 1, 1), "tpc_tracking": tracking(), "slow_fast_series": slow_fast()}
NODES = {"tpc_scalar": ("z",), "tpc_tracking": ("z",), "slow_fast_series": ("z2", "z1")}
FORCE = np.exp(-0.01 * np.arange(1000))


def drive(name: str, frames: int) -> Array:
    """What enters the state from outside, `[frame, unit]`."""
    found = np.zeros((frames, len(SYSTEMS[name].a)))
    if name == "tpc_tracking":
        found[:, 2] = FORCE[:frames]
    return found


def simulated(name: str, series: int, frames: int) -> tuple[Array, Array]:
    """States and observations of the system from state 0, `[series, frame, unit]`."""
    system, rng, given = SYSTEMS[name], np.random.default_rng(0), drive(name, frames)
    z, x = np.zeros((series, frames, len(system.a))), np.zeros((series, frames, len(system.c)))
    before = np.zeros((series, len(system.a)))
    roots = np.linalg.cholesky(system.q), np.linalg.cholesky(system.r)
    for k in range(frames):
        before = before @ system.a.T + given[k] + rng.normal(size=before.shape) @ roots[0].T
        z[:, k] = before
        x[:, k] = before @ system.c.T + rng.normal(size=x[:, k].shape) @ roots[1].T
    return z, x


def settled(name: str, x: Array, kernel: pcsim.Kernel, steps: int, chains: int = 1) -> Array:
    """The state at the end of each frame, `[series, chain, frame, unit]`."""
    frames = x.shape[1]
    shown: dict[str, Any] = {"x": x.transpose(1, 0, 2)}
    if name == "tpc_tracking":
        shown["u"] = FORCE[:frames, None]
    trace = pcsim.sample(
        CIRCUITS / f"{name}.yaml",
        {"x": np.zeros_like(x[:, 0])},
        kernel,
        chains=chains,
        probes=(pcsim.Probe(("value",), NODES[name], every=steps),),
        stimulus=[{"show": {"series": shown}, "steps": steps}],
    )
    values = [trace[node]["value"].to_numpy()[:, :, 1:] for node in NODES[name]]
    return np.concatenate(values, axis=-1)


DESCENTS = {"tpc_scalar": (0.4, 20), "tpc_tracking": (0.15, 120), "slow_fast_series": (0.07, 45)}
"""(γ, steps per frame): |1 − γλ|^steps is below 1e-10 at every curvature λ."""


# ------------------------------------------------------------------------------- filters, in closed form


def test_the_descents_of_these_tests_end_at_equilibrium() -> None:
    """The premise of the comparisons below: nothing of a frame's start is left at its end."""
    for name, system in SYSTEMS.items():
        curvature = np.linalg.eigvalsh(system.precision)
        gamma, steps = DESCENTS[name]
        assert np.abs(1 - gamma * curvature).max() ** steps < 1e-10, (name, curvature)


@pytest.mark.parametrize(
    ("parameters", "kalman", "temporal"),
    [
        ((0.9, 1, 1, 1), 0.59741, 0.62696),
        ((1, 0.1, 1, 1), 0.2702, 0.5238),
        ((0.99, 0.01, 1, 1), 0.0869, 0.2525),
    ],
)
def test_steady_errors_of_scalars(parameters: Any, kalman: float, temporal: float) -> None:
    system = scalar(*parameters)
    assert system.steady_kalman()[1].item() == pytest.approx(kalman, rel=2e-4)
    assert system.steady_error(system.gain(system.q)).item() == pytest.approx(temporal, rel=2e-4)


def test_steady_errors_of_tracking() -> None:
    """.686 and .957 per unit, ratio 1.396."""
    system = tracking()
    kalman, temporal = system.steady_kalman()[1], system.steady_error(system.gain(system.q))
    assert np.trace(kalman) / 3 == pytest.approx(0.686, abs=5e-4)
    assert np.trace(temporal) / 3 == pytest.approx(0.957, abs=1e-3)
    assert np.trace(temporal) / np.trace(kalman) == pytest.approx(1.396, abs=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_an_ensemble_carries_the_covariance_of_its_error(seed: int) -> None:
    """Two equations, one solution: Λ⁻¹ + M A S AᵀMᵀ and Joseph's form, for any stable system."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(3, 3))
    roots = rng.normal(size=(3, 3)), rng.normal(size=(2, 2))
    q, r = (root @ root.T + 0.1 * np.eye(len(root)) for root in roots)
    system = StateSpace(0.95 * a / np.abs(np.linalg.eigvals(a)).max(), rng.normal(size=(2, 3)), q, r)
    np.testing.assert_allclose(system.steady_ensemble(), system.steady_error(system.gain(q)), rtol=1e-9)


# ------------------------------------------------------------------------------------- what the circuits do


@pytest.mark.parametrize("name", SYSTEMS)
def test_frame_by_frame_it_is_the_kalman_filter_with_a_fixed_prediction(name: str) -> None:
    """Oracle: the filter with P ≡ Q, to what is left of the descent; the true Kalman filter is another one."""
    _, x = simulated(name, 3, 25)
    system, (gamma, steps) = SYSTEMS[name], DESCENTS[name]
    found = settled(name, x, pcsim.langevin(gamma, 0.0), steps)[:, 0]
    np.testing.assert_allclose(found, system.filter(x, drive(name, 25)), atol=1e-8)
    kalman, _ = system.steady_kalman()
    assert np.abs(kalman - system.gain(system.q)).max() > 0.05


@pytest.mark.parametrize(("name", "series"), [("tpc_scalar", 1500), ("tpc_tracking", 400)])
def test_the_simulated_error_is_that_of_the_closed_form(name: str, series: int) -> None:
    """Mean squared error after 25 frames, when the start is forgotten; 4 s.e. over independent series.

    The Kalman filter's own error lies outside of it.
    """
    z, x = simulated(name, series, 40)
    system, (gamma, steps) = SYSTEMS[name], DESCENTS[name]
    away = settled(name, x, pcsim.langevin(gamma, 0.0), steps)[:, 0, 25:] - z[:, 25:]
    square = np.square(away).mean((1, 2))
    error = 4 * square.std() / np.sqrt(series)
    size = len(system.a)
    assert abs(square.mean() - np.trace(system.steady_error(system.gain(system.q))) / size) < error
    assert abs(square.mean() - np.trace(system.steady_kalman()[1]) / size) > error


@pytest.mark.parametrize(("name", "step", "steps"), [("tpc_scalar", 0.5, 15), ("tpc_tracking", 0.12, 40)])
def test_chained_ensembles_carry_the_covariance_of_the_error(name: str, step: float, steps: int) -> None:
    """Chains that go on from their own samples, by MALA (no bias): covariance as in closed form, 4 s.e.

    s.e. of a covariance S_ij is sqrt((S_ii S_jj + S_ij²)/n). What one frame alone leaves, Λ⁻¹, is less.
    """
    n, frames = (20_000, 8) if name == "tpc_scalar" else (5_000, 10)
    _, x = simulated(name, 1, frames)
    draws = settled(name, x, pcsim.mala(step), steps, chains=n)[0, :, -1]
    system = SYSTEMS[name]
    exact = system.steady_ensemble()
    keep = (np.eye(len(exact)) - system.gain(system.q) @ system.c) @ system.a
    start = np.linalg.matrix_power(keep, frames)  # what is left of it after so many frames
    bound = 4 * np.sqrt((np.outer(np.diag(exact), np.diag(exact)) + exact**2) / n)
    found = np.atleast_2d(np.cov(draws.T))
    assert (np.abs(found - exact) < bound + np.abs(start @ exact @ start.T)).all()
    assert (np.abs(found - np.linalg.inv(system.precision)) > bound).any()


# ------------------------------------------------------------------------------------------------ the studies


def errors_of_study(name: str, out: Path) -> Array:
    """Value less stored truth at the end of each frame of a study's run, `[series, chain, frame, unit]`."""
    path = CIRCUITS.parent / "studies" / f"{name}.yaml"
    result = CliRunner().invoke(app, ["run", str(path), "--out", str(out)])
    assert result.exit_code == 0, result.output
    z = open_trace(out / "trace.zarr")["z"]
    step = next(dim for dim in z["value"].dims if str(dim).startswith("step"))
    onsets = z["onset"].to_numpy()
    ends = np.append(onsets[1:], onsets[-1] + onsets[1])
    values: Array = z["value"].sel({step: ends}).to_numpy()
    return values - z["truth"].to_numpy()[:, None]


@pytest.mark.parametrize("name", ["tpc_scalar", pytest.param("tpc_tracking", marks=pytest.mark.slow)])
def test_the_study_has_the_error_of_the_closed_form(name: str, tmp_path: Path) -> None:
    """Its own simulation, from frame 25 on; 4 s.e. over series."""
    square = np.square(errors_of_study(name, tmp_path / "run")[:, 0, 25:]).mean((1, 2))
    system = SYSTEMS[name]
    exact = np.trace(system.steady_error(system.gain(system.q))) / len(system.a)
    assert abs(square.mean() - exact) < 4 * square.std() / np.sqrt(len(square))


@pytest.mark.slow
def test_the_ensembles_of_the_study(tmp_path: Path) -> None:
    """Variance over chains in every frame from the tenth on, .62696; 4 s.e."""
    away = errors_of_study("tpc_scalar_langevin", tmp_path / "run")[:, :, 10:, 0]
    variance = away.var(
        1, ddof=1
    )  # [series, frame]: chains of a frame share its data, frames overlap by .45²
    chains, frames = away.shape[1], variance.size
    error = 0.62696 * np.sqrt(2 / chains / frames * (1 + 0.2025) / (1 - 0.2025))
    assert abs(variance.mean() - 0.62696) < 4 * error


# ------------------------------------------------------------------------------------------- slow and fast


def autocovariance(lags: int) -> Array:
    """E s_(k+l) s_kᵀ for l = 0 … lags of s = (z2, z1, inferred z2, inferred z1), `[lag, 4, 4]`, in the long run."""
    system = slow_fast()
    gain = system.gain(system.q)
    keep = np.eye(2) - gain @ system.c
    step = np.block([[system.a, np.zeros((2, 2))], [gain @ system.c @ system.a, keep @ system.a]])
    into = np.vstack([np.eye(2), gain @ system.c])
    noise = into @ system.q @ into.T
    noise[2:, 2:] += gain @ system.r @ gain.T
    now = linalg.solve_discrete_lyapunov(step, noise)
    return np.stack([np.linalg.matrix_power(step, lag) @ now for lag in range(lags + 1)])


def lag_of(covariance: Array, slow: int, fast: int) -> int:
    """The lag, in frames, by which the fast one follows the slow one: the peak of their cross-covariance."""
    both = np.concatenate([covariance[:0:-1, slow, fast], covariance[:, fast, slow]])
    return int(both.argmax()) - (len(covariance) - 1)


def test_timescales_of_the_levels() -> None:
    """Times to 1/e in units of τ1: 10 and 4 for the processes (the fast follows the slow), 17.75 and 4.25 inferred.

    The fast process follows the slow one by half a unit, but as inferred the slow one comes a whole unit later:
    evidence reaches it from below.
    """
    covariance = autocovariance(200)
    correlation = covariance[:, range(4), range(4)] / covariance[0, range(4), range(4)]
    times = 0.25 * (correlation > np.exp(-1) + 1e-12).argmin(0)
    assert times.tolist() == [10.0, 4.0, 17.75, 4.25]
    assert (lag_of(covariance, 0, 1), lag_of(covariance, 2, 3)) == (2, -4)


def test_inferred_timescales_and_lag() -> None:
    """Autocorrelations of both inferred levels after 1 and 5 units of time, and their covariance at lag −4, +4.

    Oracle: the joint autocovariance of truth and filter; 4 s.e. over independent series.
    """
    series, frames, start = 200, 240, 160
    _, x = simulated("slow_fast_series", series, frames)
    gamma, steps = DESCENTS["slow_fast_series"]
    inferred = settled("slow_fast_series", x, pcsim.langevin(gamma, 0.0), steps)[:, 0, start:]
    exact = autocovariance(20)
    for lag, first, second in [(4, 0, 0), (20, 0, 0), (4, 1, 1), (20, 1, 1), (4, 0, 1), (4, 1, 0)]:
        products = (inferred[:, lag:, first] * inferred[:, : frames - start - lag, second]).mean(1)
        error = 4 * products.std() / np.sqrt(series)
        assert abs(products.mean() - exact[lag, 2 + first, 2 + second]) < error, (lag, first, second)
