"""Images as the values of clamped nodes: uint8 on the device where they fit, read ahead from disk where not."""

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcsim.circuit.graph import Circuit, Node
from pcsim.circuit.source import Path_, Source
from pcsim.datasets import Part
from pcsim.errors import DataError, StudyError
from pcsim.study.schema import Study

Index = NDArray[np.int64]
FREE_SHARE = 0.5
"""Images move to the device when they take at most this share of its free memory."""


class Stimuli(NamedTuple):
    """One part of a data set, ready to be asked for by row."""

    part: Part
    resident: Tensor | None
    """uint8 `[n, channel, y, x]` on the device; None when the part stays on disk."""
    device: torch.device

    def pixels(self, rows: Index) -> Tensor:
        """uint8 images of those rows on the device, `[image, channel, y, x]`."""
        if self.resident is not None:
            return self.resident[torch.from_numpy(rows).to(self.device)]
        return torch.from_numpy(self.part.take(rows)).to(self.device, non_blocking=True)

    def labels(self, rows: Index) -> Tensor | None:
        """int64 labels of those rows, where the data set has them."""
        if self.part.label is None:
            return None
        return torch.from_numpy(np.asarray(self.part.label)[rows]).to(self.device)


def place(part: Part, device: torch.device) -> Stimuli:
    """The part on the device if it fits, else read from disk batch by batch."""
    if part.nbytes > FREE_SHARE * free_memory(device):
        return Stimuli(part, None, device)
    return Stimuli(part, torch.from_numpy(part.pixels()).to(device), device)


def free_memory(device: torch.device) -> int:
    """Bytes that the device could still give."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


class Clamping(NamedTuple):
    """How a study turns images and labels into the values of its clamped nodes."""

    nodes: Mapping[str, Node]
    clamp: Mapping[str, Any]
    masks: Mapping[str, Tensor]
    binarise: int | None
    device: torch.device
    dtype: torch.dtype

    def values(self, stimuli: Stimuli | None, rows: Index) -> dict[str, Tensor]:
        """Values per clamped node, `[image, *node shape]`, for those rows of the data."""
        result = {}
        for name, what in self.clamp.items():
            node = self.nodes[name]
            if what == "image":
                assert stimuli is not None
                result[name] = self._image(node, stimuli.pixels(rows))
            elif what == "label":
                assert stimuli is not None
                labels = stimuli.labels(rows)
                if labels is None:
                    raise StudyError(f"clamp.{name}: these images have no labels")
                hot = torch.nn.functional.one_hot(labels, node.shape[0])
                result[name] = hot.to(self.dtype)
            else:
                value = torch.as_tensor(what, dtype=self.dtype, device=self.device)
                result[name] = value.expand(len(rows), *node.shape).clone()
        return result

    def _image(self, node: Node, pixels: Tensor) -> Tensor:
        if self.binarise is not None:
            value = (pixels > self.binarise).to(self.dtype)
        else:
            low, high = node.distribution.data_range
            value = pixels.to(self.dtype).mul_((high - low) / 255).add_(low)
        return value.reshape(len(pixels), *node.shape)


def clamping_of(
    study: Study, source: Source, circuit: Circuit, device: torch.device, dtype: torch.dtype
) -> Clamping:
    """The clamping that a study states, with its masks read and every literal value checked."""
    binarise = study.data.binarise if study.data else None
    for name, what in study.clamp.items():
        node = circuit.nodes[name]
        if what in ("image", "label"):
            if what == "label" and len(node.shape) != 1:
                source.fail(
                    ("clamp", name), f"a label is one-hot, but node {name} has shape {list(node.shape)}"
                )
            continue
        try:
            given = torch.as_tensor(what, dtype=dtype)
            finite = given.isfinite().all() & torch.tensor(given.shape in ((), node.shape))
        except (RuntimeError, TypeError, ValueError):
            finite = torch.tensor(False)
        if not finite or isinstance(what, bool):
            source.fail(
                ("clamp", name),
                f"expected image, label, a number or values of shape {list(node.shape)}, found {what!r}",
            )
    masks = {n: mask_of(source, circuit.nodes[n], m, dtype).to(device) for n, m in study.mask.items()}
    return Clamping(circuit.nodes, study.clamp, masks, binarise, device, dtype)


def mask_of(source: Source, node: Node, value: Any, dtype: torch.dtype, path: Path_ | None = None) -> Tensor:
    """1 where the node is held at data: `top`, `bottom`, `left`, `right`, {box: [y0, x0, y1, x1]}, or 0/1 values."""
    path = ("mask", node.name) if path is None else path
    mask = torch.zeros(node.shape, dtype=dtype)
    if isinstance(value, str) and value in ("top", "bottom", "left", "right"):
        if len(node.shape) < 2:
            source.fail(path, f"{value}: node {node.name} has shape {list(node.shape)}, not that of an image")
        y, x = node.shape[-2] // 2, node.shape[-1] // 2
        halves = {"top": (slice(y), slice(None)), "bottom": (slice(y, None), slice(None)),
                  "left": (slice(None), slice(x)), "right": (slice(None), slice(x, None))}  # fmt: skip
        mask[(..., *halves[value])] = 1
        return mask
    if isinstance(value, dict) and list(value) == ["box"] and len(node.shape) >= 2:
        y0, x0, y1, x1 = _box(source, (*path, "box"), value["box"], node)
        mask[..., y0:y1, x0:x1] = 1
        return mask
    try:
        given = torch.as_tensor(value, dtype=dtype).expand(node.shape).clone()
    except (RuntimeError, TypeError, ValueError):
        source.fail(path, "expected top, bottom, left, right, {box: [y0, x0, y1, x1]} or 0/1 values of shape "
                          f"{list(node.shape)}, found {value!r}")  # fmt: skip
    if not torch.isin(given, torch.tensor([0.0, 1.0], dtype=dtype)).all():
        source.fail(path, "a mask holds 1 (held at data) and 0 (free)")
    return given


def _box(source: Source, path: Path_, value: Any, node: Node) -> list[int]:
    """[y0, x0, y1, x1] of a box that lies inside the node and holds at least one pixel."""
    height, width = node.shape[-2:]
    whole = isinstance(value, list | tuple) and len(value) == 4 and all(type(v) is int for v in value)
    if not whole or not (0 <= value[0] < value[2] <= height and 0 <= value[1] < value[3] <= width):
        source.fail(path, f"expected [y0, x0, y1, x1] with 0 ≤ y0 < y1 ≤ {height} and 0 ≤ x0 < x1 ≤ {width}, "
                          f"found {value!r}")  # fmt: skip
    return list(value)


def check_images(circuit: Circuit, clamp: Mapping[str, Any], shape: tuple[int, int, int]) -> None:
    """Raise `DataError` where an image does not fit the node that it is clamped to."""
    for name, what in clamp.items():
        node = circuit.nodes[name]
        flat = len(node.shape) == 1 and node.shape[0] == int(np.prod(shape))
        if what == "image" and node.shape != shape and not flat:
            raise DataError(
                f"clamp.{name}: the images have shape {list(shape)} (channel, y, x), "
                f"but node {name} has shape {list(node.shape)}"
            )


class Order(NamedTuple):
    """The seeded order of training images: permutation after permutation, cut into batches of one size."""

    n: int
    batch_size: int
    seed: int

    def rows(self, update: int) -> Index:
        """Rows of batch `update`: a function of the seed alone, so that a resumed run sees the same batches."""
        first = update * self.batch_size
        places = np.arange(first, first + self.batch_size)
        epochs = places // self.n
        result = np.empty(self.batch_size, np.int64)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            result[here] = permutation(self.n, self.seed, int(epoch))[places[here] % self.n]
        return result


@lru_cache(maxsize=2)
def permutation(n: int, seed: int, epoch: int) -> Index:
    """The order of the training images in one epoch."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, 0x0DE5, epoch])))
    return rng.permutation(n)


def batches(
    clamping: Clamping, stimuli: Stimuli | None, order: Order, first: int, last: int
) -> Iterator[tuple[int, Index, dict[str, Tensor]]]:
    """(update, rows, values) for each update; images on disk are read one batch ahead by a thread."""

    def fetch(update: int) -> tuple[Index, dict[str, Tensor]]:
        rows = order.rows(update)
        return rows, clamping.values(stimuli, rows)

    if stimuli is None or stimuli.resident is not None:
        for update in range(first, last):
            yield (update, *fetch(update))
        return
    with ThreadPoolExecutor(1) as reader:
        ahead = reader.submit(fetch, first) if first < last else None
        for update in range(first, last):
            assert ahead is not None
            ready = ahead.result()
            ahead = reader.submit(fetch, update + 1) if update + 1 < last else None
            yield (update, *ready)
