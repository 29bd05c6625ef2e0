"""The parts of the Brian2 engine: unrolled layers, phases, leaky errors, past nodes, own feedback weights, refusals."""

from typing import Any

import numpy as np
import pytest
import torch

from pcsim.circuit.graph import Circuit
from pcsim.circuit.layers import LAYERS
from pcsim.circuit.layers.activations import ACTIVATIONS
from pcsim.circuit.layers.chain import chain_forward, split_parameters
from pcsim.circuit.read import load_circuit
from pcsim.engines.brian2.memory import check_memory
from pcsim.engines.brian2.network import Dynamics, Plan
from pcsim.engines.brian2.plan import plan_network
from pcsim.engines.brian2.simulation import Simulation, State
from pcsim.engines.brian2.targets import check_target
from pcsim.engines.brian2.unroll import rate, synapse_count, unroll
from pcsim.engines.torch.program import Params, Program
from pcsim.engines.torch.target import CircuitTarget, Clamp
from pcsim.errors import CircuitError, Divergence, StudyError
from pcsim.inference.chain import run_chain
from pcsim.inference.kernels.langevin import langevin
from pcsim.inference.rng import Recorder, Replay, Stream
from tests.engines.random_circuits import ROWS, case, conv_case, torch_run

F64 = torch.float64
QUIET = Stream(torch.Generator().manual_seed(0))


def draws(seed: int = 0) -> Stream:
    return Stream(torch.Generator().manual_seed(seed))


def parameters(circuit: Circuit) -> Params:
    return Program(circuit).initial_parameters(torch.Generator().manual_seed(0))


def planned(
    description: dict[str, Any], clamp: Clamp, dynamics: Dynamics, rows: int = 1, **more: Any
) -> Plan:
    circuit = load_circuit(description)
    return plan_network(circuit, parameters(circuit), clamp, rows, dynamics, **more)


@pytest.mark.parametrize(
    ("shape", "layers"),
    [
        ([5], [{"linear": 4}]),
        ([2, 5, 4], [{"conv": {"channels": 3, "kernel": 3, "stride": 2, "padding": 1}}]),
        ([2, 3, 3], [{"conv_transpose": {"channels": 3, "kernel": 4, "stride": 2, "padding": 1}}]),
        ([4, 1, 1], [{"conv_transpose": {"channels": 2, "kernel": 3}}]),
        (
            [6],
            [{"reshape": [6, 1, 1]}, "tanh", {"conv_transpose": {"channels": 2, "kernel": 4}}, "silu",
             {"conv": {"channels": 1, "kernel": 2}}, "square"],
        ),
    ],
)  # fmt: skip
def test_unrolled_edge_is_the_edge(shape: list[int], layers: list[Any]) -> None:
    """Sparse sums and φ's text, evaluated in numpy, against the layers' own forward pass; counts are exact."""
    circuit = load_circuit(
        {
            "nodes": {
                "z": {"shape": shape, "distribution": "gaussian"},
                "x": {"shape": _end(shape, layers), "distribution": "gaussian"},
            },
            "edges": [{"from": "z", "to": "x", "layers": layers}],
        }
    )
    edge = circuit.edges[0]
    split = split_parameters(edge.layers, parameters(circuit), f"{edge.key}.")
    z = torch.randn(3, *shape, dtype=F64, generator=torch.Generator().manual_seed(1))
    unrolled = unroll(edge, split, tuple(shape))
    names = {"tanh": np.tanh, "exp": np.exp, "log": np.log, "abs": np.abs, "int": lambda b: b * 1.0}
    y = eval(rate(unrolled.functions, "x").value, names, {"x": z.flatten(1).numpy()})
    for stage in unrolled.stages:
        out = np.zeros((3, stage.size))
        np.add.at(out.T, stage.post, (y[:, stage.pre] * (1 if stage.weight is None else stage.weight)).T)
        out += 0 if stage.bias is None else stage.bias
        y = eval(rate(stage.functions, "x").value, names, {"x": out})
    expected = chain_forward(edge.layers, split, z)[0].flatten(1).numpy()
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-13)
    assert synapse_count(edge, split, tuple(shape)) == sum(len(s.pre) for s in unrolled.stages)


def _end(shape: list[int], layers: list[Any]) -> list[int]:
    at = tuple(shape)
    for layer in layers:
        name, value = (layer, {}) if isinstance(layer, str) else next(iter(layer.items()))
        kind = LAYERS[name]
        at = kind(**(value if isinstance(value, dict) else {kind.shorthand: value})).output_shape(at)
    return list(at)


def test_composed_slope_is_the_derivative() -> None:
    """Oracle: central differences; error of order h² = 1e-10."""
    composed = rate([ACTIVATIONS[n]() for n in ("tanh", "identity", "softplus", "square")], "x")
    names = {"tanh": np.tanh, "exp": np.exp, "log": np.log, "abs": np.abs}
    x, h = np.linspace(-3, 3, 31), 1e-5
    ahead, behind = (eval(composed.value, names, {"x": x + s * h}) for s in (1, -1))
    np.testing.assert_allclose(eval(composed.slope, names, {"x": x}), (ahead - behind) / (2 * h), atol=1e-8)


def test_other_draws_disagree() -> None:
    """Negative control of law 5: one draw of the tape changed shows at once, and nowhere before."""
    c = case(0)
    expected = torch_run(c, 20)
    tape = list(expected.tape)
    per_step = len(tape) // 20
    tape[10 * per_step] = tape[10 * per_step]._replace(value=tape[10 * per_step].value + 1e-3)
    simulation = Simulation(plan_network(c.circuit, c.params, c.clamp, ROWS, c.dynamics))
    simulation.start(c.start)
    worst: list[float] = []

    def visit(step: int, values: State, errors: State) -> None:
        worst.append(max(float(np.abs(values[n] - v[step]).max()) for n, v in expected.values.items()))

    simulation.run(Replay(tape), 20, visit)
    assert max(worst[:11]) < 1e-12
    assert worst[11] > 1e-5


def test_phases_in_one_run_are_two_torch_targets() -> None:
    """Spontaneous, then evoked, by a clamp from within a visit; the leaf is Bernoulli, so it drops out first."""
    c = conv_case(1)
    spontaneous = Clamp({}, {})
    program, steps = Program(c.circuit).bind(c.params), 30
    tape = Recorder(draws())
    free = CircuitTarget(program, spontaneous, ROWS)
    kernel = langevin(0.01)
    first = run_chain(kernel, free, tape, free.start(c.start), steps).position
    evoked = CircuitTarget(program, c.clamp, ROWS)
    last = run_chain(kernel, evoked, tape, evoked.start(first), steps)
    switched = tuple(c.clamp.values)
    plan = plan_network(c.circuit, c.params, spontaneous, ROWS, c.dynamics, switched=switched)
    simulation = Simulation(plan)
    simulation.start(c.start)

    def visit(step: int, values: State, errors: State) -> None:
        if step == steps:
            for name in first:
                np.testing.assert_allclose(values[name], first[name].numpy(), atol=1e-12)
            simulation.clamp(c.clamp)

    simulation.run(Replay(tape.tape), 2 * steps, visit)
    for name, value in last.position.items():
        np.testing.assert_allclose(simulation.values[name], value.numpy(), atol=1e-12)
    for name, error in last.point.aux.errors.items():
        np.testing.assert_allclose(simulation.errors[name], error.numpy(), atol=1e-12)


def bogacz(error_tau: str | None) -> dict[str, Any]:
    extra = {} if error_tau is None else {"error_tau": error_tau}
    return {
        "nodes": {
            "v": {"shape": [1], "distribution": "gaussian", "mean": 3.0, "tau": "1 s", **extra},
            "u": {"shape": [1], "distribution": {"gaussian": {"precision": 0.5}}, **extra},
        },
        "edges": [{"from": "v", "to": "u", "layers": ["square", {"linear": {"weight": [[1.0]]}}]}],
    }


def test_leaky_errors_take_the_joint_euler_step() -> None:
    """Bogacz (2017), exercise 3 with Σ_u = 2, integrated here by hand: all three derivatives at the old state."""
    clamp = Clamp({"u": torch.tensor([[2.0]], dtype=F64)}, {})
    simulation = Simulation(planned(bogacz("1 s"), clamp, Dynamics(0.01, 0.01, temperature=0.0)))
    simulation.start({"v": torch.tensor([[3.0]], dtype=F64)})
    seen: list[tuple[float, float, float]] = []

    def visit(step: int, values: State, errors: State) -> None:
        seen.append((values["v"].item(), errors["v"].item(), errors["u"].item()))

    simulation.run(QUIET, 500, visit)
    v, e, f = 3.0, 0.0, 0.0
    for found in seen:
        np.testing.assert_allclose(found, (v, e, f), atol=1e-11)
        v, e, f = (
            v + 0.01 * (2 * v * f - e),
            e + 0.01 * (v - 3 - e),
            f + 0.01 * (2 - v * v - 2 * f),
        )


def test_split_errors_decay_with_their_gains() -> None:
    """One prior node at T = 0: γ g₊ above its mean, γ g₋ below; a floor at the baseline b clips the other side
    to −g b, so the error is g₊ ε + g₋ b beyond ε = b."""
    node = {"shape": [3], "distribution": "gaussian", "errors": {"gain": [2.0, 0.5], "baseline": 0.25}}
    simulation = Simulation(
        planned({"nodes": {"z": node}, "edges": []}, Clamp({}, {}), Dynamics(1e-3, 0.1, 0.0))
    )
    simulation.start({"z": torch.tensor([[4.0, -4.0, 0.125]])})
    np.testing.assert_allclose(simulation.errors["z"], [[8 + 0.125, -2 - 0.5, 0.125 * 2.5]], rtol=1e-14)
    simulation.run(QUIET, 1)
    np.testing.assert_allclose(simulation.values["z"], [[4 - 0.8125, -4 + 0.25, 0.125 - 0.03125]], rtol=1e-14)


def test_adaptation_settles_at_its_fixed_point() -> None:
    """a* = strength [η]₊², so the error of a held node is π₀ (z − η)/(1 + a*); a negative η tires nothing."""
    node = {
        "shape": [2],
        "distribution": {"gaussian": {"precision": 6.0}},
        "mean": [0.5, -0.5],
        "adaptation": {"tau": "20 ms", "strength": 3.0},
    }
    clamp = Clamp({"z": torch.tensor([[1.0, 1.0]])}, {})
    simulation = Simulation(planned({"nodes": {"z": node}, "edges": []}, clamp, Dynamics(1e-3, 0.1)))
    np.testing.assert_allclose(simulation.errors["z"], [[3.0, 9.0]], rtol=1e-14)
    simulation.run(QUIET, 1000)  # 50 time constants of Euler steps: (1 − 1/20)^1000 = 5e-23
    np.testing.assert_allclose(simulation.errors["z"], [[3.0 / 1.75, 9.0]], rtol=1e-12)


def test_past_node_is_held_and_predicts() -> None:
    """A z_{k−1}: at T = 0 the prior of z relaxes to A z_before, then to A of what a visit puts there."""
    description = {
        "nodes": {
            "z": {"shape": [2], "distribution": "gaussian"},
            "before": {"past": "z", "mean": [1.0, 2.0]},
        },
        "edges": [
            {"from": "before", "to": "z", "layers": [{"linear": {"weight": [[0.5, 0.0], [0.0, -1.0]]}}]}
        ],
    }
    simulation = Simulation(planned(description, Clamp({}, {}), Dynamics(1e-3, 0.2, temperature=0.0)))
    simulation.start({"z": torch.zeros(1, 2)})

    def visit(step: int, values: State, errors: State) -> None:
        if step == 200:
            np.testing.assert_allclose(values["z"], [[0.5, -2.0]], atol=1e-12)
            simulation.clamp(Clamp({"before": torch.tensor([[4.0, 1.0]])}, {}))

    simulation.run(QUIET, 400, visit)
    np.testing.assert_allclose(simulation.values["z"], [[2.0, -1.0]], atol=1e-12)


def test_feedback_weights_of_their_own() -> None:
    """T = 0: 0 = −z + B (x − W z), so z = (1 + B W)⁻¹ B x; with B = Wᵀ it would be another point."""
    w, b = np.array([[1.0, 0.5], [0.2, -1.0], [0.3, 0.4]]), np.array([[0.5, 0.1, 0.9], [0.0, -0.7, 0.2]])
    description = {
        "nodes": {
            "z": {"shape": [2], "distribution": "gaussian"},
            "x": {"shape": [3], "distribution": "gaussian"},
        },
        "edges": [
            {
                "from": "z",
                "to": "x",
                "layers": [{"linear": {"weight": w.tolist()}}],
                "feedback": {"weight": b.tolist()},
            }
        ],
    }
    x = np.array([1.0, -2.0, 0.5])
    simulation = Simulation(
        planned(description, Clamp({"x": torch.tensor([x])}, {}), Dynamics(1e-3, 0.2, temperature=0.0))
    )
    simulation.start({"z": torch.zeros(1, 2)})
    simulation.run(QUIET, 400)
    expected = np.linalg.solve(np.eye(2) + b @ w, b @ x)
    np.testing.assert_allclose(simulation.values["z"][0], expected, atol=1e-12)
    assert np.abs(expected - np.linalg.solve(np.eye(2) + w.T @ w, w.T @ x)).max() > 0.1


def pair(**changes: Any) -> dict[str, Any]:
    """z → x with something changed: `z`, `x` node entries, `layers`."""
    nodes = {name: {"shape": [2], "distribution": "gaussian", **changes.get(name, {})} for name in ("z", "x")}
    return {
        "nodes": nodes,
        "edges": [{"from": "z", "to": "x", "layers": changes.get("layers", [{"linear": 2}])}],
    }


@pytest.mark.parametrize(
    ("description", "message"),
    [
        (pair(x={"distribution": "discretised_gaussian"}), "node x: discretised_gaussian has no local text"),
        (pair(layers=[torch.nn.Linear(2, 2)]), "edge z->x: layer ModuleLayer has no local text"),
        (pair(z={"tau": "1 us"}), "node z: dt of 1 ms is longer than its tau of 1 us"),
        (
            pair(z={"error_tau": "5 ms", "distribution": {"gaussian": {"precision": [0.1, 1.0]}}}),
            "use at most 0.25 ms",
        ),
        (
            pair(
                z={"error_tau": "9 s", "distribution": {"gaussian": {"precision": [[1.0, 0.2], [0.2, 1.0]]}}}
            ),
            "error_tau needs a Gaussian with a precision per unit",
        ),
    ],
)
def test_refusals_before_anything_is_built(description: dict[str, Any], message: str) -> None:
    with pytest.raises(CircuitError, match=message):
        planned(description, Clamp({"x": torch.zeros(1, 2)}, {}), Dynamics(1e-3, 0.01))


def test_names_of_units_are_fine_and_suffixes_are_not() -> None:
    def named(name: str) -> dict[str, Any]:
        node = {"shape": [1], "distribution": "gaussian"}
        return {"nodes": {"mV": node, name: node}, "edges": [{"from": "mV", "to": name, "layers": ["tanh"]}]}

    simulation = Simulation(planned(named("xi"), Clamp({}, {}), Dynamics(1e-3, 0.01)))
    simulation.start({"mV": torch.zeros(1, 1), "xi": torch.zeros(1, 1)})
    simulation.run(draws(), 2)
    assert np.isfinite(simulation.values["xi"]).all()
    with pytest.raises(CircuitError, match="a name that ends in _pre"):
        planned(named("x_pre"), Clamp({}, {}), Dynamics(1e-3, 0.01))


def test_too_many_synapses_are_refused_with_the_numbers() -> None:
    """64-pixel feature maps: 3·64² outputs of 16 to 64 inputs each, for 100 rows."""
    description = {
        "nodes": {
            "z": {"shape": [16, 32, 32], "distribution": "gaussian"},
            "x": {"shape": [3, 64, 64], "distribution": "gaussian"},
        },
        "edges": [
            {
                "from": "z",
                "to": "x",
                "layers": [{"conv_transpose": {"channels": 3, "kernel": 4, "stride": 2, "padding": 1}}],
            }
        ],
    }
    # each of 64 lines meets 2 kernel lines, but the outermost two only 1: 126² places, 16 × 3 channels
    count = 126**2 * 16 * 3
    with pytest.raises(CircuitError, match=f"{count:,} synapses for each of 100 rows"):
        planned(description, Clamp({}, {}), Dynamics(1e-3, 0.01), rows=100)
    plan = planned(pair(), Clamp({}, {}), Dynamics(1e-3, 0.01))
    with pytest.raises(CircuitError, match="cpp_standalone keeps every step in memory"):
        check_memory(plan, 10**9, 2e9)


def test_divergence_names_the_node() -> None:
    simulation = Simulation(
        planned(pair(layers=["square", {"linear": 2}]), Clamp({}, {}), Dynamics(1e-3, 3.0))
    )
    simulation.start({"z": torch.full((1, 2), 9.0), "x": torch.zeros(1, 2)})
    with pytest.raises(Divergence, match="diverged at step 25: node 'z'"):
        simulation.run(draws(), 50)


def test_targets_say_what_they_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    check_target("numpy")
    with pytest.raises(StudyError, match="codegen: cpp_standalone needs a C\\+\\+ compiler"):
        check_target("cpp_standalone")
    with pytest.raises(StudyError, match="no code target 'cyton'; did you mean 'cython'"):
        check_target("cyton")
