"""Figures of variability, switching and deviance show the computed numbers, theory's lines and the cautions."""

from collections.abc import Iterator

import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from pcsim.analysis import attention as attending
from pcsim.analysis import correlations, counts, modes, quenching, rivalry, spontaneous
from pcsim.analysis import deviance as deviating
from pcsim.errors import AnalysisError
from pcsim.figures import deviance, multistability, variability
from pcsim.figures.style import COLOURS, house_style

STEPS = np.arange(-20, 61)


@pytest.fixture(autouse=True)
def style() -> Iterator[None]:
    with house_style():
        yield


def words(figure: Figure) -> str:
    FigureCanvasAgg(figure).draw()
    return " ".join(text.get_text() for text in figure.findobj(Text))


def lines(axes: Axes) -> dict[str, Line2D]:
    return {str(line.get_label()): line for line in axes.get_lines()}


def bars(axes: Axes) -> dict[str, ErrorbarContainer]:
    return {str(c.get_label()): c for c in axes.containers if isinstance(c, ErrorbarContainer)}


def chains(temperature: float) -> xr.DataArray:
    rng = np.random.default_rng(1)
    z, kept = rng.standard_normal(60), []
    for step in STEPS:
        kept.append(z)
        rate, hot = (0.0, 0.0) if step < 0 else (0.1, temperature)
        z = z - rate * (z - 1.0) + np.sqrt(0.04 * hot) * rng.standard_normal(60)
    return xr.DataArray(np.stack(kept, 1)[..., None], dims=("chain", "step", "unit"), coords={"step": STEPS})


def test_quenching_draws_courses_laws_and_ratio() -> None:
    runs = {"Langevin PC": chains(1.0), "vanilla PC": chains(0.0)}
    courses = {k: quenching.across_chain_variance(v) for k, v in runs.items()}
    fits = {k: quenching.quenching(v) for k, v in runs.items()}
    figure = variability.quenching(courses, fits)
    upper, lower = figure.axes
    ratio = float(fits["Langevin PC"]["ratio"][0])
    text = words(figure)
    assert f"Langevin PC: rates {ratio:.2f}" in text
    drawn = next(line for label, line in lines(upper).items() if label.startswith("Langevin"))
    np.testing.assert_array_equal(drawn.get_ydata(), courses["Langevin PC"]["variance"].squeeze())
    assert drawn.get_color() == COLOURS["LPC"]
    law = [line for line in lower.get_lines() if len(np.asarray(line.get_xdata())) == 61]
    ends = [np.asarray(line.get_ydata())[0] for line in law]
    np.testing.assert_allclose(ends, [float(f["mean_start"][0]) for f in fits.values()])
    assert "temperature 0" in text
    assert "stimulus onset" in text
    with pytest.raises(AnalysisError, match="select one entry"):
        variability.quenching({"two": xr.concat([courses["vanilla PC"]] * 2, "image")})


def test_fano_draws_matched_unmatched_and_poisson() -> None:
    rng = np.random.default_rng(2)
    data = xr.DataArray(
        rng.poisson(5, (40, 3, 60)), dims=("chain", "step", "unit"), coords={"step": [0, 10, 20]}
    )
    result = counts.mean_matched_fano(data, seed=0)
    theory = xr.DataArray([1.0, 1.0, 1.0], dims="step", coords={"step": [0, 10, 20]})
    figure = variability.fano({"z": result}, {"z": theory})
    (axes,) = figure.axes
    np.testing.assert_array_equal(bars(axes)["z"].lines[0].get_ydata(), result["fano"])
    np.testing.assert_array_equal(lines(axes)["z, not mean-matched"].get_ydata(), result["unmatched"])
    assert set(np.asarray(lines(axes)["Poisson: 1"].get_ydata())) == {1}
    assert axes.get_ylabel() == "Fano factor"


def correlated(units: int) -> xr.DataArray:
    rng = np.random.default_rng(3)
    shared = rng.standard_normal((8, 4, 200, 1))
    data = rng.standard_normal((8, 4, 200, units)) + shared * np.linspace(-1, 1, units)
    tuning = rng.standard_normal((8, 1, 1, units))
    dims = ("image", "chain", "step", "unit")
    return xr.DataArray(data + tuning, dims=dims, coords={"step": np.arange(200)})


def test_correlations_are_drawn() -> None:
    noise, signal = (
        correlations.noise_correlation(correlated(6)),
        correlations.signal_correlation(correlated(6)),
    )
    result = correlations.correlation_agreement(signal["correlation"], noise["correlation"], seed=0)
    figure = variability.correlation_agreement({"LPC": result})
    (axes,) = figure.axes
    fitted = next(
        line
        for line in axes.get_lines()
        if len(np.asarray(line.get_xdata())) == 2 and line.get_color() == COLOURS["LPC"]
    )
    rise = np.diff(np.asarray(fitted.get_ydata(), float)) / np.diff(np.asarray(fitted.get_xdata(), float))
    assert rise[0] == pytest.approx(float(result["slope"]))
    assert f"slope {float(result['slope']):.2f}" in words(figure)
    matrix = variability.correlation_matrix(noise)
    shown = np.ma.getdata(matrix.axes[0].collections[0].get_array())
    assert float(shown[0, 1]) == float(noise["correlation"][0, 1])
    assert "noise correlation" in words(matrix)


def test_contrast_law_and_measurement() -> None:
    law = correlations.gsm_posterior(
        np.array([0.0, 1.0, 2.0]), np.array([[1, 0.6], [0.6, 1]]), np.eye(2), 1.0
    )
    measured = xr.Dataset(
        {"variance": ("contrast", [0.99]), "variance_error": ("contrast", [0.02])}, coords={"contrast": [0.0]}
    )
    (axes,) = variability.contrast(law, measured).axes
    np.testing.assert_allclose(
        lines(axes)["correlation, closed form"].get_ydata(), [0.6, 0.366, 0.169], atol=5e-4
    )
    assert bars(axes)["variance, measured"].lines[0].get_ydata() == [0.99]


def test_spontaneous_shows_floor_known_case_and_caution() -> None:
    rng = np.random.default_rng(4)
    p, q = (xr.DataArray(rng.standard_normal((4, 300, 3)), dims=("chain", "step", "unit")) for _ in range(2))
    results = {name: spontaneous.spontaneous_divergence(p, q, name) for name in ("gaussian", "words")}
    figure = variability.spontaneous_evoked(results)
    left, right = figure.axes
    first = [float(np.asarray(line.get_xdata())[0]) for line in left.get_lines()[:2]]
    assert first == [float(results["gaussian"]["floor"]), float(results["gaussian"]["divergence"])]
    truths = [
        float(np.asarray(line.get_xdata())[0]) for line in right.get_lines() if line.get_marker() == "x"
    ]
    assert truths == pytest.approx([3 * (1 - np.log(2)) / 2] * 2)
    text = words(figure)
    assert "do not see a change of scale" in text
    assert "(nats)" in text


def jumps(mean: float, seed: int) -> xr.Dataset:
    rng = np.random.default_rng(seed)
    series = np.where(np.cumsum(rng.random((20, 4000)) < 1 / mean, axis=1) % 2, 1, -1)
    return modes.dwell_times(xr.DataArray(series, dims=("chain", "step")))


def test_modes_and_dwells() -> None:
    label = xr.DataArray(np.random.default_rng(5).integers(0, 2, (8, 500)), dims=("chain", "step"))
    result = modes.mode_occupancy(label, [0.3, 0.7])
    (axes,) = multistability.occupancy({"LPC": result}, ["left", "right"]).axes
    np.testing.assert_allclose([b.get_height() for b in axes.patches], [0.3, 0.7])
    np.testing.assert_array_equal(bars(axes)["LPC"].lines[0].get_ydata(), result["occupancy"])
    survival = modes.dwell_survival(jumps(50, 6))
    figure = multistability.dwell_survival({"LPC": survival}, {"theory": 50.0})
    (axes,) = figure.axes
    line = lines(axes)["theory: exponential, mean 50"]
    x, y = (np.asarray(a, float) for a in (line.get_xdata(), line.get_ydata()))
    assert -x[1] / np.log(y[1]) == pytest.approx(50.0)
    assert axes.get_yscale() == "log"
    assert f"LPC ({survival.attrs['exits']} exits)" in words(figure)


def test_rivalry_and_levelt() -> None:
    dwells = {"LPC": jumps(50, 7), "PC": jumps(100, 8)}
    found = {k: rivalry.rivalry_statistics(d) for k, d in dwells.items()}
    figure = multistability.rivalry(dwells, found)
    text = words(figure)
    assert f"gamma shape {float(found['LPC']['shape'].sel(state=1)):.2f}" in text
    assert f"serial r {float(found['PC']['serial_correlation']):.2f}" in text
    drawn = lines(figure.axes[0])["gamma"]
    grid = np.asarray(drawn.get_xdata(), float)
    first, second = (float(p) for p in found["LPC"]["parameters"].sel(state=1, law="gamma"))
    np.testing.assert_allclose(drawn.get_ydata(), rivalry.duration_density(grid, "gamma", first, second))
    law = rivalry.levelt({0.8: jumps(50, 9), 1.2: jumps(100, 10)})
    left, right = multistability.levelt(law, ("right eye", "left eye")).axes
    np.testing.assert_array_equal(bars(left)["right eye"].lines[0].get_ydata(), law["mean"].sel(state=-1))
    np.testing.assert_array_equal(right.get_lines()[0].get_ydata(), law["alternation_rate"])


def test_deviance_figures() -> None:
    rng = np.random.default_rng(11)
    trend = 2 * 0.8 ** np.arange(6)
    amplitude = xr.DataArray(trend + 0.1 * rng.standard_normal((20, 6)), dims=("chain", "onset"))
    decay = deviating.standard_decay(amplitude)
    (axes,) = deviance.standard_decay({"LPC": decay}, {"LPC": 0.8}).axes
    law = np.asarray(lines(axes)["1 − αK = 0.800"].get_ydata(), float)
    np.testing.assert_allclose(law[1:] / law[:-1], 0.8)
    index = deviating.mismatch_index(amplitude.isel(onset=0), amplitude.isel(onset=1))
    left, right = deviance.mismatch({"one": index, "none": index}).axes
    assert float(np.asarray(lines(left)["deviant"].get_xdata())[0]) == float(index["deviant"])
    assert len(right.containers) == 2
    error = xr.DataArray(np.r_[np.ones(10), -np.ones(10)], dims="step", coords={"step": np.arange(20)})
    figure = deviance.populations(deviating.error_populations(error), onsets=[0], omitted=[10])
    (axes,) = figure.axes
    assert np.asarray(lines(axes)["negative population"].get_ydata(), float).min() == -1
    assert np.asarray(lines(axes)["positive population"].get_ydata(), float).max() == 1
    assert "stimulus omitted" in words(figure)


def test_attention_figures() -> None:
    steps = np.arange(0, 4, 0.01)
    nodes = {"valid": attending.LinearNode(4.0, 1.0), "invalid": attending.LinearNode(1.0, 1.0)}
    courses = {
        k: xr.DataArray(n.gain * 2 * (1 - np.exp(-n.rate * steps)), dims="step", coords={"step": steps})
        for k, n in nodes.items()
    }
    times = {k: attending.response_time(c, 0.8) for k, c in courses.items()}
    theory = {k: n.response_time(2.0, 0.8) for k, n in nodes.items()}
    figure = deviance.response_times(courses, times, 0.8, theory, xlabel="time")
    (axes,) = figure.axes
    dots = [float(np.asarray(line.get_xdata())[0]) for line in axes.get_lines() if line.get_marker() == "o"]
    np.testing.assert_allclose(dots, list(theory.values()), atol=0.01)
    assert f"valid: {float(times['valid']):.3g}" in words(figure)
    x = xr.DataArray([0.0, 1.0, 2.0], dims="image")
    means = {k: n.gain * x for k, n in nodes.items()}
    figure = deviance.gain({k: attending.gain(m, x) for k, m in means.items()}, means, x)
    assert "valid: gain 0.80" in words(figure)
    assert "invalid: gain 0.50" in words(figure)
