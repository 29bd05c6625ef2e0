"""SVHN, cropped house numbers (Netzer et al., 2011), from `train_32x32.mat` and `test_32x32.mat`."""

from pathlib import Path

import numpy as np

from pcsim.datasets.types import ArrayReader, Arrays, Dataset, Downloads, Labels, Pixels
from pcsim.errors import DataError

FILES = ("train_32x32.mat", "test_32x32.mat")


def read(source: Path) -> Arrays:
    """Training and test images `[n, 3, 32, 32]` with labels 0 to 9, from the folder that holds both files."""
    folder = source if source.is_dir() else source.parent
    for name in FILES:
        if not (folder / name).is_file():
            raise DataError(f"{folder}: no {name}; expected a folder with {' and '.join(FILES)}")
    train, test = (read_mat(folder / name) for name in FILES)
    return Arrays(*train, *test)


def read_mat(path: Path) -> tuple[Pixels, Labels]:
    """`X` (y, x, channel, n) as `[n, channel, y, x]`, and `y`, whose label 10 stands for the digit 0."""
    from scipy.io import loadmat

    try:
        content = loadmat(path, variable_names=["X", "y"])
        pixels, label = content["X"], content["y"]
    except Exception as error:  # SciPy's parser raises what it meets in damaged bytes
        raise DataError(
            f"{path}: truncated, or not a MATLAB 5 file with X and y "
            f"({type(error).__name__}: {error}); fetch it again"
        ) from error
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[:3] != (32, 32, 3):
        raise DataError(f"{path}: X is {pixels.dtype} {list(pixels.shape)}; expected uint8 [32, 32, 3, n]")
    if label.size != pixels.shape[3] or not np.isin(label, np.arange(1, 11)).all():
        raise DataError(
            f"{path}: y has {label.size} labels for {pixels.shape[3]} images; expected one each, 1 to 10"
        )
    return np.ascontiguousarray(pixels.transpose(3, 2, 0, 1)), label.ravel().astype(np.int64) % 10


SVHN = Dataset(
    title="SVHN, 73,257 + 26,032 cropped house numbers, 32x32",
    channel=3,
    reader=ArrayReader(read, "mat"),
    sizes=(32,),
    downloads=Downloads(
        base_url="http://ufldl.stanford.edu/housenumbers/",
        md5={
            "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
            "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
        },
    ),
)
