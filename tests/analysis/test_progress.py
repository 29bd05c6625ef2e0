"""Log-joint gain, drift to noise, gradient plateau and times to equilibrium on Langevin chains with known laws."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from pcsim.analysis.equilibrium import difficulty_correlation, equilibrium_time
from pcsim.analysis.progress import (
    drift_to_noise,
    gradient_plateau,
    log_joint_change,
    long_run_line,
    quadratic_line,
    squared_gradient,
)
from pcsim.errors import AnalysisError

D, GAMMA, CHAINS, STEPS = 20, 0.05, 32, 2000
LAMBDA = np.geomspace(1, 12, D)
MINIMUM = np.array([60.0, 75.0, 50.0])


def chains(
    starts: list[float], temperature: float = 1.0, seed: int = 0, precision: np.ndarray = LAMBDA,
    minimum: np.ndarray = MINIMUM, steps: int = STEPS,
) -> xr.Dataset:  # fmt: skip
    """ULA on U = U_min + Σλz²/2: value, drift (image, chain, step, unit), energy and norm. Start: `starts` sd away.

    A start of −1 is a draw from the chain's own stationary law.
    """
    rng = np.random.default_rng(seed)
    shape = (len(starts), CHAINS, len(precision))
    sd = np.sqrt(max(temperature, 1e-300) / (precision * (1 - GAMMA * precision / 2)))
    own = sd * rng.standard_normal(shape)
    z = np.where(
        np.array(starts)[:, None, None] < 0, own, np.array(starts)[:, None, None] / np.sqrt(precision)
    )
    path = [z]
    for _ in range(steps):
        z = z - GAMMA * precision * z + np.sqrt(2 * GAMMA * temperature) * rng.standard_normal(shape)
        path.append(z)
    value = xr.DataArray(
        np.stack(path, 2), dims=("image", "chain", "step", "unit"),
        coords={"image": np.arange(len(starts)) + 10, "step": np.arange(steps + 1)},
    )  # fmt: skip
    drift = -value * xr.DataArray(precision, dims="unit")
    least = xr.DataArray(minimum[: len(starts)], dims="image", coords={"image": value["image"]})
    energy = least - 0.5 * (value * drift).sum("unit")
    parts = {"value": value, "drift": drift, "energy": energy, "minimum": least}
    return xr.Dataset(parts | {"norm": np.sqrt((drift**2).sum("unit"))})


@pytest.fixture(scope="module")
def langevin() -> xr.Dataset:
    """From the mode, from far away, and from equilibrium."""
    return chains([0.0, 6.0, -1.0])


def exact_line(run: xr.Dataset) -> xr.Dataset:
    return quadratic_line(run["minimum"], D, step_curvature=GAMMA * LAMBDA)


def test_quadratic_line_is_equipartition() -> None:
    """−U_min − D/2 and √(D/2) at small steps; T scales both; ½Σ1/(1 − γλ/2) with the step."""
    minimum = xr.DataArray([60.0], dims="image")
    line = quadratic_line(minimum, 40)
    assert float(line["mean"][0]) == -80
    assert float(line["sd"][0]) == pytest.approx(np.sqrt(20))
    assert float(quadratic_line(minimum, 40, temperature=0.0)["mean"][0]) == -60
    stiff = quadratic_line(minimum, 2, step_curvature=[0.5, 1.0])
    assert float(stiff["mean"][0]) == pytest.approx(-60 - 0.5 * (1 / 0.75 + 1 / 0.5))
    with pytest.raises(AnalysisError, match="unstable"):
        quadratic_line(minimum, 2, step_curvature=2.5)


def test_change_ends_on_the_line(langevin: xr.Dataset) -> None:
    """Late steps lie within 4 standard errors of the exact line (error from the long run's ESS)."""
    late, exact = long_run_line(langevin["energy"], after=200), exact_line(langevin)
    assert float(abs((late["mean"] - exact["mean"]) / late["mean_error"]).max()) < 4
    # sd of a χ²-like sum: s.e. of a standard deviation below sd/√ESS
    assert float(abs((late["sd"] - exact["sd"]) / late["mean_error"]).max()) < 4
    assert late.attrs["cautions"] == []


def test_change_from_the_mode_is_negative_and_from_afar_positive(langevin: xr.Dataset) -> None:
    found = log_joint_change(langevin["energy"], exact_line(langevin))
    total = found["stationary"].to_numpy()
    heat = 0.5 * (1 / (1 - GAMMA * LAMBDA / 2)).sum()
    np.testing.assert_allclose(total[:2], [-heat, 0.5 * D * 36 - heat], rtol=1e-12)
    assert found["change"].sel(step=0).to_numpy() == pytest.approx([0, 0, 0])
    assert found["mean"].dims == ("step",)
    np.testing.assert_allclose(found["sd"], found["change"].to_numpy().std(0, ddof=1), atol=1e-9)
    assert found.attrs["cautions"] == []
    assert found["change"].attrs["units"] == "nat"


def test_change_leaves_out_the_spontaneous_part_and_needs_its_start(langevin: xr.Dataset) -> None:
    energy = langevin["energy"].assign_coords(step=np.arange(STEPS + 1) - 100)
    found = log_joint_change(energy)
    assert int(found["step"][0]) == 0
    assert any("no stationary line" in text for text in found.attrs["cautions"])
    with pytest.raises(AnalysisError, match="was not recorded"):
        log_joint_change(energy.isel(step=slice(None, None, 2)), start=1)


def test_drift_to_noise_at_equilibrium(langevin: xr.Dataset) -> None:
    """γ Σλ/(1 − γλ/2)/(2D), and the same from the norm; 4 s.e. from the plateau's ESS."""
    squared = squared_gradient(langevin["drift"])
    np.testing.assert_allclose(squared, langevin["norm"] ** 2, rtol=1e-10)
    found = drift_to_noise(squared, GAMMA, D, after=200)
    expected = GAMMA * (LAMBDA / (1 - GAMMA * LAMBDA / 2)).sum() / (2 * D)
    error = gradient_plateau(langevin["norm"], after=200)["plateau_error"] * GAMMA / (2 * D)
    assert float(abs((found["stationary"] - expected) / error).max()) < 4
    start = GAMMA * 36 * LAMBDA.sum() / (2 * D)
    assert float(found["ratio"].sel(image=11, step=0)) == pytest.approx(start, rel=1e-12)
    assert start > 1
    assert found["noise_from"].to_numpy()[[0, 2]] == pytest.approx([0, 0])
    assert found["noise_from"].sel(image=11) > 0
    with pytest.raises(AnalysisError, match="temperature"):
        drift_to_noise(squared, GAMMA, D, after=200, temperature=0.0)


def test_drift_to_noise_does_not_depend_on_the_units_of_a_latent() -> None:
    """A preconditioner G = 1/λ makes every direction's ratio γ/(2(1 − γ/2)): the same as λ = 1 without one."""
    run = chains([-1.0], precision=np.ones(D))
    scale = xr.DataArray(np.geomspace(1, 100, D), dims="unit")
    plain = drift_to_noise(squared_gradient(run["drift"]), GAMMA, D, after=200)
    scaled = squared_gradient(run["drift"] * scale, mobility=1 / scale**2)
    xr.testing.assert_allclose(drift_to_noise(scaled, GAMMA, D, after=200)["ratio"], plain["ratio"])


def test_gradient_plateau(langevin: xr.Dataset) -> None:
    """T = 1: Σλ/(1 − γλ/2) within 4 s.e.; T = 0: zero to rounding."""
    expected = (LAMBDA / (1 - GAMMA * LAMBDA / 2)).sum()
    found = gradient_plateau(langevin["norm"], after=200, curvature_trace=expected)
    assert float(abs((found["plateau"] - found["expected"]) / found["plateau_error"]).max()) < 4
    cold = gradient_plateau(chains([6.0], temperature=0.0)["norm"], after=500)
    assert float(cold["plateau"][0]) < 1e-15 * float(cold["square"].isel(image=0, step=0))


def test_time_to_equilibrium(langevin: xr.Dataset) -> None:
    """0 for chains that start there; elsewhere where E L_t enters the band, to the window's resolution."""
    window = 81  # above 4 integrated times of the slowest direction's energy, (1 + a²)/(1 − a²) = 20
    line = exact_line(langevin)
    found = equilibrium_time(langevin["energy"], line, window)
    assert found.dims == ("image",)
    assert float(found.sel(image=12)) == 0
    assert found.attrs["cautions"] == []
    a = (1 - GAMMA * LAMBDA) ** (2 * np.arange(STEPS + 1)[:, None])
    for image, start in ((10, 0.0), (11, 36.0)):
        away = -0.5 * (a * (start - 1 / (1 - GAMMA * LAMBDA / 2))).sum(1)
        smooth = np.convolve(away, np.ones(window) / window, "valid")
        band = 2 * float(line["sd"][0]) / np.sqrt(CHAINS)
        # the running mean's own noise, 3 s.e. (integrated time 20 at most), shifts the crossing within these bounds
        noise = 3 * float(line["sd"][0]) / np.sqrt(CHAINS * window / 20)
        early, late = (
            int(np.argmax(np.abs(smooth) < b)) for b in (band + noise, max(band - noise, 0.05 * band))
        )
        low, high = (early + window // 2 if early else 0), late + window // 2
        assert low <= float(found.sel(image=image)) <= high


def test_random_walks_never_arrive() -> None:
    """Negative control: an energy without equilibrium has no time, and says so."""
    rng = np.random.default_rng(2)
    walk = xr.DataArray(
        rng.standard_normal((6, 8, 500)).cumsum(2) + 300, dims=("image", "chain", "step"),
        coords={"step": np.arange(500)},
    )  # fmt: skip
    line = quadratic_line(xr.zeros_like(walk.isel(chain=0, step=0)), D)
    found = equilibrium_time(walk, line, 21)
    assert bool(found.isnull().all())
    assert "6 of 6 images never" in found.attrs["cautions"][0]
    assert long_run_line(walk, after=250).attrs["cautions"]


def test_spearman_agrees_with_scipy_and_partial_removes_the_control() -> None:
    """Times and difficulty that share only the norm: ρ = (6/π) asin(½)… raw, and nothing once it is partialled out."""
    rng = np.random.default_rng(5)
    n = 400
    norm, a, b = rng.standard_normal((3, n))
    image = {"image": np.arange(n)}
    time = xr.DataArray(norm + a, dims="image", coords=image)
    measures = xr.Dataset(
        {"shared": ("image", norm + b), "own": ("image", a), "noise": ("image", b)}, coords=image
    )
    found = difficulty_correlation(time, measures, xr.DataArray(norm, dims="image", coords=image))
    for name in measures:
        known = stats.spearmanr(time, measures[name])
        assert float(found["spearman"].sel(measure=name)) == pytest.approx(known.statistic, rel=1e-12)
        assert float(found["p_value"].sel(measure=name)) == pytest.approx(known.pvalue, rel=1e-6)
    # correlation ½ of normals: Spearman (6/π) asin(¼); s.e. 1.03/√n
    shared = float(found["spearman"].sel(measure="shared"))
    assert abs(shared - 6 / np.pi * np.arcsin(0.25)) < 4 * 1.03 / np.sqrt(n)
    assert abs(float(found["partial"].sel(measure="shared"))) < 4 * 1.03 / np.sqrt(n)
    assert float(found["partial_p_value"].sel(measure="own")) < 1e-6
    assert found.attrs["cautions"] == []


def test_times_that_were_never_reached_rank_last_and_few_images_are_named() -> None:
    image = {"image": np.arange(6)}
    time = xr.DataArray([1.0, 2, 3, 4, np.nan, np.nan], dims="image", coords=image)
    found = difficulty_correlation(time, xr.Dataset({"d": ("image", np.arange(6.0))}, coords=image))
    assert float(found["spearman"][0]) == pytest.approx(
        stats.spearmanr([1, 2, 3, 4, 9, 9], np.arange(6)).statistic
    )
    assert any("too few" in text for text in found.attrs["cautions"])
    with pytest.raises(AnalysisError, match="at least 5"):
        difficulty_correlation(time[:3], xr.Dataset({"d": ("image", np.arange(6.0))}, coords=image))


def test_lazy_energies_give_the_same(langevin: xr.Dataset) -> None:
    lazy, line = langevin["energy"].chunk(step=100), exact_line(langevin)
    xr.testing.assert_allclose(
        log_joint_change(lazy, line).compute(), log_joint_change(langevin["energy"], line)
    )
    xr.testing.assert_allclose(
        equilibrium_time(lazy, line, 41), equilibrium_time(langevin["energy"], line, 41)
    )
    squared = squared_gradient(langevin["drift"].chunk(step=100))
    assert squared.chunks is not None
    xr.testing.assert_allclose(
        drift_to_noise(squared, GAMMA, D, after=200).compute(),
        drift_to_noise(squared.compute(), GAMMA, D, after=200),
    )


def test_a_chain_that_diverged_is_not_left_out(langevin: xr.Dataset) -> None:
    energy = langevin["energy"].copy()
    energy[0, 5, 300:] = np.nan
    change = log_joint_change(energy)["change"]
    assert bool(change.isel(image=0).sel(step=slice(300, None)).isnull().all())
    assert bool(change.isel(image=1).notnull().all())
    found = equilibrium_time(energy, exact_line(langevin), 81)
    assert bool(found.isel(image=0).isnull())


def test_far_starts_take_longer_and_shuffled_difficulty_does_not_matter() -> None:
    """24 images, starts 1 to 30 sd away: time grows as ln of the excess energy; shuffled, nothing is left.

    One precision, so E ΔL = D d² a^{2t}/2 and t = ln(D d²/(2 band))/(2 γλ) up to the window.
    """
    distance = np.geomspace(1, 30, 24)
    run = chains(list(distance), seed=3, precision=np.full(D, 2.0), minimum=np.zeros(24), steps=300)
    line = quadratic_line(run["minimum"], D, step_curvature=2 * GAMMA)
    time = equilibrium_time(run["energy"], line, window=41)
    excess = xr.DataArray(0.5 * D * distance**2, dims="image", coords={"image": time["image"]})
    order = np.random.default_rng(1).permutation(24)
    found = difficulty_correlation(
        time, xr.Dataset({"excess": excess, "shuffled": ("image", excess.values[order])})
    )
    assert float(found["low"].sel(measure="excess")) > 0.5
    assert float(found["low"].sel(measure="shuffled")) < 0 < float(found["high"].sel(measure="shuffled"))
    # the slope over the far half: 1/(2γλ) steps per e-fold, resolved to a few steps over 2.6 e-folds
    far = slice(12, None)
    slope = np.polyfit(np.log(excess[far]), time[far], 1)[0]
    assert slope == pytest.approx(-1 / (2 * np.log(1 - 2 * GAMMA)), rel=0.25)
