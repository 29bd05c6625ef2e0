"""Occupancy, dwell times and switching against Gibbs masses, exact passage times and hand-made sequences."""

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.stats import norm

from pcsim.analysis.modes import (
    dominant_state,
    dwell_survival,
    dwell_times,
    kramers_time,
    mean_dwell,
    mode_occupancy,
    nearest_mode,
    passage_time,
)
from pcsim.errors import AnalysisError

Array = NDArray[np.float64]
STEP_SIZE, TEMPERATURE = 0.02, 0.4


def well(z: Array) -> Array:
    return (z**2 - 1) ** 2


def push(z: Array) -> Array:
    return 4 * z * (z**2 - 1)


def double_well(chains: int, steps: int, seed: int, tilt: float = 0.0, burn: int = 4000) -> xr.DataArray:
    """Langevin chains on (z² − 1)² + tilt z, started near the left mode."""
    rng, z = np.random.default_rng(seed), -np.ones(chains)
    kept = np.empty((chains, steps), np.float32)
    for step in range(-burn, steps):
        z = (
            z
            - STEP_SIZE * (push(z) + tilt)
            + np.sqrt(2 * STEP_SIZE * TEMPERATURE) * rng.standard_normal(chains)
        )
        if step >= 0:
            kept[:, step] = z
    return xr.DataArray(kept, dims=("chain", "step"), coords={"step": np.arange(steps)})


def discrete_law(tilt: float = 0.0) -> tuple[Array, Array]:
    """Grid and transition matrix of the Langevin step itself: the step-size bias is in it."""
    grid = np.linspace(-2.6, 2.6, 521)
    mean = grid - STEP_SIZE * (push(grid) + tilt)
    kernel = norm.pdf(grid[None, :], mean[:, None], np.sqrt(2 * STEP_SIZE * TEMPERATURE))
    return grid, kernel / kernel.sum(1, keepdims=True)


def discrete_dwell() -> float:
    """Mean steps from the first step at or below −1 (coming from above 1) to the first at or above 1."""
    grid, kernel = discrete_law()
    up = grid < 1 - 1e-9
    steps = np.zeros(len(grid))
    steps[up] = np.linalg.solve(np.eye(up.sum()) - kernel[np.ix_(up, up)], np.ones(up.sum()))
    # where chains that come from the right first enter z ≤ −1: by symmetry, mirror of those that enter z ≥ 1
    entry = np.linalg.solve(np.eye(up.sum()) - kernel[np.ix_(up, up)], kernel[np.ix_(up, ~up)])
    law = np.zeros(len(grid))
    law[~up] = np.full((~up).sum(), 1 / (~up).sum())
    for _ in range(50):  # the law of the entry point is stationary from one dwell to the next
        mirrored = law[::-1]
        law = np.zeros(len(grid))
        law[~up] = mirrored[up] @ entry
    return float(law[::-1] @ steps)


@pytest.fixture(scope="module")
def chains() -> xr.DataArray:
    return double_well(200, 12_000, 0)


def test_theory_of_the_double_well() -> None:
    kramers = kramers_time(1.0, 8.0, -4.0, TEMPERATURE)
    assert kramers == pytest.approx(13.5, abs=0.05)
    assert passage_time(well, -0.6, 0.6, TEMPERATURE, span=3.0) == pytest.approx(14.64, abs=0.01)
    exact = passage_time(well, -1.0, 1.0, TEMPERATURE, span=3.0)
    assert passage_time(well, 1.0, -1.0, TEMPERATURE, span=3.0) == pytest.approx(exact, rel=1e-6)

    def inner(y: float) -> float:
        return float(quad(lambda z: np.exp(-well(z) / TEMPERATURE), -4, y)[0])

    outer, _ = quad(lambda y: np.exp(well(y) / TEMPERATURE) * inner(y), -1, 1)
    assert exact == pytest.approx(outer / TEMPERATURE, rel=1e-5)


def test_theory_of_the_square_circuit() -> None:
    """z ~ N(0, 1), x = 2 ~ N(z², ½): barrier (x − ¼)², curvatures 4s/σ² and −2s/σ², modes ±√(x − ¼)."""
    s, variance = 1.75, 0.5
    kramers = kramers_time(s**2 / (2 * variance), 4 * s / variance, -2 * s / variance, 1.0)
    assert kramers == pytest.approx(13.57, abs=0.01)
    exact = passage_time(lambda z: z**2 / 2 + (2 - z**2) ** 2 / (2 * variance), -1.0, 1.0, 1.0, span=4.0)
    assert exact == pytest.approx(15.57, abs=0.01)


def test_dwell_times_of_chains(chains: xr.DataArray) -> None:
    dwells = dwell_times(dominant_state(chains, -1.0, 1.0), step_time=STEP_SIZE)
    found = mean_dwell(dwells)
    exact = discrete_dwell() * STEP_SIZE
    assert (np.abs(found["mean"] - exact) < 4 * found["standard_error"]).all()
    assert (
        abs(exact / passage_time(well, -1.0, 1.0, TEMPERATURE, span=3.0) - 1) < 0.15
    )  # 0.58 √(2γT) past ±1 each
    assert (found["complete_mean"] < found["mean"]).all()
    np.testing.assert_allclose(found["rate"], 1 / found["mean"])
    assert found.attrs["cautions"] == []


def test_occupancy_of_a_tilted_well() -> None:
    value = double_well(200, 6000, 1, tilt=0.15)
    grid, kernel = discrete_law(0.15)
    law = np.linalg.matrix_power(kernel, 2**14)[0]
    masses = [law[grid < 0].sum() + law[grid == 0].sum() / 2, law[grid > 0].sum() + law[grid == 0].sum() / 2]
    label = nearest_mode(value.expand_dims("unit", axis=-1), np.array([[-1.0], [1.0]]))
    found = mode_occupancy(label, [float(m) for m in masses])
    assert (np.abs(found["z"]) < 4).all()
    assert found.attrs["cautions"] == []
    gibbs = quad(lambda z: np.exp(-(well(z) + 0.15 * z) / TEMPERATURE), -4, 0)[0]
    share = gibbs / (gibbs + quad(lambda z: np.exp(-(well(z) + 0.15 * z) / TEMPERATURE), 0, 4)[0])
    assert masses[0] == pytest.approx(share, abs=0.02)  # the step-size bias
    wrong = mode_occupancy(label, [0.5, 0.5])
    assert (np.abs(wrong["z"]) > 8).all()


def test_unmixed_chains_say_so() -> None:
    """A hundred steps are far from one switch: all chains are still where they began."""
    value = double_well(20, 100, 2, burn=0)
    label = nearest_mode(value.expand_dims("unit", axis=-1), np.array([[-1.0], [1.0]]))
    found = mode_occupancy(label, [0.5, 0.5])
    assert float(found["occupancy"][0]) > 0.9
    assert any("those of their starts" in text for text in found.attrs["cautions"])
    few = mean_dwell(dwell_times(dominant_state(value, -1.0, 1.0)))
    assert any("exits" in text for text in few.attrs["cautions"])


def test_hysteresis_by_hand() -> None:
    z = xr.DataArray([[0.0, 0.4, 1.2, 0.1, 0.6, -0.2, -1.1, 0.9, 1.0, 2.0]], dims=("chain", "step"))
    state = dominant_state(z, -1.0, 1.0)
    assert state.to_numpy().tolist() == [[0, 0, 1, 1, 1, 1, -1, -1, 1, 1]]
    dwells = dwell_times(state, step_time=0.5)
    assert dwells["duration"].to_numpy().tolist() == [2.0, 1.0, 1.0]
    assert dwells["state"].to_numpy().tolist() == [1, -1, 1]
    assert dwells["start"].to_numpy().tolist() == [2, 6, 8]
    assert dwells["censored"].to_numpy().tolist() == ["first", "", "last"]
    one = dwell_times(dominant_state(z.isel(step=slice(0, 5)), -1.0, 1.0))
    assert one["censored"].to_numpy().tolist() == ["both"]
    none = dwell_times(dominant_state(0 * z, -1.0, 1.0))
    assert none.sizes["dwell"] == 0


def test_censoring_is_accounted_for() -> None:
    """Exponential dwells of mean 50 in recordings of 150: complete ones are a third too short, the estimate is not."""
    rng = np.random.default_rng(4)
    series = np.empty((4000, 150), np.int8)
    for row in series:
        ends = np.cumsum(np.ceil(rng.exponential(50, 60))).astype(int)
        row[:] = np.where(np.searchsorted(ends, np.arange(1000, 1150), side="right") % 2, 1, -1)
    found = mean_dwell(dwell_times(xr.DataArray(series, dims=("chain", "step"))))
    exact = 1 / (1 - np.exp(-1 / 50))
    assert (np.abs(found["mean"] - exact) < 4 * found["standard_error"] + 0.5).all()  # a step of discreteness
    assert (found["complete_mean"] < 0.8 * exact).all()


def test_survival_of_censored_exponential_dwells() -> None:
    rng = np.random.default_rng(5)
    dwell, seen = rng.exponential(50, 5000), rng.uniform(20, 120, 5000)
    cut = np.where(dwell > seen, "last", "")
    table = xr.Dataset({"duration": ("dwell", np.minimum(dwell, seen)), "censored": ("dwell", cut)})
    found = dwell_survival(table)
    for t in (10.0, 50.0, 100.0):
        at = found.sel(time=t, method="ffill")
        assert abs(float(at["survival"]) - np.exp(-t / 50)) < 4 * float(at["standard_error"])
    plain = float((table["duration"][cut == ""] > 50).mean())
    assert plain < np.exp(-1) - 0.05  # complete dwells alone say less


def test_lazy_modes_and_refusals(chains: xr.DataArray) -> None:
    pytest.importorskip("dask")
    short = chains.isel(step=slice(0, 200))
    lazy = dominant_state(short.chunk(chain=50), -1.0, 1.0)
    assert lazy.chunks is not None
    np.testing.assert_array_equal(lazy, dominant_state(short, -1.0, 1.0))
    with pytest.raises(AnalysisError, match="must be below"):
        dominant_state(chains, 1.0, -1.0)
    with pytest.raises(AnalysisError, match="add up to 1"):
        mode_occupancy(chains > 0, [0.5, 0.4])
    with pytest.raises(AnalysisError, match="centres have 2 units"):
        nearest_mode(chains.expand_dims("unit"), np.zeros((2, 2)))
