"""Which code targets this machine can run: Brian2 itself, Cython and a C++ compiler."""

import os
import shutil
from collections.abc import Mapping
from importlib.util import find_spec

from pcsim.errors import StudyError, pick

NEEDS: Mapping[str, tuple[str, ...]] = {
    "numpy": ("Brian2",),
    "cython": ("Brian2", "Cython", "a C++ compiler"),
    "cpp_standalone": ("Brian2", "a C++ compiler"),
}
COMPILERS = ("g++", "clang++", "c++", "cl")


def missing(codegen: str) -> tuple[str, ...]:
    """What the code target needs and this machine has not; empty where it can run."""
    found = {
        "Brian2": find_spec("brian2") is not None,
        "Cython": find_spec("Cython") is not None,
        "a C++ compiler": any(shutil.which(name) for name in (os.environ.get("CXX", ""), *COMPILERS) if name),
    }
    return tuple(part for part in pick(NEEDS, codegen, "code target") if not found[part])


def processors() -> int:
    """The processors that this process may use: as many compilers run at once."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_target(codegen: str) -> None:
    """Raise `StudyError` with what is missing, and what to do, where the code target cannot run here."""
    lacking = missing(codegen)
    if "Brian2" in lacking:
        raise StudyError("engine: brian2 needs Brian2: pip install 'pcsim[brian2]', or engine: torch")
    if lacking:
        raise StudyError(
            f"codegen: {codegen} needs {' and '.join(lacking)}, which this machine has not; codegen: numpy has no "
            "such need"
        )
