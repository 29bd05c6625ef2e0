"""Splits: disjoint, stratified, seeded, from the official parts, and refused when too large."""

import numpy as np
import pytest

from pcsim import datasets
from pcsim.errors import DataError
from tests.datasets.layouts import noise


def sorted_by_label(counts: list[int], official_test: int = 0) -> datasets.Images:
    label = np.repeat(np.arange(len(counts)), counts)
    pixels = np.arange(len(label) * 4, dtype=np.uint32).view(np.uint8).reshape(len(label), 1, 4, 4)
    test = noise(1, official_test, 1, 4, 4) if official_test else None
    test_label = np.arange(official_test) % len(counts) if official_test else None
    return datasets.from_arrays("set", datasets.Arrays(pixels, label, test, test_label))


def test_parts_are_disjoint_and_stratified_to_within_one_image():
    counts = [50, 70, 31, 9]
    parts = datasets.split(sorted_by_label(counts), train=77, validation=20, test=40, seed=3)
    assert [len(part) for part in parts] == [77, 20, 40]
    rows = np.concatenate([part.index for part in parts])
    assert len(np.unique(rows)) == 137
    left = np.array(counts, float)
    for part in (parts.test, parts.validation, parts.train):
        found = np.bincount(part.label, minlength=4)
        assert np.abs(found - left * len(part) / left.sum()).max() < 1
        left -= found


def test_everything_can_be_used_up():
    parts = datasets.split(sorted_by_label([7, 5, 3]), train=None, validation=4, test=5, seed=0)
    assert sorted(np.concatenate([part.index for part in parts])) == list(range(15))


def test_pixels_and_labels_belong_together_and_the_order_is_mixed():
    images = sorted_by_label([40, 40])
    part = datasets.split(images, train=60, validation=0, test=20, seed=1).train
    assert np.array_equal(part.pixels(), images.train[part.index])
    assert np.array_equal(part.label, images.train_label[part.index])
    assert np.array_equal(part.take(np.array([5, 0, 5])), images.train[part.index[[5, 0, 5]]])
    assert part.nbytes == part.pixels().nbytes
    assert 0 < part.label[:20].sum() < 20  # sorted input; all of one class by chance has probability 2^-19


def test_the_seed_decides_and_nothing_else():
    images = sorted_by_label([300, 300])
    one, same, other = (datasets.split(images, 100, 50, 100, seed=s) for s in (0, 0, 1))
    assert all(np.array_equal(a.index, b.index) for a, b in zip(one, same, strict=True))
    assert not np.array_equal(one.test.index, other.test.index)
    fewer = datasets.split(images, 10, 50, 100, seed=0)
    assert np.array_equal(one.test.index, fewer.test.index)
    assert np.array_equal(one.validation.index, fewer.validation.index)
    assert np.array_equal(one.test.index, datasets.split(images, 10, 0, 100, seed=0).test.index)


def test_every_row_is_equally_likely_to_be_drawn():
    images = sorted_by_label([20])
    draws = 2000
    hits = np.zeros(20)
    for seed in range(draws):
        hits[datasets.split(images, 0, 0, 5, seed=seed).test.index] += 1
    error = np.sqrt(draws * 0.25 * 0.75)
    assert np.abs(hits - draws * 0.25).max() < 4.5 * error  # 20 comparisons: 1.4e-4 by chance


def test_an_official_test_set_gives_the_test_images():
    images = sorted_by_label([50, 50], official_test=30)
    parts = datasets.split(images, train=80, validation=20, test=None, seed=0)
    assert len(parts.test) == 30
    assert parts.test.source is images.test
    assert sorted(np.concatenate([parts.train.index, parts.validation.index])) == list(range(100))


def test_an_official_validation_set_gives_the_validation_images():
    arrays = datasets.Arrays(
        noise(0, 20, 3, 4, 4), test=noise(1, 5, 3, 4, 4), validation=noise(2, 6, 3, 4, 4)
    )
    images = datasets.from_arrays("faces", arrays)
    parts = datasets.split(images, train=None, validation=4, test=2, seed=0)
    assert parts.validation.source is images.validation
    assert [len(part) for part in parts] == [20, 4, 2]
    assert parts.train.label is None


@pytest.mark.parametrize(
    ("official", "numbers", "message"),
    [
        (0, (90, 0, 20), r"set: 90 training images asked for, 80 of the 100 images are left"),
        (0, (0, 0, 101), r"set: 101 test images asked for, 100 of the 100 images are left"),
        (30, (90, 20, 30), r"90 training images asked for, 80 of the 100 training images are left"),
        (30, (90, 0, 31), r"31 test images asked for, 30 of the 30 official test images are left"),
        (0, (90, 0, None), r"no official test set, so the number of test images must be given"),
        (0, (-1, 0, 5), r"-1 training images asked for"),
    ],
)
def test_more_than_there_are(official, numbers, message):
    with pytest.raises(DataError, match=message):
        datasets.split(sorted_by_label([50, 50], official), *numbers, seed=0)


def test_mnist5k_is_sorted_and_comes_out_balanced(tmp_path):
    images = datasets.load("mnist5k", root=tmp_path)
    assert (np.diff(images.train_label) >= 0).all()
    parts = datasets.split(images, train=4000, validation=0, test=1000, seed=0)
    assert np.bincount(parts.train.label).tolist() == [400] * 10
    assert np.bincount(parts.test.label).tolist() == [100] * 10
