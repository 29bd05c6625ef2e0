"""A real trace of the two-latent circuit with an encoder: what sweep and chain do, against its closed form."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import pcsim
from pcsim.analysis.divergence import divergence, divergence_over_steps, factorised_law, linear_divergence
from pcsim.analysis.equilibrium import equilibrium_time
from pcsim.analysis.fast_slow import fast_slow_index, stages
from pcsim.analysis.gaps import gaussian_gaps
from pcsim.analysis.gaussian import Law
from pcsim.analysis.latency import layer_latencies
from pcsim.analysis.progress import drift_to_noise, log_joint_change, quadratic_line, squared_gradient
from pcsim.analysis.trajectories import project, trajectory_plane
from pcsim.analysis.warm_up import linear_warm_up, warm_up

CIRCUIT = Path(__file__).parents[2] / "circuits" / "lingauss_amortised.yaml"
X = np.array([[6.0], [-3.0], [4.0]])
PRECISION = np.array([[10.0, -9.0], [-9.0, 10.0]])
GAMMA, CHAINS, STEPS = 0.03, 64, 120
EIGENVALUES, AXES = np.linalg.eigh(PRECISION)


@pytest.fixture(scope="module")
def trace() -> xr.DataTree:
    """The untrained encoder's sweep at 0 after 40 spontaneous steps, then Langevin at T = 1."""
    probes = (
        pcsim.Probe(("value", "error", "drift")),
        pcsim.Probe(("energy",)),
        pcsim.Probe(("gradient_norm",)),
    )
    return pcsim.sample(
        CIRCUIT, X, pcsim.langevin(GAMMA), STEPS, chains=CHAINS, spontaneous=40, start="encoder", probes=probes
    )  # fmt: skip


@pytest.fixture(scope="module")
def posterior() -> xr.Dataset:
    mean = X * np.array([3.0, -3.0]) / 19
    return xr.Dataset(
        {"mean": (("image", "unit"), mean), "covariance": (("unit", "unit_2"), np.linalg.inv(PRECISION))},
        coords={"image": np.arange(3)},
    )


def value(trace: xr.DataTree, path: str = "z/value") -> xr.DataArray:
    found = trace[path]
    assert isinstance(found, xr.DataArray)
    return found


def encoder(trace: xr.DataTree) -> tuple[xr.DataArray, xr.DataArray]:
    return value(trace, "encoder/z/mean"), value(trace, "encoder/z/scale")


def exact_moments(trace: xr.DataTree, posterior: xr.Dataset, image: int, t: int) -> Law:
    """Mean and covariance of z_t: A^t about the posterior's mean, and A^t S A^t + the noise's share; A = I − γΛ."""
    mean, scale = (array.to_numpy()[image] for array in encoder(trace))
    power = AXES @ np.diag((1 - GAMMA * EIGENVALUES) ** t) @ AXES.T
    own = AXES @ np.diag(2 / (EIGENVALUES * (2 - GAMMA * EIGENVALUES))) @ AXES.T
    centre = posterior["mean"].to_numpy()[image]
    return Law(
        centre + power @ (mean - centre), power @ np.diag(scale**2) @ power + own - power @ own @ power
    )


def test_divergences_follow_the_exact_law(trace: xr.DataTree, posterior: xr.Dataset) -> None:
    """Chains' KL at five steps, 4 of the fit's standard errors; at the sweep it is the encoder's own."""
    found = divergence_over_steps(value(trace), posterior)
    at_sweep = divergence(factorised_law(*encoder(trace)), posterior)
    for name in ("reverse", "forward"):
        score = (found[name].sel(step=0) - at_sweep[name]) / found[f"{name}_error"].sel(step=0)
        assert float(abs(score).max()) < 4
        for t in (1, 5, 20, 80):
            laws = [exact_moments(trace, posterior, image, t) for image in range(3)]
            law = xr.Dataset(
                {
                    "mean": (("image", "unit"), np.array([one.mean for one in laws])),
                    "covariance": (("image", "unit", "unit_2"), np.array([one.covariance for one in laws])),
                },
                coords=posterior["image"].coords,
            )
            exact = divergence(law, posterior)[name]
            assert (
                float(abs((found[name] - exact).sel(step=t) / found[f"{name}_error"].sel(step=t)).max()) < 4
            )


def test_linear_table_is_the_same_in_the_eigenbasis(trace: xr.DataTree, posterior: xr.Dataset) -> None:
    """The module's closed form for an isotropic start equals the matrix recursion."""
    start = Law(np.array([1.0, -2.0]), 0.5 * np.eye(2))
    found = linear_divergence(start, EIGENVALUES, GAMMA, [7])
    power = (1 - GAMMA * EIGENVALUES) ** 7
    variance = power**2 * 0.5 + (1 - power**2) * 2 / (EIGENVALUES * (2 - GAMMA * EIGENVALUES))
    first = xr.Dataset(
        {"mean": ("unit", power * start.mean), "covariance": (("unit", "unit_2"), np.diag(variance))}
    )
    second = xr.Dataset(
        {"mean": ("unit", np.zeros(2)), "covariance": (("unit", "unit_2"), np.diag(1 / EIGENVALUES))}
    )
    for name in ("reverse", "forward"):
        assert float(found[name][0]) == pytest.approx(float(divergence(first, second)[name]), rel=1e-10)


def test_log_joint_gradient_and_times(trace: xr.DataTree) -> None:
    """The line from the trace's own energy minimum; DNR from drift equals that from the norm, 4 s.e. at the end."""
    line = quadratic_line(value(trace, "energy_minimum"), 2, step_curvature=GAMMA * EIGENVALUES)
    change = log_joint_change(value(trace, "energy"), line)
    heat = 1 / (1 - GAMMA * EIGENVALUES / 2)
    error = np.sqrt((heat**2).sum() / 2 / CHAINS)
    assert float(abs(change["change"].sel(step=STEPS) - change["stationary"]).max()) < 4 * error
    assert bool((change["stationary"] > 0).all())  # an untrained encoder starts far outside the typical set
    squared = squared_gradient(value(trace, "z/drift")).sel(step=slice(0, None))
    norm = value(trace, "gradient_norm").sel(step=slice(0, None))
    np.testing.assert_allclose(squared, norm**2, rtol=1e-9)
    ratio = drift_to_noise(squared, GAMMA, 2, after=60)
    assert float(abs(ratio["stationary"] / (GAMMA * (EIGENVALUES * heat).sum() / 4) - 1).max()) < 0.2
    times = equilibrium_time(value(trace, "energy"), line, window=21)
    # the slow direction's half of the energy has (1 + a²)/(1 − a²) = 33 steps of memory
    assert any("shorter than four integrated times" in text for text in times.attrs["cautions"])


def test_sweep_and_chain_share_the_work(trace: xr.DataTree, posterior: xr.Dataset) -> None:
    """The index from the chains against that of the exact expectations; gaps: the family's is ½(2 ln 10 − ln 19)."""
    away = -((value(trace) - posterior["mean"]) ** 2).sum("unit")
    found = fast_slow_index(stages(away, slice(-20, -1), 80), resamples=200, seed=0)
    mean, scale = encoder(trace)
    prior = -((posterior["mean"] ** 2).sum("unit") + 2 / (1 - GAMMA / 2))
    sweep = -(((mean - posterior["mean"]) ** 2 + scale**2).sum("unit"))
    late = -(2 / (EIGENVALUES * (2 - GAMMA * EIGENVALUES))).sum()
    exact = (sweep - prior) / (late - prior)
    # the chain's slowest term (1 − γ)^80 = 9 % of the sweep's offset is still there: squared, below the error
    assert float(abs((found["index"] - exact) / found["standard_error"]).max()) < 4.5
    gaps = gaussian_gaps(mean, scale, posterior)
    np.testing.assert_allclose(gaps["approximation"], 0.5 * (2 * np.log(10) - np.log(19)), rtol=1e-9)
    assert bool((gaps["amortisation"] > 0).all())


def test_latencies_of_the_sweep(trace: xr.DataTree) -> None:
    """z departs from its spontaneous activity at the sweep itself; the chain then moves it within a few steps."""
    found = layer_latencies({"z": value(trace), "x_error": value(trace, "x/error")}, permutations=199, seed=0)
    assert float(found["baseline_latency"].sel(level="z")) == 0
    assert 1 <= float(found["sweep_latency"].sel(level="z")) <= 3
    assert 1 <= float(found["sweep_latency"].sel(level="x_error")) <= 3


def test_warm_up_and_planes(trace: xr.DataTree, posterior: xr.Dataset) -> None:
    """Along the slow direction the warm-up's closed form holds within 4 s.e.; chains project onto a plane."""
    slow = xr.dot(value(trace) - posterior["mean"], xr.DataArray(AXES[:, 0], dims="unit"), dim="unit")
    discards = [0, 20, 60]
    found = warm_up(slow.sel(step=slice(0, None)), 0.0, discards)
    mean, scale = encoder(trace)
    for image in range(3):
        bias = float((mean - posterior["mean"]).to_numpy()[image] @ AXES[:, 0])
        variance = float(scale.to_numpy()[image] ** 2 @ AXES[:, 0] ** 2)
        exact = linear_warm_up(
            bias, variance, GAMMA * EIGENVALUES[0], STEPS, discards, heat=1 / EIGENVALUES[0]
        )
        score = (found["mse"].isel(image=image) - exact["mse"]) / found["mse_error"].isel(image=image)
        assert float(abs(score).max()) < 4
    plane = trajectory_plane(value(trace), origin="end")
    # a plane of two units holds everything
    np.testing.assert_allclose(plane["explained"].sum("component"), 1, rtol=1e-12)
    assert project(value(trace), plane).dims == ("image", "chain", "step", "component")
