"""Checks that arrays from files or callers are images as the package keeps them."""

import hashlib

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcsim.datasets.types import Arrays, Images, Labels, Pixels
from pcsim.errors import DataError


def checked_pixels(pixels: ArrayLike, where: str) -> Pixels:
    """`pixels` if they are uint8 `[n, 1 or 3, y, x]`; DataError saying what they are otherwise."""
    found = np.asarray(pixels)
    if found.dtype != np.uint8:
        bad = np.isnan(found).sum() if np.issubdtype(found.dtype, np.floating) else 0
        also = f", {bad} of them NaN" if bad else ""
        raise DataError(
            f"{where}: pixels are {found.dtype} {list(found.shape)}{also}; expected uint8, 0 to 255"
        )
    if found.ndim != 4 or found.shape[1] not in (1, 3) or 0 in found.shape:
        raise DataError(
            f"{where}: images have shape {list(found.shape)}; expected [n, 1 or 3, y, x], none of them 0"
        )
    return found


def checked_labels(label: ArrayLike | None, images: int, where: str) -> Labels | None:
    """`label` as int64 `[n]`, one for each image."""
    if label is None:
        return None
    found: NDArray[np.generic] = np.asarray(label)
    if found.shape != (images,) or not np.issubdtype(found.dtype, np.integer):
        raise DataError(
            f"{where}: labels are {found.dtype} {list(found.shape)}; "
            f"expected whole numbers, one for each of {images} images"
        )
    return found.astype(np.int64)


def checked(arrays: Arrays, where: str) -> Arrays:
    """`arrays` with every member checked, and all images of one shape."""
    train = checked_pixels(arrays.train, f"{where}: train")
    test = None if arrays.test is None else checked_pixels(arrays.test, f"{where}: test")
    validation = (
        None if arrays.validation is None else checked_pixels(arrays.validation, f"{where}: validation")
    )
    for other in (test, validation):
        if other is not None and other.shape[1:] != train.shape[1:]:
            raise DataError(f"{where}: training images are {train.shape[1:]}, the others {other.shape[1:]}")
    train_label = checked_labels(arrays.train_label, len(train), f"{where}: train")
    test_label = None if test is None else checked_labels(arrays.test_label, len(test), f"{where}: test")
    return Arrays(train, train_label, test, test_label, validation)


def from_arrays(name: str, arrays: Arrays) -> Images:
    """A caller's own arrays as a data set; the fingerprint is the sha256 of the bytes (first 16 digits).

    >>> import numpy as np
    >>> from_arrays("bars", Arrays(np.zeros((10, 1, 8, 8), np.uint8))).shape
    (1, 8, 8)
    """
    train, train_label, test, test_label, validation = checked(arrays, name)
    digest = hashlib.sha256()
    for array in (train, train_label, test, test_label, validation):
        if array is not None:
            digest.update(
                repr((array.dtype.str, array.shape)).encode() + np.ascontiguousarray(array).tobytes()
            )
    stamp = digest.hexdigest()[:16]
    preparation = {"name": name, "source": "arrays", "size": train.shape[-1], "fingerprint": stamp}
    return Images(name, train, validation, test, train_label, test_label, preparation, stamp)
