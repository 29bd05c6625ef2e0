"""What the Brian2 engine cannot run as written, found before anything is built."""

from collections.abc import Collection, Mapping

from pcsim.circuit.distributions.base import LocalText
from pcsim.circuit.graph import Circuit, Node
from pcsim.circuit.times import seconds
from pcsim.engines.torch.target import Clamp
from pcsim.errors import CircuitError, StudyError, nearest

SUFFIXES = ("_pre", "_post")


def check_names(circuit: Circuit) -> None:
    """Refuse node names that would read as something else in the equations of synapses.

    Every other name is safe, because variables and groups carry a prefix: a node may be called `mV` or `xi`.
    """
    for name in circuit.nodes:
        for suffix in SUFFIXES:
            if name.endswith(suffix):
                raise CircuitError(
                    f"node {name}: a name that ends in {suffix} means a presynaptic or postsynaptic variable in "
                    f"Brian2; rename it, for example {name.removesuffix(suffix)}"
                )
    groups: dict[str, str] = {}
    for edge in circuit.edges:
        other = groups.setdefault(f"{edge.parent}_{edge.child}", edge.key)
        if other != edge.key:
            raise CircuitError(f"edges {other} and {edge.key} would both be called edge_{edge.parent}_{edge.child}; "
                               "rename one of their nodes")  # fmt: skip


def check_noise(circuit: Circuit, noise_on: str) -> None:
    """Refuse noise on errors that are instantaneous."""
    for name, node in circuit.nodes.items():
        if noise_on == "errors" and node.past is None and node.error_tau is None:
            raise CircuitError(
                f"node {name}: noise.on: errors needs error_tau at every node; an instantaneous error has no state "
                "that noise could move"
            )


def check_clamp(circuit: Circuit, clamp: Clamp, switched: Collection[str]) -> None:
    """Refuse clamps and masks of unknown nodes, and discrete nodes that have a child but no value."""
    for name in (*clamp.values, *switched):
        if name not in circuit.nodes:
            raise StudyError(f"clamp.{name}: no node {name!r}; {nearest(name, circuit.nodes)}")
    for name in clamp.masks:
        if name not in clamp.values:
            raise StudyError(f"mask.{name}: node {name} has a mask but no clamp")
    for edge in circuit.edges:
        whole = edge.parent in clamp.values and edge.parent not in (*clamp.masks, *switched)
        if circuit.nodes[edge.parent].distribution.discrete and not whole:
            raise StudyError(
                f"clamp.{edge.parent}: node {edge.parent} is discrete and has a child ({edge.child}); clamp it "
                "wholly, gradients do not reach discrete values"
            )


class TimeStepError(CircuitError):
    """A time step that is too long for a time constant."""


def check_time_steps(nodes: Mapping[str, Node], texts: Mapping[str, LocalText], dt: float) -> None:
    """Refuse a dt that overshoots: dt > tau, of values and of fatigue, or dt > tau_ε/2 over the leak Σ of an error."""
    for name, node in nodes.items():
        times = {"tau": node.tau, "adaptation.tau": None if node.adaptation is None else node.adaptation.tau}
        for key, time in times.items():
            if time is not None and dt > seconds(time):
                raise TimeStepError(
                    f"node {name}: dt of {dt * 1e3:g} ms is longer than its {key} of {time}; Euler's step "
                    f"overshoots, use at most {time}"
                )
        if node.error_tau is None:
            continue
        precision = texts[name].constants.get("precision")
        leak = 1.0 if precision is None else float(1 / precision.min())
        if dt * leak > 0.5 * seconds(node.error_tau):
            unit = 1e3 * seconds(node.error_tau) / leak
            raise TimeStepError(
                f"node {name}: dt of {dt * 1e3:g} ms is too long for error units that relax in error_tau/Σ = "
                f"{unit:.3g} ms; use at most {unit / 2:.3g} ms"
            )


def check_curvature(
    free: Collection[str], nodes: Mapping[str, Node], texts: Mapping[str, LocalText], dt: float, step_size: float
) -> None:  # fmt: skip
    """Refuse a step with which a Gaussian unit diverges by its own precision π alone: γ π ≥ 2, γ = dt/tau.

    Children only add to the curvature. Units with more than one variable are left alone: their stability is not that
    of one factor 1 − γ π.
    """
    for name in free:
        node, text = nodes[name], texts[name]
        plain = node.error_tau is None and node.errors is None and node.adaptation is None
        if text.covariance is None or not plain:
            continue
        precision = float(text.constants["precision"].max()) if "precision" in text.constants else 1.0
        if node.tau is None and step_size * precision >= 2:
            raise TimeStepError(
                f"node {name}: a step_size of {step_size:g} is too long for a precision of {precision:g}; use at "
                f"most {1 / precision:.3g}, or give the node a tau"
            )
        if node.tau is not None and dt * precision >= 2 * seconds(node.tau):
            unit = 1e3 * seconds(node.tau) / precision
            raise TimeStepError(
                f"node {name}: dt of {dt * 1e3:g} ms is too long for units that relax in tau/precision = "
                f"{unit:.3g} ms; use at most {unit:.3g} ms"
            )
