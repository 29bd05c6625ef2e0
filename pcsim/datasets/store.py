"""Where packed images lie on disk, written atomically and opened memory-mapped."""

import errno
import hashlib
import json
import os
import shutil
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcsim.datasets.types import Variant
from pcsim.errors import DataError

FORMAT = 1
RECORD = "preparation.json"
REPORT = "report.json"


def data_root(root: Path | str | None = None) -> Path:
    """The folder of all prepared data: `root`, else $PCSIM_DATA, else the user's cache folder."""
    if root is not None:
        return Path(root).expanduser().resolve()
    if chosen := os.environ.get("PCSIM_DATA"):
        return Path(chosen).expanduser().resolve()
    import pooch

    return Path(pooch.os_cache("pcsim")).resolve()


def variant_folder(root: Path, variant: Variant) -> Path:
    """Where one preparation lies: `root/name/size[-cropN]`; for `folder`, the source's name is in between."""
    base = root / variant.name
    if variant.source is not None:
        digest = hashlib.sha256(str(variant.source).encode()).hexdigest()[:8]
        base = base / f"{variant.source.name}-{digest}"
    return base / (f"{variant.size}" if variant.crop is None else f"{variant.size}-crop{variant.crop}")


def write_array(path: Path, shape: tuple[int, ...], pieces: Iterable[NDArray[Any]]) -> str:
    """Writes the rows of `pieces` atomically as one .npy file of that shape; returns the sha256 of the data.

    Bytes go through `file.write`, not `numpy.save`, whose short writes on a full disk carry no error number.
    """
    digest = hashlib.sha256()
    first, rest = _peek(pieces)
    with atomic(path) as temporary, temporary.open("wb") as file:
        file.write(_header(first.dtype, shape))
        for piece in rest:
            content = np.ascontiguousarray(piece).data
            digest.update(content)
            file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _header(kind: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """The head of a .npy file, format 1.0: magic, length, a dictionary padded so that data start at 64 k."""
    text = repr({"descr": kind.str, "fortran_order": False, "shape": shape}).encode("latin1")
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def _peek(pieces: Iterable[NDArray[Any]]) -> tuple[NDArray[Any], Iterator[NDArray[Any]]]:
    iterator = iter(pieces)
    first = next(iterator)

    def whole() -> Iterator[NDArray[Any]]:
        yield first
        yield from iterator

    return first, whole()


def write_json(path: Path, content: Any) -> None:
    """`content` as a JSON file, written atomically."""
    with atomic(path) as temporary:
        temporary.write_text(
            json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf-8"
        )


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place only if the block ends well."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def publish(built: Path, final: Path) -> None:
    """Moves a finished folder to its place; an older one there goes away, readers that mapped it keep it."""
    old = final.with_name(f".{final.name}.{os.getpid()}.old")
    if final.exists():
        os.rename(final, old)
    os.rename(built, final)
    shutil.rmtree(old, ignore_errors=True)


def publish_first(built: Path, final: Path) -> None:
    """Moves a finished folder to its place, or drops it if another process was there first."""
    try:
        os.rename(built, final)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        shutil.rmtree(built)


def fingerprint(preparation: dict[str, Any]) -> str:
    """The first 16 digits of the sha256 of everything that decides the pixels, their own sha256 included."""
    return hashlib.sha256(json.dumps(preparation, sort_keys=True).encode()).hexdigest()[:16]


def read_record(folder: Path, command: str) -> dict[str, Any]:
    """The checked `preparation.json` of a folder; DataError ending with `command` if it cannot be used."""
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text("utf-8"))
        stamp = record.pop("fingerprint")
        arrays: dict[str, dict[str, Any]] = record["arrays"]
        for name, array in arrays.items():
            _check_length(folder / f"{name}.npy", tuple(array["shape"]), array["dtype"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{folder}: the prepared images are damaged ({error}); prepare them again: {command}"
        ) from None
    if record["format"] != FORMAT or fingerprint(record) != stamp:
        raise DataError(
            f"{folder}: the prepared images are of another format, or {RECORD} was edited; "
            f"prepare them again: {command}"
        )
    return record | {"fingerprint": stamp}


def _check_length(path: Path, shape: tuple[int, ...], dtype: str) -> None:
    found = np.load(path, mmap_mode="r", allow_pickle=False)
    if found.shape != shape or found.dtype != np.dtype(dtype) or not found.flags.c_contiguous:
        raise ValueError(f"{path.name} holds {found.dtype} {list(found.shape)}, not {dtype} {list(shape)}")


@contextmanager
def disk_errors(folder: Path, command: str) -> Iterator[None]:
    """Turns a full or read-only disk into a DataError that says what to do; what is finished stays."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(
                f"disk full while writing {folder}; free some space, or point PCSIM_DATA at another disk, "
                f"then run again (what is finished is kept): {command}"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise DataError(
                f"cannot write {error.filename or folder}: {error.strerror}; "
                f"point PCSIM_DATA at a folder of yours, then run: {command}"
            ) from error
        raise


def check_space(folder: Path, needed: int, command: str) -> None:
    """DataError before the work starts if the disk cannot hold `needed` more bytes."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DataError(
            f"disk full: {folder} has {free / 1e9:.2f} GB free, the preparation needs {needed / 1e9:.2f} GB; "
            f"free some space, or point PCSIM_DATA at another disk, then run: {command}"
        )
