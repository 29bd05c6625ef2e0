"""Pages that are made from the package at every build: the API by part, and the gallery of circuits."""

import importlib
import pkgutil
import re
from pathlib import Path
from typing import Any

import pcsim

PARTS = {
    "api": "From Python",
    "circuit": "Circuits",
    "inference": "Kernels and random streams",
    "engines": "Engines",
    "learning": "Learning",
    "evaluation": "Evaluation",
    "record": "Traces",
    "datasets": "Data sets",
    "analysis": "Analysis",
    "figures": "Figures",
    "study": "Studies and runs",
    "report": "Report",
    "errors": "Errors",
}


def modules(name: str) -> list[str]:
    """The module itself, and every module below it."""
    found = importlib.import_module(name)
    if not hasattr(found, "__path__"):
        return [name]
    below = sorted(m.name for m in pkgutil.walk_packages(found.__path__, f"{name}."))
    return [name, *below]


def write_api(folder: Path) -> None:
    """One page per part of the package, each module with its docstrings."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, title in PARTS.items():
        text = [title, "=" * len(title), ""]
        for name in modules(f"pcsim.{part}"):
            text += [
                name,
                "-" * len(name),
                "",
                f".. automodule:: {name}",
                "   :members:",
                "   :ignore-module-all:",
                "",
            ]
        (folder / f"{part}.rst").write_text("\n".join(text))
    listed = "\n".join(f"   {part}" for part in PARTS)
    intro = "API\n===\n\nEvery public function, from its docstring."
    (folder / "index.rst").write_text(f"{intro}\n\n.. toctree::\n\n{listed}\n")


def write_circuits(folder: Path, root: Path) -> None:
    """One page per circuit: what it is, its picture, its file, and the studies that run it."""
    from pcsim.circuit.read import load_circuit
    from pcsim.cli.drawing import draw_command

    folder.mkdir(parents=True, exist_ok=True)
    studies = {path.name: path.read_text() for path in sorted((root / "studies").glob("*.yaml"))}
    names = []
    for path in sorted((root / "circuits").glob("*.yaml")):
        draw_command(path, folder / f"{path.stem}.svg", [])
        users = [name for name, text in studies.items() if f"circuits/{path.name}" in text]
        used = f"Studies: {', '.join(f'`studies/{name}`' for name in users)}\n\n" if users else ""
        (folder / f"{path.stem}.md").write_text(
            f"# {path.stem}\n\n{load_circuit(path).description}\n\n![{path.stem}]({path.stem}.svg)\n\n{used}"
            f"```yaml\n{path.read_text()}```\n"
        )
        names.append((path.stem, load_circuit(path).description.replace("|", "\\|")))
    rows = "\n".join(
        f"| [![{name}]({name}.svg){{height=250px}}]({name}.md) | **[{name}]({name}.md)** {text} |"
        for name, text in names
    )
    listed = "\n".join(name for name, _ in names)
    (folder / "index.md").write_text(
        "# Circuits\n\nEvery file of `circuits/`, drawn by `pcsim draw`.\n\n"
        f"| | |\n|---|---|\n{rows}\n\n```{{toctree}}\n:hidden:\n{listed}\n```\n"
    )


def write(app: Any) -> None:
    """Sphinx's hook, before the sources are read."""
    root = Path(pcsim.__file__).parents[1]
    write_api(Path(app.srcdir) / "generated" / "api")
    write_circuits(Path(app.srcdir) / "generated" / "circuits", root)


def relinked(text: str) -> str:
    """Links to circuit files of the repository lead to their pages; to its other files, to nothing but their names.

    >>> relinked("[a](../circuits/mnist.yaml), [b](../studies/x.yaml), [c](theory.md)")
    '[a](generated/circuits/mnist.md), `../studies/x.yaml`, [c](theory.md)'
    """
    text = re.sub(r"\]\(\.\./circuits/(\w+)\.yaml\)", r"](generated/circuits/\1.md)", text)
    return re.sub(r"(?<!!)\[[^\]]*\]\((\.\./[^)]*)\)", r"`\1`", text)


def relink(app: Any, name: str, source: list[str]) -> None:
    """Sphinx's hook for every source; the pages of the repository's own readers keep working links."""
    if "/" not in name:
        source[0] = relinked(source[0])


def setup(app: Any) -> dict[str, bool]:
    """Registers the hooks."""
    app.connect("builder-inited", write)
    app.connect("source-read", relink)
    return {"parallel_read_safe": True}
