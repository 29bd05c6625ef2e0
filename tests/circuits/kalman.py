"""Linear state-space models in closed form: what temporal predictive coding computes, and the Kalman filter."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

Array = NDArray[np.float64]


class StateSpace(NamedTuple):
    """z_k = A z_(k−1) + drive_k + N(0, Q), x_k = C z_k + N(0, R)."""

    a: Array
    c: Array
    q: Array
    r: Array

    @property
    def precision(self) -> Array:
        """Λ = Q⁻¹ + Cᵀ R⁻¹ C: the curvature of one frame's energy."""
        inverse: Array = np.linalg.inv(self.q) + self.c.T @ np.linalg.inv(self.r) @ self.c
        return inverse

    def gain(self, predicted: Array) -> Array:
        """K = P Cᵀ (C P Cᵀ + R)⁻¹."""
        found: Array = predicted @ self.c.T @ np.linalg.inv(self.c @ predicted @ self.c.T + self.r)
        return found

    def steady_kalman(self) -> tuple[Array, Array]:
        """(gain, error covariance) of the Kalman filter in the long run, by the Riccati equation."""
        predicted = linalg.solve_discrete_are(self.a.T, self.c.T, self.q, self.r)
        gain = self.gain(predicted)
        return gain, (np.eye(len(self.a)) - gain @ self.c) @ predicted

    def steady_error(self, gain: Array) -> Array:
        """E e eᵀ of a filter with any fixed gain (Joseph): S = M A S AᵀMᵀ + M Q Mᵀ + K R Kᵀ, M = I − K C."""
        m = np.eye(len(self.a)) - gain @ self.c
        found: Array = linalg.solve_discrete_lyapunov(m @ self.a, m @ self.q @ m.T + gain @ self.r @ gain.T)
        return found

    def steady_ensemble(self) -> Array:
        """Covariance of chains that carry their own samples: S = Λ⁻¹ + M A S AᵀMᵀ at the gain of P = Q."""
        m = np.eye(len(self.a)) - self.gain(self.q) @ self.c
        found: Array = linalg.solve_discrete_lyapunov(m @ self.a, np.linalg.inv(self.precision))
        return found

    def filter(self, x: Array, drive: Array) -> Array:
        """Estimates `[series, frame, unit]` of the Kalman filter with P held at Q, from estimate 0; x likewise."""
        gain = self.gain(self.q)
        found = np.zeros((*x.shape[:2], len(self.a)))
        before = np.zeros((len(x), len(self.a)))
        for k in range(x.shape[1]):
            predicted = before @ self.a.T + drive[k]
            before = predicted + (x[:, k] - predicted @ self.c.T) @ gain.T
            found[:, k] = before
        return found
