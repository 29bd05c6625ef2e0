"""Plain-text docstrings become the reStructuredText that says the same, and links lead to pages that exist."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

EXTENSIONS = Path(__file__).parents[2] / "docs" / "_ext"


def loaded(name: str) -> ModuleType:
    """A Sphinx extension of the documentation, which is no package."""
    spec = importlib.util.spec_from_file_location(name, EXTENSIONS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CASES = {
    "prose": (["One line of prose."], ["One line of prose.", ""]),
    "code": (["Calls `f(x)` and `g`."], ["Calls ``f(x)`` and ``g``.", ""]),
    "code within a word": (["States as `Moment`s."], ["States as ``Moment``\\ s.", ""]),
    "signs": (["|g|^2, x* and name_ end."], ["\\|g\\|^2, x\\* and name\\_ end.", ""]),
    "signs in code": (["Keeps `a*b_`."], ["Keeps ``a*b_``.", ""]),
    "doctest": ([">>> f(2)", "4"], [">>> f(2)", "4", ""]),
    "list": (["- one, `a`", "  goes on", "- two"], ["- one, ``a``", "  goes on", "- two", ""]),
    "introduced list": (["These:", "- one", "- two"], ["These:", "", "- one", "- two", ""]),
    "laid out": (["    B  p <- p", "       - h g"], ["::", "", "      B  p <- p", "         - h g", ""]),
    "laid out after words": (["Steps", "  a * b"], ["::", "", "  Steps", "    a * b", ""]),
    "two paragraphs": (["One.", "", "Two."], ["One.", "", "Two.", ""]),
}


@pytest.mark.parametrize("name", CASES)
def test_conversion(name: str) -> None:
    given, expected = CASES[name]
    assert loaded("docstrings").converted(given) == expected


@pytest.mark.parametrize("name", [name for name in CASES if "code within" not in name])
def test_docutils_reads_it_without_complaint(name: str) -> None:
    """Oracle: docutils at its strictest; the visible text is that of the docstring without its backticks."""
    core = pytest.importorskip("docutils.core")
    source = "\n".join(loaded("docstrings").converted(CASES[name][0]))
    document = core.publish_doctree(source, settings_overrides={"halt_level": 2, "report_level": 5})
    given = "".join(CASES[name][0]).replace("`", "").replace("- ", "").split()
    assert "".join(document.astext().replace("- ", "").split()) == "".join(given)


def test_fields_of_named_tuples_say_nothing_of_themselves() -> None:
    lines = ["Alias for field number 3"]
    loaded("docstrings").convert(None, "attribute", "a.b", None, None, lines)
    assert lines == []


def test_links_out_of_the_documentation() -> None:
    relinked = loaded("generated").relinked
    assert relinked("see [x](../circuits/mnist.yaml)") == "see [x](generated/circuits/mnist.md)"
    assert relinked("see [x](../studies/a.yaml)") == "see `../studies/a.yaml`"
    for kept in ("[a](theory.md)", "![p](results/factorial.svg)", "[b](results/factorial.json)"):
        assert relinked(kept) == kept
