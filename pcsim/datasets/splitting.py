"""Disjoint training, validation and test images, stratified by label and seeded."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pcsim.datasets.types import Images, Labels, Part, Pixels, Split
from pcsim.errors import DataError

Index = NDArray[np.int64]


class _Pool(NamedTuple):
    name: str
    pixels: Pixels
    label: Labels | None


def split(images: Images, train: int | None, validation: int, test: int | None, seed: int) -> Split:
    """That many images for training, validation and test, without overlap, in a seeded order.

    Where the set has an official test (or validation) set, those images come from it, the others from the
    training set; otherwise all come from the one pool. With labels every part has the pool's class
    proportions, to within one image. None takes all that is left. The test images do not change with the
    other two numbers, nor the validation images with `train`. Raises DataError with both numbers if more are
    asked for than there are. The order is the ranking of raw 64-bit draws, which NumPy keeps fixed over
    versions; its shuffles it does not.
    """
    whole = _Pool("training" if images.test is not None else "", images.train, images.train_label)
    official = None if images.test is None else _Pool("official test", images.test, images.test_label)
    held = None if images.validation is None else _Pool("official validation", images.validation, None)
    if test is None and official is None:
        raise DataError(
            f"{images.name}: it has no official test set, so the number of test images must be given"
        )
    free = _shuffled(whole, seed, 0)
    if official is None:
        part_test, free = _draw(images.name, whole, free, test, "test")
    else:
        part_test, _ = _draw(images.name, official, _shuffled(official, seed, 1), test, "test")
    if held is None:
        part_validation, free = _draw(images.name, whole, free, validation, "validation")
    else:
        part_validation, _ = _draw(images.name, held, _shuffled(held, seed, 2), validation, "validation")
    part_train, _ = _draw(images.name, whole, free, train, "training")
    return Split(part_train, part_validation, part_test)


def _shuffled(pool: _Pool, seed: int, stream: int) -> Index:
    draws = np.random.PCG64(np.random.SeedSequence([seed, stream])).random_raw(len(pool.pixels))
    return np.argsort(draws, kind="stable").astype(np.int64)


def _draw(name: str, pool: _Pool, free: Index, count: int | None, use: str) -> tuple[Part, Index]:
    count = len(free) if count is None else count
    if not 0 <= count <= len(free):
        raise DataError(
            f"{name}: {count} {use} images asked for, {len(free)} of the {len(pool.pixels)} "
            f"{pool.name + ' ' if pool.name else ''}images are left"
        )
    chosen = np.zeros(len(free), bool)
    chosen[_stratified(free, pool.label, count)] = True
    index = free[chosen]
    return Part(pool.pixels, index, None if pool.label is None else pool.label[index]), free[~chosen]


def _stratified(free: Index, label: Labels | None, count: int) -> Index:
    """Positions in `free`: the first of each class; quotas by largest remainders, ties to smaller labels."""
    if label is None or count == 0:
        return np.arange(count)
    classes, membership = np.unique(label[free], return_inverse=True)
    size = np.bincount(membership, minlength=len(classes))
    quota, remainder = np.divmod(size * count, len(free))
    quota[np.argsort(-remainder, kind="stable")[: count - quota.sum()]] += 1
    rank = np.empty(len(free), np.int64)
    for k in range(len(classes)):
        rank[membership == k] = np.arange(size[k])
    return np.flatnonzero(rank < quota[membership])
