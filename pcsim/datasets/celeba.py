"""CelebA, aligned faces (Liu, Luo, Wang and Tang, 2015), from `img_align_celeba.zip` or its folder."""

import re
from itertools import pairwise
from pathlib import Path

from pcsim.datasets.listing import base_name, list_pictures
from pcsim.datasets.types import Box, Dataset, PictureReader, Pictures
from pcsim.errors import DataError

PARTITION = "list_eval_partition.txt"
PARTS = {"0": "train", "1": "validation", "2": "test"}
NAME = re.compile(r"\d{6}\.jpg", re.IGNORECASE)
WIDTH, HEIGHT = 178, 218


def scan(source: Path) -> Pictures:
    """The pictures 000001.jpg … by number, in the official parts if `list_eval_partition.txt` is near.

    Pictures that the partition file does not name are left out as broken; missing are those that it names
    and the source lacks. Without that file all pictures count as training images, and missing are the gaps
    in the numbering.
    """
    inner = source / "img_align_celeba"
    listed = list_pictures(
        inner if inner.is_dir() else source, lambda name: bool(NAME.fullmatch(base_name(name)))
    )
    members = sorted(listed.members, key=lambda member: base_name(member.name))
    names = [base_name(member.name).lower() for member in members]
    if len(set(names)) != len(names):
        twice = next(a for a, b in pairwise(names) if a == b)
        raise DataError(
            f"{source}: {twice} is there more than once; expected each picture of img_align_celeba once"
        )
    official = _partition(source)
    unlisted = tuple((name, f"not in {PARTITION}") for name in names if official and name not in official)
    if unlisted:
        members = [member for member in members if base_name(member.name).lower() in official]
    if not members:
        raise DataError(f"{source}: {PARTITION} names none of its {len(names)} pictures")
    expected = official or [f"{k:06d}.jpg" for k in range(1, int(names[-1][:6]) + 1)]
    missing = tuple(sorted(set(expected) - set(names)))
    part = tuple(official.get(base_name(member.name).lower(), "train") for member in members)
    broken = (*listed.broken, *unlisted)
    return listed._replace(members=tuple(members), part=part, broken=broken, missing=missing)


def _partition(source: Path) -> dict[str, str]:
    near = [source.parent, source.parent / "Eval", source.parent.parent / "Eval"]
    folders = [source, source / "Eval", *near] if source.is_dir() else near
    path = next((folder / PARTITION for folder in folders if (folder / PARTITION).is_file()), None)
    if path is None:
        return {}
    rows = [line.split() for line in path.read_text("ascii", errors="replace").splitlines() if line.strip()]
    for number, row in enumerate(rows, 1):
        if len(row) != 2 or row[1] not in PARTS or not NAME.fullmatch(row[0]):
            raise DataError(
                f"{path}:{number}: {' '.join(row)[:60]!r}; expected a line such as '000001.jpg 0' (0, 1 or 2)"
            )
    return {name.lower(): PARTS[value] for name, value in rows}


def frame(width: int, height: int, crop: int | None) -> Box:
    """The central square of `crop` official pixels, for a picture of any scale of 178x218.

    >>> frame(178, 218, 148), frame(89, 109, 148), frame(89, 109, 178)
    ((15, 35, 163, 183), (7, 17, 81, 91), (0, 10, 89, 99))
    """
    scale = width / WIDTH
    if abs(height - HEIGHT * scale) > 1:
        raise ValueError(
            f"{width}x{height} pixels are no aligned picture; expected {WIDTH}x{HEIGHT} or a scale of it"
        )
    side = round((WIDTH if crop is None else crop) * scale)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


CELEBA = Dataset(
    title="CelebA, 202,599 aligned faces, 178x218 cropped and resized",
    channel=3,
    reader=PictureReader(scan, frame),
    sizes=(64, 32),
    crops=(148, 178),
    example="img_align_celeba.zip",
    where=(
        "get img_align_celeba.zip (and list_eval_partition.txt, to be put beside it), for non-commercial "
        "research, from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
    ),
)
