"""The figures of sweep and chain show what the results hold: lines at the right values, labels, units, cautions."""

from collections.abc import Iterator

import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from pcsim.analysis.divergence import divergence_over_steps, linear_divergence
from pcsim.analysis.equilibrium import difficulty_correlation, equilibrium_time
from pcsim.analysis.fast_slow import fast_slow_index, stages
from pcsim.analysis.gaps import gaussian_gaps, inference_gaps
from pcsim.analysis.gaussian import Law
from pcsim.analysis.latency import layer_latencies
from pcsim.analysis.progress import drift_to_noise, gradient_plateau, log_joint_change, quadratic_line
from pcsim.analysis.trajectories import explained_with_nulls, plane_positions, project, trajectory_plane
from pcsim.analysis.warm_up import linear_warm_up, warm_up
from pcsim.figures import fast_slow, recurrence, trajectory_nulls
from pcsim.figures.style import COLOURS, house_style

pytestmark = pytest.mark.filterwarnings("error")
GAMMA, LAMBDA = 0.1, np.array([1.0, 2.0, 4.0])
STEPS = np.arange(-30, 121)


@pytest.fixture(autouse=True)
def style() -> Iterator[None]:
    with house_style():
        yield


def run(temperature: float, seed: int = 0) -> xr.Dataset:
    """8 images, 16 chains, from the prior N(0, I) to a posterior about an image's own mean; the sweep at 0 is 2 off."""
    rng = np.random.default_rng(seed)
    mean = rng.standard_normal((8, 1, 3)) * 4
    z = rng.standard_normal((8, 16, 3))
    path, gradient = [], []
    for step in STEPS:
        if step == 0:
            z = mean + 2.0 + 0.3 * rng.standard_normal((8, 16, 3))
        g = LAMBDA * (z - mean) if step >= 0 else z
        path.append(z)
        gradient.append(g)
        z = z - GAMMA * g + np.sqrt(2 * GAMMA * temperature) * rng.standard_normal(z.shape)
    dims, coords = ("image", "chain", "step", "unit"), {"image": np.arange(8), "step": STEPS}
    value, drift = (xr.DataArray(np.stack(part, 2), dims=dims, coords=coords) for part in (path, gradient))
    evoked = 0.5 * (drift**2 / xr.DataArray(LAMBDA, dims="unit")).sum("unit") + 50
    norm = np.sqrt((drift**2).sum("unit"))
    return xr.Dataset(
        {"value": value, "energy": evoked, "norm": norm, "mean": (("image", "unit"), mean[:, 0])}
    )


@pytest.fixture(scope="module")
def both() -> dict[str, xr.Dataset]:
    return {"PC": run(0.0), "LPC": run(1.0)}


def drawn(figure: Figure) -> str:
    """All visible text; the figure is laid out on the way, and nothing is smaller than 6 points."""
    FigureCanvasAgg(figure).draw()
    texts = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
    assert min(t.get_fontsize() for t in texts) >= 6
    assert figure.get_figwidth() <= 7.0
    return "\n".join(t.get_text() for t in texts)


def line(axes: Axes, label: str) -> Line2D:
    return next(one for one in axes.get_lines() if one.get_label() == label)


def levels(axes: Axes) -> list[float]:
    """Heights of the horizontal lines across the axes."""
    found = [
        one for one in axes.get_lines() if list(one.get_xdata()) == [0, 1] and np.ptp(one.get_ydata()) == 0
    ]
    return [float(one.get_ydata()[0]) for one in found]


def posterior(one: xr.Dataset) -> xr.Dataset:
    covariance = xr.DataArray(np.diag(1 / LAMBDA), dims=("unit", "unit_2"))
    return xr.Dataset({"mean": one["mean"], "covariance": covariance})


def test_divergences(both: dict[str, xr.Dataset]) -> None:
    result = divergence_over_steps(both["LPC"]["value"].sel(step=slice(0, None)), posterior(both["LPC"]))
    exact = linear_divergence(Law(np.full(3, 2.0), 0.09 * np.eye(3)), LAMBDA, GAMMA, np.arange(121))
    figure = fast_slow.divergences({"LPC": result}, exact)
    text = drawn(figure)
    assert "reverse" in text
    assert "(nat)" in text
    for axes, name in zip(figure.axes, ("reverse", "forward"), strict=True):
        np.testing.assert_allclose(line(axes, "LPC").get_ydata(), result[name].mean("image"))
        np.testing.assert_allclose(line(axes, "exact").get_ydata(), exact[name])
        assert same_color(line(axes, "LPC").get_color(), COLOURS["LPC"])


def test_log_joint_ends_on_its_line(both: dict[str, xr.Dataset]) -> None:
    results = {}
    for label, temperature in (("PC", 0.0), ("LPC", 1.0)):
        minimum = xr.DataArray(np.full(8, 50.0), dims="image", coords={"image": np.arange(8)})
        stationary = quadratic_line(minimum, 3, temperature, GAMMA * LAMBDA)
        results[label] = log_joint_change(both[label]["energy"], stationary)
    figure = fast_slow.log_joint(results)
    assert "nat" in drawn(figure)
    (axes,) = figure.axes
    expected = [0.0, *(float(result["stationary_mean"]) for result in results.values())]
    np.testing.assert_allclose(levels(axes), expected)
    assert line(axes, "PC").get_ydata()[-1] == pytest.approx(expected[1], abs=1e-6)
    # mean over 8 images of 16 chains: sd √(3/2)·heat < 1.6, 4 s.e.
    assert line(axes, "LPC").get_ydata()[-1] == pytest.approx(expected[2], abs=4 * 1.6 / np.sqrt(128))


def test_drift_to_noise_and_gradient(both: dict[str, xr.Dataset]) -> None:
    norm = both["LPC"]["norm"].sel(step=slice(0, None))
    ratio = drift_to_noise(norm**2, GAMMA, 3, after=60)
    figure = fast_slow.drift_to_noise({"LPC": ratio})
    text = drawn(figure)
    assert "▲ must not be read" in text  # 61 late steps of 16 chains are too few for 400 effective draws
    np.testing.assert_allclose(levels(figure.axes[0]), [1.0, float(ratio["stationary"].mean())])
    expected = (LAMBDA / (1 - GAMMA * LAMBDA / 2)).sum()
    plateau = gradient_plateau(norm, 60, expected)
    figure = fast_slow.gradient_plateau({"LPC": plateau})
    assert "nat²" in drawn(figure)
    assert levels(figure.axes[0]) == pytest.approx([expected])


def test_equilibrium_times_show_the_correlation(both: dict[str, xr.Dataset]) -> None:
    minimum = xr.DataArray(np.full(8, 50.0), dims="image", coords={"image": np.arange(8)})
    time = equilibrium_time(both["LPC"]["energy"], quadratic_line(minimum, 3), window=15)
    time[2] = np.nan
    difficulty = xr.Dataset({"sweep_error": ("image", np.arange(8.0))}, coords={"image": np.arange(8)})
    correlation = difficulty_correlation(time, difficulty)
    figure = recurrence.equilibrium_times(time, difficulty, correlation)
    text = drawn(figure)
    assert f"ρ = {float(correlation['spearman'][0]):.2f}" in text
    assert "too few for a rank correlation" in text
    dots = [one for one in figure.axes[0].get_lines() if one.get_marker() == "o"]
    np.testing.assert_allclose(dots[0].get_ydata(), time.dropna("image"))


def test_gaps_stack_to_the_total(both: dict[str, xr.Dataset]) -> None:
    one = both["LPC"]
    result = gaussian_gaps(one["mean"] + 0.5, xr.full_like(one["mean"], 0.7), posterior(one))
    evidence = xr.full_like(result["total"], -80.0)
    full = inference_gaps(
        evidence, evidence - result["total"], evidence - result["approximation"], 0.1 + 0 * evidence
    )
    figure = recurrence.gaps({"LPC": full})
    assert "gap (nat per image)" in drawn(figure)
    reach = [bar.get_x() + bar.get_width() for bar in figure.axes[0].patches]
    assert max(reach) == pytest.approx(float(result["total_mean"]))
    assert any(width == pytest.approx(0.1) for width in reach)


def test_warm_up_beside_the_exact_curve(both: dict[str, xr.Dataset]) -> None:
    value = (
        (both["LPC"]["value"] - both["LPC"]["mean"])
        .isel(unit=0)
        .stack(row=("image", "chain"), create_index=False)
    )
    result = warm_up(
        value.drop_vars(["image"]).rename(row="chain").sel(step=slice(0, None)), 0.0, [0, 20, 40]
    )
    exact = linear_warm_up(2.0, 0.09, GAMMA, 120, [0, 20, 40])
    figure = recurrence.warm_up({"LPC": result}, {"LPC": exact})
    assert "discarded steps" in drawn(figure)
    curves = [one.get_ydata() for one in figure.axes[0].get_lines() if len(one.get_ydata()) == 3]
    for expected in (result["mse"], result["bias2"], exact["mse"]):
        assert any(np.allclose(curve, expected) for curve in curves)


def test_fast_slow_index_row(both: dict[str, xr.Dataset]) -> None:
    distance = -((both["LPC"]["value"] - both["LPC"]["mean"]) ** 2).sum("unit")
    result = fast_slow_index(stages(distance, slice(-20, -1), 60), resamples=100, seed=0)
    figure = recurrence.fast_slow_index({"LPC": result})
    assert f"{float(result['overall_index']):.2f}" in drawn(figure)
    dot = next(one for one in figure.axes[0].get_lines() if one.get_marker() == "o")
    assert dot.get_xdata()[0] == pytest.approx(float(result["overall_index"]))
    low, high = figure.axes[0].get_xlim()
    assert low < 0 < 1 < high


def test_latencies_mark_their_steps(both: dict[str, xr.Dataset]) -> None:
    values = {"low": both["LPC"]["value"], "high": both["LPC"]["value"].isel(unit=[0])}
    result = layer_latencies(values, permutations=99, seed=0)
    figure = recurrence.latencies(result)
    text = drawn(figure)
    assert [axes.get_ylabel() for axes in figure.axes] == ["high", "low"]
    assert "mean t²" in text
    for axes, name in zip(figure.axes, ("high", "low"), strict=True):
        dots = [float(one.get_xdata()[0]) for one in axes.get_lines() if one.get_marker() == "o"]
        one = result.sel(level=name)
        assert dots == [float(one["baseline_latency"]), float(one["sweep_latency"])]


def test_trajectories_beside_their_nulls(both: dict[str, xr.Dataset]) -> None:
    value = both["LPC"]["value"].isel(image=0)
    plane = trajectory_plane(value)
    result = explained_with_nulls(value, plane, settled=40, paths=20, seed=0)
    figure = trajectory_nulls.trajectory_nulls(result)
    text = drawn(figure)
    for word in ("LPC", "random walk", "matched noise", "share of variance"):
        assert word in text
    path = figure.axes[0].get_lines()[0]
    np.testing.assert_allclose(path.get_xdata(), plane["position"].sel(component=1))
    heights = sorted(bar.get_height() for bar in figure.axes[3].patches)
    np.testing.assert_allclose(heights, np.sort(result["mean"].to_numpy().ravel()))


def test_several_runs_in_one_plane(both: dict[str, xr.Dataset]) -> None:
    one = {label: item.isel(image=0).sel(step=slice(0, None)) for label, item in both.items()}
    plane = trajectory_plane(one["PC"]["value"], origin="end")
    points = plane_positions(plane, 6.0, 21)
    log_joint = -0.5 * ((points - one["PC"]["mean"]) ** 2 * xr.DataArray(LAMBDA, dims="unit")).sum("unit")
    positions = {label: project(item["value"], plane).isel(chain=slice(0, 2)) for label, item in one.items()}
    figure = trajectory_nulls.common_plane(positions, log_joint)
    assert "below the plane's maximum (nat)" in drawn(figure)
    for label, position in positions.items():
        shown = line(figure.axes[0], label)
        np.testing.assert_allclose(shown.get_xdata(), position.isel(chain=0).sel(component=1))
        assert same_color(shown.get_color(), COLOURS["PC" if label == "PC" else "LPC"])
    # a cold chain ends at the plane's origin, z_T of the first one, to rounding
    assert line(figure.axes[0], "PC").get_ydata()[-1] == pytest.approx(0, abs=1e-9)
