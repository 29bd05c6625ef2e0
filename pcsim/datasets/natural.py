"""Patches of photographs for a bank of three overlapping modules (Rao and Ballard, 1999), and bars for it.

A patch is 16 x 26 pixels. Three modules look at it, 16 x 16 pixels each, 5 pixels apart, each through a
Gaussian window of its own; an image of the set holds the three views side by side, `[1, 16, 48]`, so that
modules whose fields overlap are still predicted one by one, as in the original.
"""

from collections.abc import Sequence
from importlib.resources import files
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pcsim.datasets.types import Arrays, Dataset, EmbeddedReader, Pixels
from pcsim.errors import DataError

Array = NDArray[np.float64]

MODULE, SHIFT, MODULES = 16, 5, 3
HEIGHT, WIDTH = MODULE, MODULE + SHIFT * (MODULES - 1)
WINDOW = 4.0
"""Standard deviation of a module's Gaussian window, pixels."""
CUTOFF = 0.4
"""Cycles per pixel at which the whitening filter has fallen to 1/e of f."""
FULL_SCALE = 4.0
"""Standard deviations of a whitened picture that make a pixel white (255); as many below zero make it black."""
TRAIN = ("astronaut.png", "brick.png", "camera.png", "coffee.png", "grass.png", "gravel.png",
         "motorcycle_left.png", "rocket.jpg")  # fmt: skip
TEST = ("chelsea.png", "coins.png")
PER_PICTURE = 1500
SEED = 1999


def whiten(picture: Array) -> Array:
    """The picture `[y, x]` with a flat spectrum up to the cutoff, mean 0 and standard deviation 1.

    Amplitudes of natural images fall as 1/f; they are multiplied by f exp(−(f/f0)⁴), which does not amplify the
    corners of the frequency plane, where there is mostly noise. Olshausen and Field (1996), Nature 381.
    """
    height, width = picture.shape
    f = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    flat = np.fft.irfft2(np.fft.rfft2(picture) * f * np.exp(-((f / CUTOFF) ** 4)), s=picture.shape)
    centred: Array = flat - flat.mean()
    scaled: Array = centred / centred.std()
    return scaled


def views(patches: Array) -> Pixels:
    """What the three modules see of patches `[n, 16, 26]`: uint8 `[n, 1, 16, 48]`; 0 becomes 128.

    Each module's square is multiplied by exp(−d²/2·WINDOW²), d the distance from its centre, and written as
    round(127.5 (1 + v/FULL_SCALE)), clipped to 0…255. The half level by which 128 misses zero is 1/64 of a
    standard deviation.
    """
    reach = np.arange(MODULE) - (MODULE - 1) / 2
    window = np.exp(-(reach[:, None] ** 2 + reach[None] ** 2) / (2 * WINDOW**2))
    starts = range(0, SHIFT * MODULES, SHIFT)
    seen = np.concatenate([patches[:, :, s : s + MODULE] * window for s in starts], axis=2)
    grey = np.rint(127.5 * (1 + seen / FULL_SCALE))
    pixels: Pixels = np.clip(grey, 0, 255).astype(np.uint8)[:, None]
    return pixels


def bars(lengths: Sequence[int], rows: Sequence[int], contrast: float = 2.0) -> Array:
    """Horizontal bars, two pixels thick, centred in patches: `[len(lengths) · len(rows), 16, 26]`, lengths slowest.

    rows: the upper pixel row of each bar.  contrast: standard deviations above a background of 0.
    """
    patches = np.zeros((len(lengths), len(rows), HEIGHT, WIDTH))
    for i, length in enumerate(lengths):
        left = (WIDTH - length) // 2
        for j, row in enumerate(rows):
            patches[i, j, row : row + 2, left : left + length] = contrast
    return patches.reshape(-1, HEIGHT, WIDTH)


def _cut(name: str, rng: np.random.Generator) -> Array:
    """PER_PICTURE patches at random places of one picture of scikit-image, `[n, 16, 26]`."""
    with Image.open(str(_folder() / name)) as picture:
        flat = whiten(np.asarray(picture.convert("L"), dtype=np.float64))
    high, wide = flat.shape[0] - HEIGHT + 1, flat.shape[1] - WIDTH + 1
    # raw draws, which NumPy keeps fixed over versions; high · wide < 2²⁰, so the modulo favours nobody
    place = rng.bit_generator.random_raw(PER_PICTURE) % (high * wide)
    y, x = np.divmod(place.astype(np.int64), wide)
    every = np.lib.stride_tricks.sliding_window_view(flat, (HEIGHT, WIDTH))
    return np.array(every[y, x])


def _folder() -> Any:
    if find_spec("skimage") is None:
        raise DataError(
            "the photographs come with scikit-image, which is not installed: pip install pcsim[pictures]"
        )
    return files("skimage") / "data"


def read() -> Arrays:
    """Patches of eight photographs to train on and of two others to test with."""
    rng = np.random.Generator(np.random.PCG64(SEED))
    train, test = (views(np.concatenate([_cut(name, rng) for name in names])) for names in (TRAIN, TEST))
    return Arrays(train, test=test)


def read_bars() -> Arrays:
    """Bars of 2, 4, …, 26 pixels in every row that holds them; the label is the length."""
    lengths, rows = range(2, WIDTH + 1, 2), range(HEIGHT - 1)
    pixels = views(bars(lengths, rows))
    label = np.repeat(np.array(lengths, dtype=np.int64), len(rows))
    return Arrays(pixels, label, test=pixels, test_label=label)


NATURAL = Dataset(
    title="15,000 whitened patches of ten photographs, seen by three 16x16 modules, from scikit-image",
    channel=1,
    reader=EmbeddedReader(read, "scikit-image"),
    sizes=(MODULE,),
)
BARS = Dataset(
    title="195 horizontal bars, 2 to 26 pixels long, seen by three 16x16 modules",
    channel=1,
    reader=EmbeddedReader(read_bars, "drawn"),
    sizes=(MODULE,),
)
