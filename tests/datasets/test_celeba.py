"""CelebA: official names, parts and crops; the broken are named; after a kill the same bytes come out."""

import io
import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from pcsim import datasets
from pcsim.datasets import pictures
from pcsim.errors import DataError
from tests.datasets import layouts


def by_hand(content: bytes, box: tuple, size: int) -> np.ndarray:
    """Oracle: Pillow alone, with the box written out."""
    picture = Image.open(io.BytesIO(content)).convert("RGB").crop(box)
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR)).transpose(2, 0, 1)


@pytest.mark.parametrize(
    ("shape", "crop", "box"),
    [
        ((89, 109), 148, (7, 17, 81, 91)),
        ((89, 109), 178, (0, 10, 89, 99)),
        ((178, 218), 148, (15, 35, 163, 183)),
        ((178, 218), 178, (0, 20, 178, 198)),
    ],
)
@pytest.mark.parametrize("size", [64, 32])
def test_crops_are_the_central_squares_of_the_official_picture(tmp_path, shape, crop, box, size):
    faces = layouts.faces(4, *shape)
    source = layouts.celeba_zip(tmp_path / "img_align_celeba.zip", faces)
    datasets.prepare("celeba", source, root=tmp_path / "root", size=size, crop=crop, workers=1)
    images = datasets.load("celeba", root=tmp_path / "root", size=size, crop=crop)
    expected = np.stack([by_hand(content, box, size) for content in faces.values()])
    assert np.array_equal(images.train, expected)
    assert images.preparation["crop"] == crop


def test_real_faces_from_the_official_layout_with_two_processes(tmp_path):
    with zipfile.ZipFile(layouts.sample("celeba_half89x109_jpeg.zip")) as archive:
        faces = {name: archive.read(name) for name in sorted(archive.namelist())[:1100]}
    source = layouts.celeba_zip(tmp_path / "img_align_celeba.zip", faces)
    seen: list[tuple[int, int]] = []
    done = datasets.prepare(
        "celeba", source, root=tmp_path / "root", workers=2, progress=lambda *at: seen.append(at)
    )
    images = datasets.load("celeba", root=tmp_path / "root")
    for row in (0, 511, 512, 1099):
        expected = by_hand(faces[f"{row + 1:06d}.jpg"], (7, 17, 81, 91), 64)
        assert np.array_equal(images.train[row], expected)
    assert (done.images, done.broken, done.missing) == (1100, (), ())
    assert seen[0] == (0, 1100)
    assert seen[-1] == (1100, 1100)


def test_folder_and_zip_give_the_same_pixels_and_the_official_parts(tmp_path):
    faces = layouts.faces(6)
    (tmp_path / "img_align_celeba").mkdir()
    for name, content in faces.items():
        (tmp_path / "img_align_celeba" / name).write_bytes(content)
    layouts.celeba_zip(tmp_path / "img_align_celeba.zip", faces)
    parts = [0, 0, 1, 2, 2, 0]
    lines = [f"{k + 1:06d}.jpg {part}\n" for k, part in enumerate(parts)]
    (tmp_path / "list_eval_partition.txt").write_text("".join(lines) + "000007.jpg 0\n")
    faces["000009.jpg"] = faces["000001.jpg"]
    layouts.celeba_zip(tmp_path / "img_align_celeba.zip", faces)
    (tmp_path / "img_align_celeba" / "000009.jpg").write_bytes(faces["000001.jpg"])
    found = {}
    for name in ("img_align_celeba", "img_align_celeba.zip"):
        done = datasets.prepare("celeba", tmp_path / name, root=tmp_path / name[-3:], workers=1)
        found[name] = images = datasets.load("celeba", root=tmp_path / name[-3:])
        assert done.missing == ("000007.jpg",)
        assert done.broken == (("000009.jpg", "not in list_eval_partition.txt"),)
        assert [len(images.train), len(images.validation), len(images.test)] == [3, 1, 2]
    one, other = found.values()
    assert np.array_equal(one.train, other.train)
    assert np.array_equal(one.test[0], by_hand(faces["000004.jpg"], (7, 17, 81, 91), 64))


def test_broken_and_missing_pictures_are_named_and_the_rest_goes_on(tmp_path):
    faces = layouts.faces(9)
    good = dict(faces)
    faces["000002.jpg"] = b"no picture at all"
    faces["000005.jpg"] = faces["000005.jpg"][:400]
    faces["000007.jpg"] = layouts.jpeg(layouts.noise(0, 60, 60, 3))
    del faces["000004.jpg"]
    source = layouts.celeba_zip(tmp_path / "img_align_celeba.zip", faces)
    done = datasets.prepare("celeba", source, root=tmp_path / "root", workers=1)
    assert [name for name, _ in done.broken] == [f"img_align_celeba/00000{k}.jpg" for k in (2, 5, 7)]
    assert "truncated" in done.broken[1][1].lower()
    assert "60x60" in done.broken[2][1]
    assert done.missing == ("000004.jpg",)
    images = datasets.load("celeba", root=tmp_path / "root")
    expected = [by_hand(good[f"00000{k}.jpg"], (7, 17, 81, 91), 64) for k in (1, 3, 6, 8, 9)]
    assert np.array_equal(images.train, np.stack(expected))
    report = json.loads((done.folder / "report.json").read_text())
    assert len(report["broken"]) == 3


def test_a_member_damaged_within_the_archive_is_named(tmp_path):
    source = layouts.celeba_zip(tmp_path / "img_align_celeba.zip", layouts.faces(3))
    with zipfile.ZipFile(source) as archive:
        second = archive.getinfo("img_align_celeba/000002.jpg")
    content = bytearray(source.read_bytes())
    content[second.header_offset + 200] ^= 255
    source.write_bytes(content)
    done = datasets.prepare("celeba", source, root=tmp_path / "root", workers=1)
    assert [name for name, _ in done.broken] == ["img_align_celeba/000002.jpg"]
    assert done.images == 2


def test_a_truncated_archive_is_refused_by_name(tmp_path):
    source = layouts.celeba_zip(tmp_path / "img_align_celeba.zip", layouts.faces(5))
    source.write_bytes(source.read_bytes()[:-300])
    with pytest.raises(DataError, match=r"img_align_celeba\.zip: truncated .*fetch it again"):
        datasets.prepare("celeba", source, root=tmp_path / "root", workers=1)


def test_members_cannot_leave_the_archive(tmp_path):
    faces = layouts.faces(2)
    source = tmp_path / "inner" / "img_align_celeba.zip"
    source.parent.mkdir()
    names = ["../../000003.jpg", "/000004.jpg", "img_align_celeba/000001.jpg"]
    with zipfile.ZipFile(source, "w") as archive:
        for name in names:
            archive.writestr(name, faces["000001.jpg"])
    before = set(layouts.files_below(tmp_path))
    done = datasets.prepare("celeba", source, root=tmp_path / "root", workers=1)
    assert done.images == 1
    assert [name for name, _ in done.broken] == names[:2]
    assert all("outside" in reason for _, reason in done.broken)
    after = set(layouts.files_below(tmp_path))
    assert all(name.startswith("root/celeba/") for name in after - before)


def test_a_killed_preparation_goes_on_and_leaves_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "BLOCK", 4)
    faces = layouts.faces(18)
    faces["000006.jpg"] = b"broken"
    source = layouts.celeba_zip(tmp_path / "img_align_celeba.zip", faces)
    whole = datasets.prepare("celeba", source, root=tmp_path / "whole", workers=1)

    def kill(done: int, total: int) -> None:
        if done >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        datasets.prepare("celeba", source, root=tmp_path / "killed", workers=1, progress=kill)
    with pytest.raises(DataError, match="not prepared"):
        datasets.load("celeba", root=tmp_path / "killed")
    seen: list[int] = []
    again = datasets.prepare(
        "celeba", source, root=tmp_path / "killed", workers=1, progress=lambda done, _: seen.append(done)
    )
    assert seen == [8, 12, 16, 18]
    assert layouts.files_below(tmp_path / "killed") == layouts.files_below(tmp_path / "whole")
    assert again.fingerprint == whole.fingerprint
    assert datasets.prepare("celeba", source, root=tmp_path / "killed", workers=1) == again


def test_a_preparation_killed_by_the_system_resumes_and_leaves_no_process_behind(tmp_path):
    faces = layouts.faces(40, 45, 55)
    many = {f"{k + 1:06d}.jpg": faces[f"{k % 40 + 1:06d}.jpg"] for k in range(2560)}
    source = layouts.celeba_zip(tmp_path / "img_align_celeba.zip", many)
    script = tmp_path / "prepare.py"
    script.write_text(
        "import sys, pcsim.datasets as d\n"
        "if __name__ == '__main__': d.prepare('celeba', sys.argv[1], root=sys.argv[2], workers=2, size=32)\n"
    )
    root = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, script, source, root], start_new_session=True)
    until(lambda: any(root.rglob("block-*.json")))
    process.kill()
    process.wait()
    until(lambda: not session_alive(process.pid))
    finished = len(list(root.rglob("block-*.json")))
    assert 0 < finished < 5
    seen: list[int] = []
    datasets.prepare(
        "celeba", source, root=root, workers=1, size=32, progress=lambda done, _: seen.append(done)
    )
    assert seen[0] >= 512 * finished
    datasets.prepare("celeba", source, root=tmp_path / "whole", workers=1, size=32)
    assert layouts.files_below(root) == layouts.files_below(tmp_path / "whole")


def until(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < end, "nothing happened in 30 seconds"
        time.sleep(0.005)


def session_alive(session: int) -> bool:
    try:
        os.killpg(session, 0)
    except ProcessLookupError:
        return False
    return True


def test_blocks_of_another_source_are_not_taken_over(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "BLOCK", 2)
    source = layouts.celeba_zip(tmp_path / "img_align_celeba.zip", layouts.faces(4))

    def kill(done: int, total: int) -> None:
        if done >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        datasets.prepare("celeba", source, root=tmp_path / "root", workers=1, progress=kill)
    other = dict(zip(layouts.faces(4), reversed(layouts.faces(4).values()), strict=True))
    layouts.celeba_zip(source, other)
    datasets.prepare("celeba", source, root=tmp_path / "root", workers=1)
    images = datasets.load("celeba", root=tmp_path / "root")
    assert np.array_equal(images.train[0], by_hand(other["000001.jpg"], (7, 17, 81, 91), 64))
