"""What is missing, damaged, full or misspelt is said at once, with the command that mends it."""

import contextlib
import errno
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from pcsim import datasets
from pcsim.datasets import pictures, store
from pcsim.errors import DataError, StudyError
from tests.datasets import layouts
from tests.datasets.layouts import noise

SMALL = (noise(0, 20, 28, 28), np.arange(20) % 10)


@pytest.mark.parametrize(
    ("name", "size", "crop", "end"),
    [
        ("mnist", None, None, "pcsim data prepare mnist"),
        ("cifar10", 32, None, "pcsim data prepare cifar10"),
        ("celeba", None, None, "pcsim data prepare celeba --from img_align_celeba.zip"),
        ("celeba", 32, 178, "pcsim data prepare celeba --from img_align_celeba.zip --size 32 --crop 178"),
    ],
)
def test_missing_images_are_reported_in_a_second_with_the_command(
    tmp_path, monkeypatch, name, size, crop, end
):
    monkeypatch.setenv("PCSIM_DATA", str(tmp_path))
    start = time.perf_counter()
    for ask in (datasets.check_present, datasets.load):
        with pytest.raises(DataError) as caught:
            ask(name, size=size, crop=crop)
        assert str(caught.value).endswith(f": {end}")
    assert time.perf_counter() - start < 1
    if name == "celeba":
        assert "mmlab.ie.cuhk.edu.hk" in str(caught.value)


def test_unknown_names_sizes_and_crops(tmp_path):
    with pytest.raises(StudyError, match="no data set 'celebs'; did you mean 'celeba'"):
        datasets.load("celebs", root=tmp_path)
    with pytest.raises(DataError, match="celeba: size 48 is not offered; expected 64 or 32"):
        datasets.check_present("celeba", size=48, root=tmp_path)
    with pytest.raises(DataError, match="celeba: crop 100 is not offered; expected 148 or 178"):
        datasets.check_present("celeba", crop=100, root=tmp_path)
    with pytest.raises(DataError, match="mnist: crop 20 is not offered; expected none"):
        datasets.check_present("mnist", crop=20, root=tmp_path)
    with pytest.raises(DataError, match="needs no files"):
        datasets.prepare("digits", tmp_path, root=tmp_path)
    with pytest.raises(DataError, match=r"no pictures given; get img_align_celeba\.zip"):
        datasets.prepare("celeba", root=tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        datasets.prepare("celeba", tmp_path / "absent.zip", root=tmp_path)


def test_embedded_sets_are_present_without_any_preparation(tmp_path):
    datasets.check_present("mnist5k", root=tmp_path)
    assert not any(tmp_path.iterdir())
    first = datasets.load("digits", root=tmp_path)
    start = time.perf_counter()
    second = datasets.load("digits", root=tmp_path)
    datasets.check_present("digits", root=tmp_path)
    assert time.perf_counter() - start < 0.5
    assert first.fingerprint == second.fingerprint
    assert len(first.fingerprint) == 16


def test_an_edited_or_truncated_preparation_is_refused(tmp_path):
    datasets.load("digits", root=tmp_path)
    record = tmp_path / "digits" / "8" / "preparation.json"
    original = record.read_text()
    record.write_text(original.replace('"scikit-learn"', '"elsewhere"'))
    with pytest.raises(DataError, match=r"was edited; prepare them again: pcsim data prepare digits"):
        datasets.check_present("digits", root=tmp_path)
    record.write_text(original)
    array = record.with_name("train.npy")
    array.write_bytes(array.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"damaged .*prepare them again: pcsim data prepare digits"):
        datasets.load("digits", root=tmp_path)
    assert next(r for r in datasets.available(tmp_path) if r.name == "digits").state == "damaged"
    datasets.prepare("digits", root=tmp_path)
    assert datasets.load("digits", root=tmp_path).train.shape == (1797, 1, 8, 8)


def test_the_fingerprint_changes_with_pixels_size_and_crop(tmp_path):
    faces = layouts.faces(3)
    source = layouts.celeba_zip(tmp_path / "img_align_celeba.zip", faces)
    options = [(64, 148), (64, 178), (32, 148)]
    found = [datasets.prepare("celeba", source, root=tmp_path, size=s, crop=c, workers=1) for s, c in options]
    faces["000002.jpg"] = faces["000001.jpg"]
    layouts.celeba_zip(source, faces)
    found.append(datasets.prepare("celeba", source, root=tmp_path, size=64, crop=148, workers=1))
    assert len({done.fingerprint for done in found}) == 4
    rows = [row for row in datasets.available(tmp_path) if row.name == "celeba"]
    assert sorted((row.shape, row.crop) for row in rows) == sorted(((3, s, s), c) for s, c in options)
    assert {row.images for row in rows} == {3}


def test_list_names_every_set_and_the_command_for_the_missing(tmp_path):
    datasets.prepare(
        "mnist", layouts.mnist_folder(tmp_path / "source", SMALL, SMALL), root=tmp_path / ".cache"
    )
    rows = {row.name: row for row in datasets.available(tmp_path / ".cache")}
    assert list(rows) == list(datasets.DATASETS)
    assert rows["digits"].state == "built in"
    assert (rows["mnist"].state, rows["mnist"].images, rows["mnist"].shape) == ("prepared", 40, (1, 28, 28))
    assert rows["celeba"].state == "missing"
    assert rows["celeba"].command.startswith("pcsim data prepare celeba --from img_align_celeba.zip --root")


def test_two_folders_of_pictures_stay_apart_and_broken_ones_are_named(tmp_path):
    for k, name in enumerate(("cats", "dogs")):
        (tmp_path / name / "inner").mkdir(parents=True)
        Image.fromarray(noise(k, 30, 50, 3)).save(tmp_path / name / "b.png")
        Image.fromarray(noise(9, 40, 20)).save(tmp_path / name / "inner" / "a.png")
        (tmp_path / name / "c.jpg").write_bytes(b"broken")
        (tmp_path / name / "notes.txt").write_text("not a picture")
        done = datasets.prepare("folder", tmp_path / name, root=tmp_path / "root", size=16, workers=1)
        assert done.broken == (("c.jpg", "not a picture"),)
    cats, dogs = (
        datasets.load("folder", root=tmp_path / "root", size=16, source=tmp_path / name)
        for name in ("cats", "dogs")
    )
    assert cats.shape == (3, 16, 16)
    assert not np.array_equal(cats.train[0], dogs.train[0])
    square = Image.fromarray(noise(0, 30, 50, 3)[:, 10:40]).resize((16, 16), Image.Resampling.BILINEAR)
    assert np.array_equal(cats.train[0].transpose(1, 2, 0), np.asarray(square))
    pixels, names, broken = datasets.read_folder(tmp_path / "cats", 16, channel=1)
    assert (pixels.shape, names, broken) == (
        (2, 1, 16, 16),
        ["b.png", "inner/a.png"],
        [("c.jpg", "not a picture")],
    )
    with pytest.raises(DataError, match=r"--from .*birds.* --size 16 --root"):
        datasets.check_present("folder", root=tmp_path / "root", size=16, source=tmp_path / "birds")


def test_sixteen_bit_pictures_are_refused_by_name(tmp_path):
    (tmp_path / "deep").mkdir()
    Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(tmp_path / "deep" / "a.png")
    with pytest.raises(
        DataError, match=r"no training image could be read .*a\.png: grey levels of mode I;16"
    ):
        datasets.prepare("folder", tmp_path / "deep", root=tmp_path / "root", size=8, workers=1)


def test_a_full_disk_says_what_to_do_and_keeps_the_finished_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "BLOCK", 4)
    source = layouts.celeba_zip(tmp_path / "img_align_celeba.zip", layouts.faces(12))
    written = []

    @contextlib.contextmanager
    def full_after_two_blocks(path):
        written.append(path.name)
        if path.name == "block-00002.npy":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        with original(path) as temporary:
            yield temporary

    original = store.atomic
    monkeypatch.setattr(store, "atomic", full_after_two_blocks)
    with pytest.raises(
        DataError, match=r"disk full .*PCSIM_DATA.*pcsim data prepare celeba --from .* --root"
    ):
        datasets.prepare("celeba", source, root=tmp_path / "root", workers=1)
    monkeypatch.setattr(store, "atomic", original)
    seen: list[int] = []
    datasets.prepare(
        "celeba", source, root=tmp_path / "root", workers=1, progress=lambda done, _: seen.append(done)
    )
    assert seen == [8, 12]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs the device that is always full")
def test_a_write_on_a_full_device_carries_its_error_number():
    with pytest.raises(OSError, match="No space left") as caught, open("/dev/full", "wb") as file:
        file.write(store._header(np.dtype(np.uint8), (1,)) + bytes(100_000))
    assert caught.value.errno == errno.ENOSPC


def test_too_little_space_is_seen_before_the_work(tmp_path, monkeypatch):
    source = layouts.celeba_zip(tmp_path / "img_align_celeba.zip", layouts.faces(3))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(DataError, match=r"0\.00 GB free, the preparation needs"):
        datasets.prepare("celeba", source, root=tmp_path / "root", workers=1)


def test_the_files_are_what_numpy_would_write(tmp_path):
    for array in (noise(0, 7, 3, 5, 5), np.arange(9), np.zeros((0, 3, 4, 4), np.uint8)):
        store.write_array(tmp_path / "ours.npy", array.shape, [array[:2], array[2:]])
        assert np.array_equal(np.load(tmp_path / "ours.npy"), array)
        np.save(tmp_path / "theirs.npy", array)
        assert (tmp_path / "ours.npy").stat().st_size == (tmp_path / "theirs.npy").stat().st_size


def test_two_processes_that_want_a_built_in_set_at_once_both_get_it(tmp_path):
    script = "import sys, pcsim.datasets as d; print(d.load('mnist5k', root=sys.argv[1]).fingerprint)"
    both = [
        subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE) for _ in range(2)
    ]
    found = {process.communicate()[0] for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert len(found) == 1
    assert [path.name for path in (tmp_path / "mnist5k").iterdir()] == ["28"]


def test_importing_the_data_sets_imports_nothing_heavy():
    heavy = "{'torch', 'scipy', 'sklearn', 'mlxtend', 'pooch', 'pandas'}"
    script = f"import sys, pcsim.datasets; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
