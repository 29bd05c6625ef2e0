"""One small study on 8x8 digits, for everything that can go wrong or be interrupted."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

CIRCUIT = """\
nodes:
  z: {shape: [4], distribution: {gaussian: {precision: 1.0}}}
  x: {shape: [1, 8, 8], distribution: bernoulli}
edges:
  - {from: z, to: x, layers: [{linear: 8}, tanh, {linear: 64}, {reshape: [1, 8, 8]}]}
encoder:
  - {from: x, to: z, layers: [{reshape: [64]}, {linear: 8}]}
"""

STUDY = """\
description: Langevin predictive coding on 8x8 digits
seed: 3
circuit: circuit.yaml
data: {name: digits, train: 200, validation: 20, test: 40, binarise: 127}
clamp: {x: image}
inference:
  kernel: {name: langevin, step_size: 0.05, temperature: 1.0}
  preconditioner: {name: frozen, window: 3}
  start: encoder
  steps: 8
learning:
  learner: em
  draws: all
  encoder: {objective: jeffreys, prior_batches: 2, optimizer: {name: adam, step_size: 1e-3}}
  optimizer: {name: adam, step_size: 1e-2}
  batch_size: 16
  updates: 12
record:
  images: 2
  chains: 3
  spontaneous: 6
  steps: 12
  block: 4
  probes:
    - {read: [value, error], nodes: [z]}
    - {read: energy}
    - {read: gradient_norm}
evaluation:
  log_likelihood: {method: ais, images: 4, particles: 3, temperatures: 8}
  reconstruction: {images: 6}
  elbo: {images: 6}
  samples: 4
  at_updates: [5, last]
figures: []
"""


def write_study(folder: Path, study: str = STUDY, circuit: str = CIRCUIT) -> Path:
    """The study and its circuit as files in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "circuit.yaml").write_text(circuit)
    (folder / "study.yaml").write_text(study)
    return folder / "study.yaml"


def environment(data: Path) -> dict[str, str]:
    """What a process of its own gets: one thread, and its data in `data`."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PCSIM_DATA": str(data), "COLUMNS": "200"}


def command(*words: str | Path) -> list[str]:
    """`pcsim …` in a process of its own."""
    return [sys.executable, "-c", "from pcsim.cli import app; app()", *map(str, words)]


def call(data: Path, *words: str | Path, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """Run `pcsim …` to its end."""
    return subprocess.run(
        command(*words), env=environment(data), capture_output=True, text=True, timeout=240, cwd=cwd
    )


def results(run: Path) -> dict[str, Any]:
    """Everything that a run leaves and that must not depend on how often it was interrupted."""
    found: dict[str, Any] = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        row.pop("seconds")
        found.setdefault("metrics", []).append(json.dumps(row, sort_keys=True))
    found["weights"] = (run / "checkpoints" / "weights.safetensors").read_bytes()
    for file in sorted((run / "evaluation").glob("*.npz")):
        with np.load(file, allow_pickle=False) as arrays:
            for name in arrays.files:
                found[f"{file.stem}/{name}"] = arrays[name]
    if (run / "trace.zarr").is_dir():
        with xr.open_datatree(run / "trace.zarr", engine="zarr") as tree:
            for path, array in _arrays(tree):
                found[f"trace{path}"] = array
    return found


def _arrays(tree: xr.DataTree) -> list[tuple[str, np.ndarray[Any, Any]]]:
    return [
        (f"{node.path}/{name}", variable.to_numpy())
        for node in tree.subtree
        for name, variable in node.dataset.variables.items()
    ]


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Names of results that are not the same to the bit."""
    names = sorted(one.keys() | other.keys())
    return [name for name in names if not _same(one.get(name), other.get(name))]


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.shape == b.shape and a.dtype == b.dtype and (a.dtype == object or a.tobytes() == b.tobytes()) and (
            a.dtype != object or bool((a == b).all())
        )  # fmt: skip
    return type(a) is type(b) and bool(a == b)


def overridden(words: Sequence[str]) -> list[str]:
    """Overrides of a run that only looks: no learning, no evaluation."""
    return ["learning=", "evaluation={}", *words]
