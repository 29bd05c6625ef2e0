"""The figures of readouts show the computed numbers, the lines of theory and the cautions."""

from collections.abc import Iterator

import numpy as np
import pytest
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from pcsim.analysis.decoding import decodability, running_mean, temporal_generalisation
from pcsim.analysis.masking import component_times, masking_curve, target_theory
from pcsim.analysis.readout import Readout
from pcsim.analysis.solution_times import Criteria, solution_time_difference, split_chains
from pcsim.figures import decoding
from pcsim.figures.style import COLOURS, house_style

READOUT = Readout(seed=1)


@pytest.fixture(autouse=True)
def style() -> Iterator[None]:
    with house_style():
        yield


@pytest.fixture(scope="module")
def value() -> xr.DataArray:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((60, 4, 20, 2))
    noise[..., 0] += 2.0 * (np.arange(60) % 2)[:, None, None]
    return xr.DataArray(noise, dims=("image", "chain", "step", "unit"), coords={"step": np.arange(20)})


@pytest.fixture(scope="module")
def label() -> xr.DataArray:
    return xr.DataArray(np.arange(60) % 2, dims="image")


def words(figure: Figure) -> str:
    FigureCanvasAgg(figure).draw()
    return " ".join(text.get_text() for text in figure.findobj(Text))


def test_decodability_draws_accuracy_chance_and_control(value: xr.DataArray, label: xr.DataArray) -> None:
    chosen = [0, 5, 10, 15]
    results = {
        "Langevin PC": decodability(value, label, READOUT, at=chosen),
        "running mean": decodability(running_mean(value), label, READOUT, at=chosen),
        "encoder mean": decodability(value.mean(("step", "chain")), label, READOUT),
    }
    figure = decoding.decodability(results)
    (axes,) = figure.axes
    lines = {str(line.get_label()): line for line in axes.get_lines()}
    np.testing.assert_array_equal(lines["Langevin PC"].get_ydata(), results["Langevin PC"]["same"])
    assert lines["Langevin PC"].get_color() == COLOURS["LPC"]
    assert set(np.asarray(lines["encoder mean"].get_ydata())) == {float(results["encoder mean"]["same"])}
    assert set(np.asarray(lines["chance 0.5 ± 2 s.e."].get_ydata())) == {0.5}
    shown = [np.asarray(line.get_ydata(), float) for line in axes.get_lines()]
    for name in ("last", "shuffled"):
        assert any(np.array_equal(y, results["running mean"][name]) for y in shown), name
    told = words(figure)
    assert "inference step" in told
    assert "labels shuffled" in told
    assert results["Langevin PC"].attrs["cautions"][0][:40] in told


def test_generalisation_has_white_at_chance(value: xr.DataArray, label: xr.DataArray) -> None:
    result = temporal_generalisation(value, label, READOUT, at=[0, 5, 10, 15])
    figure = decoding.temporal_generalisation(result)
    mesh = figure.axes[0].collections[0]
    np.testing.assert_array_equal(np.asarray(mesh.get_array()).reshape(4, 4), result["accuracy"])
    assert float(mesh.norm(0.5)) == 0.5
    told = words(figure)
    assert "chance 0.5" in told
    assert "trained at inference step" in told
    assert figure.get_figwidth() <= 3.4


def test_solution_times_put_every_difference_beside_zero() -> None:
    rng = np.random.default_rng(2)
    late = np.where((np.arange(40) >= 20) | (np.arange(60) % 2 == 0)[:, None], 0.95, 0.2)
    correct = xr.DataArray(
        (rng.random((60, 40, 40)) < late[:, None]).astype(float), dims=("image", "chain", "step"),
        coords={"chain": np.arange(40), "step": np.arange(40)},
    )  # fmt: skip
    one, other = split_chains(correct, 3)
    criteria = Criteria(late=10)
    results = {
        "apart": solution_time_difference(one, other, criteria, 4),
        "shared": solution_time_difference(one, one, criteria, 4),
    }
    figure = decoding.solution_times(results)
    left, right = figure.axes
    points = [np.asarray(line.get_xdata(), float) for line in right.get_lines()]
    for result in results.values():
        assert any(float(result["difference"]) in x for x in points)
    assert any(set(x) == {0.0} for x in points)
    shares = {str(line.get_label()): np.asarray(line.get_ydata(), float) for line in left.get_lines()}
    solved = float(results["apart"]["challenge_time"].notnull().mean())
    assert shares["challenge images"][-1] == pytest.approx(solved)
    told = words(figure)
    assert f"{results['apart'].sizes['pair']} pairs" in told
    assert "the same chains" in told
    assert "object solution time (steps)" in told


def test_masking_lies_on_the_line_of_theory() -> None:
    soa = xr.DataArray([2, 4, 8], dims="soa", coords={"soa": [2, 4, 8]})
    measure = xr.DataArray(
        [[float(target_theory(0.8, int(n), max(0, t - int(n)))) for t in range(20)] for n in soa],
        dims=("soa", "step"), coords={"soa": soa, "step": np.arange(20)},
    )  # fmt: skip
    curve, theory = masking_curve(measure, 3), target_theory(0.8, soa, 3)
    figure = decoding.masking({"chain continues": curve}, {"chain continues": theory})
    lines = figure.axes[0].get_lines()
    np.testing.assert_allclose(lines[0].get_ydata(), lines[1].get_ydata(), atol=1e-12)
    assert "stimulus onset asynchrony" in words(figure)


def test_the_course_shows_peak_and_end_of_every_rate() -> None:
    steps = np.arange(30)
    curves = np.stack([np.exp(-0.5 * ((steps - p) / 3.0) ** 2) for p in (5, 10)])
    noise = 0.01 * np.random.default_rng(4).standard_normal((6, 1, 1))
    measure = xr.DataArray(
        curves * (1 + noise), dims=("image", "period", "step"), coords={"period": [4, 8], "step": steps}
    )
    times = component_times(measure, (0, 29))
    figure = decoding.component_course(measure, times)
    left, right = figure.axes
    np.testing.assert_allclose(left.get_lines()[1].get_ydata(), curves[1] * (1 + noise.mean()))
    drawn = [np.asarray(line.get_ydata(), float).tolist() for line in right.get_lines()]
    assert [5.0, 10.0] in drawn
    assert times["end"].values.tolist() in drawn
    assert "steps per picture" in words(figure)
