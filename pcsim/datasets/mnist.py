"""MNIST (LeCun, Cortes and Burges, 1998) from its four official idx files, compressed or not."""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from pcsim.datasets.types import ArrayReader, Arrays, Dataset, Downloads, Pixels
from pcsim.errors import DataError

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
LARGEST = 1 << 30


def read(source: Path) -> Arrays:
    """Training and test images `[n, 1, 28, 28]` with labels, from the folder that holds the four files."""
    found = {part: [read_idx(_find(source, name)) for name in names] for part, names in FILES.items()}
    (train, train_label), (test, test_label) = found["train"], found["test"]
    return Arrays(
        _images(train, source),
        train_label.astype(np.int64),
        _images(test, source),
        test_label.astype(np.int64),
    )


def _find(source: Path, name: str) -> Path:
    folders = [source, source / "raw", source / "MNIST" / "raw", source / "FashionMNIST" / "raw"]
    for folder in folders if source.is_dir() else [source.parent]:
        for candidate in (folder / f"{name}.gz", folder / name):
            if candidate.is_file():
                return candidate
    wanted = ", ".join(f"{file}[.gz]" for names in FILES.values() for file in names)
    raise DataError(f"{source}: no {name}[.gz] in it; expected a folder with the official files {wanted}")


def _images(pixels: Pixels, source: Path) -> Pixels:
    if pixels.ndim != 3 or pixels.shape[1:] != (28, 28):
        raise DataError(f"{source}: images of shape {list(pixels.shape)}; expected [n, 28, 28]")
    return pixels[:, None]


def read_idx(path: Path) -> Pixels:
    """The uint8 array of one idx file: 0, 0, type 8, rank, big-endian sizes, then the values in C order."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return _parse(file, path)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: truncated or damaged ({error}); fetch the file again") from error


def _parse(file: IO[bytes] | gzip.GzipFile, path: Path) -> Pixels:
    magic = file.read(4)
    if len(magic) != 4 or magic[:3] != b"\x00\x00\x08" or not 1 <= magic[3] <= 4:
        raise DataError(f"{path}: not an idx file of unsigned bytes (it starts with {magic.hex(' ')!r})")
    sizes = file.read(4 * magic[3])
    if len(sizes) != 4 * magic[3]:
        raise DataError(f"{path}: truncated within its header; fetch the file again")
    shape = struct.unpack(f">{magic[3]}I", sizes)
    length = math.prod(shape)
    if length > LARGEST:
        raise DataError(
            f"{path}: its header promises {length} bytes; an official file has at most 47,040,000"
        )
    content = file.read(length + 1)
    if len(content) != length:
        found = f"{len(content)} bytes" if len(content) < length else "more"
        raise DataError(f"{path}: {found} after the header, expected {length}; fetch the file again")
    return np.frombuffer(content, np.uint8).reshape(shape)


MNIST = Dataset(
    title="MNIST, 60,000 + 10,000 handwritten digits, 28x28",
    channel=1,
    reader=ArrayReader(read, "idx"),
    sizes=(28,),
    downloads=Downloads(
        base_url="https://ossci-datasets.s3.amazonaws.com/mnist/",
        md5={
            "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
            "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
            "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
        },
    ),
)
