"""The picture of a circuit: levels, nothing on top of anything else, every node and edge of the value/error graph."""

from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
from matplotlib.text import Text
from scipy.optimize import minimize

from pcsim.circuit.drawing import drawing
from pcsim.circuit.drawn import Box, Drawing, Mark, overlap, rectangle
from pcsim.circuit.graph import Circuit
from pcsim.circuit.labels import edge_lines, error_lines, node_lines
from pcsim.circuit.levels import levels, placed, spread
from pcsim.circuit.read import load_circuit
from pcsim.errors import CircuitError, StudyError
from pcsim.figures import circuit as picture
from pcsim.figures.style import house_style

CIRCUITS = sorted((Path(__file__).parents[2] / "circuits").glob("*.yaml"))
GAUSSIAN = {"shape": [3], "distribution": {"gaussian": {"precision": 2.0}}}


def random_circuit(nodes: int, seed: int) -> Circuit:
    """A connected random DAG with skips and branches."""
    rng = np.random.default_rng(seed)
    names = [f"n{i}" for i in range(nodes)]
    pairs = {(int(rng.integers(0, j)), j) for j in range(1, nodes)}
    pairs |= {(int(i), int(j)) for i, j in np.sort(rng.integers(0, nodes, (nodes // 2, 2)), axis=1) if i < j}
    edges = [{"from": names[i], "to": names[j], "layers": ["tanh", {"linear": 3}]} for i, j in sorted(pairs)]
    return load_circuit({"nodes": dict.fromkeys(names, GAUSSIAN), "edges": edges})


def temporal() -> Circuit:
    nodes = {"z": GAUSSIAN, "z_past": {"past": "z"}, "u": GAUSSIAN, "x": {**GAUSSIAN, "error_tau": "2 ms"}}
    edges = [
        {"from": "z_past", "to": "z", "layers": ["tanh"]},
        {"from": "u", "to": "z", "layers": ["identity"]},
        {"from": "z", "to": "x", "layers": [{"linear": {"weight": np.eye(3).tolist()}}]},
    ]
    return load_circuit({"nodes": nodes, "edges": edges})


def crosses(start: Any, end: Any, box: tuple[float, float, float, float]) -> bool:
    """Whether a segment enters a rectangle, by 400 points on it."""
    share = np.linspace(0, 1, 400)[:, None]
    points = np.asarray(start) + share * (np.asarray(end) - np.asarray(start))
    inside = (points > np.array(box[:2]) + 1e-6) & (points < np.array(box[2:]) - 1e-6)
    return bool(inside.all(axis=1).any())


def check_clear(drawn: Drawing) -> None:
    """No box, error node or word lies on another; no line runs through a node that is not its end."""
    parts = [*drawn.boxes, *drawn.marks, *(line for line in drawn.lines if line.role == "prediction")]
    for one, other in combinations(parts, 2):
        assert not overlap(rectangle(one), rectangle(other)), (one, other)
    solid: list[Box | Mark] = [*drawn.boxes, *(mark._replace(lines=()) for mark in drawn.marks)]
    for line in drawn.lines:
        for part in solid:
            own = part.name in line.ends and (line.role != "prediction" or isinstance(part, Mark))
            if not own:
                for start, end in pairwise(line.points):
                    assert not crosses(start, end, rectangle(part)), (line, part)


@pytest.mark.parametrize("seed", range(9))
def test_random_circuits_lie_in_levels_and_nothing_overlaps(seed: int) -> None:
    circuit = random_circuit(4 + seed, seed)
    drawn = drawing(circuit, {})
    check_clear(drawn)
    height = {box.name: box.y for box in drawn.boxes}
    for edge in circuit.edges:
        assert height[edge.parent] > height[edge.child]
    level = levels(circuit.graph)
    for root in circuit.roots:
        assert level[root] == min(level[e.child] for e in circuit.children(root)) - 1


def test_a_tree_is_drawn_without_crossings() -> None:
    """Oracle: a tree is planar by levels; its order must be found."""
    tree: nx.DiGraph[str] = nx.DiGraph()
    rng = np.random.default_rng(3)
    for child in rng.permutation(np.arange(1, 15)):
        tree.add_edge(f"n{(child - 1) // 2}", f"n{child}")
    found = placed(tree, dict.fromkeys(tree, 1.0), 0.2)
    for (a, b), (c, d) in combinations(tree.edges, 2):
        if found.level[a] == found.level[c]:
            assert (found.x[a] - found.x[c]) * (found.x[b] - found.x[d]) >= 0
    rows: dict[int, list[float]] = {}
    for name in tree:
        rows.setdefault(found.level[name], []).append(found.x[name])
    for row in rows.values():
        assert (np.diff(np.sort(row)) > 1.2 - 1e-9).all()


def test_spread_is_the_least_squares_solution() -> None:
    rng = np.random.default_rng(1)
    for _ in range(5):
        wanted, apart = rng.normal(size=6), rng.uniform(0.1, 1.0, size=5)
        found = np.array(spread(wanted.tolist(), apart.tolist()))
        assert (np.diff(found) > apart - 1e-9).all()
        limits = {"type": "ineq", "fun": lambda x, a=apart: np.diff(x) - a}
        best = minimize(lambda x, w=wanted: ((x - w) ** 2).sum(), np.cumsum([0, *apart]), constraints=limits)
        assert ((found - wanted) ** 2).sum() == pytest.approx(best.fun, abs=1e-5)


def test_every_edge_of_the_value_and_error_graph_is_drawn() -> None:
    circuit = temporal()
    drawn = drawing(circuit, {"x": "clamped at image"})
    roles = [role for *_, role in circuit.with_errors().edges.data("role")]
    lines = [line for line in drawn.lines if line.role == "prediction"]
    assert len(lines) == roles.count("prediction") == 3
    assert sum(line.message for line in lines) == roles.count("message") == 2
    assert len(drawn.marks) == roles.count("own") == 3
    kinds = {box.name: box.kind for box in drawn.boxes}
    assert kinds == {"z": "value", "z_past": "past", "u": "value", "x": "clamped"}
    (kept,) = [line for line in drawn.lines if line.role == "past"]
    assert kept.ends == ("z", "z_past")
    check_clear(drawn)


def test_words_tell_sizes_precisions_and_weights() -> None:
    """The published parameter counts of the 28-pixel model: 380 865 and 369 680 (Zahid, Guo, Fountas 2024)."""
    conv = load_circuit(CIRCUITS[0].parent / "lpc_conv_28.yaml")
    (down,), (up,) = conv.edges, conv.encoder
    assert edge_lines(down, (40,)) == (
        "6 layers, 380\xa0865 weights",
        "linear, 3 conv transpose, conv, conv transpose",
        "silu",
    )
    assert "369\xa0680 weights" in edge_lines(up, (1, 28, 28))[1]
    assert node_lines(conv.nodes["x"], None) == ("x", "1 × 28 × 28", "discretised gaussian")
    assert error_lines(conv.nodes["x"], False) == ("scale = 0.3, learned",)
    chain = load_circuit(CIRCUITS[0].parent / "linear_gaussian_chain.yaml")
    assert error_lines(chain.nodes["z2"], True) == ("Π = 1", "mean = 0.5, \N{MINUS SIGN}0.5")
    assert error_lines(chain.nodes["z1"], False) == ("Π = 2, 0.5",)
    assert error_lines(chain.nodes["x"], False) == ("Π: 3 × 3 matrix",)
    toy = load_circuit(CIRCUITS[0].parent / "mcpc_linear_1d.yaml")
    assert edge_lines(toy.edges[0], (1,)) == ("linear", "weight 2")
    assert "τ = 2 ms" in error_lines(temporal().nodes["x"], False)


def rendered(drawn: Drawing) -> Figure:
    with house_style():
        figure = picture.circuit(drawn, "a title", "What it is, in words that may take more than one line.")
        figure.draw_without_rendering()
    return figure


@pytest.mark.parametrize("path", CIRCUITS, ids=lambda path: path.stem)
def test_every_shipped_circuit_is_legible(path: Path) -> None:
    """Rendered words stay on the sheet and off each other: the layout's estimate of their size holds."""
    circuit = load_circuit(path)
    drawn = drawing(circuit, {})
    check_clear(drawn)
    figure = rendered(drawn)
    words = [text for text in figure.findobj(Text) if text.get_text().strip()]
    boxes = [text.get_window_extent() for text in words]
    width, height = figure.get_size_inches() * figure.dpi
    for box in boxes:
        assert min(box.x0, box.y0, width - box.x1, height - box.y1) >= 0
    for (one, a), (other, b) in combinations(zip(words, boxes, strict=True), 2):
        met = min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1
        assert not met, (one.get_text(), other.get_text())
    assert min(text.get_fontsize() for text in words) >= 6
    shown = {text.get_text() for text in words}
    assert set(circuit.nodes) <= shown


def test_the_picture_shows_what_the_drawing_says() -> None:
    drawn = drawing(temporal(), {"x": "clamped at image"})
    figure = rendered(drawn)
    boxes = {patch.get_gid(): patch for patch in figure.findobj(FancyBboxPatch) if patch.get_gid()}
    assert set(boxes) == {"value z", "value z_past", "value u", "value x"}
    assert boxes["value x"].get_facecolor() != boxes["value z"].get_facecolor()
    assert boxes["value z_past"].get_linestyle() != boxes["value z"].get_linestyle()
    assert {p.get_gid() for p in figure.findobj(Circle)} == {"error z", "error u", "error x"}
    told = " ".join(text.get_text() for text in figure.findobj(Text))
    for words in (
        "clamped at image",
        "z, one frame before",
        "next frame",
        "Π = 2",
        "prediction, down",
        "a title",
    ):
        assert words in told, words
    assert "encoder" not in told
    # two per stalk and line with an error, one per line without, and the key's four
    assert len(figure.findobj(FancyArrowPatch)) == 2 * 3 + 2 * 2 + 1 + 1 + 4


def test_pictures_are_written_in_three_formats_the_same_each_time(tmp_path: Path) -> None:
    one_edge = load_circuit(CIRCUITS[0].parent / "mcpc_linear_1d.yaml")
    figure = rendered(drawing(one_edge, {}))
    starts = {"pdf": b"%PDF", "png": b"\x89PNG", "svg": b"<?xml"}
    for kind, start in starts.items():
        for name in ("one", "two"):
            picture.write(figure, tmp_path / f"{name}.{kind}")
        one, two = ((tmp_path / f"{name}.{kind}").read_bytes() for name in ("one", "two"))
        assert one.startswith(start)
        assert one == two
    with pytest.raises(StudyError, match=r"no format '\.jpg' for a picture"):
        picture.write(figure, tmp_path / "one.jpg")


def test_a_clamp_must_name_a_node_of_the_circuit() -> None:
    with pytest.raises(CircuitError, match="clamp: no node 'y'"):
        drawing(temporal(), {"y": "clamped"})
    with pytest.raises(CircuitError, match="z_past holds the past of node z"):
        drawing(temporal(), {"z_past": "clamped"})
