"""What a circuit may ask of a neural simulator and not of this engine, refused with the reason."""

from pcsim.circuit.graph import Circuit
from pcsim.errors import CircuitError


def refuse_dynamics(circuit: Circuit) -> None:
    """Raise `CircuitError` where a circuit has dynamics that a kernel of this engine does not step.

    A kernel moves value units and reads errors at the same instant; whatever has a state of its own beside the
    values runs on Brian2.
    """
    brian = "write engine: brian2, or leave it out"
    for node in circuit.nodes.values():
        at = f"node {node.name}"
        if node.error_tau is not None:
            raise CircuitError(
                f"{at}: error_tau: {node.error_tau}: on torch errors are instantaneous, they have no state to "
                f"follow with a time constant; {brian}"
            )
        if node.errors is not None and node.errors.split:
            raise CircuitError(
                f"{at}: errors: split: rectified populations are no gradient of an energy, which torch's kernels, "
                f"learning and evaluation assume; {brian}"
            )
        if node.adaptation is not None:
            raise CircuitError(
                f"{at}: adaptation: torch keeps no state beside the values, and fatigue is one; {brian}"
            )
    for edge in circuit.edges:
        if edge.delay is not None:
            raise CircuitError(
                f"edge {edge.key}: delay: {edge.delay}: torch evaluates all nodes at one instant; {brian}"
            )
