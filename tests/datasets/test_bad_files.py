"""Damaged or hostile official files are refused with their name and what to do."""

import gzip
import os
import pickle
import struct

import numpy as np
import pytest
from scipy.io import savemat

from pcsim import datasets
from pcsim.datasets.cifar10 import loads_arrays
from pcsim.errors import DataError
from tests.datasets import layouts
from tests.datasets.layouts import noise

LABEL = np.arange(50) % 10
SMALL = (noise(0, 50, 28, 28), LABEL)
COLOUR = (noise(1, 50, 32, 32, 3), LABEL)


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("kind", ["archive", "folder"])
def test_a_malicious_pickle_is_refused_and_does_not_run(tmp_path, kind):
    batches = layouts.cifar_batches(COLOUR, COLOUR)
    trace = tmp_path / "it ran"
    batches["data_batch_3"] = pickle.dumps({b"data": Call(os.system, f"touch '{trace}'")}, protocol=2)
    if kind == "archive":
        source = layouts.cifar_archive(tmp_path / "cifar-10-python.tar.gz", batches)
    else:
        source = layouts.cifar_folder(tmp_path / "source", batches)
    with pytest.raises(DataError, match=r"data_batch_3: refused: .*system"):
        datasets.prepare("cifar10", source, root=tmp_path / "root")
    assert not trace.exists()


@pytest.mark.parametrize(
    "value",
    [
        Call(eval, "1"),
        Call(getattr, np.ndarray, "tofile"),
        Call(np.ndarray, (1 << 40,)),
        Call(np.load, "x.npy", None, True),
        np.array([{}, {}], dtype=object),
        Call(np.dtype, "O", False, True),
        {1, 2},
    ],
    ids=["eval", "getattr", "huge array", "load", "objects", "object type", "set"],
)
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_only_plain_containers_and_numeric_arrays_come_out_of_a_pickle(value, protocol):
    content = pickle.dumps([value], protocol=protocol)
    if isinstance(value, set) and protocol >= 4:
        assert loads_arrays(content, "x") == [value]  # an opcode of its own, that calls nothing
        return
    with pytest.raises(DataError):
        loads_arrays(content, "x")


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_arrays_of_numbers_come_out_of_a_pickle_unchanged(protocol):
    for array in (noise(0, 3, 4), np.arange(5.0), np.arange(6, dtype=">i4").reshape(2, 3).T):
        content = pickle.dumps(array, protocol=protocol)
        found = loads_arrays(content, "x")
        assert found.dtype == pickle.loads(content).dtype
        assert np.array_equal(found, array)


def test_truncated_cifar_archive(tmp_path):
    source = layouts.cifar_archive(tmp_path / "cifar-10-python.tar.gz", layouts.cifar_batches(COLOUR, COLOUR))
    source.write_bytes(source.read_bytes()[:-5000])
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz: truncated .*fetch it again"):
        datasets.prepare("cifar10", source, root=tmp_path / "root")


def test_missing_cifar_batch_is_named(tmp_path):
    batches = layouts.cifar_batches(COLOUR, COLOUR)
    del batches["data_batch_4"]
    with pytest.raises(DataError, match="no data_batch_4; expected"):
        datasets.prepare(
            "cifar10", layouts.cifar_folder(tmp_path / "source", batches), root=tmp_path / "root"
        )


@pytest.mark.parametrize(
    "data", [np.full((50, 3072), np.nan), np.zeros((50, 3072), np.int16), np.zeros((50, 100), np.uint8)]
)
def test_cifar_pixels_of_another_type_or_shape(tmp_path, data):
    batches = layouts.cifar_batches(COLOUR, COLOUR)
    batches["test_batch"] = pickle.dumps({b"data": data, b"labels": [0] * 50}, protocol=2)
    with pytest.raises(DataError, match=rf"test_batch: data is {data.dtype} .*expected uint8 \[n, 3072\]"):
        datasets.prepare(
            "cifar10", layouts.cifar_folder(tmp_path / "source", batches), root=tmp_path / "root"
        )


BAD_IDX = {
    "truncated": (layouts.idx(SMALL[0])[:-10], r"39190 bytes after the header, expected 39200"),
    "too long": (layouts.idx(SMALL[0]) + b"x", r"more after the header"),
    "not idx": (b"<html>not found</html>", r"not an idx file"),
    "floats": (struct.pack(">BBBBI", 0, 0, 0x0D, 1, 4) + bytes(16), r"not an idx file of unsigned bytes"),
    "bomb": (struct.pack(">BBBB3I", 0, 0, 8, 3, 1 << 20, 1 << 10, 1 << 10), r"promises 1099511627776 bytes"),
    "other shape": (layouts.idx(noise(0, 50, 20, 20)), r"shape \[50, 20, 20\]; expected \[n, 28, 28\]"),
}


@pytest.mark.parametrize("kind", BAD_IDX)
def test_damaged_idx_files(tmp_path, kind):
    content, message = BAD_IDX[kind]
    source = layouts.mnist_folder(tmp_path / "source", SMALL, SMALL)
    (source / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(content))
    with pytest.raises(DataError, match=message):
        datasets.prepare("mnist", source, root=tmp_path / "root")


def test_truncated_gzip_and_missing_file(tmp_path):
    source = layouts.mnist_folder(tmp_path / "source", SMALL, SMALL)
    path = source / "train-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte\.gz: truncated or damaged"):
        datasets.prepare("mnist", source, root=tmp_path / "root")
    path.unlink()
    with pytest.raises(DataError, match=r"no train-labels-idx1-ubyte\[\.gz\] in it"):
        datasets.prepare("mnist", source, root=tmp_path / "root")


def test_labels_and_images_of_different_number(tmp_path):
    source = layouts.mnist_folder(tmp_path / "source", (SMALL[0], LABEL[:49]), SMALL)
    with pytest.raises(DataError, match=r"mnist: train: labels are int64 \[49\].*50 images"):
        datasets.prepare("mnist", source, root=tmp_path / "root")


def test_svhn_arrays_of_another_type(tmp_path):
    source = layouts.svhn_folder(tmp_path / "source", COLOUR, COLOUR)
    bad = np.full((32, 32, 3, 4), np.nan)
    savemat(source / "test_32x32.mat", {"X": bad, "y": np.ones((4, 1), np.uint8)})
    with pytest.raises(DataError, match=r"test_32x32\.mat: X is float64 .*expected uint8 \[32, 32, 3, n\]"):
        datasets.prepare("svhn", source, root=tmp_path / "root")
    (source / "test_32x32.mat").write_bytes((source / "train_32x32.mat").read_bytes()[:3000])
    with pytest.raises(DataError, match=r"test_32x32\.mat: truncated, or not a MATLAB 5 file"):
        datasets.prepare("svhn", source, root=tmp_path / "root")
    (source / "test_32x32.mat").unlink()
    with pytest.raises(DataError, match=r"no test_32x32\.mat"):
        datasets.prepare("svhn", source, root=tmp_path / "root")


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.full((3, 1, 4, 4), np.nan), r"float64 \[3, 1, 4, 4\], 48 of them NaN; expected uint8"),
        (np.zeros((3, 1, 4, 4), np.int64), r"pixels are int64"),
        (np.zeros((3, 4, 4), np.uint8), r"shape \[3, 4, 4\]; expected \[n, 1 or 3, y, x\]"),
        (np.zeros((0, 1, 4, 4), np.uint8), r"none of them 0"),
    ],
)
def test_arrays_of_a_caller(pixels, message):
    with pytest.raises(DataError, match=message):
        datasets.from_arrays("mine", datasets.Arrays(pixels))


def test_partition_file_with_a_bad_line(tmp_path):
    source = layouts.celeba_zip(tmp_path / "img_align_celeba.zip", layouts.faces(2))
    (tmp_path / "list_eval_partition.txt").write_text("000001.jpg 0\n000002.jpg 7\n")
    with pytest.raises(DataError, match=r"list_eval_partition\.txt:2: '000002\.jpg 7'; expected"):
        datasets.prepare("celeba", source, root=tmp_path / "root", workers=1)
