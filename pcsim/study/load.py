"""From a study file to a checked `Study`; torch is not imported, so mistakes are reported at once."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pcsim import datasets
from pcsim.circuit.source import Source, override, read_yaml, validate
from pcsim.errors import DataError, StudyError, nearest
from pcsim.study.schema import Study

NOT_IDENTITY = ("threads", "device", "checkpoint_seconds", "figures", "description", "weights", "circuit")
"""Keys that change how a study runs or is shown, not what it computes, or whose content counts, not its place."""
PLACES = ("root", "source")
"""Where the images lie; their fingerprint says what they are."""


class LoadedStudy(NamedTuple):
    """A checked study, with the source that its error messages point into."""

    study: Study
    source: Source
    folder: Path
    """Paths in the study are relative to this."""
    name: str

    def path(self, text: str) -> Path:
        """A path written in the study, seen from where the file stands."""
        return self.folder / Path(text).expanduser()


def load_study(path: Path, overrides: Sequence[str] = ()) -> LoadedStudy:
    """The study of a YAML file with `key.path=value` overrides; raises `StudyError` or `DataError`."""
    return read_study(override(read_file(path), overrides), path.parent, path.stem)


def read_file(path: Path) -> Source:
    """The values of a study file; raises `StudyError`, for a missing file with the nearest name."""
    if not path.is_file():
        found = path.parent.glob("*.yaml") if path.parent.is_dir() else ()
        others = [p.name for p in found if not p.name.startswith(".")]
        near = nearest(path.name, others) if others else f"{path.parent} holds no YAML files"
        raise StudyError(f"{path}: no such file; {near}")
    return read_yaml(path)


def read_study(source: Source, folder: Path, name: str) -> LoadedStudy:
    """The study of parsed values, with missing data reported before anything heavy is imported."""
    study: Study = validate(source, (), Study, source.data)
    loaded = LoadedStudy(study, source, folder, name)
    if study.data is not None:
        check_data(loaded)
    return loaded


def check_data(loaded: LoadedStudy) -> None:
    """Raise `DataError` with the command that fixes it, where a study's images are not there."""
    data = loaded.study.data
    assert data is not None
    if data.name not in datasets.DATASETS:
        loaded.source.fail(
            ("data", "name"), f"no data set {data.name!r}; {nearest(data.name, datasets.DATASETS)}"
        )
    try:
        datasets.check_present(data.name, **data_options(loaded))
    except DataError as failure:
        raise DataError(f"{loaded.source.where(('data',))}: {failure}") from failure


def data_options(loaded: LoadedStudy) -> dict[str, Any]:
    """What the data set's loader needs of the study's `data` section."""
    data = loaded.study.data
    assert data is not None
    root, source = (None if text is None else loaded.path(text) for text in (data.root, data.source))
    return {"root": root, "size": data.size, "crop": data.crop, "source": source}


def identity(study: Study, circuit: dict[str, Any], fingerprint: str, version: str) -> str:
    """Eight hex digits of everything that decides a study's numbers: the name of its run directory.

    `fingerprint` stands for the content of the images and of loaded weights.
    """
    content = study.model_dump(mode="json", exclude=set(NOT_IDENTITY)) | {"circuit": circuit}
    if content["data"] is not None:
        content["data"] = {key: value for key, value in content["data"].items() if key not in PLACES}
    text = json.dumps([content, fingerprint, version], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
