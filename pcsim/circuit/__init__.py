"""What a circuit is: nodes, edges, distributions, layers, and the YAML that describes them.

Names are imported when they are first used: reading a YAML file does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pcsim.circuit.graph import Circuit, Edge, EncoderEdge, Node
    from pcsim.circuit.read import load_circuit

_HOME = {"Circuit": "graph", "Edge": "graph", "EncoderEdge": "graph", "Node": "graph", "load_circuit": "read"}

__all__ = ["Circuit", "Edge", "EncoderEdge", "Node", "load_circuit"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'pcsim.circuit' has no attribute {name!r}")
    return getattr(import_module(f"pcsim.circuit.{_HOME[name]}"), name)
