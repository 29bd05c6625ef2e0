"""Object solution times: when the readout of one image becomes, and stays, as good as it will get."""

from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pcsim.analysis.result import Meaning, described
from pcsim.errors import StudyError

Array = NDArray[np.float64]
FEWEST_PAIRS = 10
MOST_UNSOLVED = 0.2

ACCURACY = Meaning(
    "image-level accuracy",
    "a_i(t) = P(readout names the class of image i at step t) over chains",
    "share of chains that are right",
    "none; s.e. √(a(1−a)/chains)",
    "Kar et al. (2019)",
)
IMAGE_SENSITIVITY = Meaning(
    "image-level d'",
    "d'_i(t) = Φ⁻¹(hit rate of image i) − Φ⁻¹(rate at which images of other classes are given i's class)",
    "rates with half a count added (Hautus 1995), so that 0 and 1 stay finite",
    "pulled towards 0, the more the fewer the chains",
    "Kar et al. (2019); Hautus (1995)",
)
REFERENCE = Meaning(
    "late accuracy of each image",
    "a_i(T): mean accuracy over the last steps, with the percentile bootstrap interval over chains",
    "resampled chains",
    "the interval is too narrow with few chains (at 8 it holds about 90 % instead of 95 %)",
    "Kar et al. (2019) use the primate's accuracy as reference; Efron (1979)",
)
SOLUTION_TIME = Meaning(
    "object solution time",
    "first t with a_i(s) ≥ reference_i for m recorded steps from t on, interpolated linearly from the step before",
    "first crossing of the image's own curve; NaN where it never holds for m steps",
    "too early where chains are few, for noise crosses early; unsolved images are censored, not late",
    "Kar et al. (2019)",
    units="steps",
)
DIFFERENCE = Meaning(
    "solution time of challenge minus control images",
    "ΔOST = mean over matched pairs of t_challenge − t_control; challenge: gap ≥ cut, control: no gap and the same "
    "reference, gap = reference − accuracy at the first step",
    "challenge and control chosen with one half of the chains, timed with the other; pairs matched on the reference",
    "none from the selection when the halves share no chain; positive without any effect when they do",
    "Kar et al. (2019); Kriegeskorte et al. (2009)",
    units="steps",
)


class Criteria(NamedTuple):
    """What counts as challenge, as control and as solved."""

    late: int
    """The reference is the mean accuracy over so many last recorded steps."""
    gap: float = 0.3
    """Challenge images start at least so far below their reference."""
    flat: float = 0.1
    """Control images start at most so far below (or above) it."""
    match: float = 0.1
    """Images of a pair differ in reference by at most this."""
    persist: int = 3
    """m: recorded steps for which the accuracy must stay."""
    level: float = 0.95
    """Solved: the accuracy reaches the lower end of this interval of the reference."""


def image_accuracy(predicted: xr.DataArray, label: xr.DataArray) -> xr.DataArray:
    """Share of chains whose predicted class is right, over `image` and the time dim."""
    right: xr.DataArray = predicted == xr.DataArray(label.to_numpy(), dims="image")
    accuracy: xr.DataArray = right.astype(np.float64).mean("chain").transpose("image", ...)
    return described(accuracy, ACCURACY)


def image_sensitivity(predicted: xr.DataArray, label: xr.DataArray) -> xr.DataArray:
    """d' of each image over the time dim, from predicted classes `(image, chain, step)`.

    Unlike the accuracy it does not reward a readout that names one class always.
    """
    from scipy.special import ndtri

    names = label.to_numpy()
    chains = predicted.sizes["chain"]
    parts = []
    for name in np.unique(names):
        given = (predicted == name).astype(np.float64).sum("chain")
        others = given.isel(image=np.flatnonzero(names != name))
        alarm = (others.sum("image") + 0.5) / (others.sizes["image"] * chains + 1)
        hit = (given.isel(image=np.flatnonzero(names == name)) + 0.5) / (chains + 1)
        parts.append(hit.copy(data=ndtri(hit)) - alarm.copy(data=ndtri(alarm)))
    order = np.argsort(np.concatenate([np.flatnonzero(names == name) for name in np.unique(names)]))
    found: xr.DataArray = xr.concat(parts, "image").isel(image=order).transpose("image", ...)
    return described(found, IMAGE_SENSITIVITY)


def split_chains(correct: xr.DataArray, seed: int) -> tuple[xr.DataArray, xr.DataArray]:
    """Two halves of the chains, at random: one to choose images with, one to test on."""
    if correct.sizes["chain"] < 2:
        raise StudyError("selection and test need chains of their own: record at least 2, better 16")
    if "chain" not in correct.coords:
        correct = correct.assign_coords(chain=np.arange(correct.sizes["chain"]))
    order = np.random.default_rng(seed).permutation(correct.sizes["chain"])
    half = len(order) // 2
    return correct.isel(chain=np.sort(order[:half])), correct.isel(chain=np.sort(order[half:]))


def reference_accuracy(
    correct: xr.DataArray, criteria: Criteria, seed: int, resamples: int = 1000, dim: str = "step"
) -> xr.Dataset:
    """Late accuracy of each image, `accuracy`, with the bootstrap interval over chains, `low` and `high`."""
    late = correct.isel({dim: slice(-criteria.late, None)}).astype(np.float64).mean(dim)
    chains = late.sizes["chain"]
    drawn = np.random.default_rng(seed).multinomial(chains, np.full(chains, 1 / chains), size=resamples)
    means = late.transpose("image", "chain").to_numpy() @ drawn.T / chains
    tail = (1 - criteria.level) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=1)
    accuracy = late.mean("chain")
    result = xr.Dataset({"accuracy": accuracy, "low": ("image", low), "high": ("image", high)})
    return described(result, REFERENCE)


def solution_time(
    accuracy: xr.DataArray, reference: xr.DataArray | float, persist: int, dim: str = "step"
) -> xr.DataArray:
    """First time from which `accuracy` stays at the reference or above for `persist` recorded steps.

    Linear interpolation between the last step below and the first at the reference; the first step's own time
    where the curve starts there; NaN where it never stays. In the units of the coordinate of `dim`.
    """
    if not 1 <= persist <= accuracy.sizes[dim]:
        raise StudyError(f"persist: {persist} steps of {accuracy.sizes[dim]}; expected 1 up to all of them")
    wanted = reference if isinstance(reference, xr.DataArray) else xr.DataArray(float(reference))
    times = accuracy[dim].to_numpy().astype(np.float64)
    found: xr.DataArray = xr.apply_ufunc(
        _crossing, accuracy, wanted, times, persist, input_core_dims=[[dim], [], ["time_"], []],
        vectorize=True, dask="parallelized", output_dtypes=[np.float64],
    )  # fmt: skip
    unsolved = float(found.isnull().mean())
    cautions = []
    if unsolved > MOST_UNSOLVED:
        cautions.append(
            f"must not be averaged: {unsolved:.0%} of the images are never solved, and the rest are the easy ones"
        )
    return described(found, SOLUTION_TIME, cautions)


def solution_time_difference(
    selection: xr.DataArray,
    test: xr.DataArray,
    criteria: Criteria,
    seed: int,
    integrated_time: float | None = None,
    dim: str = "step",
) -> xr.Dataset:
    """ΔOST of challenge against control images, chosen with `selection` and timed with `test`.

    Both are `(image, chain, dim)`, 1 where the readout was right; `split_chains` makes them from one array.
    Variables: `difference` with `difference_se` over pairs, `ratio` to `integrated_time` (in steps: entries times
    their distance) where that is given, and per `pair`: `challenge`, `control` (place of the image), `challenge_time`,
    `control_time`. Pairs with an unsolved image are left out of the mean. Handing the same chains to both shows the
    trivial result: images chosen *for* a low first step are slow, with or without dynamics.
    """
    chosen = reference_accuracy(selection, criteria, seed, dim=dim)["accuracy"].to_numpy()
    first = selection.isel({dim: 0}).astype(np.float64).mean("chain").to_numpy()
    challenge, control = _pairs(chosen, chosen - first, criteria)
    own = reference_accuracy(test, criteria, seed + 1, dim=dim)
    accuracy = test.astype(np.float64).mean("chain").transpose("image", dim)
    times = solution_time(accuracy, own["low"], criteria.persist, dim).to_numpy()
    late, early = times[challenge], times[control]
    both = np.isfinite(late) & np.isfinite(early)
    paired = (late - early)[both]
    pairs = len(paired)
    spread = paired.std(ddof=1) / np.sqrt(pairs) if pairs > 1 else np.nan
    result = xr.Dataset(
        {
            "difference": paired.mean() if pairs else np.nan, "difference_se": spread,
            "challenge": ("pair", challenge), "control": ("pair", control),
            "challenge_time": ("pair", late), "control_time": ("pair", early),
        }
    )  # fmt: skip
    if integrated_time is not None:
        result = result.assign(ratio=result["difference"] / integrated_time)
    return described(result, DIFFERENCE, _difference_cautions(selection, test, pairs, len(both)))


def _difference_cautions(selection: xr.DataArray, test: xr.DataArray, solved: int, pairs: int) -> list[str]:
    cautions = []
    known = "chain" in selection.coords and "chain" in test.coords
    if not known or set(selection["chain"].to_numpy().tolist()) & set(test["chain"].to_numpy().tolist()):
        cautions.append(
            "must not be read: images were chosen and timed with the same chains (or chains without names), so "
            "challenge images are slow by choice"
        )
    if solved < FEWEST_PAIRS:
        cautions.append(f"must not be read: only {solved} pairs of images, fewer than {FEWEST_PAIRS}")
    if pairs and solved < (1 - MOST_UNSOLVED) * pairs:
        cautions.append(
            f"must not be read: in {pairs - solved} of {pairs} pairs an image is never solved; they are left out"
        )
    return cautions


def _pairs(reference: Array, gap: Array, criteria: Criteria) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Challenge and control images of like reference, each image once; the closest assignment overall."""
    from scipy.optimize import linear_sum_assignment

    challenge = np.flatnonzero(gap >= criteria.gap)
    control = np.flatnonzero(np.abs(gap) <= criteria.flat)
    apart = np.abs(reference[challenge][:, None] - reference[control][None, :])
    far = 1e3  # so that a close pair is never given up for two that are too far apart
    one, other = linear_sum_assignment(np.where(apart <= criteria.match, apart, far))
    close = apart[one, other] <= criteria.match
    return challenge[one[close]], control[other[close]]


def _crossing(curve: Array, reference: float, times: Array, persist: int) -> float:
    above = curve >= reference
    stays = np.lib.stride_tricks.sliding_window_view(above, persist).all(axis=-1)
    if not stays.any():
        return np.nan
    first = int(stays.argmax())
    if first == 0:
        return float(times[0])
    low, high = curve[first - 1], curve[first]
    if low >= reference:  # the step before is above, but did not stay
        return float(times[first])
    return float(times[first - 1] + (reference - low) / (high - low) * (times[first] - times[first - 1]))
