"""A network as plain data: what `plan` makes of a circuit and `build` turns into Brian2 objects."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from pcsim.engines.brian2.unroll import Floats, Indices
from pcsim.engines.torch.target import Clamp

# Places in one time step, all in Brian2's slot `groups`. Predictions of stage k take PREDICT + 2k (and their
# hidden layer PREDICT + 2k + 1), so that errors and everything after them see one z.
PREDICT, LATERAL, ERROR, VISIT, SHIFT, BACK, LEARN, AVERAGE, MOVE, SETTLE = (
    -1000, -510, -500, -400, -350, -300, -250, -249, 0, 1
)  # fmt: skip
# What is under way shifts between predictions and messages: z_k goes in once it is shown, and the message that goes
# in is still that of the step before. Values move before leaky errors do: a value reads its own error live, the error
# a stored z − η, so that both take one joint Euler step from the old state.


class Plasticity(NamedTuple):
    """Learning while the network runs, by rules of one synapse or one error unit.

    Every `every` steps, from the state of that step and averaged over the rows (so that all rows keep one circuit,
    and a batch is learned from as by torch; one row is an animal):

        weights, biases, means     θ ← θ + step_size · error × presynaptic activity (1 for biases and means)
        variances Σ = 1/precision  Σ ← Σ + precision_step_size · (ε e − 1),  e = Σ ε (Bogacz, 2017)

    The first descends ∂U/∂θ, the second 2 Σ² ∂U/∂Σ: both rest where the gradients of torch vanish.
    """

    step_size: float
    precision_step_size: float | None = None
    """None: `step_size`."""
    every: int = 1
    parameters: tuple[str, ...] | None = None
    """Which move, by their names in torch (`z->x.0.weight`); None: all that the circuit lets learn."""


class Dynamics(NamedTuple):
    """Times in seconds."""

    dt: float
    step_size: float
    """dt/tau of the nodes that state no tau: the step size of the torch engine."""
    temperature: float = 1.0
    noise_on: Literal["values", "errors"] = "values"
    """`errors`: tau_ε dε/dt gets Σ sqrt(2 T tau) ξ, and values none; needs error_tau everywhere."""
    plasticity: Plasticity | None = None


class Group(NamedTuple):
    """One `NeuronGroup` of rows · units neurons, row by row."""

    name: str
    units: int
    lines: tuple[str, ...]
    move: int
    """When differential equations take their Euler step."""
    store: int
    """When the stored (constant over dt) subexpressions are evaluated."""
    arrays: Mapping[str, Floats] = {}
    """Starting values, `[units]`, the same in every row."""
    constants: Mapping[str, float] = {}
    times: Mapping[str, float] = {}
    """Constants in seconds."""
    links: Mapping[str, tuple[str, str]] = {}
    """Variable → (group, variable) that it reads."""
    shift: tuple[str, ...] = ()
    """Assignments of every step that move what is under way one step on."""
    learn: tuple[str, ...] = ()
    """Assignments of every step that learn."""


class Connections(NamedTuple):
    """One `Synapses`; indices and weights are those of one row, and rows are never connected."""

    name: str
    source: str
    target: str
    lines: tuple[str, ...]
    pre: Indices
    post: Indices
    arrays: dict[str, Floats]
    orders: dict[str, int]
    """When each summed variable is made."""
    learn: tuple[str, ...] = ()
    constants: Mapping[str, float] = {}


class Learned(NamedTuple):
    """Where a parameter that learns lives in the network."""

    name: str
    """In torch."""
    owner: str
    variable: str
    pooled: bool = False
    """One number for all units of the node."""


class Plan(NamedTuple):
    """The whole network as data."""

    rows: int
    dynamics: Dynamics
    groups: tuple[Group, ...]
    synapses: tuple[Connections, ...]
    shapes: dict[str, tuple[int, ...]]
    """Nodes with a value group, in topological order (dropped ones are absent)."""
    free: tuple[str, ...]
    """Nodes that move, in the order in which draws are made; those of `switched` only while released."""
    switched: tuple[str, ...]
    """Nodes with entries that can be held and released."""
    errors: tuple[str, ...]
    """Nodes with an error group."""
    clamp: Clamp
    learned: tuple[Learned, ...] = ()

    def moving(self, clamp: Clamp) -> tuple[str, ...]:
        """The nodes that move while this is clamped."""
        return tuple(n for n in self.free if n not in clamp.values or n in clamp.masks)

    def drawing(self, clamp: Clamp) -> tuple[str, ...]:
        """The nodes that take a draw per step while this is clamped, in the order in which they do."""
        if self.dynamics.temperature == 0:
            return ()
        return self.errors if self.dynamics.noise_on == "errors" else self.moving(clamp)

    @property
    def noisy(self) -> str:
        """The kind of group that noise goes to: `value` or `error`."""
        return "error" if self.dynamics.noise_on == "errors" else "value"
