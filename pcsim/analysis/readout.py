"""Ridge-logistic readouts: folds of images, blocks of steps, fitted scores as plain arrays."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pcsim.errors import StudyError

Array = NDArray[np.float64]
Codes = NDArray[np.intp]
BLOCK = 2**27
"""Bytes of a block of steps that is read at once."""


class Readout(NamedTuple):
    """How a readout is fitted and tested; the seed decides the folds and the shuffled labels."""

    seed: int
    penalty: float = 1.0
    """λ of the fitted loss Σ_rows −log p(class) + ½ λ |w|², w in units of each unit's standard deviation."""
    folds: int = 5


class Affine(NamedTuple):
    """Class scores W z + b of one fitted readout."""

    weight: Array
    """`[class, unit]`."""
    bias: Array
    """`[class]`."""


def prepared(
    value: xr.DataArray, label: xr.DataArray, readout: Readout, dim: str
) -> tuple[xr.DataArray, Codes, Codes]:
    """`value` with `chain` and `dim`, the class code of each image, and the fold that tests it."""
    from sklearn.model_selection import StratifiedKFold

    if label.dims != ("image",) or label.sizes["image"] != value.sizes["image"]:
        raise StudyError(
            f"labels: expected one per image ({value.sizes['image']}), found dims {dict(label.sizes)}"
        )
    names, codes, counts = np.unique(label.to_numpy(), return_inverse=True, return_counts=True)
    if len(names) < 2 or counts.min() < readout.folds:
        least = f"class {names[counts.argmin()]} has {counts.min()} images"
        raise StudyError(
            f"labels: {readout.folds} folds need 2 classes of {readout.folds} images, but {least}"
        )
    splitter = StratifiedKFold(readout.folds, shuffle=True, random_state=readout.seed)
    fold = np.empty(len(codes), np.intp)
    for index, (_, tested) in enumerate(splitter.split(codes, codes)):
        fold[tested] = index
    for name in ("chain", dim):
        value = value if name in value.dims else value.expand_dims(name)
    return value, codes, fold


def blocks(value: xr.DataArray, dim: str) -> Iterator[tuple[slice, Array]]:
    """Runs of steps as `[step, image, chain, unit]`, each of at most `BLOCK` bytes (or one step)."""
    length = max(1, BLOCK // max(1, 8 * value.size // value.sizes[dim]))
    for start in range(0, value.sizes[dim], length):
        place = slice(start, min(start + length, value.sizes[dim]))
        yield place, one_block(value.isel({dim: place}), dim)


def one_block(value: xr.DataArray, dim: str) -> Array:
    array = value.transpose(dim, "image", "chain", ...).to_numpy().astype(np.float64)
    if not np.isfinite(array).all():
        steps = value[dim].to_numpy()
        raise StudyError(f"value: not finite between {dim} {steps[0]} and {steps[-1]}; select finished steps")
    return array.reshape(*array.shape[:3], -1)


def fit_folds(x: Array, codes: Codes, fold: Codes, penalty: float) -> list[Affine]:
    """The readout of each fold, from `x [image, chain, unit]` of the other folds."""
    fitted = []
    for index in range(int(fold.max()) + 1):
        kept = fold != index
        rows = x[kept].reshape(-1, x.shape[-1])
        fitted.append(_fit(rows, np.repeat(codes[kept], x.shape[1]), penalty))
    return fitted


def _fit(rows: Array, codes: Codes, penalty: float) -> Affine:
    from sklearn.linear_model import LogisticRegression

    centre, scale = rows.mean(axis=0), rows.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    model = LogisticRegression(C=1 / penalty, class_weight="balanced", max_iter=2000)
    model.fit((rows - centre) / scale, codes)
    weight, bias = model.coef_ / scale, model.intercept_
    if len(weight) == 1:  # two classes share one score
        weight, bias = np.concatenate([0 * weight, weight]), np.concatenate([0 * bias, bias])
    return Affine(weight, bias - weight @ centre)


def predict(x: Array, models: list[Affine], fold: Codes) -> Codes:
    """Class codes `[step, image, chain]` from `x [step, image, chain, unit]`, by the fold that held each image out."""
    found = np.empty(x.shape[:3], np.intp)
    for index, model in enumerate(models):
        found[:, fold == index] = (x[:, fold == index] @ model.weight.T + model.bias).argmax(axis=-1)
    return found
