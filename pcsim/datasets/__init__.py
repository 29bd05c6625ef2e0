"""Named image sets, packed once into uint8 arrays `[n, channel, y, x]` and opened memory-mapped."""

from pcsim.datasets.arrays import from_arrays
from pcsim.datasets.library import available, check_present, load, prepare, read_folder
from pcsim.datasets.registry import DATASETS
from pcsim.datasets.splitting import split
from pcsim.datasets.types import Arrays, Dataset, Images, Part, Prepared, Row, Split

__all__ = [
    "DATASETS",
    "prepare",
    "load",
    "split",
    "check_present",
    "available",
    "from_arrays",
    "read_folder",
    "Images",
    "Split",
    "Part",
    "Prepared",
    "Row",
    "Arrays",
    "Dataset",
]
