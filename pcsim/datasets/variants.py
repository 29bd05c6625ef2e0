"""Which preparation is meant, and the command that makes it."""

import shlex
from pathlib import Path

from pcsim.datasets.registry import DATASETS
from pcsim.datasets.types import Variant
from pcsim.errors import DataError, pick

ANY_SIZE = 64
"""Pixels along a side where a set allows any size and none is given."""


def variant_of(name: str, size: int | None, crop: int | None, source: Path | str | None) -> Variant:
    """The preparation that these words mean, defaults filled in; DataError for a size or crop not offered."""
    dataset = pick(DATASETS, name, "data set")
    default = dataset.sizes[0] if dataset.sizes else ANY_SIZE
    side = default if size is None else size
    if side not in dataset.sizes if dataset.sizes else not 1 <= side <= 1024:
        valid = " or ".join(str(s) for s in dataset.sizes) or "1 to 1024"
        raise DataError(f"{name}: size {side} is not offered; expected {valid}")
    if crop is not None and crop not in dataset.crops:
        valid = " or ".join(str(c) for c in dataset.crops) or "none"
        raise DataError(f"{name}: crop {crop} is not offered; expected {valid}")
    chosen = crop if crop is not None or not dataset.crops else dataset.crops[0]
    if name != "folder":
        return Variant(name, side, chosen, None)
    if source is None:
        raise DataError(
            "folder: which one? expected a folder of pictures: pcsim data prepare folder --from FOLDER"
        )
    return Variant(name, side, chosen, Path(source).expanduser().resolve())


def command_for(variant: Variant, source: Path | str | None, root: Path | str | None) -> str:
    """The shell command that prepares `variant`.

    >>> command_for(Variant("celeba", 32, 148, None), None, None)
    'pcsim data prepare celeba --from img_align_celeba.zip --size 32'
    """
    dataset = DATASETS[variant.name]
    words = ["pcsim", "data", "prepare", variant.name]
    given = str(variant.source or source or dataset.example)
    words += ["--from", given] if given else []
    words += ["--size", str(variant.size)] if variant.size != (dataset.sizes or (ANY_SIZE,))[0] else []
    words += (
        ["--crop", str(variant.crop)] if variant.crop is not None and variant.crop != dataset.crops[0] else []
    )
    words += ["--root", str(root)] if root is not None else []
    return shlex.join(words)
