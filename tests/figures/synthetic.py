"""Run directories with known content: Gaussian chains, per-image numbers and pictures, written as a run leaves them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ruamel.yaml import YAML

from pcsim.record.layout import Layout, Variable, phases, recorded_steps
from pcsim.record.writer import Block, TraceWriter

D, STEP_SIZE, IMAGES, CHAINS = 20, 0.05, 4, 8
NODES = {"z": {"shape": [D]}, "x": {"shape": [1, 28, 28]}}
KERNELS = {"pc": 0.0, "lpc": 1.0, "vae": 1.0}


def study_of(kind: str, seed: int = 0, **data: Any) -> dict[str, Any]:
    """A resolved study of one of the three methods."""
    return {
        "seed": seed,
        "circuit": "circuits/mnist.yaml",
        "data": {"name": "mnist5k", "binarise": 127} | data,
        "clamp": {"x": "image"},
        "inference": {
            "kernel": {"name": "langevin", "step_size": STEP_SIZE, "temperature": KERNELS[kind]},
            "steps": 50,
        },
        "learning": {"learner": "elbo" if kind == "vae" else "em", "updates": 400},
    }


def write_run(
    path: Path, study: Mapping[str, Any], evaluations: Mapping[int, Mapping[str, NDArray[Any]]],
    seconds_per_update: float = 0.1, gradients_per_update: int = 50, **manifest: Any,
) -> Path:  # fmt: skip
    """A run directory without a trace: metrics follow from the per-image arrays and the cost of an update."""
    (path / "evaluation").mkdir(parents=True)
    with (path / "study.yaml").open("w") as handle:
        YAML(typ="safe", pure=True).dump(dict(study), handle)
    written = {"status": "complete", "study": path.parent.name, "data": {"fingerprint": "f00d"}} | manifest
    (path / "manifest.json").write_text(json.dumps(written))

    def cost(update: int) -> dict[str, float]:
        return {
            "update": update,
            "seconds": update * seconds_per_update,
            "gradient_evaluations": update * gradients_per_update,
        }

    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = [
        {
            "kind": "train",
            **cost(u),
            "energy": 90 + 1000 * seconds_per_update + 110 * np.exp(-u / 80) + 3 * rng.standard_normal(),
        }
        for u in range(2, max(evaluations, default=0) + 1, 2)
    ]
    for update, arrays in evaluations.items():
        np.savez(path / "evaluation" / f"{update:08d}.npz", **arrays)
        means = {
            k: float(np.mean(v))
            for k, v in arrays.items()
            if k in ("log_likelihood", "elbo", "reconstruction_error")
        }
        rows.append({"kind": "evaluation", **cost(update), **means})
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def evaluation(
    quality: float, images: int = 60, seed: int = 0, pictures: bool = True
) -> dict[str, NDArray[Any]]:
    """Per-image numbers around `quality` nats above −200, on the same images whatever the quality."""
    common, own = np.random.default_rng(7), np.random.default_rng(seed + 100)
    hard = 30 * common.standard_normal(images)
    likelihood = -200 + quality + hard + 3 * own.standard_normal(images)
    arrays: dict[str, NDArray[Any]] = {
        "image": np.arange(images),
        "log_likelihood": likelihood,
        "elbo": likelihood - 5,
        "reconstruction_error": 0.05 + 0.01 * own.random(images),
    }
    if pictures:
        y, x = np.mgrid[:28, :28]
        centres, widths = common.uniform(8, 20, (64, 2)), common.uniform(2, 6, 64)
        rings = [
            np.exp(-((np.hypot(y - cy, x - cx) - w) ** 2) / 3)
            for (cy, cx), w in zip(centres, widths, strict=True)
        ]
        original = np.array(rings)[:, None]
        noise = own.standard_normal(original.shape)
        arrays |= {
            "original": original[:10],
            "reconstruction": np.clip(original[:10] + 0.15 * noise[:10], 0, 1),
            "samples": np.clip(original + 0.3 * noise, 0, 1),
        }
    return arrays


def chains(temperature: float, steps: range, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Exact ULA chains on U = Σλ(z−μ)²/2 + 60 after step 0 and on the prior before it; arrays `[step, row, …]`."""
    rng = np.random.default_rng(seed)
    precision, mean = np.geomspace(1, 12, D), np.repeat(rng.standard_normal((IMAGES, D)), CHAINS, axis=0)
    z = rng.standard_normal((IMAGES * CHAINS, D))
    values, energies, norms = [], [], []
    for step in steps:
        scale, centre = (precision, mean) if step >= 0 else (np.ones(D), 0.0)
        gradient = scale * (z - centre)
        values.append(z)
        energies.append(0.5 * (scale * (z - centre) ** 2).sum(1) + (60.0 if step >= 0 else 18.4))
        norms.append(np.sqrt((gradient**2).sum(1)))
        z = z - STEP_SIZE * gradient + np.sqrt(2 * STEP_SIZE * temperature) * rng.standard_normal(z.shape)
    return {"z/value": np.array(values), "energy": np.array(energies), "gradient_norm": np.array(norms)}


def write_trace(
    path: Path,
    temperature: float,
    minimum: bool = True,
    last: int = 200,
    updates: Sequence[int] | None = None,
) -> Path:
    """`trace.zarr` of those chains, with 60 spontaneous steps, through the package's own writer."""
    steps = recorded_steps(-60, last)
    variables = [
        Variable("z/value", (D,)),
        Variable("energy", units="nats"),
        Variable("gradient_norm", units="nats"),
        *([Variable("energy_minimum", every=None, lead=("image",), units="nats")] if minimum else []),
    ]
    layout = Layout(
        tuple(variables), IMAGES, CHAINS, steps, block=len(steps), coords=(phases(steps),),
        updates=None if updates is None else tuple(updates),
        attrs={"study": "synthetic", "circuit": json.dumps({"nodes": NODES})},
    )  # fmt: skip
    for index in range(1 if updates is None else len(updates)):
        arrays = {k: v.astype(np.float32) for k, v in chains(temperature, steps, seed=index).items()}
        with TraceWriter(path / "trace.zarr", layout, update=index) as writer:
            if minimum:
                writer.put_static({"energy_minimum": np.full(IMAGES, 60.0)})
            writer.put(Block(0, len(steps), arrays))
    return path


def three_runs(folder: Path) -> list[Path]:
    """Vanilla PC, Langevin PC and VAE, complete with traces (none for the VAE)."""
    paths = []
    for kind, gain, cost in (("pc", 40.0, 0.05), ("lpc", 70.0, 0.1), ("vae", 60.0, 0.01)):
        stages = {
            u: evaluation(gain * (1 - np.exp(-u / 100)), seed=u + int(gain)) for u in (0, 100, 200, 400)
        }
        path = write_run(
            folder / f"mnist_{kind}" / "abc", study_of(kind), stages, cost, 3 if kind == "vae" else 50
        )
        if kind != "vae":
            write_trace(path, KERNELS[kind])
        paths.append(path)
    return paths
