"""What is lost between log p(x) and the encoder's bound: to the family, to amortisation, and what the chain leaves."""

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pcsim.analysis.divergence import divergence, factorised_law
from pcsim.analysis.result import Meaning, cautions_of, described
from pcsim.analysis.slabs import require

Array = NDArray[np.float64]
GAPS = Meaning(
    "inference gaps",
    "total = log p(x) − L[q_φ] = KL(q_φ‖p); approximation = log p(x) − L[q*]; amortisation = L[q*] − L[q_φ]; "
    "chain = KL(q_T‖p), with q* the best member of the encoder's family for that image",
    "differences of the given estimates per image; means and standard errors over images",
    "an importance-weighted or annealed estimate of log p(x) is low on average, which makes the approximation gap too "
    "small; an optimiser that stops early makes L[q*] low, which moves amortisation gap to approximation gap",
    "Cremer, Li & Duvenaud (2018)",
    "nat",
)
OPTIMUM = Meaning(
    "best factorised Gaussian for a Gaussian posterior",
    "argmin over mean and diagonal variance v of KL(q‖p): v = 1/Λ_ii; of KL(p‖q): v = Σ_ii; of their sum: √(Σ_ii/Λ_ii)",
    "closed form; the mean is the posterior's in all three",
    "none for a Gaussian posterior; a posterior of another shape needs each image's bound maximised",
    "derived; Cremer, Li & Duvenaud (2018) for the gap",
)
OBJECTIVES = ("reverse", "forward", "jeffreys")


def inference_gaps(
    log_evidence: xr.DataArray, elbo: xr.DataArray, best_elbo: xr.DataArray,
    chain_divergence: xr.DataArray | None = None, evidence_error: xr.DataArray | None = None,
) -> xr.Dataset:  # fmt: skip
    """`total`, `approximation`, `amortisation` (and `chain`) gap per image and their means over images, in nats.

    All inputs have dim image: log p(x) (annealed or importance-weighted, `evidence_error` its standard error), the
    bound at the encoder's q_φ, the bound at the per-image optimum q*, and KL(q_T‖p) of the chains' end. For a deep
    decoder q* comes from maximising each image's bound, which the evaluation does; for a Gaussian posterior
    `gaussian_gaps` has all in closed form. The cautions count the gaps that are negative beyond noise: impossible, so
    there an input is wrong. `…_mean` and `…_error` are over images.
    """
    require(log_evidence, "image")
    gaps = xr.Dataset(
        {
            "total": log_evidence - elbo,
            "approximation": log_evidence - best_elbo,
            "amortisation": best_elbo - elbo,
        }
    )
    if chain_divergence is not None:
        gaps["chain"] = chain_divergence
    noise = 0.0 if evidence_error is None else evidence_error
    lost = int(gaps["total"].isnull().sum())
    missing = (
        [f"{lost} of {gaps['total'].size} images have no estimate and are left out of the means"]
        if lost
        else []
    )
    wrong = _negative(gaps, {"total": noise, "approximation": noise, "amortisation": 0.0})
    return described(_averaged(gaps), GAPS, [*missing, *wrong, *cautions_of(log_evidence, elbo, best_elbo)])


def factorised_optimum(posterior: xr.Dataset) -> xr.Dataset:
    """`mean` and `scale (objective, …, unit)` of the best factorised Gaussian under each of three objectives.

    posterior: `mean`, `covariance` (`pcsim.analysis.divergence`). objective: `reverse` KL(q‖p) (the bound's own),
    `forward` KL(p‖q), `jeffreys` (their sum), with scale² = 1/Λ_ii, Σ_ii, √(Σ_ii/Λ_ii). Where units are correlated,
    these differ: the forward optimum starts chains outside the typical set, the reverse one inside it.
    """

    def scales(covariance: Array) -> Array:
        precision = np.diagonal(np.linalg.inv(covariance), axis1=-2, axis2=-1)
        variance = np.diagonal(covariance, axis1=-2, axis2=-1)
        return np.stack([1 / np.sqrt(precision), np.sqrt(variance), (variance / precision) ** 0.25], axis=-2)

    scale: xr.DataArray = xr.apply_ufunc(
        scales, posterior["covariance"].astype(np.float64).compute(),
        input_core_dims=[["unit", "unit_2"]], output_core_dims=[["objective", "unit"]],
    )  # fmt: skip
    found = xr.Dataset({"mean": posterior["mean"], "scale": scale.transpose("objective", ...)})
    return described(found.assign_coords(objective=list(OBJECTIVES)), OPTIMUM, cautions_of(posterior))


def gaussian_gaps(mean: xr.DataArray, scale: xr.DataArray, posterior: xr.Dataset) -> xr.Dataset:
    """The gaps of a factorised encoder (mean, scale per image) for Gaussian posteriors, in closed form.

    approximation = ½(Σ ln Λ_ii − ln|Λ|), total = KL(q_φ‖p), amortisation their difference: zero where the encoder has
    the posterior's mean and scale² = 1/Λ_ii.
    """
    best = factorised_optimum(posterior).sel(objective="reverse", drop=True)
    total = divergence(factorised_law(mean, scale), posterior)["reverse"]
    approximation = divergence(factorised_law(best["mean"], best["scale"]), posterior)["reverse"]
    gaps = xr.Dataset({"total": total, "approximation": approximation, "amortisation": total - approximation})
    return described(_averaged(gaps), GAPS, cautions_of(posterior))


def excess_energy(scale: xr.DataArray, posterior: xr.Dataset) -> xr.DataArray:
    """E_q U − E_p U = ½ Σ (Λ_ii v_i − 1) for a Gaussian posterior and an encoder with its mean, variances v; in nats.

    Positive: chains start above the typical set and log p(x, z) rises on average; negative: it falls.
    """
    best = factorised_optimum(posterior)["scale"].sel(objective="reverse", drop=True)
    return (
        (0.5 * ((scale / best) ** 2 - 1).sum("unit", skipna=False))
        .rename("excess_energy")
        .assign_attrs(units="nat")
    )


def _averaged(gaps: xr.Dataset) -> xr.Dataset:
    found = gaps
    for name in list(gaps) if "image" in gaps.dims else []:
        known = gaps[name].count("image")
        error = gaps[name].std("image", ddof=1) / np.sqrt(known) if gaps.sizes["image"] > 1 else np.nan
        found = found.assign({f"{name}_mean": gaps[name].mean("image"), f"{name}_error": error})
    for name in found.data_vars:
        found[name].attrs["units"] = "nat"
    return found


def _negative(gaps: xr.Dataset, noise: dict[str, xr.DataArray | float]) -> list[str]:
    found = []
    for name, error in noise.items():
        below = int((gaps[name] < -4 * error - 1e-6).sum())
        if below:
            found.append(
                f"the {name} gap must not be read: negative beyond noise in {below} of {gaps[name].size} images, "
                "so one of its estimates is wrong"
            )
    return found
