"""The Fast-Slow Index: how much of what inference gains the sweep has already brought."""

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pcsim.analysis.flat import at, steps_from
from pcsim.analysis.result import Meaning, described
from pcsim.analysis.slabs import require
from pcsim.errors import AnalysisError

Array = NDArray[np.float64]
NOISE = 4.0
"""Standard errors that the whole gain must exceed for a quotient by it to be one."""
INDEX = Meaning(
    "Fast-Slow Index",
    "FSI = (M_sweep − M_prior)/(M_end − M_prior): 1, the sweep does it all; 0, the chain does; above 1, the chain "
    "loses what the sweep had; below 0, the sweep is worse than the prior",
    "quotient of means over chains; standard error and 95 % interval by resampling chains (all three stages of a chain "
    "together); over images: quotient of the summed gains, images and chains resampled",
    "a quotient of means errs by about the squared relative error of its denominator; percentile intervals are short "
    "for few chains (n = 24: 93 %); left out where the whole gain is within 4 standard errors of zero",
    "derived; bootstrap: Efron & Tibshirani (1993)",
)


def stages(
    measure: xr.DataArray, prior: slice, end: float, dim: str = "step", sweep: float = 0
) -> xr.Dataset:
    """`prior`, `sweep` and `end` of a measure over steps, averaged over the steps `prior` and those from `end` on.

    measure: log p(x, z), an accuracy, minus a divergence or an error; `dim` has its step numbers (the sweep is 0).
    """
    require(measure, dim)
    before = measure.sel({dim: prior}).astype(np.float64)
    if not before.sizes[dim]:
        raise AnalysisError(f"stages: no step in {prior}; the first is {measure[dim].to_numpy()[0]}")
    late = steps_from(measure, end, dim, "stages").astype(np.float64)
    return xr.Dataset(
        {
            "prior": before.mean(dim, skipna=False),
            "sweep": at(measure, sweep, dim, "stages"),
            "end": late.mean(dim, skipna=False),
        }
    )


def fast_slow_index(levels: xr.Dataset, resamples: int, seed: int) -> xr.Dataset:
    """`index`, `standard_error`, `low`, `high` per image (and level), and `overall…` over images where there are some.

    levels: `prior`, `sweep`, `end` with dim chain (a stage without it is the same for all chains); other dims are kept.
    Larger must be better. NaN where M_end − M_prior is within 4 standard errors of zero: there inference gains nothing
    that could be shared out, and the caution counts it. Not to be read as a speed: it says nothing about how long the
    chain takes. At T = 1, log p(x, z) of a sweep that starts at the mode gives an index above 1.
    """
    three = xr.broadcast(*(levels[name].astype(np.float64) for name in ("prior", "sweep", "end")))
    require(three[0], "chain")
    chains = three[0].sizes["chain"]
    if chains < 2:
        raise AnalysisError("fast_slow_index: one chain; a standard error needs at least two")
    gained, whole = (part - three[0] for part in three[1:])
    rng = np.random.default_rng(seed)
    picks = xr.DataArray(
        rng.multinomial(chains, np.full(chains, 1 / chains), size=resamples) / chains, dims=("resample", "chain")
    )  # fmt: skip
    means = [part.mean("chain", skipna=False) for part in (gained, whole)]
    again = [xr.dot(picks, part, dim="chain") for part in (gained, whole)]
    noise = NOISE * again[1].std("resample")
    found, cautions = _quotient(means, again, noise, "images or levels")
    if "image" in gained.dims:
        images = gained.sizes["image"]
        taken = xr.DataArray(
            rng.multinomial(images, np.full(images, 1 / images), size=resamples), dims=("resample", "image")
        )
        sums = [part.sum("image", skipna=False) for part in means]
        drawn = [xr.dot(taken, part, dim="image") for part in again]
        total, doubts = _quotient(sums, drawn, np.sqrt((noise**2).sum("image")), "levels, all images")
        found = found.merge(total.rename({name: f"overall_{name}" for name in total}))
        cautions += doubts
    if chains < 8:
        cautions.append(f"its errors must not be read closely: {chains} chains were resampled")
    return described(found, INDEX, cautions)


def _quotient(
    means: list[xr.DataArray], again: list[xr.DataArray], noise: xr.DataArray, where: str
) -> tuple[xr.Dataset, list[str]]:
    # a denominator that changes its sign among the resamples has no interval
    clear = (abs(means[1]) > noise) & (again[1] * means[1] > 0).all("resample")
    ratio = again[0] / again[1].where(clear, 1.0)  # what is left out must not divide by zero on the way
    bounds = ratio.quantile([0.025, 0.975], dim="resample")
    found = xr.Dataset(
        {
            "index": means[0] / means[1].where(clear),
            "standard_error": ratio.std("resample").where(clear),
            "low": bounds.isel(quantile=0, drop=True).where(clear),
            "high": bounds.isel(quantile=1, drop=True).where(clear),
        }
    )
    unclear = int((~clear).sum())
    lost = f"undefined in {unclear} of {clear.size} ({where}): end and prior differ by less than 4 standard errors"
    return found, [lost] if unclear else []
