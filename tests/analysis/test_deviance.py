"""Oddballs, omissions and attention: error and value responses against the linear node's closed forms."""

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

from pcsim.analysis.attention import LinearNode, gain, response_time
from pcsim.analysis.deviance import (
    Tracker,
    error_populations,
    mismatch_index,
    response_amplitude,
    standard_decay,
)
from pcsim.errors import AnalysisError

Array = NDArray[np.float64]
TRACKER = Tracker(sensory_precision=1.0, prior_precision=3.0, learning_rate=0.2)
STEP_SIZE, PERIOD = 0.02, 300
SETTLED = (150, 300)


def session(
    stimuli: list[float], chains: int, seed: int, tracker: Tracker = TRACKER, noise: float = 1.0
) -> xr.DataArray:
    """Sensory error π_x (x − z) of Langevin chains over trials; the prior mean moves by α(m − μ) after each.

    The tracked mean is the inferred one without noise, so that each trial's law is the closed form.
    """
    rng, mean, kept = np.random.default_rng(seed), 0.0, []
    z = np.sqrt(noise / (tracker.sensory_precision + tracker.prior_precision)) * rng.standard_normal(chains)
    for x in stimuli:
        for _ in range(PERIOD):
            pull = tracker.sensory_precision * (x - z) - tracker.prior_precision * (z - mean)
            z = z + STEP_SIZE * pull + np.sqrt(2 * STEP_SIZE * noise) * rng.standard_normal(chains)
            kept.append(tracker.sensory_precision * (x - z))
        inferred = mean + tracker.gain * (x - mean)
        mean += tracker.learning_rate * (inferred - mean)
    data = np.stack(kept, axis=1)[..., None]
    return xr.DataArray(data, dims=("chain", "step", "unit"), coords={"step": np.arange(data.shape[1])})


def onsets(number: int) -> list[int]:
    return [PERIOD * trial for trial in range(number)]


def test_standards_decay_geometrically() -> None:
    """Ratio 1 − αK of the steady errors: K = ¼, α = .2 gives .95; with K = .8 it is .84."""
    for tracker, ratio in ((TRACKER, 0.95), (Tracker(4.0, 1.0, 0.2), 0.84)):
        assert tracker.ratio == pytest.approx(ratio)
        still = session([2.0] * 8, 2, 0, tracker, noise=0.0)
        amplitude = response_amplitude(still, onsets(8), (PERIOD - 1, PERIOD))
        exact = [tracker.error(2.0, 2.0, n) for n in range(8)]
        np.testing.assert_allclose(amplitude.isel(chain=0, unit=0), exact, rtol=1e-4)
        assert float(standard_decay(amplitude)["ratio"][0]) == pytest.approx(ratio, abs=1e-4)
        noisy = standard_decay(response_amplitude(session([2.0] * 8, 1000, 1, tracker), onsets(8), SETTLED))
        assert abs(float(noisy["ratio"][0]) - ratio) < 4 * float(noisy["standard_error"][0])
        assert noisy.attrs["cautions"] == []


def test_deviants_and_the_control_condition() -> None:
    """Deviant 5 after six standards of 2, against the same 5 as the first stimulus of another block."""
    oddball = response_amplitude(session([2.0] * 6 + [5.0], 800, 2), onsets(7), SETTLED)
    control = response_amplitude(session([5.0], 800, 3), [0], SETTLED)
    found = mismatch_index(oddball.isel(onset=-1, drop=True), control.isel(onset=0, drop=True)).isel(unit=0)
    exact = TRACKER.error(5.0, 2.0, 6) - TRACKER.error(5.0, 2.0, 0)
    assert abs(float(found["mismatch"]) - exact) < 4 * float(found["standard_error"])
    assert (
        exact < 0
    )  # the standards moved the prior towards 5 as well: against a control, no mismatch response
    standard = mismatch_index(oddball.isel(onset=-1, drop=True), oddball.isel(onset=-2, drop=True)).isel(
        unit=0
    )
    assert float(standard["z"]) > 10  # against the standard there is one, for a larger stimulus
    many = response_amplitude(session([5.0] * 6 + [5.0], 800, 4), onsets(7), SETTLED)
    repeated = mismatch_index(oddball.isel(onset=-1, drop=True), many.isel(onset=-1, drop=True)).isel(unit=0)
    truth = TRACKER.error(5.0, 2.0, 6) - TRACKER.error(5.0, 5.0, 6)
    assert abs(float(repeated["mismatch"]) - truth) < 4 * float(repeated["standard_error"])
    assert float(repeated["z"]) > 4


def test_no_mismatch_without_a_deviant() -> None:
    first, second = (response_amplitude(session([2.0] * 4, 200, s), onsets(4), SETTLED) for s in (5, 6))
    found = mismatch_index(first, second)
    assert (np.abs(found["z"]) < 4).all()


@pytest.mark.parametrize("number", [0, 2, 6])
def test_omissions_drive_the_negative_population_alone(number: int) -> None:
    error = session([2.0] * number + [0.0], 800, 7 + number)
    amplitude = response_amplitude(error, onsets(number + 1), SETTLED).isel(onset=-1, drop=True)
    exact = TRACKER.error(0.0, 2.0, number)
    spread = float(amplitude.std("chain", ddof=1)[0]) / np.sqrt(800)
    assert abs(float(amplitude.mean("chain")[0]) - exact) < 4 * spread
    of_mean = error_populations(amplitude.mean("chain"))
    if number:
        assert float(of_mean["positive"][0]) == 0
        assert float(of_mean["negative"][0]) > 4 * spread
    single = error_populations(error.isel(step=slice(-100, None)))
    deviation = float(error.isel(step=slice(-100, None)).std())
    floor = deviation / np.sqrt(2 * np.pi)  # what noise alone gives both populations
    if not number:
        relative = float(single["positive"].mean()) / floor
        assert relative == pytest.approx(1.0, abs=4 * 1.5 / np.sqrt(800))


def test_precision_scales_the_deviant_by_formula() -> None:
    half = Tracker(0.5, 3.0, 0.2)
    for tracker in (TRACKER, half):
        found = response_amplitude(session([2.0] * 3 + [5.0], 400, 20, tracker), onsets(4), SETTLED).isel(
            onset=-1
        )
        spread = float(found.std("chain", ddof=1)[0]) / 20
        assert abs(float(found.mean("chain")[0]) - tracker.error(5.0, 2.0, 3)) < 4 * spread


def test_baseline_and_windows() -> None:
    steps = np.arange(-10, 20)
    error = xr.DataArray(np.where(steps < 0, 1.0, 4.0), dims="step", coords={"step": steps})
    assert float(response_amplitude(error, [0], (0, 10), baseline=5)[0]) == 3.0
    thin = error.rename(step="step_5").isel(step_5=slice(None, None, 5))
    assert float(response_amplitude(thin, [0], (0, 10), baseline=5, dim="step_5")[0]) == 3.0
    with pytest.raises(AnalysisError, match="no recorded step"):
        response_amplitude(error, [0], (30, 40))
    with pytest.raises(AnalysisError, match="stpe"):
        response_amplitude(error, [0], (0, 10), dim="stpe")
    pytest.importorskip("dask")
    assert response_amplitude(error.chunk(step=5), [0], (0, 10)).chunks is not None


def test_few_chains_and_weak_responses_say_so() -> None:
    weak = response_amplitude(session([0.0] * 4, 5, 30), onsets(4), SETTLED)
    texts = " ".join(standard_decay(weak).attrs["cautions"])
    assert "5 chains" in texts
    assert "within 4 standard errors" in texts
    assert mismatch_index(weak, weak).attrs["cautions"]
    one = response_amplitude(session([2.0] * 4, 1, 31, noise=0.0), onsets(4), (PERIOD - 1, PERIOD))
    found = standard_decay(one)
    assert float(found["ratio"][0]) == pytest.approx(0.95, abs=1e-4)
    assert np.isnan(found["standard_error"]).all()
    assert any("1 chain" in text for text in found.attrs["cautions"])
    assert np.isnan(mismatch_index(one, one)["standard_error"]).all()


def posner(
    node: LinearNode, chains: int, seed: int, noise: float = 1.0, surprise: float = 2.0
) -> xr.DataArray:
    rng, steps, dt = np.random.default_rng(seed), 600, 0.005
    z = np.sqrt(noise / node.prior_precision) * rng.standard_normal(chains)
    kept = [z]
    for _ in range(steps):
        pull = node.sensory_precision * (surprise - z) - node.prior_precision * z
        z = z + dt * pull + np.sqrt(2 * dt * noise) * rng.standard_normal(chains)
        kept.append(z)
    return xr.DataArray(np.stack(kept, 1), dims=("chain", "step"), coords={"step": np.arange(steps + 1) * dt})


def test_response_times_follow_the_cue() -> None:
    """Valid, neutral and invalid cues are π_x = 4, 2, 1: times of the mean course in that order, by formula."""
    times = []
    for precision in (4.0, 2.0, 1.0):
        node = LinearNode(precision, 1.0)
        exact = node.response_time(2.0, 0.8)
        still = response_time(posner(node, 1, 0, noise=0.0), 0.8)
        assert float(still[0]) == pytest.approx(
            exact, rel=0.005 * node.rate
        )  # the Euler step: γλ/2 to first order
        course = posner(node, 4000, 1).mean("chain")
        slope = node.gain * 2.0 * node.rate * np.exp(-node.rate * exact)
        error = (
            np.sqrt(1 / 4000) / slope
        )  # the course's standard error, at most that of the prior, over its slope
        noisy = float(response_time(course, 0.8))
        assert abs(noisy - exact) < 4 * error + 0.005 * node.rate * exact
        times.append(noisy)
    assert times[0] < times[1] < times[2]
    assert np.isinf(LinearNode(1.0, 1.0).response_time(2.0, 1.0))
    assert np.isnan(response_time(posner(LinearNode(1.0, 1.0), 1, 0, noise=0.0), 1.1)).all()


def test_crossings_by_hand() -> None:
    z = xr.DataArray(
        [[0.0, 0.0, 1.0, 3.0], [2.0, 2.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]], dims=("chain", "step")
    )
    z = z.assign_coords(step=[-1, 0, 1, 2])
    assert response_time(z, 0.5)[0] == 0.5
    assert response_time(z, 2.0)[0] == 1.5
    assert response_time(z, 2.0)[1] == 0.0
    assert np.isnan(response_time(z, 2.0)[2])
    pytest.importorskip("dask")
    np.testing.assert_array_equal(response_time(z.chunk(step=2), 0.5), response_time(z, 0.5))


def test_attention_raises_gain_and_lowers_variance() -> None:
    stimuli = xr.DataArray([-2.0, 0.0, 1.0, 3.0], dims="image")
    gains, variances = [], []
    for seed, precision in enumerate((1.0, 4.0)):
        node = LinearNode(precision, 1.0)
        value = xr.concat(
            [posner(node, 500, 10 * seed + i, surprise=float(x)) for i, x in enumerate(stimuli)], "image"
        )
        settled = value.isel(step=slice(-1, None))
        found = gain(settled.mean(("chain", "step")), stimuli)
        error = np.sqrt(node.variance / 500 / float(((stimuli - stimuli.mean()) ** 2).sum()))
        assert abs(float(found["gain"]) - node.gain) < 4 * error
        variance = float(settled.var(("chain", "step"), ddof=1).mean())
        biased = node.variance / (1 - 0.005 * node.rate / 2)
        assert abs(variance / biased - 1) < 4 * np.sqrt(2 / 2000)
        steady = node.sensory_precision * (stimuli - settled.mean(("chain", "step")))
        exact = [node.steady_error(float(x)) for x in stimuli]
        assert (np.abs(steady - exact) < 4 * node.sensory_precision * np.sqrt(node.variance / 500)).all()
        gains.append(float(found["gain"]))
        variances.append(variance)
    assert gains[1] > gains[0]
    assert variances[1] < variances[0]
    assert LinearNode(4.0, 1.0).transient_error(2.0) == 4 * LinearNode(1.0, 1.0).transient_error(2.0)
    with pytest.raises(AnalysisError, match="different ones"):
        gain(stimuli, xr.zeros_like(stimuli))
