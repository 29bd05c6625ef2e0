"""The shipped circuits have the sizes of the papers that they come from."""

from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML

from pcsim.circuit.layers import LAYERS
from pcsim.circuit.layers.chain import chain_parameters, chain_shapes

CIRCUITS = Path(__file__).parents[2] / "circuits"

# Zahid et al. (2024), Table 2: (generator, encoder).
# mcpc_mnist: 20-128-128-784; dcpc_mnist: 20-128-256-784; prior mean and precisions not counted.
COUNTS = {
    "lpc_conv_28": (380_865, 369_680),
    "lpc_conv_32": (381_891, 399_376),
    "lpc_conv_64": (389_059, 398_704),
    "mnist": (20 * 256 + 256 + 256 * 784 + 784, 784 * 256 + 256 + 256 * 40 + 40),
    "mcpc_mnist": (20 * 128 + 128 + 128 * 128 + 128 + 128 * 784 + 784, 0),
    "dcpc_mnist": (20 * 128 + 128 + 128 * 256 + 256 + 256 * 784 + 784, 0),
}


def circuit(name: str) -> Any:
    return YAML(typ="safe").load(CIRCUITS / f"{name}.yaml")


def layers(described: list[Any]) -> list[Any]:
    """The layers of an edge as the file states them: a name, a name with its shorthand, or with fields."""
    made = []
    for item in described:
        name, value = (item, {}) if isinstance(item, str) else next(iter(item.items()))
        kind = LAYERS[name]
        made.append(kind(**(value if isinstance(value, dict) else {kind.shorthand: value})))
    return made


def count(edges: list[Any], nodes: Any) -> int:
    generator = torch.Generator().manual_seed(0)
    return sum(
        value.numel()
        for edge in edges
        for value in chain_parameters(
            layers(edge["layers"]), tuple(nodes[edge["from"]]["shape"]), generator
        ).values()
    )


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts(name: str) -> None:
    data = circuit(name)
    found = count(data["edges"], data["nodes"]), count(data.get("encoder", []), data["nodes"])
    assert found == COUNTS[name]


@pytest.mark.parametrize("path", sorted(CIRCUITS.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_circuit_says_what_it_is_and_its_edges_fit(path: Path) -> None:
    data = YAML(typ="safe").load(path)
    nodes = data["nodes"]
    assert data["description"]
    # a past node has the shape of the node that it remembers
    shapes = {name: tuple(nodes[node.get("past", name)]["shape"]) for name, node in nodes.items()}
    for kind in ("edges", "encoder"):
        for edge in data.get(kind, []):
            ends = chain_shapes(layers(edge["layers"]), shapes[edge["from"]])
            first, *rest = shapes[edge["to"]]
            assert ends[-1] == (first * (2 if kind == "encoder" else 1), *rest)


def test_sizes_inside_the_64_pixel_encoder() -> None:
    """Zahid et al. (2024): 64 → 22 → 11 → 5 → 2 → 1, because the first kernel is 3 with stride 3."""
    (edge,) = circuit("lpc_conv_64")["encoder"]
    sides = [shape[1] for shape in chain_shapes(layers(edge["layers"]), (3, 64, 64)) if len(shape) == 3]
    assert list(dict.fromkeys(sides)) == [64, 22, 11, 5, 2, 1]


def test_latents_and_variance_of_the_convolutional_circuits() -> None:
    for name in ("lpc_conv_28", "lpc_conv_32", "lpc_conv_64"):
        data = circuit(name)
        assert data["nodes"]["z"]["shape"] == [40]
        assert data["nodes"]["x"]["distribution"] == "discretised_gaussian"
        assert data["nodes"]["x"]["learn"] == ["scale"]
        assert data["encoder"][0]["softplus_beta"] == 0.3
