"""Linear readouts against the closed form of two Gaussian classes, chance, and codes that stay or move."""

import numpy as np
import pytest
import xarray as xr
from scipy.special import ndtr
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

import pcsim.analysis.readout as machinery
from pcsim.analysis.decoding import (
    decodability,
    linear_sensitivity,
    predicted_classes,
    running_mean,
    temporal_generalisation,
)
from pcsim.analysis.readout import Readout
from pcsim.errors import StudyError
from tests.analysis.surrogates import ar1

IMAGES, CHAINS, A = 1600, 2, 0.8
DELTA = np.array([1.2, 0.4, -0.6])
WITHIN = np.array([[0.6, 0.2, 0.0], [0.2, 0.5, 0.1], [0.0, 0.1, 0.4]])
SAMPLING = np.array([[1.0, -0.5, 0.0], [-0.5, 1.5, 0.3], [0.0, 0.3, 0.8]])
READOUT = Readout(seed=3)


def classes(images: int, n_class: int = 2) -> xr.DataArray:
    return xr.DataArray(np.arange(images) % n_class, dims="image")


def gaussian_classes(steps: int, seed: int) -> tuple[xr.DataArray, xr.DataArray]:
    """z_t = m_i + noise: m_i ~ N(±δ/2, S_w) the image's own mean, the noise an AR(1) of covariance Σ_s."""
    rng = np.random.default_rng(seed)
    label = classes(IMAGES)
    own = (label.to_numpy() - 0.5)[:, None] * DELTA
    own = own + rng.standard_normal((IMAGES, 3)) @ np.linalg.cholesky(WITHIN).T
    noise = ar1(A, (IMAGES, CHAINS, 3, steps), rng)
    noise = np.einsum("icus,vu->icsv", noise, np.linalg.cholesky(SAMPLING))
    dims = ("image", "chain", "step", "unit")
    return xr.DataArray(own[:, None, None] + noise, dims=dims, coords={"step": np.arange(steps)}), label


def matrix(values: np.ndarray) -> xr.DataArray:
    return xr.DataArray(values, dims=("unit", "unit_2"))


def share_of_mean(n: int) -> float:
    """Variance of the mean of n stationary AR(1) values of unit variance."""
    k = np.arange(1, n)
    return float((n + 2 * ((n - k) * A**k).sum()) / n**2)


def test_sensitivity_is_the_closed_form_and_its_accuracy_that_of_the_best_readout() -> None:
    result = linear_sensitivity(xr.DataArray(DELTA, dims="unit"), matrix(WITHIN), matrix(SAMPLING))
    best = np.linalg.inv(WITHIN + SAMPLING) @ DELTA
    rng = np.random.default_rng(0)
    draws = rng.multivariate_normal(DELTA / 2, WITHIN + SAMPLING, 40_000) @ best
    error = 4 * 0.5 / np.sqrt(40_000)
    assert float(result["accuracy"]) == pytest.approx((draws > 0).mean(), abs=error)
    assert float(result["d_prime"]) ** 2 == pytest.approx(DELTA @ best, rel=1e-12)


def test_single_samples_and_running_means_reach_the_oracle() -> None:
    """4 s.e. over images: one sample has Σ_s, the mean of n steps Σ_s times the variance of an AR(1) mean."""
    value, label = gaussian_classes(60, seed=1)
    chosen = [0, 9, 59]
    one = decodability(value, label, READOUT, at=chosen)
    mean = decodability(running_mean(value), label, READOUT, at=chosen)
    shares = xr.DataArray([share_of_mean(n + 1) for n in chosen], dims="step")
    delta = xr.DataArray(DELTA, dims="unit")
    for result, oracle in (
        (one, linear_sensitivity(delta, matrix(WITHIN), matrix(SAMPLING) + 0 * shares)),
        (mean, linear_sensitivity(delta, matrix(WITHIN), matrix(SAMPLING) * shares)),
    ):
        assert (abs(result["same"] - oracle["accuracy"].values) < 4 * result["same_se"]).all()
        assert (abs(result["last"] - oracle["accuracy"].values) < 4 * result["last_se"]).all()
    assert float(mean["same"][-1]) > float(one["same"][-1]) + 4 * float(one["same_se"][-1])


def test_the_mean_of_many_steps_tends_to_the_integrated_time() -> None:
    """Σ_s τ_int/n is the limit of the exact variance of the mean; at n = 100 τ it is right to 1 %."""
    tau = (1 + A) / (1 - A)
    assert share_of_mean(900) == pytest.approx(tau / 900, rel=0.01)


def test_one_sample_tells_less_after_the_sweep_than_the_sweep_itself() -> None:
    """From the encoder's exact mean (Σ_s = 0) to a sample of the posterior, accuracy falls, as the oracle says."""
    posterior, label = gaussian_classes(1, seed=2)
    rng = np.random.default_rng(5)
    own = (label.to_numpy() - 0.5)[:, None] * DELTA + rng.standard_normal((IMAGES, 3)) @ np.linalg.cholesky(
        WITHIN
    ).T
    sweep = xr.DataArray(own, dims=("image", "unit"))
    at_sweep = decodability(sweep, label, READOUT)
    later = decodability(posterior.isel(step=0, drop=True), label, READOUT)
    assert "step" not in at_sweep["same"].dims
    nothing = linear_sensitivity(xr.DataArray(DELTA, dims="unit"), matrix(WITHIN), matrix(0 * SAMPLING))
    assert abs(at_sweep["same"] - nothing["accuracy"]) < 4 * at_sweep["same_se"]
    assert float(at_sweep["same"] - later["same"]) > 4 * float(later["same_se"])


def test_shuffled_labels_are_at_chance_with_unequal_classes() -> None:
    """4 s.e. of chance; three classes, one of them twice as frequent."""
    rng = np.random.default_rng(7)
    label = xr.DataArray(np.array([0, 1, 2, 2] * 100), dims="image")
    centre = np.eye(3)[label.to_numpy()] * 3
    value = xr.DataArray(
        centre[:, None, None] + rng.standard_normal((400, 3, 4, 3)), dims=("image", "chain", "step", "unit")
    )
    result = decodability(value, label, READOUT)
    chance, error = float(result["chance"]), float(result["chance_se"])
    assert chance == pytest.approx(1 / 3)
    assert error == pytest.approx(np.sqrt(2 / 9 * (1 / 100 + 1 / 100 + 1 / 200)) / 3)
    assert (abs(result["shuffled"] - chance) < 4 * error).all()
    assert (result["same"] > 0.9).all()
    assert not [text for text in result.attrs["cautions"] if "shuffled" in text]


def test_images_known_by_heart_tell_nothing_of_their_class() -> None:
    """Each image has its own pattern, unrelated to the class: rows split at random decode it, images do not."""
    rng = np.random.default_rng(11)
    images, chains, units = 60, 20, 80
    label = classes(images)
    own = 5 * rng.standard_normal((images, 1, units))
    value = xr.DataArray(own + rng.standard_normal((images, chains, units)), dims=("image", "chain", "unit"))
    by_row = cross_val_score(
        LogisticRegression(), value.to_numpy().reshape(-1, units), np.repeat(label.to_numpy(), chains)
    ).mean()
    rows = rng.permutation(images * chains)
    mixed = cross_val_score(
        LogisticRegression(),
        value.to_numpy().reshape(-1, units)[rows],
        np.repeat(label.to_numpy(), chains)[rows],
    ).mean()
    result = decodability(value, label, READOUT)
    assert mixed > 0.95
    assert by_row < mixed
    assert abs(result["same"] - 0.5) < 4 * result["chance_se"]


def moving_code(seed: int) -> tuple[xr.DataArray, xr.DataArray]:
    """The class lies in unit 0 for five steps and in unit 1 for the next five."""
    rng = np.random.default_rng(seed)
    label = classes(200)
    noise = rng.standard_normal((200, 4, 10, 2))
    code = 6.0 * (label.to_numpy() - 0.5)
    noise[:, :, :5, 0] += code[:, None, None]
    noise[:, :, 5:, 1] += code[:, None, None]
    return xr.DataArray(
        noise, dims=("image", "chain", "step", "unit"), coords={"step": np.arange(10) * 10}
    ), label


def test_generalisation_is_square_where_the_code_holds_and_at_chance_where_it_moved() -> None:
    value, label = moving_code(4)
    result = temporal_generalisation(value, label, READOUT)
    inside = result["accuracy"].sel(step_trained=slice(0, 40), step_tested=slice(0, 40))
    across = result["accuracy"].sel(step_trained=slice(0, 40), step_tested=slice(50, 90))
    best = float(ndtr(3.0))
    assert (abs(inside - best) < 4 * np.sqrt(best * (1 - best) / 200)).all()
    assert abs(across.mean() - 0.5) < 4 * result["chance_se"]
    both = decodability(value, label, READOUT)
    np.testing.assert_allclose(np.diag(result["accuracy"]), both["same"], rtol=1e-12)
    np.testing.assert_allclose(result["accuracy"].isel(step_trained=-1), both["last"], rtol=1e-12)
    np.testing.assert_array_equal(result["step_tested"], value["step"])


def test_lazy_blocks_give_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    value, label = moving_code(9)
    value = value.expand_dims(y=1)
    whole = decodability(value, label, READOUT)
    monkeypatch.setattr(machinery, "BLOCK", 8 * 200 * 4 * 2 * 3)
    lazy = decodability(value.chunk({"step": 4}), label, READOUT)
    xr.testing.assert_equal(whole, lazy)
    mean = running_mean(value.chunk({"step": 4}))
    assert mean.chunks is not None
    np.testing.assert_allclose(mean, value.to_numpy().cumsum(3) / np.arange(1, 11)[:, None])


def test_more_chains_than_images_do_not_shrink_the_error() -> None:
    """Copies of one chain are no new readings: accuracy and s.e. stay as they are."""
    value, label = gaussian_classes(1, seed=6)
    value = value.isel(image=slice(0, 300), chain=[0])
    copies = xr.concat([value] * 5, "chain")
    once = decodability(value, label.isel(image=slice(0, 300)), Readout(0, penalty=1.0))
    many = decodability(copies, label.isel(image=slice(0, 300)), Readout(0, penalty=5.0))
    np.testing.assert_allclose(many["same"], once["same"], atol=0.01)
    np.testing.assert_allclose(many["same_se"], once["same_se"], rtol=0.05)


def test_few_steps_are_read_but_all_are_judged() -> None:
    """Cautions are those of the whole series; the numbers those of the chosen steps."""
    value, label = moving_code(2)
    value = xr.concat([value] * 3, "step").assign_coords(step=np.arange(30))
    chosen = temporal_generalisation(value, label, READOUT, at=[0, 20])
    np.testing.assert_array_equal(chosen["step_tested"], [0, 20])
    by_hand = temporal_generalisation(value.sel(step=[0, 20]), label, READOUT)
    np.testing.assert_array_equal(chosen["accuracy"], by_hand["accuracy"])
    assert any("only 1 entries" in text for text in by_hand.attrs["cautions"])
    assert not any("entries along" in text for text in chosen.attrs["cautions"])
    with pytest.raises(StudyError, match=r"step \[31\] not recorded"):
        predicted_classes(value, label, READOUT, at=[0, 31])


def test_unconverged_chains_and_impossible_splits_are_told() -> None:
    rng = np.random.default_rng(13)
    walk = xr.DataArray(
        rng.standard_normal((12, 4, 40, 2)).cumsum(axis=2), dims=("image", "chain", "step", "unit")
    )
    assert decodability(walk, classes(12), READOUT, at=[0, 39]).attrs["cautions"]
    with pytest.raises(StudyError, match="class 0 has 4 images"):
        decodability(walk, classes(12, 3), READOUT)
    with pytest.raises(StudyError, match="one per image"):
        decodability(walk, classes(10), READOUT)
    with pytest.raises(StudyError, match="not finite between step 0"):
        predicted_classes(walk.where(walk["step"] < 39), classes(12), READOUT)
