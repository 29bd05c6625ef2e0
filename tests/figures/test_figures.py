"""Every registered figure draws what the traces hold, labelled, in fixed colours, the same bytes each time."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from pcsim.errors import RunError, StudyError
from pcsim.figures.chains import asinh_ticks
from pcsim.figures.pictures import GAP, tiled
from pcsim.figures.registry import FIGURES, draw, draw_to
from pcsim.figures.run_view import RunView, view
from pcsim.figures.style import COLOURS, looks
from tests.figures import synthetic

GENERAL = [name for name in FIGURES if name not in ("receptive_fields", "end_stopping")]
"""Those two draw one circuit only: tests/circuits/test_rao_ballard_1999.py."""

PICTURES = ("samples", "reconstructions")
pytestmark = pytest.mark.filterwarnings("error")


def texts(figure: Figure) -> list[Text]:
    return [t for t in figure.findobj(Text) if t.get_text().strip() and t.get_visible()]


@pytest.mark.parametrize("name", GENERAL)
@pytest.mark.parametrize("count", [1, 3])
def test_draws_labelled_and_legible(name: str, count: int, runs: list[RunView]) -> None:
    chosen = runs if count == 3 else runs[1:2]
    figure = draw(name, chosen)
    FigureCanvasAgg(figure).draw()
    assert figure.get_figwidth() <= 7.0
    assert min(t.get_fontsize() for t in texts(figure)) >= 6
    shown = " ".join(t.get_text() for t in texts(figure))
    drawn = (
        [r for r in chosen if r.has_trace] if name in ("energy", "gradient_norm", "trajectories") else chosen
    )
    for label in [look.label for look in looks(chosen)][: len(drawn)]:
        assert label in shown
    if name not in PICTURES:
        assert figure.legends
        for axes in figure.axes:
            own = axes.get_xlabel() or axes.get_ylabel() or axes.get_shared_x_axes().get_siblings(axes)
            assert own
        bottom = [axes.get_xlabel() for axes in figure.axes if axes.get_xlabel()]
        assert all(label[0].islower() or label.startswith(("PC", "U")) for label in bottom)


@pytest.mark.parametrize("name", GENERAL)
def test_no_text_on_text(name: str, runs: list[RunView]) -> None:
    """Titles, axis labels and legend entries keep clear of each other and stay on the sheet."""
    figure = draw(name, runs)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    titles = [t for axes in figure.axes for t in (axes.title, axes.xaxis.label, axes.yaxis.label)]
    titles += [t for legend in figure.legends for t in legend.get_texts()]
    boxes = [t.get_window_extent(renderer) for t in titles if t.get_text()]
    width, height = canvas.get_width_height()
    for i, box in enumerate(boxes):
        assert box.x0 >= -1
        assert box.y0 >= -1
        assert box.x1 <= width + 1
        assert box.y1 <= height + 1
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])


@pytest.mark.parametrize("name", ["energy", "reconstructions"])
def test_same_bytes_each_time(name: str, runs: list[RunView], tmp_path: Path) -> None:
    first = [path.read_bytes() for path in draw_to(name, runs, tmp_path / "a")]
    second = [path.read_bytes() for path in draw_to(name, runs, tmp_path / "b")]
    assert len(first) == 3
    assert first == second


def test_a_method_keeps_its_colour_in_any_company(runs: list[RunView]) -> None:
    together, alone = looks(runs), [looks([run])[0] for run in runs]
    for run, one, other in zip(runs, together, alone, strict=True):
        assert one.color == other.color == to_rgb(COLOURS[run.method])
    assert [run.method for run in runs] == ["PC", "LPC", "VAE"]


def test_two_runs_of_one_method_differ_in_label_colour_and_dashes(
    runs: list[RunView], tmp_path: Path
) -> None:
    path = synthetic.write_run(tmp_path / "mnist_lpc" / "other", synthetic.study_of("lpc", seed=1), {})
    one, other = looks([runs[1], view(path)])
    assert one.label == "mnist_lpc, seed 0"
    assert other.label == "mnist_lpc, seed 1"
    assert one.color != other.color
    assert one.dashes != other.dashes


def test_energy_is_the_median_above_the_minimum_with_the_closed_lines(runs: list[RunView]) -> None:
    figure = draw("energy", runs[:2])
    left, right = figure.axes
    lines = {str(line.get_label()): line for line in right.get_lines()}
    closed = next(line for label, line in lines.items() if label.startswith("T = 1"))
    assert closed.get_ydata()[0] == synthetic.D / 2
    steps = range(-60, 201)
    for label, temperature in (("vanilla PC", 0.0), ("Langevin PC", 1.0)):
        expected = np.median(synthetic.chains(temperature, steps)["energy"], axis=1)
        after = np.array(steps) >= 0
        np.testing.assert_array_equal(lines[label].get_xdata(), np.array(steps)[after])
        # traces are float32: 24 bits of energies up to 200
        np.testing.assert_allclose(lines[label].get_ydata(), expected[after] - 60, atol=200 * 2**-22)
        before = next(line for line in left.get_lines() if line.get_label() == label)
        np.testing.assert_allclose(before.get_ydata(), expected[~after], rtol=2**-22)


def test_energy_axis_is_smooth_with_plain_ticks(runs: list[RunView]) -> None:
    """asinh with the closed line D/2 as its width: ticks ascend from 0 and keep a seventh of the axis apart."""
    axes = draw("energy", runs[:2]).axes[-1]
    assert axes.get_yscale() == "asinh"
    shown = [float(label.get_text().replace(",", "")) for label in axes.get_yticklabels()]
    assert shown == [*axes.get_yticks()]
    assert shown[0] == 0
    for high, width in ((0.3, 10.0), (400.0, 10.0), (3e5, 0.5), (7.0, 2000.0)):
        ticks = asinh_ticks(high, width)
        assert ticks[0] == 0 < ticks[1] <= ticks[-1] <= high
        places = np.arcsinh(np.array(ticks) / width)
        assert 3 <= len(ticks) <= 8
        assert np.diff(places).min() >= np.arcsinh(high / width) / 7 * (1 - 1e-12)


def test_gradient_norms_that_agree_both_show(runs: list[RunView]) -> None:
    under, over = draw("gradient_norm", [runs[1], runs[1]]).axes[0].get_lines()[:2]
    assert under.get_linewidth() > over.get_linewidth()
    assert under.get_linestyle() == "-"
    assert over.get_linestyle() == "--"


def test_energy_without_a_known_minimum_is_the_energy_itself(tmp_path: Path) -> None:
    path = synthetic.write_run(tmp_path / "mnist_pc" / "a", synthetic.study_of("pc"), {})
    synthetic.write_trace(path, 0.0, minimum=False)
    figure = draw("energy", [view(path)])
    assert "above" not in figure.axes[-1].get_ylabel()
    assert figure.axes[-1].get_lines()[0].get_ydata()[-1] == pytest.approx(60, abs=0.1)


def test_of_several_recorded_updates_the_last_is_shown(tmp_path: Path) -> None:
    path = synthetic.write_run(tmp_path / "mnist_lpc" / "a", synthetic.study_of("lpc"), {})
    synthetic.write_trace(path, 1.0, last=40, updates=(300, 600))
    figure = draw("gradient_norm", [view(path)])
    expected = np.median(synthetic.chains(1.0, range(-60, 41), seed=1)["gradient_norm"], axis=1)
    np.testing.assert_allclose(figure.axes[0].get_lines()[0].get_ydata(), expected, rtol=1e-6)
    assert draw("trajectories", [view(path)]).axes


def test_a_trace_cut_in_the_spontaneous_phase(tmp_path: Path) -> None:
    path = synthetic.write_run(tmp_path / "mnist_lpc" / "a", synthetic.study_of("lpc"), {}, status="stopped")
    synthetic.write_trace(path, 1.0, last=-10)
    assert draw("energy", [view(path)]).axes
    with pytest.raises(RunError, match="0 recorded steps after the stimulus; a plane needs 3"):
        draw("trajectories", [view(path)])


def test_what_is_missing_is_named(runs: list[RunView], tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no figure 'sampels'; did you mean 'samples'"):
        draw("sampels", runs)
    with pytest.raises(RunError, match="none of the runs has a trace"):
        draw("energy", runs[2:])
    bare = view(synthetic.write_run(tmp_path / "s" / "a", synthetic.study_of("vae"), {}))
    with pytest.raises(RunError, match="no evaluation yet"):
        draw("samples", [bare])
    with pytest.raises(RunError, match="no learning curve"):
        draw("learning_curve", [bare])
    numbers = {10: synthetic.evaluation(0.0, pictures=False)}
    plain = view(synthetic.write_run(tmp_path / "s" / "b", synthetic.study_of("vae"), numbers))
    with pytest.raises(RunError, match=r"kept no reconstruction|kept no original"):
        draw("reconstructions", [plain])
    with pytest.raises(RunError, match="at least one run"):
        draw("samples", [])


def test_tiles_stand_where_they_belong() -> None:
    stack = np.random.default_rng(0).random((5, 3, 4, 6))
    canvas = tiled(stack, columns=3)
    assert canvas.shape == (2 * 4 + GAP, 3 * 6 + 2 * GAP, 3)
    np.testing.assert_array_equal(canvas[4 + GAP :, 6 + GAP : 12 + GAP], np.moveaxis(stack[4], 0, -1))
    assert (canvas[4 : 4 + GAP] == 1).all()
    assert tiled(stack[:, :1], 2).ndim == 2
    with pytest.raises(RunError, match="1 or 3 channels, these have 2"):
        tiled(stack[:, :2], 2)


def test_learning_curve_shows_the_interval_of_scipy(runs: list[RunView]) -> None:
    from scipy import stats

    figure = draw("learning_curve", runs[1:2])
    container = figure.axes[0].containers[0]
    values = runs[1].evaluation(400)["log_likelihood"]
    low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    ends = container[2][0].get_segments()[-1]
    np.testing.assert_allclose(ends[:, 1], [low, high], rtol=1e-12)
    assert [axes.get_xlabel() for axes in figure.axes[3:]] == [
        "parameter updates",
        "gradient evaluations",
        "training time (s)",
    ]


def test_neither_figures_nor_comparison_import_torch() -> None:
    code = (
        "import sys, pcsim.figures.registry, pcsim.study.comparison_text;"
        "sys.exit('torch' in sys.modules or 'matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
