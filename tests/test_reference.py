"""docs/reference.md is what the registries say today."""

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def test_reference_is_up_to_date() -> None:
    made = runpy.run_path(str(DOCS / "make_reference.py"))["reference"]()
    assert (DOCS / "reference.md").read_text() == made, "run python docs/make_reference.py"
