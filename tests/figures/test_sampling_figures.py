"""What the figures of the sampling analyses show: lines at the right values, labels with units, cautions in print."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from pcsim.analysis.biexponential import biexponential_timescale
from pcsim.analysis.convergence import autocorrelation, effective_sample_size
from pcsim.analysis.covariance import covariance_against
from pcsim.analysis.energy import energy_statistics
from pcsim.analysis.fluctuation import effective_temperature, effective_temperature_spectrum, response
from pcsim.analysis.irreversibility import irreversibility
from pcsim.analysis.spectra import langevin_spectrum, ou_spectrum, power_spectrum
from pcsim.analysis.temperature import temperature_ablation, virial_temperature
from pcsim.analysis.timescales import intrinsic_timescale, timescales_by_phase, trial_autocorrelation
from pcsim.figures import sampling, timescales
from pcsim.figures.caution import CAUTION, caution
from pcsim.figures.style import COLOURS, COLUMN, STYLE, house_style, sheet
from tests.analysis.surrogates import Chains, langevin, named, ou, random_precision

PRECISION = random_precision(4, np.random.default_rng(0), condition=8.0)
STEP = 0.05


@pytest.fixture(scope="module")
def run() -> Chains:
    return langevin(PRECISION, STEP, 6000, 16, np.random.default_rng(1))


def lines(figure: Figure, gid: str) -> list[np.ndarray]:
    """Data of the lines of that name, `[2, point]` each."""
    return [np.array(a.get_data(), float) for axes in figure.axes for a in axes.lines if a.get_gid() == gid]


def cautions(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts if text.get_gid() == "caution"]


def drawn(figure: Figure) -> None:
    """Every axis is labelled, and all text lies on the sheet when it is laid out."""
    with house_style():
        figure.draw_without_rendering()
    sheet_box = figure.bbox
    for axes in figure.axes:
        assert axes.get_xlabel() or axes.get_ylabel()
        box = axes.get_tightbbox()
        assert box is not None
        assert box.x0 >= sheet_box.x0 - 1
        assert box.x1 <= sheet_box.x1 + 1
        assert box.y1 <= sheet_box.y1 + 1


def test_virial_has_the_set_and_the_expected_temperature(run: Chains) -> None:
    cold = langevin(PRECISION, STEP, 100, 4, np.random.default_rng(2), 0.0)
    results = {
        "Langevin PC": virial_temperature(run.value, -run.gradient, STEP),
        "vanilla PC": virial_temperature(cold.value, -cold.gradient, STEP, 0.0),
    }
    figure = sampling.virial_temperature(results)
    assert sorted(line[1][0] for line in lines(figure, "temperature")) == [0.0, 1.0]
    expected = next(
        a for a in figure.axes[0].lines if a.get_marker() == "_" and a.get_color() == COLOURS["LPC"]
    )
    np.testing.assert_allclose(np.array(expected.get_ydata(), float), results["Langevin PC"]["expected"])
    assert "never move" in "".join(cautions(figure)).replace("\n   ", " ")
    drawn(figure)


def test_virial_of_many_units_is_a_distribution() -> None:
    many = langevin(np.eye(60), STEP, 400, 4, np.random.default_rng(3))
    figure = sampling.virial_temperature(virial_temperature(many.value, -many.gradient, STEP))
    assert "density" in figure.axes[0].get_ylabel()
    assert lines(figure, "temperature")[0][0][0] == 1.0
    drawn(figure)


def test_energy_has_the_mean_and_half_the_units(run: Chains) -> None:
    result = energy_statistics(run.energy, 0.0, 4)
    figure = sampling.energy({"LPC": result})
    assert lines(figure, "DT/2")[0][0][0] == 2.0
    assert lines(figure, "mean")[0][0][0] == pytest.approx(result["excess"].item())
    assert "(nats)" in figure.axes[0].get_xlabel()
    assert cautions(figure) == []
    drawn(figure)


def test_covariance_shows_every_entry_and_the_errors(run: Chains) -> None:
    result = covariance_against(run.value, np.linalg.inv(PRECISION))
    figure = sampling.covariance(result)
    points = {a.get_label(): np.array(a.get_data(), float) for a in figure.axes[0].lines}
    np.testing.assert_allclose(points["variances"][0], np.diag(np.linalg.inv(PRECISION)))
    np.testing.assert_allclose(points["variances"][1], np.diag(result["covariance"]))
    assert points["covariances"].shape == (2, 12)
    np.testing.assert_array_equal(*lines(figure, "equal")[0])
    assert f"{float(result['relative_error']):.1%}" in figure.axes[0].get_title()
    drawn(figure)


def test_ablation_lies_beside_the_diagonal() -> None:
    runs = {t: langevin(PRECISION, STEP, 2000, 8, np.random.default_rng(4), t) for t in (0.5, 1.0, 2.0)}
    result = temperature_ablation(
        {t: r.value for t, r in runs.items()}, {t: -r.gradient for t, r in runs.items()}, STEP
    )
    figure = sampling.temperature_ablation(result)
    variance, virial = (line for line in lines(figure, "theory"))
    np.testing.assert_allclose(variance[0], variance[1])
    np.testing.assert_allclose(virial[0], virial[1])
    np.testing.assert_allclose(lines(figure, "at this step")[0][1], result["virial_expected"].median("unit"))
    drawn(figure)


def test_irreversibility_is_an_antisymmetric_matrix(run: Chains) -> None:
    result = irreversibility(run.value, lag=3)
    figure = sampling.irreversibility(result)
    shown = np.ma.filled(figure.axes[0].images[0].get_array(), np.nan)
    np.testing.assert_allclose(shown, result["z"])
    off = ~np.eye(4, dtype=bool)
    np.testing.assert_allclose((shown + shown.T)[off], 0, atol=1e-9)
    low, high = figure.axes[0].images[0].get_clim()
    assert -low == high >= 4
    assert "lag 3" in figure.axes[1].get_ylabel()
    drawn(figure)


def test_autocorrelation_and_draws(run: Chains) -> None:
    rho, ess = autocorrelation(run.value, lags=80), effective_sample_size(run.value)
    figure = timescales.autocorrelation({"LPC": rho}, {"LPC": ess})
    median = np.array(figure.axes[0].lines[0].get_ydata(), float)
    np.testing.assert_allclose(median, rho.median("unit"))
    assert figure.axes[0].lines[0].get_color() == COLOURS["LPC"]
    assert lines(figure, "needed")[0][0][0] == 400
    drawn(figure)


def test_spectrum_with_its_references(run: Chains) -> None:
    result = power_spectrum(run.value, STEP, 500)
    reference = {
        "OU": ou_spectrum(result["frequency"], 1.0),
        "AR(1)": langevin_spectrum(result["frequency"], 8.0, STEP),
    }
    figure = timescales.spectrum({"LPC": result}, reference, per="unit time")
    assert [a.get_label() for a in figure.axes[0].lines] == ["LPC", "OU", "AR(1)"]
    np.testing.assert_allclose(lines(figure, "reference")[0][1], reference["OU"])
    assert figure.axes[0].get_xscale() == figure.axes[0].get_yscale() == "log"
    assert "unit time" in figure.axes[0].get_xlabel()
    drawn(figure)


def test_timescales_by_level_with_the_closed_form() -> None:
    levels, implied = {}, {"evoked": {}, "spontaneous": {}}
    steps = np.arange(-2000, 2000)
    for place, level in enumerate(("z1", "z2")):
        parts = [
            named(ou(rate, 1.0, (16, 3, 2000), np.random.default_rng(place)).swapaxes(1, 2))
            for rate in (0.1, 0.2)
        ]
        value = xr.concat(parts, "step").assign_coords(step=steps)
        phase = np.where(steps < 0, "spontaneous", "evoked")
        levels[level] = timescales_by_phase(value.assign_coords(phase=("step", phase)), lags=60)
        implied["spontaneous"][level], implied["evoked"][level] = xr.DataArray([10.0]), xr.DataArray([5.0])
    figure = timescales.timescales(levels, implied)
    np.testing.assert_array_equal([line[1] for line in lines(figure, "implied")], [[10, 10], [5, 5]])
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["z1", "z2"]
    drawn(figure)


def test_murray_fit_shows_the_median_unit() -> None:
    value = named(ou(0.1, 1.0, (32, 5, 1000), np.random.default_rng(6)).swapaxes(1, 2))
    result = intrinsic_timescale(trial_autocorrelation(value, lags=60))
    figure = timescales.murray_fit(result)
    assert lines(figure, "median")[0][0][0] == pytest.approx(float(result["timescale"].median()))
    assert f"{float(result['timescale'].median()):.3g}" in figure.axes[0].get_legend_handles_labels()[1][1]
    drawn(figure)


def test_effective_temperature_has_the_set_one(run: Chains) -> None:
    predicted = response(run.value, 1.0, STEP, lags=40)
    curve = effective_temperature(predicted, 1.1 * predicted["step"])
    figure = timescales.effective_temperature({"LPC": curve}, 1.0, time="unit time")
    assert lines(figure, "set")[0][1][0] == 1.0
    np.testing.assert_allclose(np.array(figure.axes[0].lines[0].get_ydata(), float), 1 / 1.1)
    drawn(figure)


def test_cautions_are_printed_once_and_counted() -> None:
    """Two results with one caution in common, six in all: three in print and the count of the others; room is made."""
    first = xr.DataArray(0, attrs={"cautions": ["must not be read: one", "two", "three"]})
    second = xr.DataArray(0, attrs={"cautions": ["must not be read: one", "four", "five", "six"]})
    with house_style():
        figure = sheet(COLUMN, 2.0)
        axes = figure.subplots()
        axes.set_title("title")
        caution(figure, first, second)
    (text,) = cautions(figure)
    assert text.count("one") == 1
    assert "and 3 more cautions" in text
    assert axes.texts[0].get_color() == CAUTION
    assert figure.get_figheight() > 2.0
    with house_style():
        figure.draw_without_rendering()
    assert not axes.texts[0].get_window_extent().overlaps(axes.title.get_window_extent())
    untouched = sheet(COLUMN, 2.0)
    untouched.subplots()
    caution(untouched, xr.DataArray(0, attrs={"cautions": []}))
    assert untouched.get_figheight() == 2.0
    assert cautions(untouched) == []


def test_cautions_of_results_by_label_say_for_which() -> None:
    """Oracle: a caution of one of two results carries its label; one that holds for both, none."""
    shared, own = "must not be read: both", "must not be read: one"
    results = {
        "PC": xr.DataArray(0, attrs={"cautions": [shared, own]}),
        "LPC": xr.DataArray(0, attrs={"cautions": [shared]}),
    }
    with house_style():
        figure = sheet(COLUMN, 2.0)
        figure.subplots()
        caution(figure, results)
    (text,) = cautions(figure)
    assert text == f"▲ {shared}\n▲ PC: {own}"


def test_figures_have_the_house_style_wherever_they_are_drawn(run: Chains) -> None:
    """Oracle: STYLE's sizes in a figure drawn without any setting, and matplotlib's own settings afterwards."""
    figure = timescales.autocorrelation(autocorrelation(run.value, lags=20), effective_sample_size(run.value))
    assert figure.axes[0].xaxis.label.get_fontsize() == STYLE["axes.labelsize"]
    assert not figure.axes[0].spines["top"].get_visible()
    assert sheet(COLUMN, 2.0).subplots().spines["top"].get_visible()


def test_effective_temperature_over_frequencies(run: Chains) -> None:
    step = response(run.value, 1.0, STEP, lags=200)["step"]
    curve = effective_temperature_spectrum(power_spectrum(run.value, STEP), step)
    figure = timescales.effective_temperature({"LPC": curve}, 1.0, time="unit of time")
    assert figure.axes[0].get_xscale() == "log"
    assert figure.axes[0].get_xlabel() == "frequency (1/unit of time)"
    drawn(figure)


def test_two_timescales_beside_one() -> None:
    rng, shape = np.random.default_rng(7), (32, 3, 1500)
    value = named((ou(0.5, 1.0, shape, rng) + ou(0.04, 1.0, shape, rng)).swapaxes(1, 2))
    rho = trial_autocorrelation(value, lags=100)
    figure = timescales.murray_fit(intrinsic_timescale(rho), two=biexponential_timescale(rho))
    assert any(text.startswith("two: τ = ") for text in figure.axes[0].get_legend_handles_labels()[1])
    drawn(figure)
