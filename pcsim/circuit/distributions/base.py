"""The contract of a node's conditional distribution p(z | η)."""

from collections.abc import Mapping
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

Shape = tuple[int, ...]


class Draws(Protocol):
    """The source of randomness that `sample` needs (`pcsim.inference.Stream` is one)."""

    def normal(self, like: Tensor) -> Tensor: ...

    def uniform(self, like: Tensor) -> Tensor: ...


class Local(NamedTuple):
    """What one node knows at one point, with E = −log p(z | η), normalised."""

    error: Tensor
    """ε = −∂E/∂η, the precision-weighted prediction error, `[row, *shape]`."""
    grad: Tensor | None
    """∂E/∂z, the node's own term, `[row, *shape]`; None for a discrete node."""
    energy: Tensor | None
    """E summed over the units of a row, `[row]`; None when it was not asked for."""
    gradient: dict[str, Tensor]
    """∂E/∂parameter summed over rows, for the learned parameters; empty when it was not asked for."""


class Distribution(Protocol):
    """A frozen record of hyperparameters with pure functions of (parameters, z, η).

    z and η are `[row, *shape]`. `mask` (None, or broadcastable to z; 1 = this entry counts) is understood by
    discrete distributions only: entries that are not observed drop out of energy, error and gradient.
    """

    discrete: ClassVar[bool]
    """A discrete node must be a leaf or clamped; its unclamped entries are marginalised."""
    learnable: ClassVar[tuple[str, ...]]
    """The words that `learn:` may hold, e.g. `precision`."""
    data_range: ClassVar[tuple[float, float]]
    """The values that black and white become when the node is held at an image."""
    learn: tuple[str, ...]

    def parameters(self, shape: Shape) -> dict[str, Tensor]:
        """Initial float64 parameters, learned ones and fixed tensors; a fixed scalar stays a Python number
        in the record (exact, and free in the inner loop). Raises `CircuitError` where a shape does not fit."""
        ...

    @property
    def learned(self) -> tuple[str, ...]:
        """Names of those parameters that learning may move."""
        ...

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
        """Error, own gradient, and on request energy and parameter gradient, in one pass."""
        ...

    def sample(self, params: Mapping[str, Tensor], eta: Tensor, draws: Draws) -> Tensor:
        """One draw of z given η per entry, `[row, *shape]`."""
        ...

    def mean(self, params: Mapping[str, Tensor], eta: Tensor) -> Tensor:
        """E[z | η], `[row, *shape]`: what a reconstruction shows (in the units of the data)."""
        ...


class LocalText(NamedTuple):
    """The local terms of one node as text, for engines that write equations; z and η are `z` and `eta`."""

    error: str
    """ε per unit, in `z`, `eta`, the names in `constants`, and `lateral` where there are lateral synapses."""
    constants: Mapping[str, Tensor]
    """Parameters that the text names, `[*shape]` or one number."""
    own: str | None = "eps"
    """∂E/∂z in the stored error `eps`; None for a discrete node."""
    lateral: str | None = None
    """What a unit adds to a neighbour's `lateral`, in `z_pre`, `eta_pre`, `z_post`, `eta_post` and the weight `w`."""
    weights: Tensor | None = None
    """`[n, n]`, w of the synapse from unit (column) to unit (row); no synapse where it is 0."""
    covariance: str | None = None
    """1/precision in `constants`: what leaky error units need (Bogacz, 2017); None where they do not apply."""


@runtime_checkable
class Textual(Protocol):
    """A distribution whose local terms can be written as text."""

    def local_text(self, params: Mapping[str, Tensor], shape: Shape) -> LocalText:
        """The text at these parameters; raises `CircuitError` with the reason where there can be none."""
        ...
