"""Writes images in the official layouts, so that the code that reads the originals is the code under test."""

import gzip
import io
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

SAMPLES = Path(__file__).parents[3] / "shared" / "data"


def sample(name: str) -> Path:
    """A file of real images; the test is skipped where it is absent."""
    path = SAMPLES / name
    if not path.is_file():
        pytest.skip(f"the sample {name} of real images is not on this machine")
    return path


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def mnist_folder(folder: Path, train: tuple, test: tuple, compressed: bool = True) -> Path:
    folder.mkdir(parents=True)
    for part, (pixels, label) in (("train", train), ("t10k", test)):
        for name, array in ((f"{part}-images-idx3-ubyte", pixels), (f"{part}-labels-idx1-ubyte", label)):
            content = idx(np.asarray(array, np.uint8))
            path = folder / (name + (".gz" if compressed else ""))
            path.write_bytes(gzip.compress(content, 1) if compressed else content)
    return folder


def cifar_batch(pixels_yxc: np.ndarray, label: np.ndarray) -> bytes:
    data = np.ascontiguousarray(pixels_yxc.transpose(0, 3, 1, 2)).reshape(len(pixels_yxc), 3072)
    batch = {
        b"batch_label": b"a batch",
        b"labels": [int(k) for k in label],
        b"data": data,
        b"filenames": [b"a.png"],
    }
    return pickle.dumps(batch, protocol=2)


def cifar_batches(train: tuple, test: tuple) -> dict[str, bytes]:
    pixels, label = (np.array_split(array, 5) for array in train)
    batches = {f"data_batch_{k + 1}": cifar_batch(pixels[k], label[k]) for k in range(5)}
    return batches | {"test_batch": cifar_batch(*test), "batches.meta": b"not read"}


def cifar_folder(folder: Path, batches: dict[str, bytes]) -> Path:
    (folder / "cifar-10-batches-py").mkdir(parents=True)
    for name, content in batches.items():
        (folder / "cifar-10-batches-py" / name).write_bytes(content)
    return folder / "cifar-10-batches-py"


def cifar_archive(path: Path, batches: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name, content in batches.items():
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def svhn_folder(folder: Path, train: tuple, test: tuple) -> Path:
    folder.mkdir(parents=True)
    for name, (pixels_yxc, label) in (("train", train), ("test", test)):
        matlab = {"X": pixels_yxc.transpose(1, 2, 3, 0), "y": np.where(label == 0, 10, label).reshape(-1, 1)}
        savemat(
            folder / f"{name}_32x32.mat",
            {k: v.astype(np.uint8) for k, v in matlab.items()},
            do_compression=True,
        )
    return folder


def jpeg(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


def faces(count: int, width: int = 89, height: int = 109) -> dict[str, bytes]:
    """Smooth coloured pictures 000001.jpg …, all different."""
    y, x = np.mgrid[:height, :width]
    pictures = {}
    for k in range(1, count + 1):
        planes = [127 + 120 * np.sin(x / (5 + k % 7) + c + k) * np.cos(y / (9 + k % 5)) for c in range(3)]
        pictures[f"{k:06d}.jpg"] = jpeg(np.stack(planes, -1).astype(np.uint8))
    return pictures


def celeba_zip(path: Path, pictures: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("img_align_celeba/", b"")
        for name, content in pictures.items():
            archive.writestr(f"img_align_celeba/{name}", content)
    return path


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }
