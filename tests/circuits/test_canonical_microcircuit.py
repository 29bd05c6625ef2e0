"""canonical_microcircuit: spectra of error and value populations, exactly, under an input and under its own noise."""

from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from pcsim.circuit.read import load_circuit
from pcsim.engines.torch.program import Program
from pcsim.engines.torch.target import Clamp
from pcsim.inference.rng import seed_stream
from tests.circuits.shipped import Array, described, run_study
from tests.exact.gaussian_circuits import F64

pytest.importorskip("brian2", reason="the optional dependency brian2 is not installed")

STEP, PERIOD = 0.05, 512
"""dt/tau, and the period of the input in steps."""
BINS = np.arange(1, PERIOD // 2)


def derivative() -> Array:
    """What d/dt (in units of 1/tau) is for one harmonic in Euler's steps, (e^{iω dt} − 1)/dt; iω for short steps."""
    return np.asarray((np.exp(2j * np.pi * BINS / PERIOD) - 1) / STEP)


def spectra(trace: xr.DataTree) -> tuple[Array, Array]:
    """Fourier coefficients of the input's error and of the lower value over the last whole period."""
    stop = trace.sizes["step"] - 1  # the last state has no input of its own any more
    parts = (trace["input"]["error"], trace["lower"]["value"])
    found = [p.isel(image=0, chain=0, unit=0).to_numpy()[stop - PERIOD : stop] for p in parts]
    return np.fft.rfft(found[0])[BINS], np.fft.rfft(found[1])[BINS]


def centre(coefficients: Array) -> float:
    """Mean frequency of the power, in Hz."""
    power = np.abs(coefficients) ** 2
    return float((BINS * power).sum() / power.sum() / (PERIOD * 1e-3))


def test_errors_are_faster_than_values_under_an_input(tmp_path) -> None:
    """|ε_u/φ|² = |s + R|²/w², R = 1/(Σ + w'²/(s + 1/Σ')), in Euler's own s; to 1e-9."""
    error, value = spectra(run_study("canonical_microcircuit", tmp_path / "run"))
    s = derivative()
    force = 1 / (0.5 + 0.8**2 / (s + 1.0))
    np.testing.assert_allclose(np.abs(error / value) ** 2, np.abs(s + force) ** 2 / 1.5**2, rtol=1e-9)
    assert centre(error) > 1.5 * centre(value)


def test_own_noise_makes_no_such_asymmetry(tmp_path) -> None:
    """A constant input and T = 1: ε_u = π (u − w φ), so the ratio is w² π² at every frequency, to 1e-9."""
    trace = run_study(
        "canonical_microcircuit", tmp_path / "run", "inference.kernel.temperature=1",
        "stimulus=[{show: {input: [0.5]}, steps: 2048}]",
    )  # fmt: skip
    error, value = spectra(trace)
    np.testing.assert_allclose(np.abs(error / value) ** 2, 1.5**2 * 4.0**2, rtol=1e-9)
    assert centre(error) == pytest.approx(centre(value), rel=1e-9)


def single(error_tau: str | None) -> dict[str, Any]:
    """The lower level alone, under its prior."""
    circuit = described("canonical_microcircuit")
    del circuit["nodes"]["higher"], circuit["edges"][0]
    if error_tau is not None:
        circuit["nodes"]["lower"]["error_tau"] = circuit["nodes"]["input"]["error_tau"] = error_tau
    return circuit


def response(description: dict[str, Any]) -> Array:
    """|ε_u/φ|² of one period under an input of random phases, after 30 periods; T = 0."""
    from pcsim.engines.brian2.network import Dynamics
    from pcsim.engines.brian2.plan import plan_network
    from pcsim.engines.brian2.simulation import Simulation, State

    circuit, phases = load_circuit(description), np.random.default_rng(0).uniform(0, 2 * np.pi, len(BINS))
    shown = np.cos(2 * np.pi * np.outer(np.arange(PERIOD), BINS) / PERIOD + phases).sum(1)
    frames = torch.tensor(shown, dtype=F64)[:, None, None]
    params = Program(circuit).initial_parameters(torch.Generator().manual_seed(0))
    clamp = Clamp({"input": frames[0]})
    simulation = Simulation(plan_network(circuit, params, clamp, 1, Dynamics(1e-3, STEP, 0.0)))
    simulation.start({"lower": torch.zeros(1, 1, dtype=F64)})
    kept, steps = [], 6 * PERIOD

    def visit(step: int, values: State, errors: State) -> None:
        simulation.clamp(Clamp({"input": frames[step % PERIOD]}))
        if steps - PERIOD <= step < steps:
            kept.append((float(simulation.errors["input"][0, 0]), float(values["lower"][0, 0])))

    simulation.run(seed_stream(0), steps, visit)
    error, value = np.fft.rfft(np.array(kept), axis=0)[BINS].T
    return np.asarray(np.abs(error / value) ** 2)


def test_one_level_has_the_ratio_of_its_prior() -> None:
    """(ω² + 1/Σ²)/w² for short steps; here |s + 1/Σ|²/w² to 1e-9, in Euler's own s, whose real part is −ω² dt/2.

    That takes dt ω²/Σ off, so at most dt/Σ of the whole (and ω dt is below 1/8 in these bins).
    """
    s, omega = derivative(), 2 * np.pi * BINS / PERIOD / STEP
    found = response(single(None))
    np.testing.assert_allclose(found, np.abs(s + 2.0) ** 2 / 1.5**2, rtol=1e-9)
    slow = BINS <= 10
    np.testing.assert_allclose(found[slow], ((omega**2 + 2.0**2) / 1.5**2)[slow], rtol=2.0 * STEP)


def test_slow_error_units_hold_the_value_with_a_lag() -> None:
    """ε_φ = φ/(Σ + s τ_ε): the ratio is |s + 1/(Σ + s τ_ε)|²/w² with errors of 4 ms; Euler's own s, to 1e-9."""
    s = derivative()
    found = response(single("4 ms"))
    np.testing.assert_allclose(found, np.abs(s + 1 / (0.5 + s * 0.2)) ** 2 / 1.5**2, rtol=1e-9)
