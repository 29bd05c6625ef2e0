"""Latencies by cluster permutation: the false-positive rate on null data, known onsets, and degenerate chains."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from pcsim.analysis.latency import clusters, from_baseline, from_sweep, latency, layer_latencies
from pcsim.errors import AnalysisError


def ar1(shape: tuple[int, ...], a: float, rng: np.random.Generator) -> np.ndarray:
    """Stationary AR(1) with unit variance along the last axis."""
    noise = rng.standard_normal(shape)
    out = np.empty(shape)
    out[..., 0] = noise[..., 0]
    for t in range(1, shape[-1]):
        out[..., t] = a * out[..., t - 1] + np.sqrt(1 - a**2) * noise[..., t]
    return out


def activity(images: int, chains: int, units: int, seed: int, a: float = 0.8) -> xr.DataArray:
    """Null activity over steps −40 … 59, dims (image, chain, step, unit)."""
    rng = np.random.default_rng(seed)
    data = np.moveaxis(ar1((images, chains, units, 100), a, rng), -1, 2)
    return xr.DataArray(
        data, dims=("image", "chain", "step", "unit"), coords={"step": np.arange(-40, 60)}
    )  # fmt: skip


def test_statistic_is_the_mean_square_of_students_t() -> None:
    change = from_baseline(activity(2, 10, 3, seed=0))
    expected = (stats.ttest_1samp(change, 0, axis=1).statistic ** 2).mean((0, 2))
    np.testing.assert_allclose(latency(change, 10, seed=0)["statistic"], expected, rtol=1e-10)


@pytest.mark.parametrize(("kind", "images"), [(from_baseline, 1), (from_sweep, 3)])
def test_false_positives_stay_at_the_level(kind: object, images: int) -> None:
    """Correlated null data, 200 tests at α = .05: no more than .05 + 4 √(.05 · .95/200) departures."""
    assert callable(kind)
    hits = sum(
        not np.isnan(latency(kind(activity(images, 8, 2, seed=s)), 99, seed=s)["latency"]) for s in range(200)
    )
    assert hits / 200 < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 200)


def test_known_onset_is_found() -> None:
    """A strong response from step 12 on, of other sign in every image and unit: found there; before it, silence.

    The cluster may start early by chance at single steps beside it: at most a few times the correlation time of .8.
    """
    value = activity(4, 16, 6, seed=1, a=0.0)
    sign = xr.DataArray(np.random.default_rng(0).choice([-3.0, 3.0], (4, 6)), dims=("image", "unit"))
    found = latency(from_baseline(value + sign * (value["step"] >= 12)), 200, seed=0)
    assert float(found["latency"]) == 12
    assert float(found["p_value"]) == pytest.approx(1 / 201)
    assert bool(found["significant"].sel(step=slice(12, None)).all())


def test_weak_response_is_found_late_not_early() -> None:
    """A ramp: the latency lies after its start (the stated bias)."""
    value = activity(1, 16, 1, seed=2, a=0.0)
    found = latency(from_baseline(value + ((value["step"] - 10) / 20).clip(0)), 200, seed=0)
    assert 10 < float(found["latency"]) < 50


def test_levels_one_after_the_other() -> None:
    """Sweep on all levels at 0; then level 2 moves at 10 and level 1 follows at 30 (top-down)."""
    levels = {}
    for name, start, seed in (("level_1", 30, 3), ("level_2", 10, 4)):
        value = activity(2, 16, 4, seed=seed, a=0.0)
        # the sweep brings the same state to all chains of an image, with little noise
        levels[name] = 0.3 * value + 2.0 * (value["step"] >= 0) + 1.5 * (value["step"] >= start)
    found = layer_latencies(levels, 200, seed=0)
    assert list(found["level"].to_numpy()) == ["level_1", "level_2"]
    np.testing.assert_array_equal(found["baseline_latency"], [0, 0])
    np.testing.assert_array_equal(found["sweep_latency"], [30, 10])
    assert found["sweep_latency"].attrs["units"] == "step"


def test_chains_at_zero_temperature_are_all_alike() -> None:
    """The same change in all chains is certain (p at its least); no change in any is none."""
    value = xr.zeros_like(activity(1, 8, 2, seed=0))
    found = latency(from_baseline(value + (value["step"] >= 5)), 99, seed=0)
    assert float(found["latency"]) == 5
    # sign flips of 8 chains repeat the data (or its mirror image) with probability 2/2⁸
    assert float(found["p_value"]) < 0.05
    assert np.isnan(latency(from_baseline(value), 99, seed=0)["latency"])


def test_clusters_by_hand() -> None:
    found = clusters(np.array([2.0, 2, 0, 0, 5, 0, 3]), 1.0)
    np.testing.assert_array_equal(found.first, [0, 4, 6])
    np.testing.assert_array_equal(found.last, [1, 4, 6])
    np.testing.assert_array_equal(found.mass, [2, 4, 2])


def test_lazy_maps_give_the_same() -> None:
    value = activity(2, 8, 4, seed=5)
    maps = xr.DataArray(
        value.to_numpy().reshape(2, 8, 100, 2, 2, 1), dims=("image", "chain", "step", "channel", "y", "x"),
        coords={"step": value["step"]},
    )  # fmt: skip
    plain = latency(from_baseline(value), 50, seed=1)
    xr.testing.assert_allclose(latency(from_baseline(maps.chunk(step=17)), 50, seed=1), plain)


def test_few_chains_are_named_or_refused() -> None:
    assert latency(from_baseline(activity(1, 4, 1, seed=0)), 20, seed=0).attrs["cautions"]
    with pytest.raises(AnalysisError, match="at least 3"):
        latency(from_baseline(activity(1, 2, 1, seed=0)), 20, seed=0)
    with pytest.raises(AnalysisError, match="baseline needs"):
        from_baseline(activity(1, 4, 1, seed=0), onset=-40)


def test_steps_that_are_not_finite_are_named_and_not_tested() -> None:
    value = activity(1, 16, 2, seed=1, a=0.0)
    found = latency(from_baseline((value + 3 * (value["step"] >= 12)).where(value["step"] < 50)), 100, seed=0)
    assert float(found["latency"]) == 12
    assert not bool(found["significant"].sel(step=slice(50, None)).any())
    assert "10 of 60 steps hold values that are not finite" in found.attrs["cautions"][0]
