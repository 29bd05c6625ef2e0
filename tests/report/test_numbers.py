"""The numbers of the report are those of the analysis functions called directly, and those of the closed forms."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from pcsim.analysis import (
    convergence,
    divergence,
    energy,
    irreversibility,
    progress,
    quenching,
    temperature,
    timescales,
)
from pcsim.figures.run_view import view
from pcsim.report import contrast, dynamics, fast_slow, gather, noise, sampling
from pcsim.report.page import Number, Section
from pcsim.report.subject import Missing, Subject, subjects, thin
from tests.report.made import FLOOR, STEP_SIZE, Plan, curvature, write_run


@pytest.fixture(scope="module")
def run(langevin: Path) -> Subject:
    """The Langevin run as the report reads it."""
    return subjects([view(langevin)])[0]


@pytest.fixture(scope="module")
def two(vanilla: Path, langevin: Path) -> tuple[Subject, ...]:
    """Both runs as the report reads them."""
    return subjects([view(vanilla), view(langevin)])


def numbers(section: Section, name: str) -> Sequence[Number]:
    """The numbers of the row of that name."""
    (row,) = [cells for table in section.tables for title, cells in table.rows if title == name]
    assert all(isinstance(cell, Number) for cell in row)
    return [cell for cell in row if isinstance(cell, Number)]


def late(run: Subject, name: str) -> xr.DataArray:
    """What the report takes as stationary, read without the report: the steps from half of the response on."""
    return array(run, name).sel(step=slice(200, None))


def array(run: Subject, name: str) -> xr.DataArray:
    """A variable of the trace, read without the report."""
    assert run.trace is not None
    found = run.trace[name]
    assert isinstance(found, xr.DataArray)
    return found


def test_diagnostics(run: Subject) -> None:
    section = sampling.equilibrium([run])
    found = convergence.diagnostics(late(run, "z/value"))
    assert numbers(section, "worst split R-hat")[0].value == float(found["rhat"].max())
    assert numbers(section, "fewest effective draws")[0].value == float(found["ess"].min())
    time = numbers(section, "median integrated time of the units")[0].value
    assert time == pytest.approx(float(found["integrated_time"].median()), rel=1e-12)
    plateau = progress.gradient_plateau(run.evoked("gradient_norm"), 200)["plateau"]
    shown = numbers(section, "squared gradient norm, second half")[0]
    assert shown.value == pytest.approx(float(plateau.mean()), rel=1e-12)
    assert shown.error == pytest.approx(float(plateau.std(ddof=1)) / np.sqrt(3), rel=1e-12)
    by_node = numbers(section, "energy of z, second half")[0]
    assert by_node.value == pytest.approx(float(late(run, "z/energy").astype(float).mean()), rel=1e-12)


def test_virial_temperature_is_the_analysis_and_the_closed_form(run: Subject) -> None:
    """T/(1 − γλ/2) per unit for Langevin steps on a quadratic; bound: 4 standard errors of the mean over units."""
    section = noise.principled([run])
    direct = temperature.virial_temperature(late(run, "z/value"), late(run, "z/drift"), STEP_SIZE)
    shown = numbers(section, "virial temperature")[0]
    # the trace holds the step size in float32
    assert shown.value == pytest.approx(float(direct["measured"].mean()), rel=1e-12)
    assert shown.expected == pytest.approx(float(direct["expected"].mean()), rel=1e-6)
    exact = (1 / (1 - STEP_SIZE * curvature(4) / 2)).mean()
    error = float(np.sqrt((direct["measured_error"] ** 2).sum()) / direct["measured"].size)
    assert abs(shown.value - exact) < 4 * error
    away = numbers(section, "its deviation from the expected one")[0]
    assert away.value == pytest.approx(float(direct["deviation"].mean()), rel=1e-4)


def test_energy_above_the_minimum(run: Subject) -> None:
    direct = energy.energy_statistics(late(run, "energy"), FLOOR, 4)
    shown = numbers(noise.principled([run]), "energy above the minimum")[0]
    assert shown.value == pytest.approx(float(direct["excess"].mean()), rel=1e-9)
    assert shown.expected == 2.0


def test_sweep_and_chain(run: Subject) -> None:
    section = fast_slow.sweep_and_chain([run])
    start = array(run, "energy").sel(step=0).astype(float)
    change = (start - late(run, "energy").astype(float).mean("step")).mean("chain")
    shown = numbers(section, "log p(x, z) gained by the chain")[0]
    assert shown.value == pytest.approx(float(change.mean()), rel=1e-9)
    law = divergence.divergence(
        divergence.factorised_law(array(run, "encoder/z/mean"), array(run, "encoder/z/scale")),
        divergence.stationary_moments(late(run, "z/value"), 200),
    )
    for name, title in (
        ("reverse", "KL(q‖p), sweep to end of chain"),
        ("forward", "KL(p‖q), end of chain to sweep"),
    ):
        assert numbers(section, title)[0].value == pytest.approx(float(law[name].mean()), rel=1e-9)
        assert numbers(section, title)[0].error is not None
    ratio = progress.drift_to_noise(
        array(run, "gradient_norm").sel(step=slice(0, None)).astype(float) ** 2, STEP_SIZE, 4, 200
    )
    shown = numbers(section, "drift-to-noise ratio, second half")[0]
    assert shown.value == pytest.approx(float(ratio["stationary"].mean()), rel=1e-6)


def test_timescales_and_asymmetry(run: Subject) -> None:
    section = dynamics.in_time([run])
    phases = {"spontaneous": slice(-80, -1), "evoked": slice(200, None)}
    direct = timescales.timescales_by_phase(array(run, "z/value"), phases)["integrated"]
    for phase in phases:
        shown = numbers(section, f"integrated timescale, {phase}")[0]
        assert shown.value == pytest.approx(float(direct.sel(phase=phase).mean()), rel=1e-9)
    # 80 steps are less than 50 integrated times of about 9 steps: the time reads low, and the number says so
    assert numbers(section, "integrated timescale, spontaneous")[0].shown.startswith("at least ")
    arrow = irreversibility.irreversibility(late(run, "z/value").isel(image=0))
    shown = numbers(section, "time asymmetry of pairs of units")[0]
    assert shown.value == pytest.approx(float(arrow["total"]), rel=1e-9)
    assert "no direction of time" in section.answer


def test_variability(run: Subject) -> None:
    section = dynamics.variability([run])
    direct = quenching.across_chain_variance(late(run, "z/value"))["variance"]
    shown = numbers(section, "variance in the response")[0]
    assert shown.value == pytest.approx(float(direct.mean()), rel=1e-9)
    exact = (1 / (curvature(4) * (1 - STEP_SIZE * curvature(4) / 2))).mean()
    effective = float(convergence.effective_sample_size(late(run, "z/value") ** 2).min()) * 4 * 3
    assert abs(shown.value - exact) < 4 * exact * np.sqrt(2 / effective)
    assert numbers(section, "KL of average evoked from spontaneous")[0].error is not None
    assert numbers(section, "mean absolute noise correlation")[0].error is not None


def test_pc_against_lpc_is_one_table(two: tuple[Subject, ...]) -> None:
    section = contrast.contrast(two)
    assert section.tables[0].columns == ("vanilla PC", "Langevin PC")
    assert [name for name, _ in section.tables[0].rows] == list(contrast.OBSERVABLES)
    virial = numbers(section, "virial temperature")
    assert virial[0].value == pytest.approx(0.0, abs=1e-6)
    assert virial[1].value > 1
    depth = numbers(section, "log p(x, z) relative to its maximum")
    assert depth[0].value == pytest.approx(0.0, abs=1e-4)  # float32 energies of about 60
    assert depth[0].expected == 0.0
    assert depth[1].expected == -2.0
    exact = -0.5 * (1 / (1 - STEP_SIZE * curvature(4) / 2)).sum()
    direct = energy.energy_statistics(late(two[1], "energy"), FLOOR, 4)
    error = float(np.sqrt((direct["excess_error"] ** 2).sum()) / 3)
    assert abs(depth[1].value - exact) < 4 * error
    silent = numbers(section, "variance across chains in the response")[0]
    assert silent.value == pytest.approx(0.0, abs=1e-6)


def test_the_contrast_needs_both_kinds(run: Subject) -> None:
    with pytest.raises(Missing, match=r"T = 0"):
        contrast.contrast([run])


def test_a_sampler_at_a_wrong_temperature_is_told(tmp_path: Path) -> None:
    """Noise of twice the variance that the study says: far from what a step at T = 1 must give."""
    path = write_run(tmp_path / "hot", Plan(temperature=2.0))
    hot = subjects([view(path)])[0]
    settings = {**hot.run.study, "inference": {"kernel": {"name": "langevin", "temperature": 1.0}}}
    claimed = hot._replace(run=type(hot.run)(path, "hot", settings, hot.run.manifest, ()))
    answer = noise.principled([claimed]).answer
    assert ": no." in answer
    assert "standard errors" in answer


def test_jackknife_gives_the_error_of_a_mean_of_chains() -> None:
    """Eight independent chains: the jackknife of a mean is s/√8 exactly."""
    values = np.random.default_rng(0).standard_normal(8)
    given = xr.DataArray(values, dims="chain")
    found = gather.jackknife(lambda part: float(part.mean()), given)
    assert found == pytest.approx(values.std(ddof=1) / np.sqrt(8), rel=1e-12)
    assert np.isnan(gather.jackknife(lambda part: 0.0, given.isel(chain=slice(0, 3))))


def test_thinning_keeps_step_0_and_the_budget() -> None:
    value = xr.DataArray(
        np.zeros((2, 1000), np.float32), dims=("chain", "step"), coords={"step": np.arange(-333, 667)}
    )
    kept = thin(value, 1000)
    assert 0 in kept["step"]
    assert kept.nbytes <= 1000 + 8
    assert thin(value, value.nbytes) is value


def test_nodes_stand_from_the_roots_to_the_data(tmp_path: Path) -> None:
    run = subjects([view(write_run(tmp_path / "order", Plan(images=1, chains=4, steps=100)))])[0]
    assert run.depth() == {"z": 0, "x": 1}
    assert run.latents() == ("z",)
