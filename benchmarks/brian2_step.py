"""(g) A step of the Brian2 engine against a hand-written Brian2 script of the same network.

One layer of 40 latents under tanh and 60 observed units, dense: value and error groups, predictions and feedback as
summed synapses, noise by Brian2's own `xi` in the script and by pcsim's streams in the engine. Both run on numpy, with
one chain and with eight; each run begins with Brian2's own preparation, which both pay.
"""

from typing import Any, NamedTuple

import brian2 as b
import numpy as np
import torch
from common import Race, arguments, interleave, ratio, report, shown

from pcsim.circuit.graph import Circuit
from pcsim.circuit.read import load_circuit
from pcsim.engines.brian2.network import Dynamics
from pcsim.engines.brian2.plan import plan_network
from pcsim.engines.brian2.simulation import Simulation, State
from pcsim.engines.torch.program import Params, Program
from pcsim.engines.torch.target import Clamp
from pcsim.inference.rng import seed_stream

LATENT, OBSERVED = 40, 60
DT, TAU, PRECISION = 1e-3, 0.1, 2.0
TARGET = 1.15
CIRCUIT = {
    "nodes": {
        "z": {"shape": [LATENT], "distribution": "gaussian", "tau": "100 ms"},
        "x": {"shape": [OBSERVED], "distribution": {"gaussian": {"precision": PRECISION}}},
    },
    "edges": [{"from": "z", "to": "x", "layers": ["tanh", {"linear": OBSERVED}]}],
}
EDGE = "z->x.1"


class Problem(NamedTuple):
    """What both are given."""

    circuit: Circuit
    params: Params
    seen: torch.Tensor
    """`[row, unit]`"""
    start: torch.Tensor
    """`[row, unit]`"""


def problem(rows: int) -> Problem:
    """The circuit with drawn weights, observations and a start."""
    circuit = load_circuit(CIRCUIT)
    params = Program(circuit).initial_parameters(torch.Generator().manual_seed(0))
    rng = torch.Generator().manual_seed(1)
    seen = torch.randn(rows, OBSERVED, dtype=torch.float64, generator=rng)
    return Problem(circuit, params, seen, torch.zeros(rows, LATENT, dtype=torch.float64))


def engine(given: Problem) -> Simulation:
    """The network that pcsim makes of the circuit."""
    plan = plan_network(
        given.circuit, given.params, Clamp({"x": given.seen}), len(given.seen), Dynamics(DT, DT / TAU)
    )
    simulation = Simulation(plan)
    simulation.start({"z": given.start})
    return simulation


def script(given: Problem, temperature: float = 1.0) -> tuple[b.Network, Any]:
    """The network as somebody would write it who knows Brian2: the order of groups makes the order of the step."""
    rows = len(given.seen)
    clock = b.Clock(dt=DT * b.second)
    z = b.NeuronGroup(
        rows * LATENT,
        """dz/dt = (-eps + (1 - tanh(z)**2)*back)/tau + sqrt(2*T/tau)*xi : 1
           eps : 1 (linked)
           back : 1""",
        method="euler", clock=clock, namespace={"tau": TAU * b.second, "T": temperature}, name="hand_z",
    )  # fmt: skip
    prior = b.NeuronGroup(
        rows * LATENT, "eps = z : 1\nz : 1 (linked)", clock=clock, order=-2, namespace={}, name="hand_prior"
    )
    x = b.NeuronGroup(rows * OBSERVED, "z : 1", clock=clock, namespace={}, name="hand_x")
    error = b.NeuronGroup(
        rows * OBSERVED,
        "eps = precision*(z - mu - bias) : 1\nz : 1 (linked)\nmu : 1\nbias : 1",
        clock=clock, order=-2, namespace={"precision": PRECISION}, name="hand_error",
    )  # fmt: skip
    z.eps, prior.z, error.z = b.linked_var(prior, "eps"), b.linked_var(z, "z"), b.linked_var(x, "z")
    edge = b.Synapses(
        z, error, "w : 1\nmu_post = w*tanh(z_pre) : 1 (summed)\nback_pre = w*eps_post : 1 (summed)",
        clock=clock, namespace={"precision": PRECISION}, name="hand_edge",
    )  # fmt: skip
    weight = given.params[f"{EDGE}.weight"].double().numpy()
    row, post, pre = np.indices((rows, OBSERVED, LATENT)).reshape(3, -1)
    edge.connect(i=row * LATENT + pre, j=row * OBSERVED + post)
    edge.w = weight[post, pre]
    error.bias = np.tile(given.params[f"{EDGE}.bias"].double().numpy(), rows)
    x.z, z.z = given.seen.reshape(-1).numpy(), given.start.reshape(-1).numpy()
    return b.Network(z, prior, x, error, edge), z


def difference(given: Problem, steps: int = 20) -> float:
    """How far the two are apart after some steps without noise: that they are the same network."""
    plan = plan_network(
        given.circuit, given.params, Clamp({"x": given.seen}), len(given.seen), Dynamics(DT, DT / TAU, 0.0)
    )
    ours = Simulation(plan)
    ours.start({"z": given.start})
    ours.run(seed_stream(0, "bench"), steps)
    network, z = script(given, temperature=0.0)
    network.run(steps * DT * b.second, namespace={})
    return float(np.abs(ours.values["z"].ravel() - z.z[:]).max())


def race(rows: int, steps: int, repetitions: int, patience: float) -> tuple[Race, float]:
    """Engine, engine with a visitor that copies, and script; and their difference without noise."""
    given = problem(rows)
    simulation, rng = engine(given), seed_stream(0, "bench")
    network, _ = script(given)
    kept = np.empty((rows, LATENT))

    def copy(step: int, values: State, errors: State) -> None:
        kept[...] = values["z"]

    works = {
        "script": lambda: network.run(steps * DT * b.second, namespace={}),
        "engine": lambda: simulation.run(rng, steps),
        "engine, every step copied": lambda: simulation.run(rng, steps, copy),
    }
    return interleave(works, repetitions, steps, patience), difference(given)


def main() -> None:
    """One chain and eight."""
    given = arguments(__doc__.splitlines()[0], repetitions=9, steps=4000)
    b.prefs.codegen.target = "numpy"
    rows, kept = {"Brian2": b.__version__}, {}
    for chains in (1, 8):
        result, apart = race(chains, given.steps, given.repetitions, given.patience)
        name = f"{chains} chain{'s' if chains > 1 else ''}"
        rows[f"{name}: repetitions"] = result.conditions
        rows[f"{name}: largest difference after 20 steps without noise"] = f"{apart:.1e}"
        rows |= {
            f"{name}: {work}, ms per step": f"{t.milliseconds():.4f}" for work, t in result.times.items()
        }
        for work, timing in result.times.items():
            if work != "script":
                target = TARGET if work == "engine" else None
                rows[f"{name}: {work} / script"] = shown(ratio(timing, result.times["script"]), target)
        kept[name] = {work: t.seconds for work, t in result.times.items()}
    report("brian2_step", rows, given, seconds=kept)


if __name__ == "__main__":
    main()
