"""Writes one preparation (arrays, preparation.json, report.json): a folder that appears whole or not."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import PIL

from pcsim.datasets import pictures as blocked
from pcsim.datasets import store
from pcsim.datasets.arrays import checked
from pcsim.datasets.types import Arrays, Pictures, Prepared, Variant
from pcsim.errors import DataError


def pack_arrays(
    variant: Variant, kind: str, arrays: Arrays, final: Path, publish: Callable[[Path, Path], None]
) -> None:
    """Checks whole arrays and writes them; `publish(built, final)` puts the folder in its place."""
    arrays = checked(arrays, variant.name)
    with _building(final) as folder:
        records: dict[str, Any] = {}
        for key, array in arrays._asdict().items():
            if array is not None:
                digest = store.write_array(folder / f"{key}.npy", array.shape, [array])
                records[key] = {"shape": list(array.shape), "dtype": str(array.dtype), "sha256": digest}
        _describe(folder, variant, {"source": kind, "filter": None, "pillow": None}, records)
        store.write_json(folder / store.REPORT, {"broken": [], "missing": [], "job": ""})
        publish(folder, final)


def pack_pictures(
    variant: Variant,
    pictures: Pictures,
    cut: blocked.Cut,
    final: Path,
    run: Callable[[list[blocked.Block]], None],
    command: str,
) -> None:
    """Packs a collection by way of its blocks, `run(blocks)`; one that is already packed is left as it is."""
    job = blocked.job_key(pictures, cut)
    if _job(final) == job:
        return
    partial = final.with_name(f".{final.name}.partial-{job}")
    partial.mkdir(exist_ok=True)
    blocks = blocked.blocks_of(pictures, cut, partial)
    store.check_space(partial, _space(blocks, len(pictures.members) * cut.channel * cut.size**2), command)
    run(blocks)
    with _building(final) as folder:
        records, broken = blocked.assemble(blocks, pictures.part, folder)
        how = {"source": pictures.kind, "filter": blocked.FILTER, "pillow": PIL.__version__}
        _describe(folder, variant, how, records)
        report = {"broken": [*pictures.broken, *broken], "missing": pictures.missing, "job": job}
        store.write_json(folder / store.REPORT, report)
        store.publish(folder, final)
    for old in final.parent.glob(f".{final.name}.partial-*"):
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _building(final: Path) -> Iterator[Path]:
    """A folder beside `final` to build in; what is left of it afterwards goes away."""
    folder = final.with_name(f".{final.name}.{os.getpid()}.building")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _job(final: Path) -> str:
    """The job that a finished folder came from; empty if there is none, or its report cannot be read."""
    try:
        return str(json.loads((final / store.REPORT).read_text("utf-8"))["job"])
    except (OSError, ValueError, KeyError):
        return ""


def _space(blocks: list[blocked.Block], pixels: int) -> int:
    """Bytes still to be written: the final arrays, and the blocks that are not there yet."""
    left = sum(not Path(f"{block.path}.json").exists() for block in blocks)
    return pixels + pixels * left // max(len(blocks), 1)


def _describe(folder: Path, variant: Variant, how: dict[str, Any], arrays: dict[str, Any]) -> None:
    """Writes preparation.json: everything that decides the pixels, and the fingerprint of that."""
    record = {
        "name": variant.name,
        "size": variant.size,
        "crop": variant.crop,
        "format": store.FORMAT,
        **how,
        "arrays": arrays,
    }
    store.write_json(folder / store.RECORD, record | {"fingerprint": store.fingerprint(record)})


def prepared(folder: Path, command: str) -> Prepared:
    """What lies in a finished folder."""
    record = store.read_record(folder, command)
    try:
        report = json.loads((folder / store.REPORT).read_text("utf-8"))
        broken = tuple((name, reason) for name, reason in report["broken"])
        missing = tuple(report["missing"])
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{folder}: {store.REPORT} is damaged ({error}); remove the folder and run: {command}"
        ) from error
    images = sum(a["shape"][0] for key, a in record["arrays"].items() if not key.endswith("_label"))
    return Prepared(folder, images, broken, missing, record["fingerprint"])
