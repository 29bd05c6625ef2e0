"""How fast CelebA is prepared: official-size JPEGs in a zip, cropped, resized, packed; and how long for all 202,599.

python benchmarks/preparing.py [--images 4000] [--workers 2]
"""

import argparse
import io
import json
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from pcsim import datasets

ALL = 202_599
RESULT = Path("runs/benchmarks/preparing.json")


def pictures(count: int, path: Path) -> None:
    """A zip in the official layout, with smooth random pictures of about the official size in bytes."""
    rng = np.random.default_rng(0)
    files = []
    for _ in range(50):
        noise = Image.fromarray(rng.integers(0, 256, (218, 178, 3), dtype=np.uint8), "RGB")
        stream = io.BytesIO()
        noise.filter(ImageFilter.GaussianBlur(2.0)).save(stream, "JPEG", quality=90)
        files.append(stream.getvalue())
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(count):
            archive.writestr(f"img_align_celeba/{index + 1:06d}.jpg", files[index % len(files)])


def main() -> None:
    """Prepare, count, write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "img_align_celeba.zip"
        pictures(options.images, source)
        begin = time.perf_counter()
        done = datasets.prepare("celeba", source, root=Path(folder) / "data", workers=options.workers)
        seconds = time.perf_counter() - begin
        size = source.stat().st_size / options.images
    rate = done.images / seconds
    result = {
        "images": done.images, "workers": options.workers, "bytes_per_image": size, "seconds": seconds,
        "images_per_second": rate, "minutes_for_all": ALL / rate / 60,
    }  # fmt: skip
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(
        f"{done.images} pictures of {size / 1024:.1f} KiB in {seconds:.1f} s with {options.workers} processes: "
        f"{rate:.0f} per second, {ALL / rate / 60:.1f} minutes for all {ALL:,}"
    )


if __name__ == "__main__":
    main()
