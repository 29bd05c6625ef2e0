"""`status` and `doctor`: what is there."""

import os
import platform
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from pcsim.errors import RunError


def status_rows(folder: Path) -> list[list[Any]]:
    """One row per run directory below the folder, the newest first; the last entry says why it did not end."""
    from pcsim.study.directory import RunDirectory, read_manifest, read_metrics

    if not folder.is_dir():
        raise RunError(f"{folder}: no such folder; `pcsim run STUDY` makes one")
    found: list[list[Any]] = []
    for path in run_folders(folder):
        directory = RunDirectory(path)
        try:
            content, metrics = read_manifest(directory), read_metrics(directory.metrics)
        except RunError as failure:
            found.append([str(directory.path), "damaged", "", "", "", str(failure)])
            continue
        last = max(metrics, key=lambda row: row["update"], default={"update": 0, "seconds": 0.0})
        state = content.get("status", "?")
        reason = content.get("reason", "") if state in ("failed", "stopped") else ""
        if state == "running" and not _alive(directory.path):
            state, reason = "killed", "the same command goes on"
        start = str(content.get("start", ""))
        seconds = f"{last['seconds']:.0f}"
        found.append([str(directory.path), state, last["update"], seconds, start, reason])
    return sorted(found, key=lambda row: str(row[4]), reverse=True)


def run_folders(folder: Path) -> Iterator[Path]:
    """The run directories at and below a folder; traces, which hold thousands of files, are not walked."""
    for place, below, files in os.walk(folder):
        if "manifest.json" in files:
            below.clear()
            yield Path(place)
        below[:] = sorted(name for name in below if not name.endswith(".zarr") and not name.startswith("."))


def _alive(folder: Path) -> bool:
    """Is the lock of that run held?"""
    import fcntl

    try:
        with (folder / ".lock").open("r") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def doctor_rows() -> list[list[Any]]:
    """What a bug report needs, and what a newcomer wants to know before a long run."""
    import torch

    from pcsim.datasets.store import data_root
    from pcsim.engines.brian2.targets import NEEDS, missing

    rows: list[list[Any]] = [
        ["python", platform.python_version()],
        ["machine", f"{platform.machine()}, {os.cpu_count()} cores"],
    ]
    for name in ("pcsim", "torch", "numpy", "zarr", "xarray", "brian2", "arviz", "torchmetrics"):
        try:
            rows.append([name, metadata.version(name)])
        except metadata.PackageNotFoundError:
            rows.append([name, "not installed"])
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(index)
            name = torch.cuda.get_device_name(index)
            rows.append([f"cuda:{index}", f"{name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"])
    else:
        rows.append(["cuda", "none; studies run on the CPU"])
    rows.append(["threads", torch.get_num_threads()])
    rows.append(
        ["C++ compiler", shutil.which("c++") or shutil.which("g++") or "none (Brian2 then runs on numpy)"]
    )
    for target in NEEDS:
        lacking = missing(target)
        state = "available" if not lacking else f"needs {' and '.join(lacking)}"
        rows.append([f"codegen: {target}", state])
    for what, folder in (("data", data_root()), ("runs", Path("runs").resolve())):
        place = next(p for p in (folder, *folder.parents) if p.exists())
        free_space = shutil.disk_usage(place).free / 2**30
        rows.append(
            [
                what,
                f"{folder} ({'writable' if os.access(place, os.W_OK) else 'NOT WRITABLE'}, {free_space:.0f} GiB free)",
            ]
        )
    return rows
