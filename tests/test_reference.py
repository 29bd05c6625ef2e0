"""docs/reference.md is what the registries say today, and its protocols are ones that a study may state."""

import runpy
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pcsim.circuit.read import load_circuit
from pcsim.circuit.source import Source
from pcsim.errors import StudyError
from pcsim.study.phases import check_phases, read_phases
from pcsim.study.pictures import check_shown

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
MADE = runpy.run_path(str(DOCS / "make_reference.py"))


def test_reference_is_up_to_date() -> None:
    assert (DOCS / "reference.md").read_text() == MADE["reference"](), "run python docs/make_reference.py"


def test_every_key_of_a_circuit_is_explained() -> None:
    keys = {*MADE["NODE_KEYS"], *MADE["EDGE_KEYS"], *MADE["ENCODER_KEYS"]}
    assert set(MADE["CIRCUIT_WORDS"]) == keys


@pytest.mark.parametrize("document", list(YAML(typ="safe").load_all(MADE["STIMULI"])))
def test_protocols_can_be_stated(document: dict[str, Any]) -> None:
    circuit, clamp = load_circuit(ROOT / "circuits" / "mnist.yaml"), {"x": "image"}
    source = Source("reference", document, {}, StudyError)
    phases = read_phases(source, ("stimulus",), document["stimulus"], None)
    check_phases(circuit, source, clamp, {}, phases)
    check_shown(circuit, source, clamp, phases, 3)
    assert len(document["stimulus"]) <= 4
