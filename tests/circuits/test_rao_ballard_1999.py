"""rao_ballard_1999: the circuit against its formulas; oriented fields and end-stopping after a short training."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

import pcsim
from pcsim.circuit.distributions import StudentT
from pcsim.cli import app
from pcsim.engines.torch.program import Program
from pcsim.errors import RunError
from pcsim.figures.receptive_fields import end_stopping, receptive_fields, responses, stopping
from pcsim.figures.run_view import RunView, view
from pcsim.figures.style import house_style

ROOT = Path(__file__).parents[2]
CIRCUIT = ROOT / "circuits" / "rao_ballard_1999.yaml"
F64 = torch.float64


def test_three_modules_share_their_fields() -> None:
    """Oracle: view m is Σ_k r_km U_k, with one U for the three; to rounding."""
    program = Program(pcsim.load(CIRCUIT))
    params = program.initial_parameters(torch.Generator().manual_seed(0))
    r = torch.randn(4, 32, 1, 3, dtype=F64, generator=torch.Generator().manual_seed(1))
    node = next(n for n in program.bind(params).nodes if n.name == "x")
    eta, _ = program.bind(params).prediction(node, {"r": r}, 4)
    fields = params["r->x.0.weight"][:, 0]
    for module in range(3):
        wanted = torch.einsum("nk,kyx->nyx", r[:, :, 0, module], fields)
        torch.testing.assert_close(eta[:, 0, :, 16 * module : 16 * module + 16], wanted, rtol=0, atol=1e-12)


def test_the_prior_has_the_form_of_the_original() -> None:
    """Student's t with ν = Π = 3 is 2 log(1 + d²) and a constant, its error 4d/(1 + d²), its variance 1."""
    prior = StudentT(dof=3.0, precision=3.0)
    d = torch.linspace(-5, 5, 21, dtype=F64)[:, None]
    local = prior.local({}, d, torch.zeros_like(d), energy=True)
    assert local.energy is not None
    rest = local.energy - 2 * torch.log1p(d[:, 0] ** 2)
    torch.testing.assert_close(rest, torch.full_like(rest, math.log(math.pi / 2)), rtol=0, atol=1e-12)
    torch.testing.assert_close(local.error, 4 * d / (1 + d**2), rtol=0, atol=1e-12)
    for name in ("top", "r"):
        distribution = pcsim.load(CIRCUIT).nodes[name].distribution
        assert distribution == prior


def test_index_of_end_stopping() -> None:
    """1 − R(longest)/max R: 0 for an answer that only grows, .75 for one that falls to a quarter of its peak."""
    answer = xr.DataArray([[1.0, 1.0], [2.0, 4.0], [3.0, 1.0]], {"length": [2, 14, 26]}, ("length", "unit"))
    assert stopping(answer).to_numpy().tolist() == [0.0, 0.75]


# ----------------------------------------------------------------------------- a short training, and bars


def run(study: str, out: Path, *overrides: str) -> RunView:
    path = ROOT / "studies" / f"{study}.yaml"
    result = CliRunner().invoke(
        app, ["run", str(path), "--out", str(out), "threads=1", "figures=[]", *overrides]
    )
    assert result.exit_code == 0, result.output
    return view(out)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunView]:
    """Trained with fewer updates; bars with feedback, without it, and with feedback whose weights are shuffled."""
    pytest.importorskip("skimage")
    folder = tmp_path_factory.mktemp("rao_ballard")
    root = f"data.root={folder / 'data'}"
    trained = run(
        "rao_ballard_1999",
        folder / "trained",
        root,
        "learning.updates=700",
        "evaluation={}",
        "record.steps=1",
    )
    weights = trained.path / "checkpoints" / "weights.safetensors"
    mixed = load_file(weights)
    rng, w = np.random.default_rng(0), mixed["top->r.0.weight"]
    save_file(
        {**mixed, "top->r.0.weight": rng.permutation(w.ravel()).reshape(w.shape)},
        folder / "mixed.safetensors",
    )
    bars: dict[str, tuple[Any, ...]] = {
        "with": (f"weights={weights}",),
        "without": (f"weights={weights}", "clamp.top=0.0"),
        "shuffled": (f"weights={folder / 'mixed.safetensors'}",),
    }
    shown = {name: run("rao_ballard_1999_bars", folder / name, root, *more) for name, more in bars.items()}
    return {"trained": trained, **shown}


def indices(run: RunView, where: RunView) -> NDArray[np.float64]:
    """End-stopping of the better driven half of the units, each at the row that drives it most in `where`."""
    drive = responses(where).max("length")
    kept = (drive.max("row") >= drive.max("row").median()).to_numpy()
    found: NDArray[np.float64] = stopping(responses(run).isel(row=drive.argmax("row"))).to_numpy()[kept]
    return found


@pytest.mark.slow
def test_feedback_makes_error_units_end_stopped(runs: dict[str, RunView]) -> None:
    """The index with feedback is above the one without by 4 s.e. over units and by .1; with shuffled feedback not."""
    without = indices(runs["without"], runs["without"])
    for name, expected in (("with", True), ("shuffled", False)):
        surplus = indices(runs[name], runs["without"]) - without
        error = surplus.std(ddof=1) / math.sqrt(len(surplus))
        found = bool(surplus.mean() > max(0.1, 4 * error))
        assert found == expected, (name, surplus.mean(), error)


@pytest.mark.slow
def test_fields_are_oriented(runs: dict[str, RunView]) -> None:
    """The median field holds its power in one orientation more than any of 200 fields of windowed noise does.

    Measure: the resultant |Σ P e^(2iθ)|/Σ P over the directions θ of the frequency plane, 1 for a grating.
    """

    def resultant(stack: NDArray[np.float64]) -> NDArray[np.float64]:
        power = np.abs(np.fft.fft2(stack)) ** 2
        f = np.fft.fftfreq(16)
        angle = np.arctan2(f[:, None], f[None])
        power[:, 0, 0] = 0
        found: NDArray[np.float64] = np.abs((power * np.exp(2j * angle)).sum((1, 2))) / power.sum((1, 2))
        return found

    learned = load_file(runs["trained"].path / "checkpoints" / "weights.safetensors")["r->x.0.weight"][:, 0]
    reach = np.arange(16) - 7.5
    window = np.exp(-(reach[:, None] ** 2 + reach[None] ** 2) / 32)
    noise = np.random.default_rng(0).normal(size=(200, 16, 16)) * window
    assert np.median(resultant(learned.astype(np.float64))) > resultant(noise).max()


@pytest.mark.slow
def test_figures(runs: dict[str, RunView]) -> None:
    with house_style():
        assert len(receptive_fields([runs["trained"]]).subfigs[0].axes) == 32
        lines = end_stopping([runs["with"], runs["without"]]).axes[0].lines
    assert [line.get_label().split(" feedback")[0] for line in lines] == ["with", "without"]
    with pytest.raises(RunError, match="a run on the data set bars"):
        responses(runs["trained"])
