"""Which part of the package may import which (design, section 3), and what stays out of a light import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pcsim"

# part: the parts of pcsim that it may import (itself and `errors` always)
MAY_IMPORT = {
    "errors": set(),
    "circuit": set(),
    "inference": set(),
    "datasets": set(),
    "record": set(),
    "engines": {"circuit", "inference"},
    "learning": {"circuit", "engines", "inference"},
    "evaluation": {"circuit", "engines", "inference"},
    "analysis": {"record"},
    "figures": {"record", "analysis"},
    "report": {"record", "analysis", "figures"},
    "study": {"circuit", "inference", "engines", "learning", "record", "datasets", "evaluation", "analysis", "figures"},
    "api": {"circuit", "inference", "engines", "learning", "record", "datasets", "evaluation", "study"},
    "cli": {"circuit", "datasets", "record", "study", "figures", "analysis", "report", "api", "engines"},
}  # fmt: skip

TORCH_FREE = ("analysis", "figures", "report", "datasets")
READING = (
    "record/__init__",
    "record/layout",
    "record/read",
    "record/store",
    "record/writer",
    "record/memory",
)
LIGHT = ("study/load", "study/schema", "study/directory", "circuit/source", "circuit/safety")


def modules() -> list[Path]:
    """Every module of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """`pcsim.circuit.read`."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path, *, at_import: bool = False) -> set[str]:
    """Names of modules that a file imports; only those that run at its own import, if asked."""
    tree = ast.parse(path.read_text())
    package = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]
    found: set[str] = set()
    for node in _nodes(tree, at_import):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*up, base]).strip(".")
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return found


def _nodes(tree: ast.AST, at_import: bool) -> list[ast.AST]:
    """All nodes, or those outside functions and `if TYPE_CHECKING`."""
    if not at_import:
        return list(ast.walk(tree))
    found: list[ast.AST] = []
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        found += [child, *_nodes(child, at_import)]
    return found


def part_of(name: str) -> str:
    """The part of the package that a module belongs to."""
    return name.split(".")[1] if "." in name else ""


@pytest.mark.parametrize(
    "path", [p for p in modules() if p.parent != PACKAGE or p.stem != "__init__"], ids=name_of
)
def test_imports_only_what_its_part_may(path: Path) -> None:
    part = part_of(name_of(path))
    assert part in MAY_IMPORT, f"{part}: a new part of the package needs a line in the table"
    names = {name for name in imported(path) if name.startswith("pcsim.") and part_of(name) in MAY_IMPORT}
    wrong = {name for name in names if part_of(name) not in {part, "errors"} | MAY_IMPORT[part]}
    assert not wrong, f"{name_of(path)} ({part}) imports {sorted(wrong)}"


def test_table_has_no_cycle() -> None:
    """Values flow one way: no part is imported, however indirectly, by what it imports."""

    def below(part: str, seen: frozenset[str]) -> set[str]:
        assert part not in seen, f"{part} imports itself by way of {sorted(seen)}"
        return {part}.union(*(below(p, seen | {part}) for p in MAY_IMPORT[part]))

    for part in MAY_IMPORT:
        below(part, frozenset())


def reached(name: str) -> set[str]:
    """All modules that importing `name` imports, by reading: packages on the way included."""
    known = {name_of(path): path for path in modules()}
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        here = waiting.pop()
        if here in seen:
            continue
        seen.add(here)
        if here in known:
            waiting += imported(known[here], at_import=True)
        if here.startswith("pcsim.") and here.rpartition(".")[0] not in seen:
            waiting.append(here.rpartition(".")[0])
    return seen


def light_modules() -> list[str]:
    """Modules that must work without torch."""
    listed = [PACKAGE / f"{name}.py" for name in (*READING, *LIGHT)]
    found = [path for path in modules() if path.relative_to(PACKAGE).parts[0] in TORCH_FREE]
    return [name_of(path) for path in (*found, *listed)]


@pytest.mark.parametrize("name", light_modules())
def test_torch_is_out_of_reach(name: str) -> None:
    assert not [m for m in reached(name) if m.split(".")[0] == "torch"]


def test_reading_finds_imports_where_they_are() -> None:
    """The test's own instrument: it sees torch where it is, and not where it is imported on demand."""
    assert "torch" in reached("pcsim.engines.torch.target")
    assert "torch" in imported(PACKAGE / "cli" / "listing.py")
    assert "torch" not in imported(PACKAGE / "cli" / "listing.py", at_import=True)
    assert "pcsim.circuit.graph" in imported(PACKAGE / "circuit" / "__init__.py")
    assert "pcsim.circuit.graph" not in imported(PACKAGE / "circuit" / "__init__.py", at_import=True)


HEAVY = (
    "torch",
    "xarray",
    "zarr",
    "matplotlib",
    "scipy",
    "sklearn",
    "pandas",
    "networkx",
    "numpy",
    "brian2",
    "arviz",
)


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ("import pcsim", set()),
        ("import pcsim.cli", set()),
        ("import pcsim.circuit", set()),
        ("import pcsim.study.load", {"numpy"}),
        ("import pcsim.datasets", {"numpy"}),
        ("from pcsim.record.read import open_trace", {"numpy", "xarray", "zarr", "pandas"}),
        ("import pcsim.figures.run_view", {"numpy", "xarray", "zarr", "pandas", "scipy", "matplotlib"}),
    ],
)
def test_heavy_packages_stay_out(statement: str, allowed: set[str]) -> None:
    code = f"import sys\n{statement}\nprint(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert set(done.stdout.split()) <= allowed
