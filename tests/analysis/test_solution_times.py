"""Solution times: crossings by hand, and what the choice of images does with and without chains of its own."""

import numpy as np
import pytest
import xarray as xr
from scipy.special import ndtri

from pcsim.analysis.solution_times import (
    Criteria,
    image_accuracy,
    image_sensitivity,
    reference_accuracy,
    solution_time,
    solution_time_difference,
    split_chains,
)
from pcsim.errors import StudyError

CRITERIA = Criteria(late=10, gap=0.3, flat=0.1, match=0.1, persist=2)


def curves(rows: list[list[float]], steps: list[int] | None = None) -> xr.DataArray:
    steps = steps or list(range(len(rows[0])))
    return xr.DataArray(np.array(rows), dims=("image", "step"), coords={"step": steps})


def bernoulli(probability: np.ndarray, chains: int, seed: int) -> xr.DataArray:
    """Independent right or wrong readings, `probability [image, step]`."""
    rng = np.random.default_rng(seed)
    drawn = rng.random((probability.shape[0], chains, probability.shape[1])) < probability[:, None]
    return xr.DataArray(
        drawn.astype(float), dims=("image", "chain", "step"),
        coords={"chain": np.arange(chains), "step": np.arange(probability.shape[1])},
    )  # fmt: skip


def test_crossings_by_hand() -> None:
    """Interpolated on the coordinate; a touch that does not stay is passed over; NaN where it never stays."""
    accuracy = curves(
        [[0.2, 0.4, 0.8, 0.9], [0.8, 0.9, 0.9, 0.9], [0.0, 0.9, 0.0, 0.9], [0.9, 0.2, 0.4, 0.9]],
        steps=[0, 10, 20, 40],
    )
    times = solution_time(accuracy, 0.6, persist=2)
    np.testing.assert_allclose(times, [15.0, 0.0, np.nan, np.nan])
    np.testing.assert_allclose(solution_time(accuracy, 0.6, persist=1), [15.0, 0.0, 10 * 2 / 3, 0.0])
    reference = xr.DataArray([0.5, 0.85, 0.5, 0.3], dims="image")
    np.testing.assert_allclose(solution_time(accuracy, reference, persist=2), [12.5, 5.0, np.nan, 15.0])
    assert times.attrs["cautions"]
    assert not solution_time(accuracy[:2], 0.6, persist=2).attrs["cautions"]
    with pytest.raises(StudyError, match="persist"):
        solution_time(accuracy, 0.6, persist=5)


def test_lazy_curves_give_the_same_times() -> None:
    accuracy = curves(np.random.default_rng(0).random((20, 50)).cumsum(axis=1).tolist())
    whole, lazy = (solution_time(a, 10.0, persist=3) for a in (accuracy, accuracy.chunk({"image": 5})))
    np.testing.assert_array_equal(whole, lazy)


def test_image_accuracy_and_sensitivity_by_hand() -> None:
    """Image 0: three of four chains right; class 0 is named in one of the eight readings of other images."""
    predicted = xr.DataArray(
        [[[0], [0], [0], [1]], [[1], [1], [0], [1]], [[1], [1], [1], [1]]], dims=("image", "chain", "step")
    )
    label = xr.DataArray([0, 1, 1], dims="image")
    np.testing.assert_allclose(image_accuracy(predicted, label).squeeze(), [0.75, 0.75, 1.0])
    hits = ndtri(np.array([3.5, 3.5, 4.5]) / 5)
    alarms = ndtri(np.array([1.5 / 9, 1.5 / 5, 1.5 / 5]))
    np.testing.assert_allclose(image_sensitivity(predicted, label).squeeze(), hits - alarms)
    always = predicted.copy(data=np.ones_like(predicted))
    np.testing.assert_allclose(image_sensitivity(always, label)[1:], 0, atol=1e-12)  # where accuracy is 1


def test_the_reference_interval_holds_the_truth() -> None:
    """Coverage of the 95 % interval with 40 chains, over 400 images: within 4 s.e. of a binomial at 93 to 95 %."""
    correct = bernoulli(np.full((400, 1), 0.6), chains=40, seed=1)
    found = reference_accuracy(correct, CRITERIA._replace(late=1), seed=2)
    held = float(((found["low"] <= 0.6) & (found["high"] >= 0.6)).mean())
    spare = 4 * np.sqrt(0.94 * 0.06 / 400)
    assert 0.93 - spare < held < 0.95 + spare
    np.testing.assert_allclose(found["accuracy"], correct.mean(("chain", "step")))


def test_halves_share_no_chain_and_fill_the_whole() -> None:
    correct = bernoulli(np.full((3, 4), 0.5), chains=9, seed=0)
    one, other = split_chains(correct, seed=4)
    assert sorted([*one["chain"].values, *other["chain"].values]) == list(range(9))
    unnamed = split_chains(correct.drop_vars("chain"), seed=4)
    np.testing.assert_array_equal(unnamed[0]["chain"], one["chain"])
    with pytest.raises(StudyError, match="chains of their own"):
        split_chains(correct.isel(chain=[0]), seed=4)


def test_without_dynamics_only_shared_chains_show_a_difference() -> None:
    """Null: every image is as easy at every step. Split chains: 0 within 4 s.e.; the same chains: above 4 s.e."""
    correct = bernoulli(np.full((1500, 40), 0.6), chains=16, seed=3)
    selection, test = split_chains(correct, seed=5)
    criteria = CRITERIA._replace(persist=1)  # the first touch: little spread, so that the bias stands out
    fair = solution_time_difference(selection, test, criteria, seed=6)
    assert fair.sizes["pair"] > 40
    assert abs(fair["difference"]) < 4 * fair["difference_se"]
    assert not fair.attrs["cautions"]
    trivial = solution_time_difference(test, test, criteria, seed=6)
    assert trivial["difference"] > 4 * trivial["difference_se"]
    assert any("same chains" in text for text in trivial.attrs["cautions"])


def test_without_dynamics_images_of_unequal_difficulty_show_none_either() -> None:
    """The reference is the image's own late accuracy on the test chains, so that difficulty alone is not late."""
    probability = np.random.default_rng(8).uniform(0.3, 0.9, (1200, 1)).repeat(40, 1)
    selection, test = split_chains(bernoulli(probability, chains=16, seed=9), seed=10)
    found = solution_time_difference(selection, test, CRITERIA, seed=11)
    assert found.sizes["pair"] > 40
    assert abs(found["difference"]) < 4 * found["difference_se"]


def test_images_that_are_solved_late_are_found_late() -> None:
    """Half of the images rise from .2 to .9 at step 20, half are at .9 from the start: ΔOST = 20 within 4 s.e."""
    steps = np.arange(40)
    rising = np.where(steps >= 20, 0.95, 0.2)
    probability = np.stack([rising if i % 2 else np.full(40, 0.95) for i in range(200)])
    selection, test = split_chains(bernoulli(probability, chains=60, seed=12), seed=13)
    found = solution_time_difference(selection, test, CRITERIA, seed=14, integrated_time=5.0)
    assert set(found["challenge"].values % 2) == {1}
    assert set(found["control"].values % 2) == {0}
    assert len(set(found["control"].values)) == found.sizes["pair"]
    # interpolation between steps 19 and 20, and the few steps in which 30 chains may fall below the interval
    assert abs(found["difference"] - 19.9) < 4 * found["difference_se"] + 0.1
    assert float(found["ratio"]) == pytest.approx(float(found["difference"]) / 5)


def test_too_few_pairs_are_told() -> None:
    correct = bernoulli(np.full((8, 20), 0.9), chains=16, seed=15)
    found = solution_time_difference(*split_chains(correct, seed=16), CRITERIA, seed=17)
    assert any("fewer than" in text for text in found.attrs["cautions"])
