"""The Gaussian with scalar, per-unit or full-matrix precision."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import PlainValidator
from torch import Tensor

from pcsim.circuit.distributions.base import Draws, Local, LocalText, Shape
from pcsim.circuit.distributions.record import HALF_LOG_TWO_PI, Record, numeric, per_row, units
from pcsim.errors import CircuitError

Value = float | tuple[float, ...] | tuple[tuple[float, ...], ...]


def _precision(value: Any) -> Value:
    """The precision as a number, a tuple (per unit) or a tuple of tuples (matrix); `ValueError` otherwise."""
    if numeric(value):
        if not 0 < value < math.inf:
            raise ValueError(f"precision {value} must be positive and finite")
        return float(value)
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty(())
    if array.ndim not in (1, 2) or not array.size:
        raise ValueError(f"precision {value!r} must be a number, a list (per unit) or a square matrix")
    if not np.isfinite(array).all():
        raise ValueError("precision must be finite")
    if array.ndim == 1:
        if (array <= 0).any():
            raise ValueError(f"precision {array.min():g} of unit {array.argmin()} must be positive")
        return tuple(array.tolist())
    _check_matrix(array)
    return tuple(tuple(row) for row in array.tolist())


def _check_matrix(array: np.ndarray[Any, np.dtype[np.float64]]) -> None:
    """Raise `ValueError` unless the matrix is square, symmetric and positive definite."""
    if array.shape[0] != array.shape[1]:
        raise ValueError(f"precision matrix of shape {array.shape} must be square")
    if np.abs(array - array.T).max() > 1e-10 * np.abs(array).max():
        raise ValueError("precision matrix must be symmetric")
    least = float(np.linalg.eigvalsh(array).min())
    if least <= 0:
        raise ValueError(f"precision matrix must be positive definite; its least eigenvalue is {least:.3g}")


class Gaussian(Record):
    """N(η, Π⁻¹), E = ½ (z−η)ᵀ Π (z−η) − ½ log det Π + ½ n log 2π.

    `precision` Π is a number, a list with one number per unit (C order over the node's shape), or a matrix
    over the flattened units. Parameters, by kind:

    - a fixed number: none; at 1 the error is one subtraction;
    - a fixed list: `precision`, `[*shape]`;
    - a learned number or list: `log_precision`, `[]` or `[*shape]`;
    - a matrix: `cholesky`, `[n, n]`, the lower factor L of Π = L Lᵀ with the *logarithm* of its diagonal on
      the diagonal, so that every value that learning can reach is a valid precision; above it, zeros.
    """

    learnable: ClassVar[tuple[str, ...]] = ("precision",)
    precision: Annotated[Value, PlainValidator(_precision, json_schema_input_type=Value)] = 1.0

    def parameters(self, shape: Shape) -> dict[str, Tensor]:
        """Initial float64 parameters; raises `CircuitError` where the precision has not the node's size."""
        if isinstance(self.precision, float):
            start = torch.tensor(self.precision, dtype=torch.float64).log()
            return {"log_precision": start} if self.learn else {}
        if len(self.precision) != units(shape):
            raise CircuitError(
                f"a precision of {len(self.precision)} units does not fit the node's shape {list(shape)} "
                f"({units(shape)} units)"
            )
        value = torch.tensor(self.precision, dtype=torch.float64)
        if value.ndim == 2:
            factor = torch.linalg.cholesky(value)
            return {"cholesky": factor.tril(-1) + factor.diagonal().log().diag()}
        value = value.reshape(shape)
        return {"log_precision": value.log()} if self.learn else {"precision": value}

    @property
    def learned(self) -> tuple[str, ...]:
        """`log_precision` or `cholesky` when the precision is learned."""
        if not self.learn:
            return ()
        matrix = isinstance(self.precision, tuple) and isinstance(self.precision[0], tuple)
        return ("cholesky",) if matrix else ("log_precision",)

    def local(
        self,
        params: Mapping[str, Tensor],
        z: Tensor,
        eta: Tensor,
        *,
        mask: Tensor | None = None,
        energy: bool = False,
        learn: bool = False,
    ) -> Local:
        """Error Π (z − η), which is also the own gradient (the same tensor); the mask plays no part.

        ∂E/∂log Π = ½ Π (z−η)² − ½ per unit; for the factor ∂E/∂L = d dᵀ L − diag(1/L_ii), d = z − η, lower
        triangle only and times L_ii on the (logarithmic) diagonal.
        """
        if not params and not energy and self.precision == 1.0:  # the hottest line of the package
            error = z - eta
            return Local(error, error, None, {})
        if "cholesky" in params:
            return _matrix_local(params["cholesky"], z, eta, energy, learn and bool(self.learn))
        difference = z - eta
        scale = self._scale(params)
        error = difference if scale is None else difference * scale
        square = error * difference if learn and self.learn else None
        value = None
        if energy:
            quadratic = per_row(error * difference if square is None else square)
            value = quadratic.mul_(0.5).add_(self._log_normaliser(params, z))
        if square is None:
            return Local(error, error, value, {})
        log_precision = params["log_precision"]
        gradient = square.sum() if log_precision.ndim == 0 else square.sum(0)
        count = z.numel() if log_precision.ndim == 0 else z.shape[0]
        return Local(error, error, value, {"log_precision": gradient.sub_(count).mul_(0.5)})

    def local_text(self, params: Mapping[str, Tensor], shape: Shape) -> LocalText:
        """Π (z − η), by lateral synapses where Π is a matrix."""
        if "cholesky" in params:
            factor = _factor(params["cholesky"])
            return LocalText("lateral", {}, lateral="w*(z_pre - eta_pre)", weights=factor @ factor.T)
        scale = self._scale(params)
        if scale is None:
            return LocalText("z - eta", {}, covariance="1.0")
        precision = torch.as_tensor(scale, dtype=torch.float64)
        return LocalText("precision*(z - eta)", {"precision": precision}, covariance="(1/precision)")

    def sample(self, params: Mapping[str, Tensor], eta: Tensor, draws: Draws) -> Tensor:
        """η + Π^(−½) ξ; for a matrix ξ is carried through L⁻ᵀ."""
        noise = draws.normal(eta)
        if "cholesky" in params:
            flat = noise.reshape(noise.shape[0], -1)
            carried: Tensor = torch.linalg.solve_triangular(_factor(params["cholesky"]).T, flat.T, upper=True)
            return eta + carried.T.reshape(eta.shape)
        scale = self._scale(params)
        return eta + (noise if scale is None else noise * scale**-0.5)

    def mean(self, params: Mapping[str, Tensor], eta: Tensor) -> Tensor:
        """η."""
        return eta

    def _scale(self, params: Mapping[str, Tensor]) -> float | Tensor | None:
        """The precision as a factor; None where it is exactly 1, so that nothing is multiplied."""
        if "log_precision" in params:
            return params["log_precision"].exp()
        if "precision" in params:
            return params["precision"]
        return None if self.precision == 1.0 else self._number()

    def _number(self) -> float:
        """The precision where it is one number."""
        assert isinstance(self.precision, float)
        return self.precision

    def _log_normaliser(self, params: Mapping[str, Tensor], z: Tensor) -> float | Tensor:
        """½ n log 2π − ½ Σ log Π over the n units of one row."""
        n = z.numel() // len(z)
        if "log_precision" in params:
            log_precision = params["log_precision"]
            total: float | Tensor = log_precision.sum() * (n // log_precision.numel())
        elif "precision" in params:
            total = params["precision"].log().sum()
        else:
            total = n * math.log(self._number())
        return n * HALF_LOG_TWO_PI - 0.5 * total


def _factor(stored: Tensor) -> Tensor:
    """The lower factor L from its stored form (logarithms on the diagonal)."""
    return stored.tril(-1) + stored.diagonal().exp().diag_embed()


def _matrix_local(stored: Tensor, z: Tensor, eta: Tensor, energy: bool, learn: bool) -> Local:
    """`Gaussian.local` for a full matrix over the flattened units."""
    factor = _factor(stored)
    difference = (z - eta).reshape(z.shape[0], -1)
    white = difference @ factor
    error = (white @ factor.T).reshape(z.shape)
    value = None
    if energy:
        constant = difference.shape[1] * HALF_LOG_TWO_PI - stored.diagonal().sum()
        value = white.square().sum(1).mul_(0.5).add_(constant)
    if not learn:
        return Local(error, error, value, {})
    slope = (difference.T @ white).tril()
    diagonal = slope.diagonal() * factor.diagonal() - z.shape[0]
    return Local(error, error, value, {"cholesky": slope.tril(-1) + diagonal.diag_embed()})
