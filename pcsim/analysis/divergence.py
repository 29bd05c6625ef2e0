"""How far the encoder's guess and the chains are from the posterior: KL divergences over the steps."""

from collections.abc import Callable

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from pcsim.analysis.convergence import unconverged
from pcsim.analysis.flat import flat_units, steps_from, whole
from pcsim.analysis.gaussian import Law, kl, kl_from, kl_to, singular
from pcsim.analysis.result import Meaning, cautions_of, described
from pcsim.analysis.slabs import require
from pcsim.errors import AnalysisError

Array = NDArray[np.float64]
BLOCK = 2**22
"""Numbers of covariance matrices in memory at once (32 MB in float64)."""
FIT = "a Gaussian with the sample mean and covariance over chains, then the closed form"
BIAS = (
    "plain: upwards by about d(d + 3)/(4n) nats for n chains and d units; corrected: unbiased for independent "
    "Gaussian chains and a known reference, so it may be negative; a reference from N independent draws adds "
    "about d(d + 3)/(4N); blind to anything but mean and covariance"
)
OVER_STEPS = Meaning(
    "divergence of the chains' law from the posterior",
    "KL(q_t‖p) and KL(p‖q_t), q_t the law of z_t over the chains of one image",
    FIT,
    BIAS,
    "Kullback & Leibler (1951); Anderson (2003) for the moments of the fit",
    "nat",
)
OF_LAWS = Meaning(
    "divergence between two Gaussian laws",
    "KL(q‖p) and KL(p‖q)",
    "closed form at the given means and covariances",
    "none for Gaussian laws; otherwise blind to anything but mean and covariance",
    "Kullback & Leibler (1951)",
    "nat",
)
MOMENTS = Meaning(
    "mean and covariance of the stationary law",
    "μ = E z, Σ = E (z − μ)(z − μ)ᵀ over chains and late steps",
    "sample moments over chains and steps together, n in the denominator",
    "Σ is too small by the variance of the mean, Σ/ESS; a ULA chain's Σ also carries its step-size bias",
    "derived",
)


def factorised_law(mean: xr.DataArray, scale: xr.DataArray) -> xr.Dataset:
    """The Gaussian law N(mean, diag(scale²)) of an encoder, as `mean (…, unit)`, `covariance (…, unit, unit_2)`."""
    centre, spread = (flat_units(array).astype(np.float64) for array in (mean, scale))
    spread = spread.drop_vars("unit", errors="ignore")
    other = spread.rename(unit="unit_2")
    same = xr.DataArray(np.eye(spread.sizes["unit"]), dims=("unit", "unit_2"))
    return xr.Dataset(
        {"mean": centre.drop_vars("unit", errors="ignore"), "covariance": same * spread * other}
    )


def stationary_moments(value: xr.DataArray, after: float, dim: str = "step") -> xr.Dataset:
    """Mean `(…, unit)` and covariance `(…, unit, unit_2)` of the values at steps >= `after`, chains pooled.

    value: dims chain and `dim`, unit dims are flattened (d² numbers per image: select units of a large node). Lazy: two
    passes. The caution says when the chains have not converged: then it is not the posterior's law.
    """
    require(value, "chain", dim)
    late = flat_units(steps_from(value, after, dim, "stationary_moments")).astype(np.float64)
    late = late.drop_vars("unit", errors="ignore")
    mean = late.mean(("chain", dim), skipna=False)
    centred = late - mean
    covariance = xr.dot(centred, centred.rename(unit="unit_2"), dim=("chain", dim))
    draws = late.sizes["chain"] * late.sizes[dim]
    law = xr.Dataset({"mean": mean, "covariance": covariance / draws})
    return described(law, MOMENTS, unconverged(late, dim))


def divergence(first: xr.Dataset, second: xr.Dataset) -> xr.Dataset:
    """`forward` KL(second‖first) and `reverse` KL(first‖second) of two Gaussian laws, per image, in nats.

    With the encoder's law first and the posterior's second, `reverse` is KL(q‖p) and `forward` KL(p‖q). Because q is
    Gaussian, the latter is also the cross-entropy −E_p log q less the entropy of the Gaussian with p's moments.
    """

    def both(m: Array, s: Array, m2: Array, s2: Array) -> Array:
        return np.stack([kl(Law(m2, s2), Law(m, s)), kl(Law(m, s), Law(m2, s2))], axis=-1)

    pair = (first["mean"], first["covariance"], second["mean"], second["covariance"])
    out = _over_cores(both, *pair, size=2)
    parts = {name: out.isel(quantity=i) for i, name in enumerate(("forward", "reverse"))}
    return described(_in_nats(xr.Dataset(parts)), OF_LAWS, cautions_of(first, second))


def divergence_over_steps(value: xr.DataArray, reference: xr.Dataset, dim: str = "step") -> xr.Dataset:
    """KL(q_t‖p) (`reverse…`) and KL(p‖q_t) (`forward…`) at every step, per image, in nats.

    value: dims chain and `dim`; one law per step is fitted over the chains (unit dims flattened). reference: `mean`
    and `covariance`, known or of other chains (`stationary_moments`; the tested chains' own end would look too near).
    Each divergence as `…_plain` (the fit's closed form), the bias-corrected one and its `…_error`. The fit needs more
    than d + 2 chains; with fewer the result is NaN and says so (take single units: `marginal_divergence`). The floor of
    a ULA chain is its step-size bias, not zero. Infinite where the chains do not spread (T = 0). Not to be read as a
    distance of shapes beyond mean and covariance. Reads the array by chunks and computes.
    """
    require(value, "chain", dim)
    return _fitted(flat_units(value).drop_vars("unit", errors="ignore"), reference)


def marginal_divergence(value: xr.DataArray, reference: xr.Dataset, dim: str = "step") -> xr.Dataset:
    """The same for each unit alone, dims (…, `dim`, unit): defined from four chains on.

    Correlations between units are left out. Where p factorises, the units' KL(q_t‖p) add up to at most the joint's.
    """
    require(value, "chain", dim)
    each = {"unit": "single"}
    flat = flat_units(value).rename(each).expand_dims("unit", axis=-1)
    variance = xr.apply_ufunc(
        np.diagonal, reference["covariance"], kwargs={"axis1": -2, "axis2": -1},
        input_core_dims=[["unit", "unit_2"]], output_core_dims=[["single"]], dask="allowed",
    )  # fmt: skip
    mean = reference["mean"].drop_vars("unit", errors="ignore").rename(each).expand_dims("unit", axis=-1)
    law = xr.Dataset({"mean": mean, "covariance": variance.expand_dims(("unit", "unit_2"))})
    return _fitted(flat, law.assign_attrs(reference.attrs)).rename(single="unit").transpose(..., "unit")


def split_divergence(value: xr.DataArray, after: float, dim: str = "step") -> xr.Dataset:
    """The divergences over steps with the other half of the chains as reference, averaged over the two halves.

    The reference is the law of one half's steps from `after` on; the other half is tested, so no chain is compared
    with itself. Each test has half of the chains: the fit needs more than 2(d + 2) chains in all.
    """
    require(value, "chain", dim)
    if value.sizes["chain"] < 4:
        raise AnalysisError(f"split_divergence: {value.sizes['chain']} chains; two halves need at least 4")
    halves = value.isel(chain=slice(0, None, 2)), value.isel(chain=slice(1, None, 2))
    tests = [
        divergence_over_steps(tested, stationary_moments(other, after, dim), dim)
        for tested, other in (halves, halves[::-1])
    ]
    mean = (tests[0] + tests[1]) / 2
    for name in ("reverse_error", "forward_error"):
        # the halves share chains (each is once the reference), so their errors are not taken as independent
        mean[name] = (tests[0][name] + tests[1][name]) / 2
    return described(_in_nats(mean), OVER_STEPS, cautions_of(*tests))


def linear_divergence(
    start: Law, eigenvalues: ArrayLike, step_size: float, steps: ArrayLike, temperature: float = 1.0
) -> xr.Dataset:
    """Exact KL(q_t‖p), KL(p‖q_t) and E log p relative to its maximum for ULA on a Gaussian posterior.

    In the posterior's eigen-directions, a = 1 − γλ: m_t = a^t m_0, v_t = a^{2t}v_0 + (1 − a^{2t})·2T/(λ(2 − γλ)),
    m relative to the posterior's mean. start: mean and (diagonal) covariance there. Dims (step). Derived.
    """
    rates, t = np.asarray(eigenvalues, np.float64), np.asarray(steps)
    decay = (1 - step_size * rates) ** t[:, None]
    mean = decay * start.mean
    variance = decay**2 * np.diag(start.covariance)
    variance = variance + (1 - decay**2) * 2 * temperature / (rates * (2 - step_size * rates))
    ratio, distance = variance * rates, rates * mean**2
    with np.errstate(divide="ignore"):
        reverse = 0.5 * (ratio + distance - 1 - np.log(ratio)).sum(1)
        forward = 0.5 * ((1 + distance) / ratio - 1 + np.log(ratio)).sum(1)
    parts = {"reverse": reverse, "forward": forward, "log_joint": -0.5 * (ratio + distance).sum(1)}
    found = xr.Dataset({name: ("step", array) for name, array in parts.items()}, coords={"step": t})
    return described(_in_nats(found), OF_LAWS)


def _fitted(flat: xr.DataArray, reference: xr.Dataset) -> xr.Dataset:
    n, d = flat.sizes["chain"], flat.sizes["unit"]
    if reference["mean"].sizes["unit"] != d:
        raise AnalysisError(f"divergence: {d} units, but the reference has {reference['mean'].sizes['unit']}")
    if singular(np.asarray(reference["covariance"].transpose(..., "unit", "unit_2"), np.float64)).any():
        raise AnalysisError(
            "divergence: the reference's covariance is singular (chains at rest have no density)"
        )
    names = [f"{kind}{part}" for kind in ("reverse", "forward") for part in ("_plain", "", "_error")]
    out = _over_cores(_by_blocks, flat, reference["mean"], reference["covariance"], size=len(names)).compute()
    found = xr.Dataset({name: out.isel(quantity=i) for i, name in enumerate(names)})
    points = int(np.isinf(found["forward"]).sum())
    at_rest = [
        f"infinite in {points} of {found['forward'].size} places: the chains do not spread in all directions"
    ]
    doubts = [*_few(n, d), *(at_rest if points else []), *cautions_of(reference)]
    return described(_in_nats(found), OVER_STEPS, doubts)


def _over_cores(function: Callable[..., Array], *arrays: xr.DataArray, size: int) -> xr.DataArray:
    """`function` on the last dims chain, unit and unit_2 of the arrays, looped over the others, lazily."""
    cores = [[dim for dim in ("chain", "unit", "unit_2") if dim in array.dims] for array in arrays]
    out: xr.DataArray = xr.apply_ufunc(
        function, *(whole(array, *core) for array, core in zip(arrays, cores, strict=True)),
        input_core_dims=cores, output_core_dims=[["quantity"]], dask="parallelized",
        output_dtypes=[np.float64], dask_gufunc_kwargs={"output_sizes": {"quantity": size}},
    )  # fmt: skip
    return out


def _in_nats(found: xr.Dataset) -> xr.Dataset:
    for name in found.data_vars:
        found[name].attrs["units"] = "nat"
    return found


def _by_blocks(draws: Array, mean: Array, covariance: Array) -> Array:
    """Six numbers per law of draws `[…, chain, unit]`; the references, fewer, are looked up and not repeated."""
    lead = np.broadcast_shapes(draws.shape[:-2], mean.shape[:-1], covariance.shape[:-2])
    n, d = draws.shape[-2:]
    rows, means, covariances = draws.reshape(-1, n, d), mean.reshape(-1, d), covariance.reshape(-1, d, d)
    row, first, second = (
        np.broadcast_to(np.arange(np.prod(shape, dtype=int)).reshape(shape), lead).ravel()
        for shape in (draws.shape[:-2], mean.shape[:-1], covariance.shape[:-2])
    )
    found = np.full((row.size, 6), np.nan)
    size = max(BLOCK // (d * max(n, d)), 1)
    for start in range(0, row.size if n > d else 0, size):
        part = slice(start, start + size)
        taken = rows[row[part]].astype(np.float64)
        law = Law(means[first[part]], covariances[second[part]])
        found[part] = np.stack([*kl_to(taken, law), *kl_from(law, taken)], axis=-1)
    return found.reshape(*lead, 6)


def _few(n: int, d: int) -> list[str]:
    if n > 2 * (d + 2):
        return []
    if n <= d + 2:
        lacking = "KL(p‖q_t)" if n > d else "KL(q_t‖p) and KL(p‖q_t)"
        return [f"{lacking} must not be read: {n} chains do not determine a covariance of {d} units"]
    return [f"KL(p‖q_t) must not be read closely: with {n} chains for {d} units its error has heavy tails"]
