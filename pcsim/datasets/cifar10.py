"""CIFAR-10 (Krizhevsky, 2009) from `cifar-10-python.tar.gz` or the folder `cifar-10-batches-py`."""

import io
import pickle
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcsim.datasets.types import ArrayReader, Arrays, Dataset, Downloads, Labels, Pixels
from pcsim.errors import DataError

ARCHIVE = "cifar-10-python.tar.gz"
FOLDER = "cifar-10-batches-py"
TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))
TEST = "test_batch"
LARGEST = 1 << 26  # an official batch takes 31 MB


def read(source: Path) -> Arrays:
    """Training and test images `[n, 3, 32, 32]` with labels, from the archive or the folder of batches."""
    files = _files(source)
    if absent := [name for name in (*TRAIN, TEST) if name not in files]:
        raise DataError(
            f"{source}: no {', '.join(absent)}; "
            f"expected {ARCHIVE} or the folder {FOLDER} with all six batches"
        )
    batches = [read_batch(files[name], f"{source}: {name}") for name in TRAIN]
    test, test_label = read_batch(files[TEST], f"{source}: {TEST}")
    train, train_label = zip(*batches, strict=True)
    return Arrays(np.concatenate(train), np.concatenate(train_label), test, test_label)


def _files(source: Path) -> dict[str, bytes]:
    if source.is_file():
        return _from_archive(source)
    if not source.is_dir():
        raise DataError(f"{source}: no such file or folder; expected {ARCHIVE} or the folder {FOLDER}")
    for folder in (source, source / FOLDER):
        if (folder / TEST).is_file():
            present = [folder / name for name in (*TRAIN, TEST) if (folder / name).is_file()]
            return {path.name: path.read_bytes() for path in present if path.stat().st_size <= LARGEST}
    if (source / ARCHIVE).is_file():
        return _from_archive(source / ARCHIVE)
    raise DataError(f"{source}: neither {ARCHIVE} nor a folder {FOLDER} is in it")


def _from_archive(path: Path) -> dict[str, bytes]:
    """The batches of a tar archive, in memory: nothing is unpacked, so no member can land anywhere."""
    wanted = {f"{FOLDER}/{name}": name for name in (*TRAIN, TEST)}
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                name = wanted.get(str(PurePosixPath(member.name)))
                content = (
                    archive.extractfile(member)
                    if name and member.isreg() and member.size <= LARGEST
                    else None
                )
                if name and content:
                    found[name] = content.read()
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise DataError(f"{path}: truncated or not a tar archive ({error}); fetch it again") from error
    return found


def read_batch(content: bytes, where: str) -> tuple[Pixels, Labels]:
    """One pickled batch: `data` uint8 `[n, 3072]` (channel, y, x) and `labels`."""
    batch = loads_arrays(content, where)
    fields = {_text(key): value for key, value in batch.items()} if isinstance(batch, dict) else {}
    data, label = fields.get("data"), fields.get("labels")
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3072:
        what = f"{data.dtype} {list(data.shape)}" if isinstance(data, np.ndarray) else type(data).__name__
        raise DataError(f"{where}: data is {what}; expected uint8 [n, 3072]")
    if (
        not isinstance(label, list)
        or len(label) != len(data)
        or not all(type(k) is int and 0 <= k < 10 for k in label)
    ):
        raise DataError(f"{where}: labels must be a list of {len(data)} whole numbers from 0 to 9")
    return data.reshape(-1, 3, 32, 32), np.array(label, np.int64)


def _text(key: Any) -> str:
    return key.decode("latin1") if isinstance(key, bytes) else str(key)


def loads_arrays(content: bytes, where: str) -> Any:
    """What a pickle of plain containers and NumPy arrays holds; DataError for a pickle of anything else.

    A pickle can call any function it can name. Here it can name only the four that arrays and Python 2
    strings need, and gets stand-ins for them that can do nothing more.
    """
    try:
        return _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    except Exception as error:  # damaged bytes can raise anything within the unpickler
        raise DataError(
            f"{where}: not a readable batch ({type(error).__name__}: {error}); fetch it again"
        ) from error


def _reconstruct(subtype: Any, shape: Any, kind: Any) -> NDArray[Any]:
    return np.ndarray((0,), np.uint8)


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise DataError(f"refused: an encoding {encoding!r} in the pickle")
    return text.encode("latin1")


def _dtype(name: str | bytes, align: bool, copy: bool) -> np.dtype[Any]:
    kind: np.dtype[Any] = np.dtype(
        _text(name), copy=True
    )  # a copy, because the pickle goes on to set its state
    if kind.kind not in "biuf":
        raise DataError(f"refused: an array of {kind} in the pickle")
    return kind


ADMITTED = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encode,
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ADMITTED:
            raise DataError(
                f"refused: the pickle asks for {module}.{name}, "
                "which no CIFAR-10 batch needs; do not trust this file"
            )
        return ADMITTED[module, name]


CIFAR10 = Dataset(
    title="CIFAR-10, 50,000 + 10,000 colour pictures of ten classes, 32x32",
    channel=3,
    reader=ArrayReader(read, "pickled batches"),
    sizes=(32,),
    downloads=Downloads(
        base_url="https://www.cs.toronto.edu/~kriz/", md5={ARCHIVE: "c58f30108f718f92721af3b95e74349a"}
    ),
)
