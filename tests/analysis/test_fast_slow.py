"""The index against stages of known law, its errors against their spread, and gains that are not there."""

import numpy as np
import pytest
import xarray as xr

from pcsim.analysis.fast_slow import fast_slow_index, stages
from pcsim.errors import AnalysisError


def noisy(
    prior: float, sweep: float, end: float, shape: tuple[int, ...], seed: int, sd: float = 1.0
) -> xr.Dataset:
    rng = np.random.default_rng(seed)
    dims = ("image", "chain")
    return xr.Dataset(
        {
            name: (dims, centre + sd * rng.standard_normal(shape))
            for name, centre in (("prior", prior), ("sweep", sweep), ("end", end))
        },
        coords={"image": np.arange(shape[0])},
    )


def test_index_of_exact_stages() -> None:
    levels = noisy(-100, -40, -20, (3, 4), seed=0, sd=0.0)
    found = fast_slow_index(levels, resamples=50, seed=0)
    np.testing.assert_allclose(found["index"], 0.75)
    np.testing.assert_allclose(found["overall_index"], 0.75)
    np.testing.assert_allclose(found["standard_error"], 0, atol=1e-12)


def test_errors_are_honest() -> None:
    """400 images as repeats: mean within 4 s.e. of the truth, spread as the bootstrap says, 95 % covered.

    The quotient's bias is of order var(M_end)/gain²/chains = 2/900/24, far below the tolerance.
    """
    found = fast_slow_index(noisy(0, 20, 30, (400, 24), seed=1), resamples=200, seed=2)
    spread = float(found["index"].std())
    assert abs(float(found["index"].mean()) - 2 / 3) < 4 * spread / 20
    # the bootstrap's variance is low by (n − 1)/n; a standard deviation of 400 has s.e. 1/√800, and 4 of those
    assert float(found["standard_error"].median()) * np.sqrt(24 / 23) == pytest.approx(
        spread, rel=4 / np.sqrt(800)
    )
    covered = float(((found["low"] < 2 / 3) & (found["high"] > 2 / 3)).mean())
    assert (
        0.95 - 0.03 - 4 * np.sqrt(0.95 * 0.05 / 400) < covered
    )  # percentile intervals of 24 are 1-3 % short
    assert abs(float(found["overall_index"]) - 2 / 3) < 4 * float(found["overall_standard_error"])
    assert found.attrs["cautions"] == []


def test_no_gain_has_no_index() -> None:
    """Negative control: prior and end of one law give NaN and a caution, not a number."""
    found = fast_slow_index(noisy(5, 5, 5, (10, 16), seed=3), resamples=100, seed=0)
    assert bool(found["index"].isnull().all())
    assert "undefined in 10 of 10" in found.attrs["cautions"][0]
    assert np.isnan(found["overall_index"])


def test_a_sweep_that_overshoots_is_above_one_and_shared_noise_cancels() -> None:
    """Chains that differ by an offset common to all stages have an exact index; the errors know it."""
    offsets = xr.DataArray(np.random.default_rng(4).standard_normal(8) * 50, dims="chain")
    levels = xr.Dataset({"prior": offsets - 100, "sweep": offsets, "end": offsets - 20})
    found = fast_slow_index(levels, resamples=100, seed=0)
    assert float(found["index"]) == pytest.approx(1.25)
    assert float(found["standard_error"]) == pytest.approx(0, abs=1e-10)
    assert "overall_index" not in found


def test_stages_of_a_measure() -> None:
    steps = np.arange(-20, 51)
    measure = xr.DataArray(
        np.where(steps < 0, -100.0, np.where(steps == 0, -40, -20)) * np.ones((4, 1)), dims=("chain", "step"),
        coords={"step": steps},
    )  # fmt: skip
    levels = stages(measure, slice(-10, -1), 30)
    assert [float(levels[name][0]) for name in ("prior", "sweep", "end")] == [-100, -40, -20]
    assert float(fast_slow_index(levels, 20, 0)["index"]) == pytest.approx(0.75)
    with pytest.raises(AnalysisError, match="no step in"):
        stages(measure, slice(-90, -80), 30)


def test_levels_are_kept_and_one_chain_is_refused() -> None:
    levels = xr.concat([noisy(0, 20, 30, (3, 12), s) for s in (0, 1)], dim="level")
    found = fast_slow_index(levels, 50, 0)
    assert set(found["index"].dims) == {"level", "image"}
    assert found["overall_index"].dims == ("level",)
    with pytest.raises(AnalysisError, match="one chain"):
        fast_slow_index(levels.isel(chain=[0]), 50, 0)


@pytest.mark.parametrize(("errors", "defined"), [(3.0, False), (6.0, True)])
def test_gain_must_exceed_four_standard_errors(errors: float, defined: bool) -> None:
    """16 chains whose gains have standard deviation 1, so that a mean of k/4 is k standard errors."""
    gain = xr.DataArray(np.tile([-1.0, 1.0], 8) + errors / 4, dims="chain")
    levels = xr.Dataset({"prior": 0 * gain, "sweep": 0.5 * gain, "end": gain})
    found = fast_slow_index(levels, resamples=400, seed=0)
    assert bool(found["index"].notnull()) == defined
