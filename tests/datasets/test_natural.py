"""natural and bars: whitening against spectra in closed form, views against windows written out, seeded cutting."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pcsim import datasets
from pcsim.datasets import natural
from pcsim.errors import DataError

ROWS = range(natural.HEIGHT - 1)


def test_whitening_multiplies_each_frequency_by_the_filter() -> None:
    """Oracle: two cosines of equal amplitude leave in the ratio f exp(−(f/f0)⁴) of their frequencies; to rounding."""
    y, x = np.mgrid[:64, :64]
    low, high = 4 / 64, 20 / 64
    picture = 100 + 10 * np.cos(2 * np.pi * low * x) + 10 * np.cos(2 * np.pi * high * y)
    spectrum = np.abs(np.fft.fft2(natural.whiten(picture)))
    gain = [f * np.exp(-((f / natural.CUTOFF) ** 4)) for f in (low, high)]
    assert spectrum[0, 4] / spectrum[20, 0] == pytest.approx(gain[0] / gain[1], rel=1e-9)
    assert spectrum[0, 0] == pytest.approx(0, abs=1e-6)


def test_whitening_makes_a_spectrum_like_natural_ones_flat() -> None:
    """A picture of amplitude 1/f leaves with equal power at f and 2f, up to the fall of the filter; 4 s.e."""
    rng = np.random.default_rng(0)
    f = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256)[None])
    f[0, 0] = np.inf
    noise = np.fft.rfft2(rng.normal(size=(256, 256)))
    power = np.abs(np.fft.rfft2(natural.whiten(np.fft.irfft2(noise / f)))) ** 2
    ratio = []
    for centre in (0.05, 0.1):
        band = np.abs(f - centre) < 0.01
        expected = np.exp(-2 * (centre / natural.CUTOFF) ** 4)
        ratio.append((power[band].mean() / expected, 1 / np.sqrt(band.sum())))
    (low, low_error), (high, high_error) = ratio
    assert abs(low / high - 1) < 4 * np.hypot(low_error, high_error)


def test_views_are_windowed_parts_of_the_patch() -> None:
    """Oracle: grey level written out pixel by pixel; 0 becomes 128, and strong pixels stop at 0 and 255."""
    patch = np.random.default_rng(1).normal(size=(1, 16, 26))
    patch[0, 8, 12], patch[0, 7, 12] = 50, -50
    seen = natural.views(patch)
    assert seen.shape == (1, 1, 16, 48)
    for module, y, x in [(0, 0, 0), (0, 7, 15), (1, 3, 9), (2, 15, 2), (1, 8, 7), (1, 7, 7)]:
        value = patch[0, y, 5 * module + x] * np.exp(-((y - 7.5) ** 2 + (x - 7.5) ** 2) / 32)
        grey = min(max(round(127.5 + 127.5 * value / 4), 0), 255)
        assert seen[0, 0, y, 16 * module + x] == grey
    assert (natural.views(np.zeros((1, 16, 26))) == 128).all()


def test_bars_have_their_lengths_and_lie_in_the_middle() -> None:
    bars = natural.bars((2, 10, 26), ROWS).reshape(3, len(ROWS), 16, 26)
    for length, group in zip((2, 10, 26), bars, strict=True):
        for row, patch in zip(ROWS, group, strict=True):
            y, x = patch.nonzero()
            assert sorted(set(y)) == [row, row + 1]
            assert sorted(set(x)) == list(range(13 - length // 2, 13 + length // 2))
            assert set(patch[y, x]) == {2.0}


def test_the_data_set_of_bars_is_labelled_by_length(tmp_path) -> None:
    bars = datasets.load("bars", root=tmp_path)
    assert bars.shape == (1, 16, 48)
    assert np.unique(bars.test_label, return_counts=True)[1].tolist() == [15] * 13
    lit = (bars.test[:, 0, :, 16:32].max(1) > 130).sum(1)  # columns of the middle view, which is 16 wide
    assert (np.minimum(bars.test_label, 16) >= lit).all()
    assert lit[bars.test_label == 2].tolist() == [2] * 15


def test_natural_patches_are_parts_of_the_photographs(tmp_path) -> None:
    """The same bytes each time; and some of them found again by search over every place of their picture."""
    skimage = pytest.importorskip("skimage")
    images = datasets.load("natural", root=tmp_path / "a")
    assert images.train.shape == (12_000, 1, 16, 48)
    assert images.test.shape == (3_000, 1, 16, 48)
    again = datasets.load("natural", root=tmp_path / "b")
    assert images.fingerprint == again.fingerprint
    with Image.open(Path(skimage.__file__).parent / "data" / natural.TEST[1]) as picture:
        flat = natural.whiten(np.asarray(picture.convert("L"), dtype=float))
    every = np.lib.stride_tricks.sliding_window_view(flat, (16, 26))
    for seen in images.test[[1500, 2000, 2999]]:
        value = (
            seen[0, 7, 23].astype(float) / 127.5 - 1
        ) * natural.FULL_SCALE  # row 7, column 12 of the patch
        near = np.exp(-(0.5**2 + 0.5**2) / 32) * every[:, :, 7, 12] - value
        y, x = (np.abs(near) < natural.FULL_SCALE / 127.5).nonzero()
        matches = (natural.views(every[y, x]) == seen).all((1, 2, 3))
        assert matches.sum() == 1


def test_modules_overlap(tmp_path) -> None:
    """Without their windows, two neighbours show the same pixels five apart; to one grey level."""
    patch = np.random.default_rng(2).normal(size=(50, 16, 26)) / 2
    seen = (natural.views(patch).astype(float) / 127.5 - 1) * natural.FULL_SCALE
    reach = np.arange(16) - 7.5
    window = np.exp(-(reach[:, None] ** 2 + reach[None] ** 2) / 32)
    first, second = (seen[:, 0, :, 16 * m : 16 * m + 16] / window for m in (0, 1))
    level = natural.FULL_SCALE / 127.5 / np.minimum(window[:, 5:], window[:, :11])
    assert (np.abs(first[:, :, 5:] - second[:, :, :11]) <= level).all()


def test_without_scikit_image_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    monkeypatch.setattr(natural, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(DataError, match=r"pip install pcsim\[pictures\]"):
        datasets.load("natural", root=tmp_path)
