"""What a circuit is: nodes, edges, distributions, layers, and the YAML that describes them."""

from pcsim.circuit.graph import Circuit, Edge, EncoderEdge, Node
from pcsim.circuit.read import load_circuit

__all__ = ["Circuit", "Edge", "EncoderEdge", "Node", "load_circuit"]
