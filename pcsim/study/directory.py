"""A run directory: one run at a time in it, files written whole or not at all, a manifest of how it was made."""

import contextlib
import errno
import fcntl
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from pcsim.errors import RunError

PACKAGES = ("pcsim", "torch", "brian2", "numpy", "zarr", "xarray", "pydantic")


_FULL = "; free some space and run the same command again, it goes on from there"
_DENIED = "; choose another directory with --out"
ADVICE = {
    errno.ENOSPC: _FULL, errno.EDQUOT: _FULL, errno.EACCES: _DENIED, errno.EPERM: _DENIED, errno.EROFS: _DENIED,
}  # fmt: skip
"""What helps against a failed write, by error number."""


class RunDirectory(NamedTuple):
    """The paths of one run."""

    path: Path

    @property
    def manifest(self) -> Path:
        """Status, versions, seed, host, device, command, start and end."""
        return self.path / "manifest.json"

    @property
    def study(self) -> Path:
        """The resolved study, which runs again as it stands."""
        return self.path / "study.yaml"

    @property
    def metrics(self) -> Path:
        """One JSON object per line: training and evaluation."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoint(self) -> Path:
        """Full state of the training, replaced atomically."""
        return self.path / "checkpoints" / "state.pt"

    @property
    def weights(self) -> Path:
        """The latest parameters, as safetensors."""
        return self.path / "checkpoints" / "weights.safetensors"

    @property
    def trace(self) -> Path:
        """The recording pass."""
        return self.path / "trace.zarr"

    def evaluation(self, update: int) -> Path:
        """Per-image results at one update."""
        return self.path / "evaluation" / f"{update:08d}.npz"


@contextlib.contextmanager
def locked(directory: RunDirectory) -> Iterator[None]:
    """Hold the directory for one run; a second run in it is refused while the first lives."""
    try:
        directory.path.mkdir(parents=True, exist_ok=True)
        handle = open(directory.path / ".lock", "a+")  # noqa: SIM115  # held open as long as the lock
    except OSError as failure:
        raise RunError(f"{directory.path}: cannot write there ({failure.strerror})") from failure
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            owner = handle.read().strip() or "unknown"
            raise RunError(
                f"{directory.path}: another run is at work there (process {owner}); wait for it or use --out"
            ) from None
        except OSError as failure:
            raise RunError(
                f"{directory.path}: cannot be locked against a second run ({failure.strerror}); use --out"
            ) from failure
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield


def write_atomically(path: Path, data: bytes) -> None:
    """Write beside and rename, so that a reader or a kill never meets half a file."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(partial, path)
    except OSError as failure:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        advice = ADVICE.get(failure.errno or 0, "")
        raise RunError(f"{path}: cannot write ({failure.strerror}){advice}") from failure


def read_manifest(directory: RunDirectory) -> dict[str, Any]:
    """The manifest of a run; empty when it has none yet."""
    try:
        content: Any = json.loads(directory.manifest.read_text())
        if not isinstance(content, dict):
            raise ValueError("not a JSON object")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as failure:
        raise RunError(f"{directory.manifest}: cannot be read ({failure}); --fresh starts anew") from failure
    return content


def update_manifest(directory: RunDirectory, **changes: Any) -> None:
    """Merge changes into the manifest."""
    content = read_manifest(directory) | changes
    write_atomically(directory.manifest, json.dumps(content, indent=2, default=str).encode() + b"\n")


def provenance(device: str, threads: int) -> dict[str, Any]:
    """What a reader needs to repeat a run: versions, commit, host, device, threads, command, time."""
    return {
        "versions": {name: _version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "git": _git(),
        "host": platform.node(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "device": device,
        "threads": threads,
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "start": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _git() -> dict[str, Any]:
    """Commit of the package's checkout and whether it differs; empty when pcsim was installed from a wheel."""
    folder = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "modified": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return {}


class Metrics:
    """metrics.jsonl, cut back to the checkpoint on resume so that no update stands in it twice."""

    def __init__(self, path: Path, update: int) -> None:
        kept = [row for row in read_metrics(path) if row["update"] <= update]
        self.evaluated = {row["update"] for row in kept if row["kind"] == "evaluation"}
        """Updates whose evaluation is done."""
        text = "".join(json.dumps(row) + "\n" for row in kept)
        write_atomically(path, text.encode())
        self._path = path

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one line."""
        try:
            with self._path.open("a") as handle:
                handle.write(json.dumps(row) + "\n")
        except OSError as failure:
            advice = ADVICE.get(failure.errno or 0, "")
            raise RunError(f"{self._path}: cannot write ({failure.strerror}){advice}") from failure


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a metrics file; a line that a kill cut short is left out.

    Raises `RunError` for a line in the middle that is none: a kill does not leave that.
    """
    if not path.is_file():
        return []
    lines = path.read_text(errors="replace").splitlines()
    rows = []
    for number, line in enumerate(lines, 1):
        row = _metrics_row(line)
        if row is not None:
            rows.append(row)
        elif number < len(lines):
            raise RunError(
                f"{path}:{number}: not a line of metrics: {line[:60]!r}; remove it, or --fresh starts anew"
            )
    return rows


def _metrics_row(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return None
    whole = isinstance(row, dict) and {"kind", "update", "seconds"} <= row.keys()
    return row if whole else None
