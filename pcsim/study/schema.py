"""What a study file may say. No torch in here: a mistake or missing data is reported in a second."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Positive = Annotated[int, Field(gt=0)]
NotNegative = Annotated[int, Field(ge=0)]
Updates = list[NotNegative | Literal["last"]]


class Strict(BaseModel):
    """A frozen record that refuses unknown keys and silent conversions."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Named(BaseModel):
    """`name` with that family's own arguments beside it; the family checks them."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    name: str

    @property
    def arguments(self) -> dict[str, Any]:
        """Everything beside the name."""
        return dict(self.model_extra or {})


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


Choice = Annotated[Named, BeforeValidator(_named)]
"""`frozen` or `{name: frozen, window: 20}`."""


class Data(Strict):
    """Which images, how many for what, and how pixels become values."""

    name: str
    train: Positive | None = None
    validation: NotNegative = 0
    test: Positive | None = None
    seed: NotNegative = 0
    """Of the split: studies that differ in their own seed keep the same held-out images."""
    binarise: Annotated[int, Field(ge=0, le=254)] | None = None
    """Pixels above this level are 1, the others 0."""
    size: Positive | None = None
    crop: Positive | None = None
    source: str | None = None
    """The folder of images, for `name: folder`."""
    root: str | None = None
    """Folder of the prepared data; default `$PCSIM_DATA` or the user's cache."""


class Inference(Strict):
    """The chain: kernel, preconditioner, start and length."""

    kernel: Choice = Named(name="langevin")
    preconditioner: Choice = Named(name="frozen")
    start: Choice = Named(name="prior")
    steps: NotNegative


class EncoderLearning(Strict):
    """How φ learns beside θ."""

    objective: str = "none"
    prior_batches: NotNegative = 50
    optimizer: Choice | None = None
    """Default: the optimiser of θ."""


class Learning(Strict):
    """How θ learns: which draws count, when θ moves, how often."""

    learner: Literal["em", "elbo"] = "em"
    draws: Literal["all", "final", "start"] | dict[Literal["last"], Positive] = "all"
    include_start: bool = False
    update: Literal["batch", "step"] = "batch"
    encoder: EncoderLearning = EncoderLearning()
    optimizer: Choice = Named.model_validate({"name": "adam", "step_size": 1e-3})
    batch_size: Positive = 64
    updates: Positive
    chains: Positive = 1


class Probe(Strict):
    """What to read, of which nodes and units, every how many steps."""

    read: Annotated[list[str], BeforeValidator(lambda v: [v] if isinstance(v, str) else v)]
    nodes: list[str] | None = None
    units: list[NotNegative] | None = None
    every: Positive = 1


class Record(Strict):
    """The recording pass: fixed held-out images, many chains each, before and after the stimulus."""

    images: Positive | list[NotNegative] = 16
    chains: Positive = 16
    spontaneous: NotNegative = 0
    steps: NotNegative = 0
    """Needed, unless `stimulus` says what is shown for how long."""
    at_updates: Updates = ["last"]
    probes: list[Probe]
    block: Positive = 100
    """Steps per write."""
    dtype: Literal["float32", "float64", "float16"] | None = None


class Transform(Strict):
    """What happens to a picture before it is shown, in this order."""

    blur: Annotated[float, Field(gt=0)] | None = None
    """Standard deviation of a Gaussian filter, in pixels."""
    contrast: Annotated[float, Field(ge=0)] | None = None
    """A factor on the distance from the middle of the node's range; 1 changes nothing."""
    occlude: Any = None
    """The part that black covers, in the words of `mask`: `top`, …, `{box: [y0, x0, y1, x1]}`."""


class PhaseSpec(Strict):
    """One phase of a stimulus: what is shown, for how long, and what the encoder does when it begins."""

    show: Literal["image", "blank", "omission", "mask"] | dict[str, Any]
    steps: Positive | None = None
    time: str | None = None
    """In place of `steps`, a time such as `50 ms`."""
    name: str | None = None
    onset: Literal["replace", "drive", "none"] | dict[Literal["drive"], Positive] | None = None
    """Default: replace where chains start at the encoder and it sees its inputs, else none."""
    transform: Transform = Transform()


class Repeat(Strict):
    """The same phases several times over."""

    repeat: Positive
    phases: list[dict[str, Any]]


class Shot(Strict):
    """Noise made of spikes: the total rate ν of an excitatory and an inhibitory Poisson input."""

    rate: str | None = None
    """For example `100 Hz`; needs dt."""
    per_step: Annotated[float, Field(gt=0)] | None = None


class NoiseOptions(Strict):
    """How the chain's noise differs from independent white draws."""

    tau: str | None = None
    """Time constant of its colour, for example `5 ms`; needs dt."""
    steps: Annotated[float, Field(ge=1)] | None = None
    """The same in steps."""
    shared: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Correlation between the units of a node."""
    on: Literal["values", "errors"] = "values"
    """`errors`: into error units with a time constant of their own (brian2)."""
    shot: Shot | None = None


class PlasticityOptions(Strict):
    """Learning while the network of brian2 runs: local rules of single synapses and error units.

    The recording is then the lesson: what its chains learned is the run's weights.
    """

    step_size: Annotated[float, Field(gt=0)]
    """θ ← θ + step_size · error × presynaptic activity, at every learning step."""
    precision_step_size: Annotated[float, Field(gt=0)] | None = None
    """Σ ← Σ + precision_step_size · (ε Σ ε − 1); default: `step_size`."""
    every: Positive = 1
    """Steps between two learning steps."""
    parameters: list[str] | None = None
    """Which move, by their names in the weights (`z->x.0.weight`); default: all that the circuit lets learn."""


class LogLikelihood(Strict):
    """log p(x) of held-out images by annealed importance sampling or by importance weights of the encoder."""

    method: Literal["ais", "iwae"] = "ais"
    images: Positive = 200
    particles: Positive = 16
    temperatures: Positive = 200
    samples: Positive = 1000
    """Importance samples per image (iwae)."""


class Reconstruction(Strict):
    """Mean squared error of E[x | z] at the end of a chain on held-out images."""

    images: Positive = 200
    chains: Positive = 4


class Elbo(Strict):
    """Evidence lower bound of the encoder on held-out images."""

    images: Positive = 200
    samples: Positive = 16


class Evaluation(Strict):
    """What is measured on held-out images, and at which updates."""

    log_likelihood: LogLikelihood | None = None
    reconstruction: Reconstruction | None = None
    elbo: Elbo | None = None
    samples: NotNegative = 0
    every: Positive | None = None
    at_updates: Updates = ["last"]
    on: Literal["test", "validation"] = "test"


class Study(Strict):
    """One study: a circuit, data, an inference, what learns, what is recorded and what is measured."""

    description: str = ""
    seed: NotNegative = 0
    engine: Literal["torch", "brian2"] = "torch"
    codegen: Literal["numpy", "cython", "cpp_standalone"] | None = None
    """How Brian2 runs; numpy unless stated."""
    circuit: str | dict[str, Any]
    weights: str | None = None
    data: Data | None = None
    clamp: dict[str, Any] = {}
    mask: dict[str, Any] = {}
    inference: Inference
    stimulus: list[dict[str, Any]] | None = None
    """The schedule of the recording: phases (`PhaseSpec`) and repeats."""
    noise: NoiseOptions | None = None
    plasticity: PlasticityOptions | None = None
    """Learning during the recording (brian2)."""
    learning: Learning | None = None
    record: Record | None = None
    evaluation: Evaluation = Evaluation()
    figures: list[str] = []
    dt: str | None = None
    device: str = "auto"
    dtype: Literal["auto", "float32", "float64"] = "auto"
    edge_dtype: Literal["bfloat16"] | None = None
    threads: Positive | None = None
    checkpoint_seconds: Annotated[float, Field(gt=0)] = 60.0

    @model_validator(mode="after")
    def _whole(self) -> "Study":
        if self.data is None and any(v in ("image", "label") for v in self.clamp.values()):
            raise ValueError("a node is clamped to image or label, but there is no data")
        if self.learning is None and self.record is None and self.evaluation == Evaluation():
            raise ValueError("nothing to do: no learning, no record and no evaluation")
        return self
