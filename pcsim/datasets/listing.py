"""Lists the pictures of a folder or a zip archive, and reads the bytes of one, without unpacking anything."""

import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

from pcsim.datasets.types import Member, Pictures
from pcsim.errors import DataError

LARGEST = 1 << 28


def list_pictures(source: Path, wanted: Callable[[str], bool]) -> Pictures:
    """The pictures of `source` whose names are `wanted`, sorted by name; DataError if there are none."""
    if source.is_dir():
        names = sorted(
            p.relative_to(source).as_posix() for p in source.rglob("*") if p.is_file() and wanted(p.name)
        )
        listed = Pictures(
            source, "folder", tuple(_file(source, name) for name in names), ("train",) * len(names)
        )
    elif source.is_file():
        listed = _list_zip(source, wanted)
    else:
        raise DataError(f"{source}: no such file or folder")
    if not listed.members:
        raise DataError(f"{source}: no pictures in it")
    return listed


def _file(source: Path, name: str) -> Member:
    status = (source / name).stat()
    return Member(name, offset=status.st_mtime_ns, length=status.st_size)


def _list_zip(path: Path, wanted: Callable[[str], bool]) -> Pictures:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [
                info for info in archive.infolist() if not info.is_dir() and _counts(info.filename, wanted)
            ]
    except (zipfile.BadZipFile, OSError, ValueError, struct.error) as error:
        raise DataError(
            f"{path}: truncated or not a zip archive ({error}; {path.stat().st_size} bytes); fetch it again"
        ) from error
    broken = [(info.filename, reason) for info in entries if (reason := _refusal(info))]
    refused = {name for name, _ in broken}
    members = sorted(
        Member(e.filename, e.header_offset, e.compress_size, e.file_size, e.compress_type, e.CRC)
        for e in entries
        if e.filename not in refused
    )
    return Pictures(path, "zip", tuple(members), ("train",) * len(members), tuple(sorted(broken)))


def _counts(name: str, wanted: Callable[[str], bool]) -> bool:
    return "__MACOSX" not in name and not base_name(name).startswith("._") and wanted(name)


def base_name(name: str) -> str:
    """What follows the last slash; pathlib would take seconds for 200,000 names."""
    return name.rpartition("/")[2]


def _refusal(info: zipfile.ZipInfo) -> str:
    parts = info.filename.replace("\\", "/").split("/")
    if not parts[0] or parts[0].endswith(":") or ".." in parts:
        return "its name points outside the archive"
    if info.flag_bits & 1:
        return "encrypted"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"compressed by method {info.compress_type}, expected stored or deflated"
    if info.file_size > LARGEST:
        return f"{info.file_size} bytes, more than {LARGEST}"
    return ""


def read_member(file: IO[bytes], member: Member) -> bytes:
    """The bytes of one zip member, checked; ValueError with the reason if they are damaged.

    Read by hand because zipfile would parse the directory of 200,000 entries again in every worker.
    """
    file.seek(member.offset)
    header = file.read(30)
    if len(header) != 30 or header[:4] != b"PK\x03\x04":
        raise ValueError("no zip member where the directory says")
    name_length, extra_length = struct.unpack("<HH", header[26:30])
    file.seek(name_length + extra_length, 1)
    stored = file.read(member.stored)
    if member.method == zipfile.ZIP_DEFLATED:
        inflate = zlib.decompressobj(-15)
        try:
            stored = inflate.decompress(stored, member.length + 1)
        except zlib.error as error:
            raise ValueError(str(error)) from error
    if len(stored) != member.length or zlib.crc32(stored) != member.crc:
        raise ValueError("damaged within the archive (length or checksum differ)")
    return stored
