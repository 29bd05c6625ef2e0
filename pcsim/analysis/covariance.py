"""The covariance of chains, and how far it is from the posterior's."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pcsim.analysis.convergence import effective_sample_size, unconverged
from pcsim.analysis.result import Meaning, cautions_of, described
from pcsim.analysis.slabs import require_entries, step_blocks, with_chain
from pcsim.errors import AnalysisError

Array = NDArray[np.float64]
ENTRIES = 2**27
"""Of one covariance: 1 GiB."""
COVARIANCE = Meaning(
    "covariance over chains and steps",
    "C_ij = E (z_i - E z_i)(z_j - E z_j)",
    "sums over blocks of steps, about the mean over all chains and steps",
    "low by about C/ESS; chains that disagree raise it",
    "standard",
    "of the values, squared",
)
AGAINST = Meaning(
    "covariance against the posterior's",
    "relative_error = |C - S|_F / |S|_F; correlation_distance = 1 - tr(R_C R_S) / (|R_C|_F |R_S|_F); "
    "trace_ratio = tr(S^-1 C)/D; angle_k between the spans of the k leading eigenvectors",
    "C from chains, S the reference; sampling_error is what finitely many draws alone leave of relative_error",
    "relative_error is positive even for a perfect sampler: by sampling_error, and by a finite step's bias",
    "Herdin et al. (2005) IEEE VTC (correlation matrix distance); Bjorck & Golub (1973) (angles)",
)


def covariance(value: xr.DataArray, dim: str = "step") -> xr.DataArray:
    """Covariance (…, unit, unit_2) over chains and `dim`, read once in blocks of steps.

    Dims other than `image`, `chain` and `dim` are the units; several (feature maps) are stacked in their order.
    C = Σ (z−z̄)(z−z̄)ᵀ / n, low by C/ESS; rank at most the number of draws. Must not be read on chains that disagree.
    """
    require_entries(value, dim, 8)
    return described(_covariance(_units_last(value, dim), dim), COVARIANCE, unconverged(value, dim))


def covariance_against(
    value: xr.DataArray, reference: Array | xr.DataArray, dim: str = "step", components: int = 3
) -> xr.Dataset:
    """Distances of the chains' covariance from a reference, the posterior's: exact, or of a long adjusted chain.

    `relative_error` (Frobenius) beside `sampling_error`, what a perfect sampler of this ESS has on average:
    √((tr S)² + |S|²_F) / (√ESS |S|_F), ESS the median over units; `correlation_distance` (0 equal, 1 orthogonal);
    `angle` (radians, over `component`) between the subspaces of the leading eigenvectors; `trace_ratio` = tr(S⁻¹C)/D, 1
    for the posterior, T for a sampler at T. Langevin chains of step γ have T [Λ(I−γΛ/2)]⁻¹, not TΛ⁻¹.
    Angles must not be read where leading eigenvalues are equal. Herdin et al. (2005); Björck & Golub (1973).
    """
    require_entries(value, dim, 8)
    known = np.asarray(reference, dtype=np.float64)
    flat = _units_last(value, dim)
    if known.shape != (flat.sizes["unit"],) * 2:
        raise AnalysisError(f"covariance: reference of shape {known.shape} for {flat.sizes['unit']} units")
    if np.linalg.eigvalsh(known)[0] <= 0:
        raise AnalysisError("covariance: the reference is not positive definite")
    found = _covariance(flat, dim)
    effective = effective_sample_size(flat, dim)
    kept = min(components, len(known))
    names = ("relative_error", "correlation_distance", "trace_ratio")
    parts = xr.apply_ufunc(
        lambda c: _distances(c, known, kept), found, input_core_dims=[["unit", "unit_2"]],
        output_core_dims=[["distance"]], vectorize=True,
    )  # fmt: skip
    result = xr.Dataset({name: parts.isel(distance=i, drop=True) for i, name in enumerate(names)})
    angle = parts.isel(distance=slice(len(names), None)).rename(distance="component")
    result["angle"] = angle.assign_coords(component=np.arange(1, kept + 1)).assign_attrs(units="rad")
    size = float((known**2).sum())
    result["sampling_error"] = np.sqrt((np.trace(known) ** 2 + size) / size / effective.median("unit"))
    result["covariance"] = found.drop_attrs()
    result["reference"] = xr.DataArray(known, dims=("unit", "unit_2"))
    return described(result, AGAINST, cautions_of(effective))


def _units_last(value: xr.DataArray, dim: str) -> xr.DataArray:
    own = [str(d) for d in value.dims if d not in ("image", "chain", dim)]
    if not own:
        raise AnalysisError(f"covariance: {value.name or 'the array'} has no dim of units")
    if own == ["unit"]:
        return with_chain(value)
    if len(own) == 1:
        return with_chain(value.rename({own[0]: "unit"}))
    return with_chain(value.drop_vars(own, errors="ignore").stack(unit=own, create_index=False))


def _covariance(value: xr.DataArray, dim: str) -> xr.DataArray:
    lead: Sequence[str] = [str(d) for d in value.dims if d not in ("chain", dim, "unit")]
    shape = tuple(value.sizes[d] for d in lead)
    units = value.sizes["unit"]
    if units**2 * max(int(np.prod(shape)), 1) > ENTRIES:
        raise AnalysisError(f"covariance: {units} units for each of {shape or 1}; select fewer units first")
    total, square, count = np.zeros((*shape, units)), np.zeros((*shape, units, units)), 0
    shift: Array | None = None
    for (block,) in step_blocks([value], dim):
        part = block.transpose(*lead, "chain", dim, "unit").to_numpy().reshape(*shape, -1, units)
        # about a value near the mean: sums of squares about 0 would lose what a large mean leaves of the digits
        shift = part[..., :1, :].astype(np.float64) if shift is None else shift
        for index in np.ndindex(*shape):
            centred = part[index].astype(np.float64) - shift[index]
            total[index] += centred.sum(axis=0)
            square[index] += centred.T @ centred
        count += part.shape[-2]
    mean = total / count
    data = square / count - mean[..., :, None] * mean[..., None, :]
    names = {str(n): c for n, c in value.coords.items() if set(c.dims) <= {*lead, "unit"}}
    result = xr.DataArray(data, dims=(*lead, "unit", "unit_2"), coords=names, name="covariance")
    return result.assign_coords(unit_2=value["unit"].values) if "unit" in value.coords else result


def _distances(found: Array, known: Array, components: int) -> Array:
    from scipy.linalg import subspace_angles

    difference = np.linalg.norm(found - known) / np.linalg.norm(known)
    first, second = _correlation(found), _correlation(known)
    overlap = (first * second).sum() / np.linalg.norm(first) / np.linalg.norm(second)
    ratio = np.trace(np.linalg.solve(known, found)) / len(known)
    angles = [
        float(subspace_angles(_leading(found, k), _leading(known, k)).max()) for k in range(1, components + 1)
    ]
    return np.array([difference, 1 - overlap, ratio, *angles])


def _correlation(matrix: Array) -> Array:
    scale = np.sqrt(np.diag(matrix))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(matrix / np.outer(scale, scale))


def _leading(matrix: Array, count: int) -> Array:
    return np.asarray(np.linalg.eigh(matrix)[1][:, -count:])
