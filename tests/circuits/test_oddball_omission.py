"""oddball_omission: errors of standards, deviants and omissions in closed form, from the study's own files."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from ruamel.yaml import YAML
from typer.testing import CliRunner

import pcsim
from pcsim.cli import app
from pcsim.record import open_trace

ROOT = Path(__file__).parents[2]
CIRCUIT = ROOT / "circuits" / "oddball_omission.yaml"
PRIOR, ALPHA = 1.0, 0.2
Array = NDArray[np.float64]


def expected(stimuli: list[float], precision: float = 4.0) -> tuple[Array, Array]:
    """(π_x (1 − K)(x_n − μ_n), μ after each stimulus), by μ ← μ + α K (x − μ), K = π_x/(π_x + π_z)."""
    gain, mu = precision / (precision + PRIOR), 0.0
    errors, means = [], []
    for x in stimuli:
        errors.append(precision * (1 - gain) * (x - mu))
        mu += ALPHA * gain * (x - mu)
        means.append(mu)
    return np.array(errors), np.array(means)


def settled(stimuli: list[float], precision: float = 4.0) -> tuple[Array, Array]:
    """(error of x, value of mu) at the end of each stimulus."""
    description = YAML(typ="safe").load(CIRCUIT.read_text())
    description["nodes"]["x"]["distribution"]["gaussian"]["precision"] = precision
    steps = 100
    phases = [{"show": {"x": [x]}, "steps": steps} for x in stimuli]
    trace = pcsim.sample(
        description, {"x": np.zeros((1, 1))}, pcsim.langevin(1 / (precision + 2), 0.0), stimulus=phases,
        probes=(pcsim.Probe(("value", "error"), ("x", "mu")),),
    )  # fmt: skip
    ends = np.append(np.arange(1, len(stimuli)) * steps - 1, len(stimuli) * steps)
    return trace["x"]["error"].to_numpy()[0, 0, ends, 0], trace["mu"]["value"].to_numpy()[0, 0, ends, 0]


@pytest.mark.parametrize("precision", [4.0, 2.0])
def test_every_error_is_that_of_the_closed_form(precision: float) -> None:
    """Standards, a deviant, standards, an omission (x = 0); to what is left of the descent in 99 steps."""
    stimuli = [1.0] * 6 + [-1.0] + [1.0] * 3 + [0.0]
    errors, means = settled(stimuli, precision)
    wanted_errors, wanted_means = expected(stimuli, precision)
    np.testing.assert_allclose(errors, wanted_errors, atol=1e-6)
    np.testing.assert_allclose(means, wanted_means, atol=1e-6)


def test_standards_fade_by_one_minus_alpha_gain() -> None:
    """Ratio 1 − .2 · .8 = .84 at precisions 4 and 1; halving π_x makes it 1 − .2 · 2/3."""
    errors, _ = settled([1.0] * 6)
    np.testing.assert_allclose(errors[1:] / errors[:-1], 0.84, atol=1e-5)
    errors, _ = settled([1.0] * 6, precision=2.0)
    np.testing.assert_allclose(errors[1:] / errors[:-1], 1 - 0.2 * 2 / 3, atol=1e-5)


@pytest.mark.parametrize("n", [0, 1, 4, 10])
def test_an_omission_leaves_negative_errors_that_grow_with_what_was_expected(n: int) -> None:
    """−π_x (1 − K) μ_n with μ_n = s (1 − .84ⁿ): nothing at n = 0, else the negative population alone."""
    errors, _ = settled([1.0] * n + [0.0])
    positive, negative = max(errors[-1], 0.0), max(-errors[-1], 0.0)
    assert positive < 1e-6
    assert negative == pytest.approx(0.8 * (1 - 0.84**n), abs=1e-6)


def test_the_deviant_is_more_than_an_unexpected_stimulus() -> None:
    """Mismatch beside a control: −1 after ten +1, against −1 after as many alternations around 0 (many standards)."""
    deviant = settled([1.0] * 10 + [-1.0])[0][-1]
    control = settled([0.5, -0.5] * 5 + [-1.0])[0][-1]
    assert abs(deviant) == pytest.approx(0.8 * (1 + 1 - 0.84**10), abs=1e-6)
    assert abs(control) == pytest.approx(abs(expected([0.5, -0.5] * 5 + [-1.0])[0][-1]), abs=1e-6)
    assert abs(deviant) > 1.7 * abs(control)


def test_the_study_runs_and_shows_it(tmp_path: Path) -> None:
    """Ten standards, a deviant, five standards, an omission, by the command line."""
    out = tmp_path / "run"
    result = CliRunner().invoke(
        app, ["run", str(ROOT / "studies" / "oddball_omission.yaml"), "--out", str(out), "figures=[]"]
    )
    assert result.exit_code == 0, result.output
    trace = open_trace(out / "trace.zarr")
    ends = np.append(trace["onset"].to_numpy()[1:] - 1, trace["step"].to_numpy()[-1])
    errors = trace["x"]["error"].sel(step=ends).to_numpy().squeeze()
    np.testing.assert_allclose(errors, expected([1.0] * 10 + [-1.0] + [1.0] * 5 + [0.0])[0], atol=1e-6)
    names = [str(trace["phase"].sel(step=step).values) for step in ends]
    assert names == ["standard"] * 10 + ["deviant"] + ["standard"] * 5 + ["omission"]
