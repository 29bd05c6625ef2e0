"""A finished (or stopped) run as a Python object: its circuit, weights, trace, and what it makes of new images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from pcsim import datasets
from pcsim.circuit.source import read_yaml
from pcsim.errors import RunError, StudyError
from pcsim.evaluation.reconstruction import grey_levels, sample_images
from pcsim.inference.rng import seed_stream
from pcsim.record import TraceWriter, open_trace
from pcsim.record.memory import memory_tree, memory_writer
from pcsim.study import recording
from pcsim.study.build import Plan, build
from pcsim.study.checkpoint import copy_into, load_weights
from pcsim.study.directory import RunDirectory, read_manifest
from pcsim.study.load import LoadedStudy
from pcsim.study.reporter import Reporter, Silent
from pcsim.study.schema import Study
from pcsim.study.session import FLOATS, Session, Wanted, attributes, layout_of
from pcsim.study.stimuli import check_images, clamping_of, place
from pcsim.study.training import initial_parameters


class Run(NamedTuple):
    """One run directory."""

    directory: RunDirectory
    plan: Plan
    params: Mapping[str, torch.Tensor]

    @property
    def trace(self) -> xr.DataTree:
        """The recording pass, opened lazily."""
        return open_trace(self.directory.trace)

    def sample(self, n: int, seed: int = 0) -> NDArray[np.float32]:
        """Pictures from the prior, grey levels in [0, 1] of E[x | z], `[n, *node shape]`."""
        rng = seed_stream(seed, "sample", device=self.plan.device)
        pictures = sample_images(self.plan.program, dict(self.params), rng, n)
        name = next((n for n in pictures if self.plan.study.clamp.get(n) == "image"), next(iter(pictures)))
        grey = grey_levels(self.plan.circuit.nodes[name].distribution, pictures[name])
        return grey.cpu().numpy().astype(np.float32)

    def infer(
        self, images: NDArray[np.uint8], *, steps: int | None = None, chains: int = 4, seed: int = 0
    ) -> xr.DataTree:
        """The trace of chains on one's own images, uint8 `[image, channel, y, x]`."""
        session, layout = self._session(images, steps, chains, seed)
        writer, store = memory_writer(layout)
        with writer:
            recording.record(session, writer, seed, ("infer",), lambda amount: None)
        return memory_tree(store)

    def infer_folder(
        self, folder: Path, out: Path, *, steps: int | None = None, chains: int = 4, seed: int = 0,
        reporter: Reporter | None = None,
    ) -> list[str]:  # fmt: skip
        """As `infer`, from a folder of pictures to `out/trace.zarr`; returns the names of the images."""
        channel, y, _ = self._image_shape()
        images, names, broken = datasets.read_folder(folder, y, channel)
        for name, reason in broken:
            (reporter or Silent()).say(f"{name}: left out ({reason})")
        if not names:
            raise RunError(f"{folder}: no image that could be read")
        session, layout = self._session(images, steps, chains, seed)
        if (out / "trace.zarr").exists():
            raise RunError(f"{out / 'trace.zarr'}: exists already; remove it or choose another --out")
        with (
            TraceWriter(out / "trace.zarr", layout) as writer,
            (reporter or Silent()).task("inferring", session.steps + 1) as advance,
        ):
            recording.record(session, writer, seed, ("infer",), advance)
        return names

    def _image_shape(self) -> tuple[int, int, int]:
        name = next((n for n, what in self.plan.study.clamp.items() if what == "image"), None)
        shape = self.plan.circuit.nodes[name].shape if name else ()
        if len(shape) == 3:
            return shape[0], shape[1], shape[2]
        data = read_manifest(self.directory).get("data") or {}
        raise RunError(
            f"{self.directory.path}: no node of the circuit is an image (data: {data.get('name')})"
        )

    def _session(
        self, images: NDArray[np.uint8], steps: int | None, chains: int, seed: int
    ) -> tuple[Session, Any]:
        plan, study = self.plan, self.plan.study
        packed = datasets.from_arrays("images", datasets.Arrays(np.asarray(images)))
        check_images(plan.circuit, study.clamp, packed.shape)
        if any(what == "label" for what in study.clamp.values()):
            raise StudyError("infer: this study clamps labels, which a folder of images does not have")
        clamping = clamping_of(study, plan.loaded.source, plan.circuit, plan.device, plan.dtype)
        every = datasets.Part(packed.train, np.arange(len(packed.train)), None)
        values = clamping.values(place(every, plan.device), np.arange(len(packed.train)))
        start = "prior" if plan.start == "previous" else plan.start
        length = (
            steps if steps is not None else (study.record.steps if study.record else study.inference.steps)
        )
        session = Session(
            plan.program, dict(self.params), plan.kernel, start, values, clamping.masks, tuple(values), chains,
            0, length, (Wanted(("value", "error")), Wanted(("energy",))), plan.mobility,
        )  # fmt: skip
        attrs = attributes(plan.circuit, study=plan.loaded.name, seed=seed, engine="torch")
        return session, layout_of(session, dtype=FLOATS[plan.dtype], attrs=attrs)


def open_run(path: str | Path) -> Run:
    """The run in a directory, with its latest weights; raises `RunError` where there is none."""
    directory = RunDirectory(Path(path))
    if not directory.study.is_file():
        raise RunError(f"{path}: not a run directory (it has no study.yaml)")
    source = read_yaml(directory.study)
    # the data may be gone by now: the weights are enough to look at new images
    loaded = LoadedStudy(
        Study.model_validate(source.data), source, directory.path, directory.path.parent.name
    )
    plan = build(loaded)
    params = initial_parameters(plan)
    copy_into(params, load_weights(directory.path), directory.path)
    return Run(directory, plan, params)
