"""Held-out images in chunks, with one stream of draws per image, so that chunks do not change results."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from pcsim.engines.torch.target import Clamp
from pcsim.errors import StudyError
from pcsim.inference.rng import Stream
from pcsim.inference.types import Rng

MAX_ROWS = 1024
"""Rows (images times chains) held at once unless told otherwise: larger chunks gain no more than a tenth in time,
and a convolutional generator keeps about a megabyte of feature maps per row."""


class PerImage:
    """An `Rng` whose rows belong to images: each image's rows are drawn from its own stream."""

    def __init__(self, streams: list[Stream]) -> None:
        self.streams = streams

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal draws, `[image · chain, *shape]`."""
        parts = like.tensor_split(len(self.streams))
        return torch.cat([s.normal(part) for s, part in zip(self.streams, parts, strict=True)])

    def uniform(self, like: Tensor) -> Tensor:
        """Uniform draws on [0, 1), `[image · chain, *shape]`."""
        parts = like.tensor_split(len(self.streams))
        return torch.cat([s.uniform(part) for s, part in zip(self.streams, parts, strict=True)])


class Images(NamedTuple):
    """Some images: what is held, `{node: [image, *shape]}`, and their streams of draws."""

    clamp: Clamp
    rng: PerImage
    where: slice

    def __len__(self) -> int:
        return len(self.rng.streams)


def chunks(
    values: Mapping[str, Tensor], masks: Mapping[str, Tensor] | None, rng: Rng, rows: int, max_rows: int
) -> Iterator[Images]:
    """The images in chunks of at most `max_rows` rows, `rows` per image.

    Every image's stream is seeded by one draw of `rng`, so draws depend on the image's place alone. Raises
    `StudyError` where nothing is held, numbers of images differ, or one image alone has too many rows.
    """
    sizes = {name: len(value) for name, value in values.items()}
    if len(set(sizes.values())) != 1 or not all(sizes.values()):
        raise StudyError(
            f"values: expected the same number (> 0) of images at every clamped node, found {sizes}"
        )
    if not 1 <= rows <= max_rows:
        raise StudyError(f"{rows} rows per image do not fit max_rows: {max_rows}")
    n_image = next(iter(sizes.values()))
    device = next(iter(values.values())).device
    seeds = (rng.uniform(torch.empty(n_image, dtype=torch.float64, device=device)) * 2**32).long().tolist()
    per_chunk = max_rows // rows
    for begin in range(0, n_image, per_chunk):
        where = slice(begin, begin + per_chunk)
        clamp = Clamp(
            {name: value[where] for name, value in values.items()},
            {name: mask[where] if len(mask) == n_image and mask.dim() == values[name].dim() else mask
             for name, mask in (masks or {}).items()},
        )  # fmt: skip
        streams = [Stream(torch.Generator(device).manual_seed(seed)) for seed in seeds[where]]
        yield Images(clamp, PerImage(streams), where)
