"""Any folder (or zip archive) of pictures: the central square of each, in colour, resized."""

from pathlib import Path

from pcsim.datasets.listing import list_pictures
from pcsim.datasets.types import Box, Dataset, PictureReader, Pictures

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")


def scan(source: Path) -> Pictures:
    """All pictures below `source`, in the order of their names; all count as training images."""
    return list_pictures(source, is_picture)


def is_picture(name: str) -> bool:
    """Whether a file's name ends as a picture's does."""
    return Path(name).suffix.lower() in SUFFIXES


def frame(width: int, height: int, crop: int | None) -> Box:
    """The central square as large as the picture allows.

    >>> frame(7, 4, None)
    (1, 0, 5, 4)
    """
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


FOLDER = Dataset(
    title="any folder of pictures, central square, resized",
    channel=3,
    reader=PictureReader(scan, frame),
    sizes=(),
    example="FOLDER",
    where="give a folder of pictures",
)
