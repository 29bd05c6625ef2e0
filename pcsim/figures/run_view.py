"""A run directory as a reader sees it: study, manifest, metrics, evaluations and trace, without torch."""

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pcsim.errors import RunError, nearest
from pcsim.record.read import open_trace

Method = Literal["PC", "LPC", "VAE"]
METHOD_TITLES: dict[Method, str] = {"PC": "vanilla PC", "LPC": "Langevin PC", "VAE": "VAE"}
SAMPLING_KERNELS = ("langevin", "mala")
Row = Mapping[str, Any]


@dataclass(frozen=True)
class RunView:
    """One run; what is large is read when asked for."""

    path: Path
    study_name: str
    study: Mapping[str, Any]
    manifest: Mapping[str, Any]
    metrics: tuple[Row, ...]

    @property
    def status(self) -> str:
        """`complete`, `running`, `stopped` or `failed`."""
        return str(self.manifest.get("status", "unknown"))

    @property
    def seed(self) -> int:
        """Seed of the study."""
        return int(self.study.get("seed", 0))

    @property
    def method(self) -> Method:
        """VAE when θ learns by the ELBO; else PC at temperature 0 (or with a descent kernel), LPC above it."""
        learning = self.study.get("learning") or {}
        if learning.get("learner") == "elbo":
            return "VAE"
        return "LPC" if self.temperature > 0 else "PC"

    @property
    def temperature(self) -> float:
        """Temperature of the chain: as the study says, else 1 for a sampling kernel and 0 for a descent."""
        kernel = (self.study.get("inference") or {}).get("kernel", "langevin")
        kernel = {"name": kernel} if isinstance(kernel, str) else kernel
        default = 1.0 if kernel.get("name", "langevin") in SAMPLING_KERNELS else 0.0
        return float(kernel.get("temperature", default))

    def rows(self, kind: Literal["train", "evaluation"]) -> tuple[Row, ...]:
        """Metrics of one kind in the order of their updates; of an update written twice, the later line."""
        last = {int(row["update"]): row for row in self.metrics if row.get("kind") == kind}
        return tuple(last[update] for update in sorted(last))

    def evaluated(self) -> tuple[int, ...]:
        """Updates whose evaluation is both in the metrics and on disk."""
        updates = (int(row["update"]) for row in self.rows("evaluation"))
        return tuple(update for update in updates if self.evaluation_path(update).is_file())

    def evaluation_path(self, update: int) -> Path:
        """Where the per-image results of one update lie."""
        return self.path / "evaluation" / f"{update:08d}.npz"

    def evaluation(self, update: int) -> dict[str, NDArray[Any]]:
        """Per-image arrays of one evaluation; raises `RunError` if it is missing or damaged."""
        path = self.evaluation_path(update)
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
                return {name: stored[name] for name in stored.files}
        except FileNotFoundError:
            done = ", ".join(map(str, self.evaluated())) or "none"
            raise RunError(f"{path}: no evaluation at update {update}; evaluated updates: {done}") from None
        except Exception as failure:  # numpy raises many kinds for a damaged archive
            raise RunError(
                f"{path}: damaged evaluation ({failure}); run the study again with --fresh"
            ) from failure

    def last_evaluation(self) -> dict[str, NDArray[Any]]:
        """The evaluation after the most updates; raises `RunError` if there is none."""
        if not self.evaluated():
            raise RunError(f"{self.path}: no evaluation yet (status: {self.status})")
        return self.evaluation(self.evaluated()[-1])

    @property
    def has_trace(self) -> bool:
        """Whether the run has recorded anything."""
        return (self.path / "trace.zarr").is_dir()

    def trace(self) -> xr.DataTree:
        """The recording pass, of the last recorded update; raises `RunError` if it is missing or damaged."""
        if not self.has_trace:
            raise RunError(
                f"{self.path}: this run has no trace; give its study a `record:` section and run it"
            )
        tree = open_trace(self.path / "trace.zarr")
        return tree.isel(update=-1) if "update" in tree.dims else tree

    def landscape(self) -> xr.Dataset | None:
        """Energies on planes through the latent space (`pcsim.figures.landscape`); None if never computed."""
        path = self.path / "landscape.zarr"
        if not path.is_dir():
            return None
        try:
            stored: xr.Dataset = xr.open_zarr(path, consolidated=False).load()
        except Exception as failure:  # as for the trace
            raise RunError(f"{path}: damaged landscape ({failure})") from failure
        return stored


def view(path: Path) -> RunView:
    """The run in that directory; raises `RunError` that says what is missing or damaged, and where."""
    if not path.is_dir():
        near = ""
        if path.parent.is_dir():
            others = [p.parent.name for p in path.parent.glob("*/manifest.json")]
            near = "; " + (nearest(path.name, others) if others else f"{path.parent} holds no runs")
        raise RunError(f"{path}: no such run directory{near}")
    if not (path / "manifest.json").is_file():
        runs = sorted(p.parent.name for p in path.glob("*/manifest.json"))
        found = f"; runs in there: {', '.join(runs)}" if runs else ""
        raise RunError(f"{path}: not a run directory (it has no manifest.json){found}")
    manifest = _json(path / "manifest.json")
    study = _yaml(path / "study.yaml")
    name = str(manifest.get("study") or path.resolve().parent.name)
    return RunView(path, name, study, manifest, _metrics(path / "metrics.jsonl"))


def labels(runs: Sequence[RunView]) -> tuple[str, ...]:
    """One short name per run: its method if that tells the runs apart, else study, seed, directory as needed."""
    choices = (
        lambda run: METHOD_TITLES[run.method],
        lambda run: run.study_name,
        lambda run: f"{run.study_name}, seed {run.seed}",
        lambda run: f"{run.study_name}/{run.path.resolve().name}",
    )
    for choice in choices:
        names = tuple(choice(run) for run in runs)
        if len(set(names)) == len(names):
            return names
    return tuple(str(run.path) for run in runs)


def free_units(run: RunView, trace: xr.DataTree) -> int | None:
    """Number of latent units that no data hold (D); None where a mask leaves that number to the study."""
    if "circuit" not in trace.attrs or run.study.get("mask"):
        return None
    nodes = json.loads(trace.attrs["circuit"])["nodes"]
    held = run.study.get("clamp") or {}
    return sum(math.prod(map(int, node["shape"])) for name, node in nodes.items() if name not in held)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as failure:
        raise RunError(f"{path}: cannot be read ({failure})") from failure
    if not isinstance(content, dict):
        raise RunError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def _yaml(path: Path) -> dict[str, Any]:
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text())
    except (OSError, YAMLError) as failure:
        raise RunError(f"{path}: cannot be read ({failure})") from failure
    if not isinstance(content, dict):
        raise RunError(f"{path}: expected a study (a mapping), found {type(content).__name__}")
    return content


def _metrics(path: Path) -> tuple[Row, ...]:
    """Every line; only the last may be cut short, which is how a killed run leaves it."""
    if not path.is_file():
        return ()
    lines = path.read_text(errors="replace").splitlines()
    rows: list[Row] = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            int(row["update"])
        except (ValueError, KeyError, TypeError) as failure:
            if number == len(lines):
                break
            raise RunError(f"{path}:{number}: damaged line ({failure!r})") from failure
        rows.append(row)
    return tuple(rows)
