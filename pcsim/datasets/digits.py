"""The 1,797 8x8 digits of scikit-learn (Alpaydin and Kaynak, 1998), grey values 0..16 made 0..255."""

import numpy as np

from pcsim.datasets.types import Arrays, Dataset, EmbeddedReader


def read() -> Arrays:
    """All digits, `[1797, 1, 8, 8]`; value v of 16 becomes round(255 v / 16)."""
    from sklearn.datasets import load_digits

    pixels, label = load_digits(return_X_y=True)
    grey = np.rint(pixels * (255 / 16)).astype(np.uint8)
    return Arrays(grey.reshape(-1, 1, 8, 8), label)


DIGITS = Dataset(
    title="1,797 handwritten digits, 8x8, from scikit-learn",
    channel=1,
    reader=EmbeddedReader(read, "scikit-learn"),
    sizes=(8,),
)
