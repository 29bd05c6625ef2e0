"""Masking and rapid presentation against a linear circuit simulated step by step."""

import numpy as np
import pytest
import xarray as xr

from pcsim.analysis.masking import component_times, components, masking_curve, target_theory
from pcsim.errors import StudyError

A, CHAINS, IMAGES = 0.8, 50, 8
TARGET, MASK = np.array([2.0, 0.5, -1.0]), np.array([-0.5, 1.5, 0.3])
"""K x of both pictures: the steady mean states."""
STEPS = np.arange(-5, 40)


def presented(stimuli: np.ndarray, noise: float, seed: int, reset: int | None = None) -> xr.DataArray:
    """z ← a z + (1−a) K x_t + noise with chains; `stimuli [step, unit]` from step 0; `reset`: a sweep there."""
    rng = np.random.default_rng(seed)
    z = np.zeros((IMAGES, CHAINS, 3))
    values = []
    for step in STEPS:
        values.append(z)
        drive = stimuli[step] if step >= 0 else 0 * TARGET
        z = np.broadcast_to(drive, z.shape) if step == reset else A * z + (1 - A) * drive
        z = z + noise * rng.standard_normal(z.shape)
    dims = ("image", "chain", "step", "unit")
    return xr.DataArray(np.stack(values, axis=2), dims=dims, coords={"step": STEPS})


def masked(soa: int, noise: float = 0.0, reset: bool = False) -> xr.DataArray:
    shown = np.where((STEPS[STEPS >= 0] < soa)[:, None], TARGET, MASK)
    return presented(shown, noise, seed=soa, reset=soa if reset else None)


def templates() -> tuple[xr.DataArray, xr.DataArray]:
    steady = xr.DataArray(np.stack([TARGET, MASK]), dims=("stimulus", "unit"))
    return steady.assign_coords(stimulus=["target", "mask"]), xr.DataArray(np.zeros(3), dims="unit")


GRID = xr.DataArray([1, 2, 4, 8, 16], dims="soa", coords={"soa": [1, 2, 4, 8, 16]})


def test_the_component_follows_the_closed_form_over_the_grid() -> None:
    """Without noise to rounding: (1−aᵗ) during the target, aᵏ(1−aⁿ) in the mask, 1−aᵏ for the mask itself."""
    trials = xr.concat([masked(n) for n in GRID.values], GRID)
    found = components(trials, *templates())
    assert found.dims == ("soa", "step", "stimulus")
    for after in (0, 3, 10):
        left = masking_curve(found.sel(stimulus="target"), after)
        np.testing.assert_allclose(left, target_theory(A, GRID, after), atol=1e-12)
        np.testing.assert_allclose(masking_curve(found.sel(stimulus="mask"), after), 1 - A**after, atol=1e-12)
    assert float(abs(found.sel(step=slice(None, 0))).max()) < 1e-12


def test_a_sweep_at_the_mask_leaves_nothing_of_the_target() -> None:
    trials = xr.concat([masked(n, reset=True) for n in GRID.values], GRID)
    left = masking_curve(components(trials, *templates()).sel(stimulus="target"), 1)
    np.testing.assert_allclose(left, target_theory(A, GRID, 1, "reset"), atol=1e-12)


def test_the_component_survives_the_noise_within_its_error() -> None:
    """4 s.e.: noise of stationary variance σ²/(1−a²) per unit, seen through the pseudo-inverse, over 400 chains."""
    noise = 0.3
    found = components(masked(8, noise), *templates()).sel(step=11, stimulus="target")
    steady = np.stack([TARGET, MASK])
    through = np.linalg.norm(np.linalg.pinv(steady)[:, 0])
    error = noise / np.sqrt(1 - A**2) * through / np.sqrt(IMAGES * CHAINS)
    assert abs(float(found) - float(target_theory(A, 8, 3))) < 4 * error


def test_shuffled_units_lose_the_component() -> None:
    """Negative control: the response rolled over the units does not lie along the template."""
    rolled = masked(16).roll(unit=1, roll_coords=False)
    found = components(rolled, *templates()).sel(step=16)
    assert abs(float(found.sel(stimulus="target"))) < 0.5 * float(target_theory(A, 16, 0))


def test_rapid_presentation_ends_the_component_where_theory_says() -> None:
    """A picture of P steps, then blank: peak at P, half of it left ln 2/−ln a later; faster rates end earlier."""
    periods = xr.DataArray([4, 8, 16], dims="period", coords={"period": [4, 8, 16]})
    shown = [np.where((STEPS[STEPS >= 0] < p)[:, None], TARGET, 0 * TARGET) for p in periods.values]
    trials = xr.concat([presented(s, 0.0, 0) for s in shown], periods)
    found = components(trials, *templates()).sel(stimulus="target")
    times = component_times(found, (0, 39))
    np.testing.assert_allclose(times["peak"], periods)
    # the curve is read at whole steps: chords lie above the exponential, so the crossing is late by < 0.01 steps
    np.testing.assert_allclose(times["end"], periods + np.log(2) / -np.log(A), atol=0.02)
    assert times.attrs["cautions"] == []
    edge = component_times(found, (0, 10))
    assert any("edge" in text for text in edge.attrs["cautions"])
    assert np.isnan(edge["end"].sel(period=8))


def test_the_jackknife_gives_the_spread_of_latencies() -> None:
    """Oracle: the s.d. of the end time over 200 repetitions of the experiment; the jackknife's mean within 15 %."""
    rng = np.random.default_rng(2)
    steps = np.arange(60)
    clean = np.exp(-0.5 * ((steps - 25) / 8.0) ** 2)
    noise = 0.05 * rng.standard_normal((200, 20, 60)).cumsum(axis=-1) / np.sqrt(60)
    curves = xr.DataArray(clean + noise, dims=("repetition", "image", "step"), coords={"step": steps})
    found = component_times(curves, (0, 59))
    assert float(found["end_se"].mean()) == pytest.approx(float(found["end"].std(ddof=1)), rel=0.15)
    np.testing.assert_allclose(found["rise"].mean(), 25 - 8 * np.sqrt(2 * np.log(2)), atol=0.1)


def test_what_cannot_be_told_is_refused() -> None:
    steady, blank = templates()
    with pytest.raises(StudyError, match="linearly dependent"):
        components(masked(4), xr.concat([steady[:1], 2 * steady[:1]], "stimulus"), blank)
    with pytest.raises(StudyError, match="not recorded"):
        masking_curve(components(xr.concat([masked(n) for n in GRID.values], GRID), steady, blank), 30)
    with pytest.raises(StudyError, match="expected at least 3"):
        component_times(masked(4).mean("unit"), (0, 1))
