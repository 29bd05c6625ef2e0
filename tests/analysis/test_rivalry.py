"""Fits of dominance durations against scipy and drawn laws; rivalry with and without adaptation told apart."""

from typing import NamedTuple

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy import stats
from scipy.integrate import quad

from pcsim.analysis.modes import dominant_state, dwell_times
from pcsim.analysis.rivalry import LAWS, duration_density, levelt, rivalry_statistics
from pcsim.errors import AnalysisError

Array = NDArray[np.float64]


def sequence(durations: Array, series: int = 0) -> xr.Dataset:
    """Alternating states of these durations in one recording; first and last are cut."""
    number = len(durations)
    censored = np.array([""] * number, dtype="<U5")
    censored[0], censored[-1] = "first", "last"
    state = np.where(np.arange(number) % 2, 1, -1)
    columns = {"duration": durations, "state": state, "censored": censored}
    return xr.Dataset(
        {name: ("dwell", column) for name, column in columns.items()}
        | {
            "series": ("dwell", np.full(number, series)),
            "start": ("dwell", np.cumsum(durations) - durations),
        },
        attrs={"resolution": 0.01},
    )


def test_gamma_durations() -> None:
    durations = stats.gamma(3.0, scale=0.7).rvs(8000, random_state=1)
    found = rivalry_statistics(sequence(durations))
    assert (np.abs(found["shape"] - 3.0) < 4 * found["shape_error"]).all()
    assert (np.abs(found["cv"] - 1 / np.sqrt(3)) < 4 * 0.02).all()
    assert abs(float(found["serial_correlation"])) < 4 * float(found["serial_error"])
    assert (found["log_likelihood"].argmax("law") == LAWS.index("gamma")).all()
    assert found["censored"].to_numpy().tolist() == [1, 1]
    kept = durations[1:-1][0::2]  # of state 1
    shape, _, scale = stats.gamma.fit(kept, floc=0)
    np.testing.assert_allclose(found["parameters"].sel(state=1, law="gamma"), [shape, scale], rtol=1e-4)
    likelihood = stats.gamma.logpdf(kept, shape, scale=scale).sum()
    assert float(found["log_likelihood"].sel(state=1, law="gamma")) == pytest.approx(likelihood, rel=1e-8)
    assert found.attrs["cautions"] == []


@pytest.mark.parametrize("law", ["lognormal", "rate_gamma"])
def test_other_laws_are_recognised(law: str) -> None:
    drawn = stats.lognorm(0.5) if law == "lognormal" else stats.invgamma(4.0, scale=3.0)
    durations = drawn.rvs(4000, random_state=2)
    found = rivalry_statistics(sequence(durations))
    assert (found["log_likelihood"].argmax("law") == LAWS.index(law)).all()
    kept = durations[1:-1][0::2]
    reference = (
        stats.lognorm.logpdf(kept, np.log(kept).std(), scale=np.exp(np.log(kept).mean()))
        if law == "lognormal"
        else stats.invgamma.logpdf(kept, *stats.invgamma.fit(kept, floc=0))
    )
    assert float(found["log_likelihood"].sel(state=1, law=law)) == pytest.approx(reference.sum(), rel=1e-6)


def test_densities_integrate_to_one() -> None:
    for law, pair in (("gamma", (3.0, 0.5)), ("lognormal", (0.2, 0.6)), ("rate_gamma", (4.0, 0.3))):
        total, _ = quad(
            lambda t, law=law, pair=pair: float(duration_density(np.array(t), law, *pair)), 0, np.inf
        )
        assert total == pytest.approx(1.0, abs=1e-6)
    with pytest.raises(AnalysisError, match="lognormal"):
        duration_density(np.ones(1), "lognorml", 1.0, 1.0)


def test_serial_correlation_is_found() -> None:
    rng = np.random.default_rng(3)
    drift = np.convolve(rng.standard_normal(4001), [1.0, 1.0], "valid") / np.sqrt(
        2
    )  # neighbours correlate by .5
    durations = np.exp(0.3 * drift)
    found = rivalry_statistics(sequence(durations))
    exact = np.expm1(0.09 * 0.5) / np.expm1(0.09)
    assert abs(float(found["serial_correlation"]) - exact) < 4 * 1.3 * float(found["serial_error"])


class Rivalry(NamedTuple):
    """Two eyes' causes; see `simulate`."""

    temperature: float
    adaptation: float = 0.0
    strengths: tuple[float, float] = (1.0, 1.0)


def simulate(run: Rivalry, chains: int, time: float, seed: int) -> xr.Dataset:
    """Langevin on ½Σ πᵢ(cᵢ − vᵢ)² + ½ v²/10 + 12 v₁²v₂², πᵢ = 6/(1 + aᵢ), 5 ȧᵢ = −aᵢ + α [vᵢ]₊²; dwells of ±.35."""
    rng, dt, skip = np.random.default_rng(seed), 0.01, 2000
    c = np.array(run.strengths)
    v, a = rng.standard_normal((chains, 2)) * 0.3 + [1.0, 0.0], np.zeros((chains, 2))
    kept = np.empty((chains, int(time / dt)), np.float32)
    for step in range(-skip, kept.shape[1]):
        precision = 6 / (1 + a)
        pull = precision * (c - v) - v / 10 - 24 * v * v[:, ::-1] ** 2
        a = a + dt / 5 * (-a + run.adaptation * np.maximum(v, 0) ** 2)
        v = v + dt * pull + np.sqrt(2 * dt * run.temperature) * rng.standard_normal(v.shape)
        if step >= 0:
            kept[:, step] = v[:, 0] - v[:, 1]
    value = xr.DataArray(kept, dims=("chain", "step"))
    return dwell_times(dominant_state(value, -0.35, 0.35), step_time=dt)


def test_langevin_alone_switches_without_memory() -> None:
    """Shape and CV near 1, no serial correlation: not the human durations (a negative result of pure sampling)."""
    found = rivalry_statistics(simulate(Rivalry(0.6), 200, 100.0, 1))
    assert ((found["shape"] > 0.9) & (found["shape"] < 1.3)).all()
    assert ((found["cv"] > 0.8) & (found["cv"] < 1.1)).all()
    assert abs(float(found["serial_correlation"])) < 4 * float(found["serial_error"])


def test_adaptation_makes_durations_regular() -> None:
    """An independent simulation of the same circuit: mean 3.97, CV .41, shape 4.9, serial correlation .28."""
    found = rivalry_statistics(simulate(Rivalry(0.05, 3.0), 200, 100.0, 2))
    assert (np.abs(found["shape"] - 4.9) < 4 * found["shape_error"]).all()
    error = found["cv"] / np.sqrt(found["number"])
    assert (np.abs(found["mean"] - 3.97) < 4 * error * found["mean"]).all()
    assert (np.abs(found["cv"] - 0.41) < 4 * error).all()
    assert abs(float(found["serial_correlation"]) - 0.28) < 4 * float(found["serial_error"])
    assert (found["log_likelihood"].argmax("law") == LAWS.index("gamma")).all()


def test_levelt_laws_of_the_adaptive_circuit() -> None:
    """Stronger input to both eyes lengthens dominance (against Levelt IV); to one eye, mainly that eye's own."""
    both = {c: simulate(Rivalry(0.05, 3.0, (c, c)), 100, 100.0, 3) for c in (0.8, 1.0, 1.2)}
    found = levelt(both)
    assert (found["alternation_rate"].diff("strength") < 0).all()
    assert (np.abs(found["predominance"] - 0.5) < 0.05).all()
    one = levelt({c: simulate(Rivalry(0.05, 3.0, (1.0, c)), 100, 100.0, 4) for c in (1.0, 1.2)})
    change = one["mean"].diff("strength").isel(strength=0)  # state −1: the second eye
    assert float(change.sel(state=-1)) > 4 * float(one["standard_error"].sel(state=-1).max())
    assert float(change.sel(state=-1)) > 4 * abs(float(change.sel(state=1)))
    assert float(one["predominance"].sel(strength=1.2, state=-1)) > 0.55
    with pytest.raises(AnalysisError, match="at least 2"):
        levelt({1.0: both[1.0]})


def test_cautions_and_refusals() -> None:
    durations = stats.gamma(3.0, scale=0.02).rvs(40, random_state=5)
    found = rivalry_statistics(sequence(durations))
    assert any("38 complete" in text for text in found.attrs["cautions"])
    assert any("recorded steps on average" in text for text in found.attrs["cautions"])
    long = durations.copy()
    long[0] = durations.sum()
    assert any("left out" in text for text in rivalry_statistics(sequence(long)).attrs["cautions"])
    with pytest.raises(AnalysisError, match="at least 3 complete"):
        rivalry_statistics(sequence(durations[:4]))
    with pytest.raises(AnalysisError, match="all durations are equal"):
        rivalry_statistics(sequence(np.ones(20)))
