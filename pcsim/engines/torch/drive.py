"""The encoder as a drive: while it lasts, q(z | x) is one more factor of the posterior."""

from collections.abc import Mapping

from torch import Tensor

from pcsim.engines.torch.encoder import Sweep
from pcsim.engines.torch.target import CircuitTarget
from pcsim.inference.types import Point, Tree


class Driven:
    """U(z) + Σ (z − μ)²/2v over the encoded free nodes, q = N(μ, v): states are pulled, not replaced.

    The drift gains (μ − z)/v, precision-weighted like every other error. The energy of the whole counts the
    drive; the energies per node, and the errors, are those of the circuit.
    """

    def __init__(self, target: CircuitTarget, sweeps: Mapping[str, Sweep], n_chain: int) -> None:
        self.target = target
        # mean and variance of q per driven node, `[row, *shape]`
        self.pull = {
            name: (s.mean.repeat_interleave(n_chain, 0), s.variance.repeat_interleave(n_chain, 0))
            for name, s in sweeps.items()
            if name in target.free
        }

    def on(self, target: CircuitTarget) -> "Driven":
        """The same drive on another target."""
        other = Driven(target, {}, 1)
        other.pull = self.pull
        return other

    @property
    def mobility(self) -> Mapping[str, float | Tensor]:
        """The circuit's own."""
        return self.target.mobility

    def evaluate(self, z: Tree, energy: bool) -> Point:
        """Gradient (and energy, when asked) with the drive."""
        point = self.target.evaluate(z, energy)
        grad, total = dict(point.grad), point.energy
        for name, (mean, variance) in self.pull.items():
            away = z[name] - mean
            if name in self.target.masked:
                away = away * (1.0 - self.target.clamp.masks[name])
            grad[name] = grad[name] + away / variance
            if total is not None:
                total = total + 0.5 * (away.square() / variance).flatten(1).sum(1)
        return Point(grad, total, point.aux)
