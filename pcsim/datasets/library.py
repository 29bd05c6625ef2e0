"""What the rest of the package uses: prepare, load, list and check the named data sets."""

from pathlib import Path

import numpy as np

from pcsim.datasets import store
from pcsim.datasets.downloads import fetch
from pcsim.datasets.folder import frame, scan
from pcsim.datasets.packing import pack_arrays, pack_pictures, prepared
from pcsim.datasets.pictures import Cut, decode_members, pack_blocks, processors
from pcsim.datasets.registry import DATASETS
from pcsim.datasets.types import (
    ArrayReader,
    Arrays,
    Dataset,
    EmbeddedReader,
    Images,
    PictureReader,
    Pixels,
    Prepared,
    Progress,
    Row,
    Variant,
    silent,
)
from pcsim.datasets.variants import ANY_SIZE, command_for, variant_of
from pcsim.errors import DataError, pick


def prepare(
    name: str,
    source: Path | str | None = None,
    *,
    root: Path | str | None = None,
    size: int | None = None,
    crop: int | None = None,
    workers: int | None = None,
    progress: Progress = silent,
) -> Prepared:
    """Packs a data set once into uint8 arrays; says where they lie and which pictures had to be left out.

    source: the official file or folder; None downloads where the publisher allows it.
    root: see `data_root`.  size: pixels along a side.  crop: side of the central square in official pixels.
    workers: processes, by default all processors.  progress: called with (images done, images in all), while
    downloading with (bytes done, bytes in all). Killed at any moment and called again, it goes on from the
    finished blocks and leaves the same bytes. Raises DataError for damaged sources, a full disk, an unknown
    size or crop.
    """
    place = store.data_root(root)
    dataset = pick(DATASETS, name, "data set")
    variant = variant_of(name, size, crop, source)
    command = command_for(variant, source, root)
    final = store.variant_folder(place, variant)
    reader = dataset.reader
    with store.disk_errors(final, command):
        final.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(reader, PictureReader):
            pictures = reader.scan(_given(dataset, source, command))
            cut = Cut(reader.frame, variant.crop, variant.size, dataset.channel)
            count = processors() if workers is None else workers
            pack_pictures(variant, pictures, cut, final, lambda b: pack_blocks(b, count, progress), command)
            return prepared(final, command)
        arrays = _read_arrays(dataset, reader, source, place / name / "official", progress, command)
        pack_arrays(variant, reader.kind, arrays, final, store.publish)
        progress(len(arrays.train), len(arrays.train))
        return prepared(final, command)


def _given(dataset: Dataset, source: Path | str | None, command: str) -> Path:
    if source is None:
        raise DataError(f"no pictures given; {dataset.where}, then run: {command}")
    return Path(source).expanduser().resolve()


def _read_arrays(
    dataset: Dataset,
    reader: EmbeddedReader | ArrayReader,
    source: Path | str | None,
    kept: Path,
    progress: Progress,
    command: str,
) -> Arrays:
    if isinstance(reader, EmbeddedReader):
        if source is not None:
            raise DataError(f"{source}: this set comes with an installed package and needs no files")
        return reader.read()
    if source is None:
        if dataset.downloads is None:
            raise DataError(f"no files given; {dataset.where}, then run: {command}")
        source = fetch(dataset.downloads, kept, progress, f"{command} --from FOLDER")
    return reader.read(Path(source).expanduser().resolve())


def load(
    name: str,
    *,
    root: Path | str | None = None,
    size: int | None = None,
    crop: int | None = None,
    source: Path | str | None = None,
) -> Images:
    """A prepared data set, its pixels memory-mapped; sets that come with a package are packed on first use.

    `source` is for `folder` alone: which folder. Raises DataError ending with the command that prepares the
    set.
    """
    check_present(name, root=root, size=size, crop=crop, source=source)
    variant = variant_of(name, size, crop, source)
    command = command_for(variant, source, root)
    final = store.variant_folder(store.data_root(root), variant)
    reader = DATASETS[name].reader
    if isinstance(reader, EmbeddedReader) and not final.exists():
        with store.disk_errors(final, command):
            final.parent.mkdir(parents=True, exist_ok=True)
            pack_arrays(variant, reader.kind, reader.read(), final, store.publish_first)
    record = store.read_record(final, command)
    found = {
        key: np.load(final / f"{key}.npy", mmap_mode="r", allow_pickle=False) for key in record["arrays"]
    }
    label = {key: np.array(found[key]) if key in found else None for key in ("train_label", "test_label")}
    return Images(
        name=name,
        train=found["train"],
        validation=found.get("validation"),
        test=found.get("test"),
        train_label=label["train_label"],
        test_label=label["test_label"],
        preparation=record,
        fingerprint=record["fingerprint"],
    )


def check_present(
    name: str,
    *,
    root: Path | str | None = None,
    size: int | None = None,
    crop: int | None = None,
    source: Path | str | None = None,
) -> None:
    """Raises DataError, ending with the command to run, unless `load` would succeed; reads headers only."""
    dataset = pick(DATASETS, name, "data set")
    variant = variant_of(name, size, crop, source)
    command = command_for(variant, source, root)
    final = store.variant_folder(store.data_root(root), variant)
    if final.exists():
        store.read_record(final, command)
    elif not isinstance(dataset.reader, EmbeddedReader):
        first = f"; {dataset.where}, then run" if dataset.where else "; run this, which downloads them"
        cropped = "" if variant.crop is None else f", crop {variant.crop}"
        what = f"{name} ({variant.size} pixels{cropped})"
        raise DataError(f"the images of {what} are not prepared in {final.parent}{first}: {command}")


def available(root: Path | str | None = None) -> list[Row]:
    """One row for every preparation on disk, and one for every set that has none."""
    place = store.data_root(root)
    rows: list[Row] = []
    for name, dataset in DATASETS.items():
        command = command_for(Variant(name, (dataset.sizes or (ANY_SIZE,))[0], None, None), None, root)
        folders = [path.parent for path in sorted((place / name).rglob(store.RECORD))]
        finished = [folder for folder in folders if not folder.name.startswith(".")]
        rows += [_row(name, dataset.title, folder, command) for folder in finished]
        if not finished and isinstance(dataset.reader, EmbeddedReader):
            rows.append(Row(name, dataset.title, "built in", None, 0, None, "", None, ""))
        elif not finished:
            rows.append(Row(name, dataset.title, "missing", None, 0, None, "", None, command))
    return rows


def _row(name: str, title: str, folder: Path, command: str) -> Row:
    try:
        record = store.read_record(folder, command)
    except DataError:
        return Row(name, title, "damaged", None, 0, None, "", folder, command)
    shapes = [array["shape"] for key, array in record["arrays"].items() if not key.endswith("_label")]
    channel, y, x = shapes[0][1:]
    images = sum(shape[0] for shape in shapes)
    stamp = record["fingerprint"]
    return Row(name, title, "prepared", (channel, y, x), images, record["crop"], stamp, folder, "")


def read_folder(
    source: Path | str, size: int, channel: int
) -> tuple[Pixels, list[str], list[tuple[str, str]]]:
    """A user's pictures: uint8 `[n, channel, size, size]`, their names, (name, reason) of the broken.

    The central square of each is resized; `channel` 1 makes them grey. Meant for tens to thousands of
    pictures.
    """
    pictures = scan(Path(source).expanduser().resolve())
    pixels, kept, broken = decode_members(pictures.source, pictures.members, Cut(frame, None, size, channel))
    if not kept:
        raise DataError(
            f"{source}: no picture could be read of {len(pictures.members)}; {': '.join(broken[0])}"
        )
    return pixels, [pictures.members[k].name for k in kept], [(name, reason) for name, reason in broken]
