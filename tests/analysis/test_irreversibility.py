"""Time asymmetry of slow error units and of rotations in closed form, and of reversible chains, which have none."""

import numpy as np
import pytest
import xarray as xr
from scipy.linalg import expm, solve_continuous_lyapunov

from pcsim.analysis.irreversibility import irreversibility
from pcsim.errors import AnalysisError
from tests.analysis.surrogates import Array, langevin, named, random_precision, random_walk

DT = 0.1
SLOW_ERRORS = np.array([[0.0, -5.0], [5.0, -5.0]])
"""d(φ, ε)/dt with φ' = 2 ε_u − ε_p + √2 ξ, .2 ε_u' = x − 2φ − ε_u, .2 ε_p' = φ − ε_p, where ε_u = −2 ε_p = −2ε."""


def linear(drift: Array, noise: Array, chains: int, steps: int, seed: int) -> tuple[xr.DataArray, Array]:
    """Exact samples, DT apart, of dz = Bz dt + dW with noise covariance D, and the asymmetry at one lag."""
    stationary = solve_continuous_lyapunov(drift, -noise)
    propagate = expm(drift * DT)
    rng, size = np.random.default_rng(seed), len(drift)
    kick = np.linalg.cholesky(stationary - propagate @ stationary @ propagate.T + 1e-14 * np.eye(size))
    z = rng.standard_normal((chains, size)) @ np.linalg.cholesky(stationary).T
    values = np.empty((steps, chains, size))
    for t in range(steps):
        z = z @ propagate.T + rng.standard_normal((chains, size)) @ kick.T
        values[t] = z
    # C_ij(tau) = E z_i(t) z_j(t+tau) = (C e^{B'tau})_ij
    forward = stationary @ propagate.T
    scale = np.sqrt(np.diag(stationary))
    return named(values.swapaxes(0, 1)), (forward - forward.T) / np.outer(scale, scale)


def test_slow_error_units_are_irreversible() -> None:
    """Oracle: the Lyapunov equation of the circuit with error units of finite time constant; bound 4 errors."""
    value, truth = linear(SLOW_ERRORS, np.diag([2.0, 0.0]), 32, 2000, seed=1)
    # φ with ε_u = −2ε, not in units of their sds: .302 at lag .1
    assert 2 * np.sqrt(0.4 * 0.2) * abs(truth[0, 1]) == pytest.approx(0.302, abs=5e-4)
    found = irreversibility(value)
    off = ~np.eye(2, dtype=bool)
    deviation = (found["asymmetry"].values - truth)[off] / found["asymmetry_error"].values[off]
    assert np.abs(deviation).max() < 4
    assert abs(found["z"]).max() > 20
    assert found["total"].item() == pytest.approx(np.sqrt((truth**2).sum() / 2), rel=0.05)
    assert found["total"] > 5 * found["null_total"]


def test_rotation_with_the_right_marginal_law() -> None:
    """Oracle: dz = −(I + ωJ) z dt + √2 dW has covariance I for every ω, and A_12 = 2 e^{−τ} sin ωτ up to sign."""
    turn = np.array([[0.0, -3.0], [3.0, 0.0]])
    value, truth = linear(-np.eye(2) + turn, 2 * np.eye(2), 32, 2000, seed=2)
    assert abs(truth[0, 1]) == pytest.approx(2 * np.exp(-DT) * np.sin(3 * DT))
    found = irreversibility(value)
    error = found["asymmetry_error"].values[0, 1]
    assert found["asymmetry"].values[0, 1] == pytest.approx(truth[0, 1], abs=4 * error)
    np.testing.assert_allclose(value.var(("chain", "step")), 1, atol=4 * np.sqrt(2 / (32 * 2000 * DT)))


def test_reversed_time_reverses_the_sign() -> None:
    """Oracle: the definition. Exactly, to rounding."""
    value, _ = linear(SLOW_ERRORS, np.diag([2.0, 0.0]), 16, 200, seed=3)
    backwards = value.copy(data=value.values[:, ::-1])
    there, back = irreversibility(value), irreversibility(backwards)
    np.testing.assert_allclose(there["asymmetry"], -back["asymmetry"], atol=1e-12)
    np.testing.assert_allclose(there["total"], back["total"], rtol=1e-9)


def test_langevin_chains_are_reversible() -> None:
    """Negative control: 15 pairs of units of reversible chains; |z| < 4 for all (t with 31 degrees of freedom), and
    the total is what the null says: the mean square over 15 pairs has a spread of √(2/15), bound 4 of them."""
    precision = random_precision(6, np.random.default_rng(0))
    found = irreversibility(langevin(precision, 0.02, 3000, 32, np.random.default_rng(4)).value)
    assert abs(found["z"]).max() < 4
    assert (found["total"] / found["null_total"]).item() ** 2 < 1 + 4 * np.sqrt(2 / 15)


def test_one_chain_is_cut_in_stretches() -> None:
    """One chain gives errors too, and the caution that it is one; a random walk is called unconverged."""
    value, truth = linear(-np.eye(2) + np.array([[0.0, -3.0], [3.0, 0.0]]), 2 * np.eye(2), 1, 16_000, seed=5)
    found = irreversibility(value.isel(chain=0))
    error = found["asymmetry_error"].values[0, 1]
    assert found["asymmetry"].values[0, 1] == pytest.approx(truth[0, 1], abs=4 * error)
    assert "1 of at least 4 chains" in " ".join(found.attrs["cautions"])
    walk = named(random_walk((4, 2, 500), np.random.default_rng(6)).swapaxes(1, 2))
    assert "R-hat" in " ".join(irreversibility(walk).attrs["cautions"])


def test_refusals() -> None:
    value = named(np.random.default_rng(0).standard_normal((16, 20, 2)))
    with pytest.raises(AnalysisError, match="a lag of 15 in stretches of 20"):
        irreversibility(value, lag=15)
    with pytest.raises(AnalysisError, match="at least two units"):
        irreversibility(value.isel(unit=[0]))
