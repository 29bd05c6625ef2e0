"""What can be foretold of a study before it runs: a step size that is certain to diverge."""

import numpy as np
import torch

from pcsim.circuit.distributions import Bernoulli, Gaussian
from pcsim.circuit.graph import Circuit
from pcsim.circuit.layers import LAYERS
from pcsim.engines.torch.starts import prior_start
from pcsim.engines.torch.target import CircuitTarget, rows_of
from pcsim.inference.rng import seed_stream
from pcsim.inference.stability import largest_curvature
from pcsim.study.build import Plan
from pcsim.study.stimuli import place
from pcsim.study.training import Materials, initial_parameters

LINEAR = tuple(LAYERS[name] for name in ("linear", "conv", "conv_transpose", "reshape", "identity"))


def is_quadratic(circuit: Circuit) -> bool:
    """Is U a quadratic form of the states: Gaussian nodes and linear edges throughout?"""
    gaussian = all(isinstance(node.distribution, Gaussian) for node in circuit.nodes.values())
    return gaussian and all(isinstance(layer, LINEAR) for edge in circuit.edges for layer in edge.layers)


def warnings_of(plan: Plan, materials: Materials) -> list[str]:
    """What a reader should know before a run: a step size that is certain to diverge, grey pixels as Bernoulli."""
    return [*_grey_warnings(plan), *_step_warnings(plan, materials)]


def _grey_warnings(plan: Plan) -> list[str]:
    """A Bernoulli node held at grey pixels has a cross-entropy, not a density: say so where it is reported."""
    data = plan.study.data
    if data is None or data.binarise is not None or not plan.study.evaluation.log_likelihood:
        return []
    grey = [n for n, what in plan.study.clamp.items() if what == "image"]
    return [
        f"clamp.{name}: Bernoulli at grey values: log_likelihood is then a cross-entropy, not comparable with "
        "densities; data.binarise: 127 makes pixels 0 or 1"
        for name in grey
        if isinstance(plan.circuit.nodes[name].distribution, Bernoulli)
    ]


def _step_warnings(plan: Plan, materials: Materials) -> list[str]:
    """A warning where γ λ_max(Λ) ≥ 2 is certain: quadratic energy, Langevin without preconditioner.

    Elsewhere nothing is certain at load, and the guard stops the chain where it shows.
    """
    inference = plan.study.inference
    plain = inference.kernel.name == "langevin" and inference.preconditioner.name == "none"
    if not plain or not is_quadratic(plan.circuit):
        return []
    rows = np.zeros(1, np.int64)
    stimuli = place(materials.split.test, plan.device) if materials.split else None
    values = materials.clamping.values(stimuli, rows)
    bound = plan.program.bind(initial_parameters(plan))
    target = CircuitTarget(bound, rows_of(values, materials.clamping.masks, 1), 1, mobility=plan.mobility)
    if not target.free:
        return []
    rng = seed_stream(plan.study.seed, "advice", device=plan.device)
    with torch.no_grad():
        curvature = float(largest_curvature(target, prior_start(target, rng), rng).max())
    step_size = float(inference.kernel.arguments["step_size"])
    if step_size * curvature < 2:
        return []
    return [
        f"inference.kernel.step_size: {step_size:g} times the largest curvature {curvature:.4g} is "
        f"{step_size * curvature:.3g} ≥ 2 at the initial weights: the chain will diverge; "
        f"take a step size below {2 / curvature:.3g}"
    ]
