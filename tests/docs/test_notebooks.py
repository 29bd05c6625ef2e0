"""Every notebook runs to its end, its own assertions included, and every page of the documentation can be reached."""

import os
import re
from pathlib import Path

import pytest
from filelock import FileLock

DOCS = Path(__file__).parents[2] / "docs"
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.py"))
PAGES = sorted(page for page in DOCS.glob("*.md") if page.stem != "index")


def name_of(path: Path) -> str:
    return path.stem


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_notebook_runs(path: Path) -> None:
    """As Sphinx runs it, in its own folder; what the cells assert are the claims of the text beside them."""
    jupytext = pytest.importorskip("jupytext")
    client = pytest.importorskip("nbclient")
    notebook = jupytext.read(path)
    assert notebook.metadata["kernelspec"]["name"] == "python3"
    executor = client.NotebookClient(
        notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    )
    runs = path.parent / "runs"
    runs.mkdir(exist_ok=True)
    # notebooks share runs: two workers must not train one at a time, nor wait for each other's threads
    with FileLock(runs / ".lock"):
        executor.execute(env={**os.environ, "OMP_NUM_THREADS": "1"})
    figures = [
        o for c in notebook.cells for o in c.get("outputs", ()) if "image/svg+xml" in o.get("data", {})
    ]
    assert figures


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_notebook_uses_the_public_interface(path: Path) -> None:
    """Imports come from pcsim itself, its analysis, figures and errors, and from the array packages."""
    allowed = ("pcsim", "numpy", "xarray", "pandas", "scipy", "zarr")
    for line in path.read_text().splitlines():
        if found := re.match(r"(?:from|import) ([\w.]+)", line):
            first, *rest = found[1].split(".")
            assert first in allowed, line
            assert first != "pcsim" or not rest or rest[0] in ("analysis", "figures", "errors"), line


def listed() -> set[str]:
    """Entries of the table of contents."""
    text = (DOCS / "index.md").read_text()
    trees = re.findall(r"```\{toctree\}\n(.*?)```", text, flags=re.S)
    return {line.strip() for tree in trees for line in tree.splitlines() if line and not line.startswith(":")}


def test_every_page_is_in_the_table_of_contents() -> None:
    expected = {f"notebooks/{path.stem}" for path in NOTEBOOKS} | {path.stem for path in PAGES}
    made = {"generated/circuits/index", "generated/api/index"}
    assert listed() == expected | made


@pytest.mark.parametrize(
    "path",
    [DOCS.parent / "README.md", DOCS.parent / "CONTRIBUTING.md", *PAGES, DOCS / "index.md"],
    ids=name_of,
)
def test_links_lead_somewhere(path: Path) -> None:
    """Of a page as it stands in the repository; pages that a build makes are left out."""
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text()):
        if "://" in target or target.startswith("generated/"):
            continue
        place = path.parent / target
        assert place.exists() or place.with_suffix(".py").exists(), target


def drawn(package: str) -> set[str]:
    """Functions that return a figure, `module.name`, of the modules that show results of analyses."""
    found = set()
    for path in (DOCS.parent / package).glob("*.py"):
        for name in re.findall(
            r"^def ([a-z]\w*)\((?:[^)]|\)(?! ->))*\) -> Figure:", path.read_text(), flags=re.M
        ):
            found.add(f"{path.stem}.{name}")
    return found


def test_the_gallery_has_every_figure() -> None:
    """Each function of pcsim.figures that makes a figure is called in the gallery, by itself or by its name."""
    text = (DOCS / "notebooks" / "figures.py").read_text()
    elsewhere = {"style.sheet", "circuit.circuit", "registry.draw", "receptive_fields.receptive_fields",
                 "receptive_fields.end_stopping"}  # fmt: skip
    names = drawn("pcsim/figures") - elsewhere
    assert len(names) > 40
    missing = {
        n for n in names if f".{n.partition('.')[2]}(" not in text and f'"{n.partition(".")[2]}"' not in text
    }
    assert not missing
