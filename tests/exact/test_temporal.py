"""Temporal circuits: a node's past value as a parent. Oracle: the Kalman filter's algebra with P ≡ Q.

Predictive coding over time infers each frame given its own last estimate, without the uncertainty of that
estimate: the gain is K = Q Cᵀ(C Q Cᵀ + R)⁻¹ (Millidge et al., 2024). With Λ = Q⁻¹ + CᵀR⁻¹C and M = I − K C the
true covariance of its error is P ← M (A P Aᵀ + Q) Mᵀ + K R Kᵀ, and chained Langevin ensembles spread by
S ← Λ⁻¹ + M A S Aᵀ Mᵀ, which is the same (Joseph form), because Λ⁻¹ = M Q Mᵀ + K R Kᵀ.
"""

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.typing import NDArray

import pcsim
from pcsim.api import Probe
from pcsim.circuit.read import load_circuit
from pcsim.engines.torch.program import Program, ancestral, energies
from pcsim.engines.torch.target import CircuitTarget, Clamp
from pcsim.errors import StudyError
from pcsim.inference.kernels import langevin
from pcsim.inference.rng import seed_stream

Array = NDArray[np.float64]
VALUES = (Probe(("value",)),)


class Model(NamedTuple):
    """z_k ~ N(A z_{k−1}, Q), x_k ~ N(C z_k, R), with the algebra of its filters."""

    a: Array
    c: Array
    q: Array
    r: Array

    @property
    def gain(self) -> Array:
        """K of the filter that takes Q for its predicted covariance."""
        return self.q @ self.c.T @ np.linalg.inv(self.c @ self.q @ self.c.T + self.r)

    @property
    def m(self) -> Array:
        """I − K C."""
        return np.eye(len(self.a)) - self.gain @ self.c

    @property
    def curvature(self) -> Array:
        """Λ, the precision of z_k given x_k and z_{k−1}."""
        return np.linalg.inv(self.q) + self.c.T @ np.linalg.inv(self.r) @ self.c

    def errors(self, frames: int) -> list[Array]:
        """True covariance of the filter's error after each frame, from a known z_0."""
        p, found = np.zeros_like(self.a), []
        for _ in range(frames):
            p = self.m @ (self.a @ p @ self.a.T + self.q) @ self.m.T + self.gain @ self.r @ self.gain.T
            found.append(p)
        return found

    def circuit(self) -> dict[str, Any]:
        """The same as a description."""

        def gaussian(covariance: Array) -> dict[str, Any]:
            return {"gaussian": {"precision": np.linalg.inv(covariance).tolist()}}

        def linear(weight: Array) -> list[Any]:
            return [{"linear": {"weight": weight.tolist(), "bias": False}}]

        n, k = len(self.a), len(self.c)
        return {
            "nodes": {
                "z_before": {"past": "z"},
                "z": {"shape": [n], "distribution": gaussian(self.q)},
                "x": {"shape": [k], "distribution": gaussian(self.r)},
            },
            "edges": [
                {"from": "z_before", "to": "z", "layers": linear(self.a)},
                {"from": "z", "to": "x", "layers": linear(self.c)},
            ],
        }


def scalar(a: float, q: float) -> Model:
    """One latent, c = r = 1."""
    return Model(*(np.array([[v]]) for v in (a, 1.0, q, 1.0)))


def tracking() -> Model:
    """Position, velocity, acceleration, all seen through a random matrix; a coarse time step."""
    dt = 0.3
    a = np.array([[1, dt, dt**2 / 2], [0, 1, dt], [0, 0, 1]]) * 0.95
    c = np.random.default_rng(200).standard_normal((3, 3))
    return Model(a, c, np.eye(3), np.eye(3))


MODELS = {"scalar": scalar(0.9, 1.0), "tracking": tracking()}


def ends(trace: xr.DataTree, node: str) -> Array:
    """The value of a node at the end of each frame, `[image, chain, frame, unit]`.

    The state that ends a frame is the one that stands at the next onset.
    """
    onsets = trace.coords["onset"].values
    last = trace.coords["step"].values[-1]
    values: Array = (
        trace[node]["value"].sel(step=[*onsets[1:], last]).transpose("image", "chain", "step", ...).values
    )
    return values


@pytest.mark.parametrize("name", MODELS)
def test_equilibrium_is_the_filter_that_takes_q_for_p(name: str) -> None:
    model = MODELS[name]
    frames, n = 12, len(model.c)
    x = np.random.default_rng(1).standard_normal((frames, 3, n))
    stimulus = [{"show": {"series": {"x": x}}, "steps": 400}]
    step_size = 1 / np.linalg.eigvalsh(model.curvature).max()
    trace = pcsim.sample(
        model.circuit(), {"x": np.zeros((3, n))}, langevin(step_size, 0.0), stimulus=stimulus, probes=VALUES
    )
    found = ends(trace, "z")[:, 0]
    estimate = np.zeros((3, len(model.a)))
    for k in range(frames):
        predicted = estimate @ model.a.T
        estimate = predicted + (x[k] - predicted @ model.c.T) @ model.gain.T
        assert found[:, k] == pytest.approx(estimate, abs=1e-9)
    # the optimal filter is another one: its gain tends to a larger value
    assert np.abs(found[:, -1] - kalman(model, x)).max() > 1e-3


def kalman(model: Model, x: Array) -> Array:
    """The last estimate of the optimal filter from a known z_0."""
    p, estimate = np.zeros_like(model.a), np.zeros((x.shape[1], len(model.a)))
    for seen in x:
        predicted, spread = estimate @ model.a.T, model.a @ p @ model.a.T + model.q
        gain = spread @ model.c.T @ np.linalg.inv(model.c @ spread @ model.c.T + model.r)
        estimate = predicted + (seen - predicted @ model.c.T) @ gain.T
        p = (np.eye(len(p)) - gain @ model.c) @ spread
    return estimate


def test_the_scalar_filter_has_its_known_numbers() -> None:
    """Gain .5 in place of .5974, mean squared error .62696 in place of .59741, for a = .9, q = c = r = 1."""
    model = MODELS["scalar"]
    assert model.gain[0, 0] == pytest.approx(0.5)
    assert model.errors(200)[-1][0, 0] == pytest.approx(0.62696, abs=5e-6)
    p = 0.0
    for _ in range(200):
        predicted = 0.81 * p + 1
        p = predicted / (predicted + 1)
    assert p == pytest.approx(0.59741, abs=5e-6)


@pytest.mark.parametrize("name", MODELS)
def test_joseph_form_is_the_ensemble_covariance(name: str) -> None:
    model = MODELS[name]
    s = np.zeros_like(model.a)
    for p in model.errors(50):
        s = np.linalg.inv(model.curvature) + model.m @ model.a @ s @ model.a.T @ model.m.T
        assert s == pytest.approx(p, abs=1e-12)


def test_error_on_simulated_frames_is_the_true_covariance() -> None:
    """The circuit simulates its own observations; the truth beside the trace says how far the estimate is off."""
    model, images, frames = MODELS["scalar"], 4000, 25
    trace = pcsim.sample(
        model.circuit(), {"x": np.zeros((images, 1))}, langevin(0.5, 0.0),
        stimulus=[{"show": {"simulate": frames}, "steps": 20}], probes=VALUES, seed=3,
    )  # fmt: skip
    truth = trace["z"]["truth"].values
    assert truth.shape == (images, frames, 1)
    squares = (ends(trace, "z")[:, 0] - truth) ** 2
    for k, p in enumerate(model.errors(frames)):
        assert squares[:, k].mean() == pytest.approx(p[0, 0], abs=4 * p[0, 0] * np.sqrt(2 / images))
    # what was shown is what the truth made: x − z has variance r
    noise = trace["x"]["shown"].values - truth
    assert noise.var() == pytest.approx(1, abs=4 * np.sqrt(2 / noise.size))


@pytest.mark.parametrize("name", MODELS)
def test_chained_ensembles_carry_the_error_covariance(name: str) -> None:
    """S_k = F S Fᵀ + Σ − B Σ B, B = (I − γΛ)ⁿ, F = B + (I − B) M A, Σ = [Λ(I − γΛ/2)]⁻¹: exact at any γ and n."""
    model = MODELS[name]
    frames, moves, chains, n = 8, 25, 6000, len(model.a)
    curvature = model.curvature
    step_size = 0.25 / np.linalg.eigvalsh(curvature).max()
    x = np.random.default_rng(2).standard_normal((frames, len(model.c)))
    trace = pcsim.sample(
        model.circuit(), {"x": np.zeros((1, len(model.c)))}, langevin(step_size), chains=chains, seed=5,
        stimulus=[{"show": {"series": {"x": x}}, "steps": moves}],
        probes=(Probe(("value",), ("z",), every=moves),),
    )  # fmt: skip
    found = np.cov(trace["z"]["value"].values[0, :, -1].T).reshape(n, n)
    b = np.linalg.matrix_power(np.eye(n) - step_size * curvature, moves)
    biased = np.linalg.inv(curvature @ (np.eye(n) - step_size / 2 * curvature))
    f = b + (np.eye(n) - b) @ model.m @ model.a
    s = model.q  # the chain starts at a draw of the prior given the mean of the first frame
    for k in range(frames):
        # the first frame starts at a draw of its prior and not where a frame ended
        f_here = b if k == 0 else f
        s = f_here @ s @ f_here.T + biased - b @ biased @ b
    error = np.sqrt((np.outer(np.diag(s), np.diag(s)) + s**2) / chains)
    assert np.abs(found - s).max() <= (4 * error).max()
    assert (np.abs(found - s) <= 4 * error).all()
    # the limit of small steps is the filter's own error, to the step-size bias
    joseph = model.errors(60)[-1]
    assert np.diag(s) == pytest.approx(np.diag(joseph), rel=0.3)
    assert np.diag(s).mean() > np.diag(np.linalg.inv(curvature)).mean() * 1.05  # the past adds to it


def test_past_nodes_have_no_energy_and_no_error() -> None:
    program = Program(load_circuit(MODELS["scalar"].circuit()))
    params = program.initial_parameters(torch.Generator().manual_seed(0))
    bound = program.bind(params)
    x = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    before = torch.tensor([[3.0], [-1.0]], dtype=torch.float64)
    target = CircuitTarget(bound, Clamp({"x": x, "z_before": before}), 2)
    assert target.free == ("z",)
    z = {"z": torch.tensor([[0.5], [0.5]], dtype=torch.float64)}
    point = target.evaluate(z, True)
    assert set(point.aux.errors) == {"z", "x"}
    expected = 0.5 * ((0.5 - 0.9 * before) ** 2 + (x - 0.5) ** 2).flatten() + np.log(2 * np.pi)
    assert point.energy is not None
    assert point.energy.tolist() == pytest.approx(expected.tolist())
    parts = energies(bound, {"z": z["z"], "x": x, "z_before": before})
    assert set(parts) == {"z", "x"}
    # without a frame before it is the mean, here 0
    first = CircuitTarget(bound, Clamp({"x": x}), 2).evaluate(z, True)
    assert first.aux.errors["z"].flatten().tolist() == pytest.approx([0.5, 0.5])


def test_the_mean_of_a_past_node_is_what_the_first_frame_remembers() -> None:
    circuit = MODELS["scalar"].circuit()
    circuit["nodes"]["z_before"]["mean"] = 4.0
    program = Program(load_circuit(circuit))
    bound = program.bind(program.initial_parameters(torch.Generator().manual_seed(0)))
    drawn = ancestral(bound, seed_stream(0, "x"), 20_000, {})
    assert bool((drawn["z_before"] == 4).all())
    assert float(drawn["z"].mean()) == pytest.approx(3.6, abs=4 / np.sqrt(20_000))


def test_rows_remember_themselves() -> None:
    """Two images whose first frames differ: in the second, equal frame each row goes on from its own past."""
    frames = np.array([[[5.0], [-5.0]], [[0.0], [0.0]]])
    trace = pcsim.sample(
        MODELS["scalar"].circuit(), {"x": np.zeros((2, 1))}, langevin(0.3, 0.0), chains=2, probes=VALUES,
        stimulus=[{"show": {"series": {"x": frames}}, "steps": 200}],
    )  # fmt: skip
    held = trace["z_before"]["value"].sel(step=200).values[..., 0]
    assert held == pytest.approx(np.array([[2.5, 2.5], [-2.5, -2.5]]), abs=1e-9)
    assert ends(trace, "z")[:, :, 1, 0] == pytest.approx(0.45 * held, abs=1e-9)


def test_an_input_is_given_to_a_simulation() -> None:
    """A root beside the latent: held at its series while the rest is drawn."""
    circuit = MODELS["scalar"].circuit()
    circuit["nodes"]["u"] = {"shape": [1], "distribution": "gaussian"}
    circuit["edges"].append(
        {"from": "u", "to": "z", "layers": [{"linear": {"weight": [[2.0]], "bias": False}}]}
    )
    inputs = [3.0, -3.0, 0.0]
    trace = pcsim.sample(
        circuit, {"x": np.zeros((3000, 1))}, langevin(0.3, 0.0), probes=VALUES,
        stimulus=[{"show": {"simulate": 3, "series": {"u": inputs}}, "steps": 2}],
    )  # fmt: skip
    mean, expected = trace["z"]["truth"].values.mean(0)[:, 0], 0.0
    for k, u in enumerate(inputs):
        expected = 0.9 * expected + 2 * u
        assert mean[k] == pytest.approx(expected, abs=4 * np.sqrt(3 / 3000))
    assert trace["u"]["shown"].values[0, :, 0].tolist() == inputs


def test_batches_are_no_sequence() -> None:
    with pytest.raises(StudyError, match="z_before holds the frame before, and batches are no sequence"):
        pcsim.train(MODELS["scalar"].circuit(), {"x": np.zeros((8, 1))}, langevin(0.1), 3, 2, batch_size=4)
    with pytest.raises(StudyError, match="state its mean for the first frame"):
        pcsim.sample(MODELS["scalar"].circuit(), {"z_before": np.zeros((8, 1))}, langevin(0.1), 3)
