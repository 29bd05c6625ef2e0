"""The records of the data sets: what can be asked for, what was prepared, what a study is given."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]
Progress = Callable[[int, int], None]
Box = tuple[int, int, int, int]


def silent(done: int, total: int) -> None:
    """A progress callback that draws nothing."""


class Arrays(NamedTuple):
    """A whole data set in memory: uint8 `[n, channel, y, x]`, labels int64 `[n]`."""

    train: Pixels
    train_label: Labels | None = None
    test: Pixels | None = None
    test_label: Labels | None = None
    validation: Pixels | None = None


class Member(NamedTuple):
    """One picture of a collection: its name, and where its bytes lie when the collection is a zip archive."""

    name: str
    offset: int = 0
    stored: int = 0
    length: int = 0
    method: int = 0
    crc: int = 0


class Pictures(NamedTuple):
    """A collection of picture files in their final order.

    `part[i]` is "train", "validation" or "test"; `broken` and `missing` are those that the list gives away.
    """

    source: Path
    kind: str
    members: tuple[Member, ...]
    part: tuple[str, ...]
    broken: tuple[tuple[str, str], ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class EmbeddedReader:
    """A data set that comes with an installed package: read without any file of the user's."""

    read: Callable[[], Arrays]
    kind: str


@dataclass(frozen=True)
class ArrayReader:
    """A data set whose official files hold arrays: read whole from a folder or an archive."""

    read: Callable[[Path], Arrays]
    kind: str


@dataclass(frozen=True)
class PictureReader:
    """A data set of picture files: listed, then cut by `frame(width, height, crop)` and resized in blocks.

    `frame` raises ValueError with the reason for a picture that does not belong; it is a module-level
    function, because it travels to worker processes.
    """

    scan: Callable[[Path], Pictures]
    frame: Callable[[int, int, int | None], Box]


@dataclass(frozen=True)
class Downloads:
    """Official files that the publisher lets a program fetch: `base_url + name`, with the md5 sum of each."""

    base_url: str
    md5: Mapping[str, str]


@dataclass(frozen=True)
class Dataset:
    """One named image set: the first of `sizes` and of `crops` is the default; no sizes means any size."""

    title: str
    channel: int
    reader: EmbeddedReader | ArrayReader | PictureReader
    sizes: tuple[int, ...]
    crops: tuple[int, ...] = ()
    downloads: Downloads | None = None
    example: str = ""
    where: str = ""


class Variant(NamedTuple):
    """Which preparation is meant: name, pixels along a side, crop in official pixels, path of a `folder`."""

    name: str
    size: int
    crop: int | None
    source: Path | None


class Prepared(NamedTuple):
    """What a preparation left: its folder, its number of images, and the pictures left out, by name."""

    folder: Path
    images: int
    broken: tuple[tuple[str, str], ...]
    missing: tuple[str, ...]
    fingerprint: str


class Row(NamedTuple):
    """One line of `pcsim data list`; state: "prepared", "built in", "missing" or "damaged".

    folder: where a preparation lies.  command: what makes the set ready, empty where nothing is needed.
    """

    name: str
    title: str
    state: str
    shape: tuple[int, int, int] | None
    images: int
    crop: int | None
    fingerprint: str
    folder: Path | None
    command: str


@dataclass(frozen=True, eq=False)
class Images:
    """A prepared set, memory-mapped uint8 `[n, channel, y, x]`; `validation` and `test` only if official."""

    name: str
    train: Pixels
    validation: Pixels | None
    test: Pixels | None
    train_label: Labels | None
    test_label: Labels | None
    preparation: Mapping[str, Any]
    fingerprint: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channel, y, x) of one image."""
        _, channel, y, x = self.train.shape
        return channel, y, x


@dataclass(frozen=True, eq=False)
class Part:
    """Some images of a packed array, by row, so that a set larger than memory stays on disk.

    source: uint8 `[n_packed, channel, y, x]`;  index: `[n]` rows of it;  label: `[n]` or None.
    """

    source: Pixels
    index: NDArray[np.int64]
    label: Labels | None

    def __len__(self) -> int:
        return len(self.index)

    @property
    def nbytes(self) -> int:
        """Bytes that `pixels()` takes."""
        return len(self.index) * int(np.prod(self.source.shape[1:]))

    def pixels(self) -> Pixels:
        """All images of this part, in memory, uint8 `[n, channel, y, x]`."""
        return self.take(np.arange(len(self.index)))

    def take(self, rows: NDArray[np.integer]) -> Pixels:
        """Images `rows` of this part, in memory; read in file order, which a disk likes."""
        wanted = self.index[rows]
        order = np.argsort(wanted, kind="stable")
        taken = np.empty((len(wanted), *self.source.shape[1:]), np.uint8)
        taken[order] = self.source[wanted[order]]
        return taken


class Split(NamedTuple):
    """Disjoint images for training, validation and test."""

    train: Part
    validation: Part
    test: Part
