"""Decodability over time: what a linear readout knows of an image's class at each inference step."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pcsim.analysis.convergence import unconverged
from pcsim.analysis.readout import Readout, blocks, fit_folds, one_block, predict, prepared
from pcsim.analysis.result import Meaning, cautions_of, described
from pcsim.errors import StudyError

Train = Literal["same", "last"]

_ESTIMATOR = (
    "ridge-logistic readout (z-scored units, classes weighted equally, all chains of a training image as rows); "
    "folds are made of images, so that no chain of a tested image was seen in training; accuracy is the mean over "
    "classes, its s.e. the one over images"
)
_BIAS = (
    "at most the accuracy of the best linear readout: too low by about units/rows of the training set; s.e. leaves "
    "out that folds share training images"
)
_SOURCE = "King & Dehaene (2014); Meyers et al. (2008); Hastie, Tibshirani & Friedman (2009), section 4.4"
PREDICTED = Meaning(
    "class named by a held-out linear readout",
    "argmax over classes of W z + b, W and b fitted without the image",
    _ESTIMATOR,
    _BIAS,
    _SOURCE,
)
DECODABILITY = Meaning(
    "class-balanced accuracy of a linear readout over inference steps",
    "P(readout of z_t names the class); `same`: trained and tested at t, `last`: trained at the last step T and "
    "tested at t, `shuffled`: as `same` with the labels permuted among images; chance = 1 / number of classes",
    _ESTIMATOR,
    _BIAS,
    _SOURCE,
)
GENERALISATION = Meaning(
    "temporal generalisation of a linear readout",
    "P(readout trained at step_trained names the class from z at step_tested)",
    _ESTIMATOR,
    _BIAS,
    _SOURCE,
)
RUNNING_MEAN = Meaning(
    "running mean over the steps so far",
    "z̄_t = 1/(t+1) Σ_{s≤t} z_s",
    "cumulative sum over the steps handed in",
    "keeps the start for ever: select the steps from the one at which averaging begins",
    "derived",
)
SENSITIVITY = Meaning(
    "best linear discrimination of two Gaussian classes",
    "d'² = δᵀ (S_w + Σ_s)⁻¹ δ; accuracy Φ(d'/2) at equal priors",
    "closed form",
    "none for Gaussian classes with one covariance",
    "Green & Swets (1966); Averbeck & Lee (2006)",
)


def decodability(
    value: xr.DataArray,
    label: xr.DataArray,
    readout: Readout,
    dim: str = "step",
    at: Sequence[int] | None = None,
) -> xr.Dataset:
    """Accuracy of a linear readout of the class over `dim`, with chance and the label-shuffled control.

    `value` has `image`, `dim`, usually `chain`, and any unit dims (flattened); `label (image)`. For (a) the
    instantaneous state hand in the recorded values, for (b) `running_mean` of them, for (c) the encoder's mean
    (without `dim`: one number each). Variables over `dim`: `same`, `last`, `shuffled`, each with `_se`; `chance`,
    `chance_se`: the s.e. of a readout that knows nothing, at most (all chains of an image taken as one draw).

    At T = 1 the accuracy from one sample may *fall* from the sweep to the posterior although inference improves:
    read it beside that of the running mean. `at` names the steps to read (default: all), each of which costs two
    fits per fold; the cautions still see every step. `last` stands for the posterior's code only where the late chains
    have converged. Raises `StudyError` where a class has fewer images than there are folds.
    """
    other = label.copy(data=np.random.default_rng([readout.seed, 1]).permutation(label.to_numpy()))
    chosen = _chosen(value, dim, at)
    parts: dict[str, xr.DataArray] = {}
    ways: tuple[tuple[str, xr.DataArray, Train], ...] = (
        ("same", label, "same"), ("last", label, "last"), ("shuffled", other, "same"),
    )  # fmt: skip
    for name, named, train in ways:
        predicted = _predicted(chosen, named, readout, train, dim)
        parts[name], parts[f"{name}_se"], _ = balanced_accuracy(predicted, named)
    chance, chance_se = _chance(label)
    result = xr.Dataset({**parts, "chance": chance, "chance_se": chance_se})
    cautions = _cautions(value, dim)
    if float(abs(parts["shuffled"] - chance).max()) > 5 * chance_se:
        cautions.append(
            "must not be read: the label-shuffled control is further than 5 s.e. from chance, so rows leak "
            "from training to test"
        )
    return described(result, DECODABILITY, cautions)


def temporal_generalisation(
    value: xr.DataArray,
    label: xr.DataArray,
    readout: Readout,
    dim: str = "step",
    at: Sequence[int] | None = None,
) -> xr.Dataset:
    """Accuracy `(<dim>_trained, <dim>_tested)` of readouts trained at each step and tested at every step.

    A square block says that one code holds, a bare diagonal that the code moves on. Its diagonal is `same` of
    `decodability`, its last row `last`. The cost is steps² tests: name a few with `at`. Variables: `accuracy`,
    `accuracy_se`, `chance`, `chance_se`.
    """
    whole, codes, fold = prepared(_chosen(value, dim, at), label, readout, dim)
    fitted = [
        fit_folds(one, codes, fold, readout.penalty) for _, block in blocks(whole, dim) for one in block
    ]
    shape = len(fitted), whole.sizes[dim]
    correct = np.empty((*shape, whole.sizes["image"]))
    for place, block in blocks(whole, dim):
        for row, models in enumerate(fitted):
            correct[row, place] = (predict(block, models, fold) == codes[:, None]).mean(axis=-1)
    steps = whole[dim].to_numpy()
    trained, tested = f"{dim}_trained", f"{dim}_tested"
    held = xr.DataArray(
        correct,
        dims=(trained, tested, "image"),
        coords={trained: steps, tested: steps, "image": whole["image"]},
    )
    accuracy, error = _over_images(held, label.to_numpy())
    chance, chance_se = _chance(label)
    result = xr.Dataset(
        {"accuracy": accuracy, "accuracy_se": error, "chance": chance, "chance_se": chance_se}
    )
    return described(result, GENERALISATION, _cautions(value, dim))


def predicted_classes(
    value: xr.DataArray,
    label: xr.DataArray,
    readout: Readout,
    train: Train = "same",
    dim: str = "step",
    at: Sequence[int] | None = None,
) -> xr.DataArray:
    """The class that a readout names for each held-out `(image, chain, dim)`; `dim` and `chain` where they were.

    `train`: `same`, one readout per step; `last`, the readout of the last step for all steps. Steps are read in
    blocks, so that a lazy array never lies in memory as a whole. Raises `StudyError` where a class has fewer
    images than there are folds, or a value is not finite.
    """
    found = _predicted(_chosen(value, dim, at), label, readout, train, dim)
    return described(found, PREDICTED, _cautions(value, dim))


def balanced_accuracy(
    predicted: xr.DataArray, label: xr.DataArray
) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """(accuracy, its s.e. over images, accuracy per image) of predicted classes; each class counts the same.

    The s.e. is √(Σ_k s_k²/n_k)/K with s_k² the variance over the n_k images of class k: chains of an image are
    not independent readings of the class.
    """
    right = (
        predicted == label.to_numpy().reshape([-1 if d == "image" else 1 for d in predicted.dims])
    ).astype(np.float64)
    per_image = right.mean("chain") if "chain" in right.dims else right
    return (*_over_images(per_image, label.to_numpy()), per_image)


def running_mean(value: xr.DataArray, dim: str = "step") -> xr.DataArray:
    """z̄_t, the mean over the steps up to and with t, of the steps handed in; lazy where `value` is."""
    count = xr.DataArray(np.arange(1.0, value.sizes[dim] + 1), dims=dim)
    mean = (value.astype(np.float64).cumsum(dim, skipna=False) / count).transpose(*value.dims)
    return described(mean.assign_coords(value.coords), RUNNING_MEAN, _cautions(value, dim))


def linear_sensitivity(difference: xr.DataArray, within: xr.DataArray, sampling: xr.DataArray) -> xr.Dataset:
    """d' and the accuracy Φ(d'/2) of the best linear readout of two Gaussian classes.

    `difference (unit)`: δ between the class means; `within (unit, unit_2)`: S_w, covariance of the images' own
    means in a class; `sampling (..., unit, unit_2)`: Σ_s, what the chain adds: Λ⁻¹ for one sample of a converged
    chain, Λ⁻¹ τ_int/n for the mean of n ≫ τ_int steps, 0 at T = 0.
    """
    from scipy.special import ndtr

    total = (within + sampling).transpose(..., "unit", "unit_2")
    delta = np.broadcast_to(difference.to_numpy(), total.shape[:-1])
    solved = np.linalg.solve(total.to_numpy(), delta[..., None])[..., 0]
    kept = {name: array for name, array in total.coords.items() if not {"unit", "unit_2"} & set(array.dims)}
    d_prime = xr.DataArray(np.sqrt((delta * solved).sum(axis=-1)), dims=total.dims[:-2], coords=kept)
    accuracy = d_prime.copy(data=ndtr(d_prime.to_numpy() / 2))
    return described(xr.Dataset({"d_prime": d_prime, "accuracy": accuracy}), SENSITIVITY)


def _predicted(
    value: xr.DataArray, label: xr.DataArray, readout: Readout, train: Train, dim: str
) -> xr.DataArray:
    whole, codes, fold = prepared(value, label, readout, dim)
    last = None
    if train == "last":
        late = one_block(whole.isel({dim: slice(-1, None)}), dim)[0]
        last = fit_folds(late, codes, fold, readout.penalty)
    found = np.empty((whole.sizes[dim], whole.sizes["image"], whole.sizes["chain"]), np.intp)
    for place, block in blocks(whole, dim):
        for step, one in zip(range(place.start, place.stop), block, strict=True):
            models = last or fit_folds(one, codes, fold, readout.penalty)
            found[step] = predict(one[None], models, fold)[0]
    names = np.unique(label.to_numpy())
    coords = {name: whole[name] for name in ("image", "chain", dim) if name in whole.coords}
    predicted = xr.DataArray(names[found], dims=(dim, "image", "chain"), coords=coords)
    missing = [name for name in ("chain", dim) if name not in value.dims]
    return predicted.squeeze(missing, drop=True).transpose("image", ...)


def _chosen(value: xr.DataArray, dim: str, at: Sequence[int] | None) -> xr.DataArray:
    """The values at those steps; raises `StudyError` where one was not recorded."""
    if at is None:
        return value
    if missing := sorted(set(at) - set(value[dim].to_numpy().tolist())):
        raise StudyError(
            f"at: {dim} {missing} not recorded; there are {value[dim].values[0]} to {value[dim].values[-1]}"
        )
    return value.sel({dim: list(at)})


def _over_images(per_image: xr.DataArray, label: NDArray[np.generic]) -> tuple[xr.DataArray, xr.DataArray]:
    """Mean over classes of the mean over images, and its standard error."""
    groups = [per_image.isel(image=np.flatnonzero(label == name)) for name in np.unique(label)]
    mean = sum(group.mean("image") for group in groups) / len(groups)
    square = sum(group.var("image", ddof=1) / group.sizes["image"] for group in groups) / len(groups) ** 2
    assert isinstance(mean, xr.DataArray)
    return mean, square**0.5


def _chance(label: xr.DataArray) -> tuple[float, float]:
    counts = np.unique(label.to_numpy(), return_counts=True)[1]
    chance = 1 / len(counts)
    return chance, float(np.sqrt((chance * (1 - chance) / counts).sum())) / len(counts)


def _cautions(value: xr.DataArray, dim: str) -> list[str]:
    """Those of a result, such as a running mean; for recorded values, those of the later half of the chains."""
    if "cautions" in value.attrs:
        return cautions_of(value)
    if dim not in value.dims or "chain" not in value.dims:
        return []
    return unconverged(value.isel({dim: slice(value.sizes[dim] // 2, None)}), dim)
