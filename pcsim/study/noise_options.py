"""From the words of `noise:` to the `Noise` of a chain, or to the reason why there can be none."""

from pcsim.circuit.source import Path_, Source
from pcsim.circuit.times import hertz, seconds
from pcsim.errors import CircuitError, StudyError
from pcsim.inference.noise import WHITE, Noise
from pcsim.study.schema import NoiseOptions, Shot, Study

PLACE: Path_ = ("noise",)


def noise_of(source: Source, options: NoiseOptions | None, dt: str | None) -> Noise:
    """The noise that the options state; times become steps of dt."""
    if options is None:
        return WHITE
    colour = options.steps if options.steps is not None else 1.0
    if options.tau is not None:
        if options.steps is not None:
            source.fail((*PLACE, "steps"), "expected either tau or steps, not both")
        colour = _quantity(source, "tau", options.tau) / _step(source, "tau", dt)
    spikes = None if options.shot is None else _spikes(source, options.shot, dt)
    try:
        return Noise(colour, options.shared, spikes, options.on).check()
    except StudyError as failure:
        source.fail(PLACE, str(failure).removeprefix("noise."))


def check_noise(source: Source, study: Study, temperature: float) -> None:
    """Refuse noise where no kernel would take it as it is meant."""
    if study.noise is None:
        return
    if study.inference.kernel.name != "langevin":
        source.fail(PLACE, "its options shape the noise of langevin; kernel "
                    f"{study.inference.kernel.name} draws for other purposes too")  # fmt: skip
    if temperature == 0:
        source.fail(PLACE, "at temperature 0 there is no noise to shape")
    if study.noise.on == "errors" and study.engine == "torch":
        source.fail((*PLACE, "on"), "errors have no state on torch, so noise on them is noise of the drift; write "
                    "engine: brian2 with error_tau at the nodes")  # fmt: skip
    if study.learning is not None:
        source.fail(PLACE, "it shapes the recorded chains, and this study learns from chains with white noise; "
                    "learn in one study and record in another, with weights: RUN")  # fmt: skip
    if study.evaluation.reconstruction is not None:
        source.fail(PLACE, "it shapes the recorded chains, and a reconstruction is made by white ones")
    if study.record is None:
        source.fail(PLACE, "it shapes the recorded chains, and this study records none")


def _spikes(source: Source, shot: Shot, dt: str | None) -> float:
    if (shot.rate is None) == (shot.per_step is None):
        source.fail((*PLACE, "shot"), "expected either rate or per_step, for example rate: 100 Hz")
    if shot.per_step is not None:
        return shot.per_step
    try:
        return hertz(shot.rate) * _step(source, "shot", dt)
    except CircuitError as failure:
        source.fail((*PLACE, "shot", "rate"), str(failure))


def _quantity(source: Source, key: str, time: str) -> float:
    try:
        return seconds(time)
    except CircuitError as failure:
        source.fail((*PLACE, key), str(failure))


def _step(source: Source, key: str, dt: str | None) -> float:
    if dt is None:
        source.fail(
            (*PLACE, key), "a time or a rate needs the study's dt, for example dt: 1 ms; or count in steps"
        )
    return seconds(dt)
