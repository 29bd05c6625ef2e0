"""When each image's chains reach equilibrium, and whether difficult images take longer."""

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pcsim.analysis.convergence import diagnostics
from pcsim.analysis.flat import steps_from
from pcsim.analysis.result import Meaning, cautions_of, described
from pcsim.analysis.slabs import require
from pcsim.errors import AnalysisError

Array = NDArray[np.float64]
TIME = Meaning(
    "time to equilibrium",
    "first t from which the running mean of log p(x, z) stays within ±2 √(sd²/R + e²) of its stationary mean, "
    "R chains, e the error of that mean",
    "mean over chains, then over a window centred on t; the step after the last one outside the band",
    "resolved to half a window either way; a window below about four integrated times leaves the band by chance, "
    "which makes times too long; log p(x, z) can settle before slow directions that weigh little in it",
    "derived",
    "step",
)
DIFFICULTY = Meaning(
    "rank correlation of the time to equilibrium with difficulty",
    "Spearman's ρ over images; partial: of the ranks' residuals after regression on the control's ranks",
    "images that never arrive share the highest rank; t test with n − 2 (partial: n − 3) degrees of freedom",
    "towards zero by ties and by the window's resolution; p values are per measure, not corrected for several",
    "Spearman (1904); Fieller, Hartley & Pearson (1957) for the interval",
)


def equilibrium_time(
    energy: xr.DataArray, stationary: xr.Dataset, window: int, start: float = 0, dim: str = "step"
) -> xr.DataArray:
    """First step per image from which the running mean of log p(x, z) stays in its stationary band; NaN: never.

    energy: dims chain and `dim`. stationary: `quadratic_line`, or `long_run_line` of other chains. window: recorded
    entries of the running mean, at least four integrated times of the energy. Steps before `start` are left out. A
    start within the band gives `start`. Not to be read as the mixing time of every direction.
    """
    require(energy, "chain", dim)
    part = steps_from(energy, start, dim, "equilibrium_time")
    if not 1 <= window <= part.sizes[dim]:
        raise AnalysisError(f"equilibrium_time: window of {window} entries, but {part.sizes[dim]} are there")
    log_joint = -part.astype(np.float64).mean("chain", skipna=False).compute()
    band = 2 * np.sqrt(stationary["sd"] ** 2 / energy.sizes["chain"] + stationary["mean_error"] ** 2)
    steps = part[dim].to_numpy().astype(np.float64)

    def first(series: Array, mean: Array, width: Array) -> Array:
        padded = np.concatenate([np.zeros((*series.shape[:-1], 1)), series.cumsum(-1)], axis=-1)
        smooth = (padded[..., window:] - padded[..., :-window]) / window
        outside = ~(np.abs(smooth - np.asarray(mean)[..., None]) <= np.asarray(width)[..., None])
        last = np.where(outside.any(-1), outside.shape[-1] - outside[..., ::-1].argmax(-1), 0)
        # one past the end stands for never; a window is dated by its centre, the first one by the start
        dates = np.append(steps[window // 2 : window // 2 + outside.shape[-1]], np.nan)
        dates[0] = steps[0]
        return np.asarray(dates[last], np.float64)

    time: xr.DataArray = xr.apply_ufunc(
        first, log_joint, stationary["mean"], band, input_core_dims=[[dim], [], []]
    )
    never = int(time.isnull().sum())
    cautions = (
        [f"{never} of {time.size} images never reach equilibrium; their time is not known"] if never else []
    )
    cautions += _short_window(part, window, dim)
    return described(time.rename("equilibrium_time"), TIME, [*cautions, *cautions_of(stationary)])


def _short_window(energy: xr.DataArray, window: int, dim: str) -> list[str]:
    late = energy.isel({dim: slice(energy.sizes[dim] // 2, None)})
    if late.sizes[dim] < 8:
        return [f"must not be read: {energy.sizes[dim]} entries do not tell how long the energy's memory is"]
    times = diagnostics(late, dim)["integrated_time"].to_numpy()
    longest = float(np.max(times, where=np.isfinite(times), initial=0.0))
    if 4 * longest <= window:
        return []
    return [
        f"times may be too long: the window of {window} entries is shorter than four integrated times of the energy "
        f"({longest:.3g} entries)"
    ]


def difficulty_correlation(
    time: xr.DataArray, difficulty: xr.Dataset, control: xr.DataArray | None = None
) -> xr.Dataset:
    """Spearman's ρ of times with each measure of difficulty over images, with its 95 % interval and p value.

    time: dim image; NaN (never) takes the highest rank. difficulty: one variable per measure, dim image. control: what
    to partial out (the norm of x): `partial` and its p value. Result on a dim `measure`. Fewer than 10 images, or times
    that are all one, must not be read and are named.
    """
    import scipy.stats

    require(time, "image")
    late = np.where(time.isnull(), np.inf, time)
    n = late.size
    if n < 5:
        raise AnalysisError(f"difficulty_correlation: {n} images; a rank correlation needs at least 5")
    ranks = {
        str(name): scipy.stats.rankdata(difficulty[name].sel(image=time["image"])) for name in difficulty
    }
    own = scipy.stats.rankdata(late)
    other = None if control is None else scipy.stats.rankdata(control.sel(image=time["image"]))
    rows = []
    for rank in ranks.values():
        rho = _pearson(own, rank)
        half = 1.96 * np.sqrt(
            1.06 / (n - 3)
        )  # Fieller et al.: the variance of Fisher's z of a rank correlation
        low, high = np.tanh(np.arctanh(np.clip(rho, -1 + 1e-12, 1 - 1e-12)) + np.array([-half, half]))
        partial = np.nan if other is None else _partial(rho, _pearson(own, other), _pearson(rank, other))
        rows.append([rho, low, high, _p_value(rho, n - 2), partial, _p_value(partial, n - 3)])
    names = ("spearman", "low", "high", "p_value", "partial", "partial_p_value")
    found = xr.Dataset(
        {name: ("measure", column) for name, column in zip(names, np.array(rows).T, strict=True)},
        coords={"measure": list(ranks)}, attrs={"images": n},
    )  # fmt: skip
    return described(found, DIFFICULTY, [*_doubts(late), *cautions_of(time)])


def _pearson(first: Array, second: Array) -> float:
    a, b = first - first.mean(), second - second.mean()
    size = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / size) if size > 0 else np.nan


def _partial(own: float, first: float, second: float) -> float:
    rest = (1 - first**2) * (1 - second**2)
    return float((own - first * second) / np.sqrt(rest)) if rest > 1e-12 else np.nan


def _p_value(rho: float, freedom: int) -> float:
    import scipy.stats

    if abs(rho) >= 1:
        return 0.0
    return float(2 * scipy.stats.t.sf(abs(rho) * np.sqrt(freedom / (1 - rho**2)), freedom))


def _doubts(times: Array) -> list[str]:
    found = []
    if times.size < 10:
        found.append(f"must not be read: {times.size} images are too few for a rank correlation")
    if len(np.unique(times)) < max(3, times.size // 10):
        found.append("must not be read: nearly all images have the same time to equilibrium")
    return found
