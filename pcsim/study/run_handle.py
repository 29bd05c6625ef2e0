"""A finished (or stopped) run as a Python object: its circuit, weights, trace, and what it makes of new images."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from pcsim import datasets
from pcsim.circuit.source import read_yaml
from pcsim.errors import RunError, StudyError
from pcsim.evaluation.reconstruction import grey_levels, sample_images
from pcsim.inference.rng import seed_stream
from pcsim.record import Coord, Layout, TraceWriter, open_trace, trace_bytes
from pcsim.record.memory import memory_tree, memory_writer
from pcsim.study import recording
from pcsim.study.build import Plan, build
from pcsim.study.checkpoint import copy_into, load_weights
from pcsim.study.directory import RunDirectory, read_manifest
from pcsim.study.engines import simulator_of
from pcsim.study.load import LoadedStudy
from pcsim.study.recorded import probes_of, temperature_of, time_coord
from pcsim.study.reporter import Reporter, Silent, readable
from pcsim.study.schema import Study
from pcsim.study.session import FLOATS, Session, attributes, layout_of
from pcsim.study.stimuli import check_images, clamping_of, place
from pcsim.study.training import initial_parameters


class Run(NamedTuple):
    """One run directory."""

    directory: RunDirectory
    plan: Plan
    params: Mapping[str, torch.Tensor]

    def __repr__(self) -> str:
        """Where it is and what it is, without the weights' numbers."""
        n_parameter = sum(p.numel() for p in self.params.values())
        return (
            f"<run {self.directory.path}: study {self.plan.loaded.name}, nodes "
            f"{', '.join(self.plan.circuit.nodes)}, {n_parameter:,} parameters>"
        )

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
        """The trace of chains on one's own images, uint8 `[image, channel, y, x]`, in memory.

        It holds what the study records, or values and errors of the free nodes and the energy.
        """
        session, layout = self._session(images, (), steps, chains, seed)
        writer, store = memory_writer(layout)
        with writer:
            recording.record(session, writer, seed, ("infer",), lambda amount: None)
        return memory_tree(store)

    def infer_folder(
        self, folder: Path, out: Path, *, steps: int | None = None, chains: int = 4, seed: int = 0,
        reporter: Reporter | None = None, fresh: bool = False,
    ) -> list[str]:  # fmt: skip
        """As `infer`, from a folder of pictures to `out/trace.zarr`; returns the names of the images.

        `fresh` replaces a trace that is there. Raises `RunError` where there is one, or no room for a new one.
        """
        target, speak = out / "trace.zarr", reporter or Silent()
        if target.exists() and not fresh:
            raise RunError(f"{target}: exists already; --fresh replaces it, --out names another folder")
        channel, y, _ = self._image_shape()
        images, names, broken = datasets.read_folder(folder, y, channel)
        for name, reason in broken:
            speak.say(f"{name}: left out ({reason})")
        session, layout = self._session(images, names, steps, chains, seed)
        if target.exists():
            remove(target)
        size = check_room(target, layout)
        speak.say(f"{len(names)} images, {chains} chains each, {session.steps} steps: {readable(size)}")
        with TraceWriter(target, layout) as writer, speak.task("inferring", session.steps + 1) as advance:
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
        self, images: NDArray[np.uint8], names: Sequence[str], steps: int | None, chains: int, seed: int
    ) -> tuple[Session, Layout]:
        plan, study = self.plan, self.plan.study
        packed = datasets.from_arrays("images", datasets.Arrays(np.asarray(images)))
        check_images(plan.circuit, study.clamp, packed.shape)
        if any(what == "label" for what in study.clamp.values()):
            raise StudyError("infer: this study clamps labels, which a folder of images does not have")
        clamping = clamping_of(study, plan.loaded.source, plan.circuit, plan.device, plan.dtype)
        every = datasets.Part(packed.train, np.arange(len(packed.train)), None)
        values = clamping.values(place(every, plan.device), np.arange(len(packed.train)))
        start = "prior" if plan.start == "previous" else plan.start
        if plan.phases and steps is None:
            raise StudyError(
                "infer: the study states a schedule of its own (`stimulus:`), and images of one's own are shown by "
                "themselves: say for how many steps (--steps)"
            )
        length = (
            steps if steps is not None else (study.record.steps if study.record else study.inference.steps)
        )
        arguments = study.inference.kernel.arguments
        scalars = {n: arguments[n] for n in ("step_size",) if n in arguments} | {
            "temperature": temperature_of(plan)
        }
        session = Session(
            plan.program, dict(self.params), plan.kernel, start, values, clamping.masks, tuple(values), chains,
            0, length, probes_of(plan), plan.mobility, scalars, noise=plan.noise, engine=study.engine,
            simulator=simulator_of(study),
        )  # fmt: skip
        bare = layout_of(session, dtype=FLOATS[plan.dtype])
        coords = time_coord(plan, bare.steps)
        if names:
            coords += (Coord("name", ("image",), np.array(names), long_name="name of the picture"),)
        attrs = attributes(
            plan.circuit,
            study=plan.loaded.name,
            seed=seed,
            engine=study.engine,
            kernel=study.inference.kernel.name,
        )
        return session, layout_of(session, dtype=FLOATS[plan.dtype], coords=coords, attrs=attrs)


def check_room(target: Path, layout: Layout) -> int:
    """Bytes of a trace; raises `RunError` where its disk has no room for them."""
    size = sum(trace_bytes(layout).values())
    place = next(p for p in target.resolve().parents if p.exists())
    free = shutil.disk_usage(place).free
    if size > free:
        raise RunError(
            f"{target}: the trace takes {readable(size)} and {place} has {readable(free)} free; "
            "take fewer images, --steps or --chains, or another --out"
        )
    return size


def remove(target: Path) -> None:
    """Remove an earlier trace; anything else under that name is refused."""
    if target.is_symlink() or not (target / "zarr.json").is_file():
        raise RunError(
            f"{target}: not a trace, so --fresh leaves it alone; remove it or choose another --out"
        )
    try:
        shutil.rmtree(target)
    except OSError as failure:
        raise RunError(f"{target}: cannot remove the earlier trace ({failure.strerror})") from failure


def open_run(path: str | Path) -> Run:
    """The run in a directory, with its latest weights; raises `RunError` where there is none."""
    directory = RunDirectory(Path(path))
    if not directory.study.is_file():
        raise RunError(f"{path}: not a run directory (it has no study.yaml)")
    source = read_yaml(directory.study)
    # the data may be gone by now: the weights are enough to look at new images
    name = read_manifest(directory).get("study") or directory.path.resolve().parent.name
    loaded = LoadedStudy(Study.model_validate(source.data), source, directory.path, str(name))
    plan = build(loaded)
    params = initial_parameters(plan)
    copy_into(params, load_weights(directory.path), directory.path)
    return Run(directory, plan, params)
