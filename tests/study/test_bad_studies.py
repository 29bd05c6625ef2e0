"""Every mistake in a study is refused before anything runs: where it stands, what was expected, the nearest name."""

import re
from pathlib import Path

import numpy as np
import pytest

from pcsim import datasets
from pcsim.errors import CircuitError, DataError, PcsimError, StudyError
from pcsim.study import advice, build, drawing, load, run, training
from tests.study.cases import CIRCUIT, STUDY, write_study


def prepare(file: Path, overrides: tuple[str, ...] = ()) -> build.Plan:
    """All that `pcsim run` does before it makes a directory."""
    plan = build.build(load.load_study(file, overrides))
    run.milestones_of(plan)
    drawing.check_figures(plan)
    training.materials_of(plan)
    return plan


# a line of the study that is replaced, its replacement, the path, what the message says
IN_THE_FILE = {
    "top": ("seed: 3", "sede: 3", "sede", "unknown key; did you mean 'seed'?"),
    "data": ("train: 200", "trian: 200", "data.trian", "unknown key; did you mean 'train'?"),
    "inference": ("  steps: 8", "  stepz: 8", "inference.stepz", "unknown key; did you mean 'steps'?"),
    "no steps": ("  steps: 8", "", "inference.steps", "missing; this key is needed"),
    "kernel": ("name: langevin", "name: langevim", "inference.kernel",
               "no kernel 'langevim'; did you mean 'langevin'?"),
    "kernel argument": ("temperature: 1.0", "temprature: 1.0", "inference.kernel.temprature",
                        "unknown key; did you mean 'temperature'?"),
    "no step size": ("step_size: 0.05, ", "", "inference.kernel.step_size", "missing; this key is needed"),
    "step size of zero": ("step_size: 0.05", "step_size: 0", "inference.kernel",
                          "step_size: 0.0 must be a finite number above 0"),
    "step size in words": ("step_size: 0.05", "step_size: small", "inference.kernel.step_size", "found 'small'"),
    "step size as text": ("step_size: 0.05", "step_size: '0.05'", "inference.kernel.step_size", "found '0.05'"),
    "step size true": ("step_size: 0.05", "step_size: true", "inference.kernel.step_size", "found True"),
    "step size nan": ("step_size: 0.05", "step_size: .nan", "inference.kernel", "must be a finite number above 0"),
    "preconditioner": ("name: frozen", "name: frozn", "inference.preconditioner",
                       "no preconditioner 'frozn'; did you mean 'frozen'?"),
    "preconditioner argument": ("window: 3", "windows: 3", "inference.preconditioner.windows",
                                "unknown key; did you mean 'window'?"),
    "window of zero": ("window: 3", "window: 0", "inference.preconditioner", "window: 0 must be a whole number"),
    "cold and preconditioned": ("temperature: 1.0", "temperature: 0", "inference.kernel",
                                "temperature: 0 (vanilla predictive coding) with a preconditioner is neither"),
    "preconditioned mala": ("name: langevin, step_size: 0.05, temperature: 1.0", "name: mala, step_size: 0.05",
                            "inference.preconditioner", "kernel mala takes no preconditioner"),
    "start": ("start: encoder", "start: encodr", "inference.start", "no start 'encodr'; did you mean 'encoder'?"),
    "start argument": ("start: encoder", "start: {name: prior, steps: 3}", "inference.start",
                       "prior takes no arguments"),
    "map argument": ("start: encoder", "start: {name: map, stepsize: 0.1}", "inference.start.stepsize",
                     "unknown key; did you mean 'step_size'?"),
    "map kernel": ("start: encoder", "start: {name: map, kernel: adm, step_size: 0.1}", "inference.start.kernel",
                   "no kernel 'adm'; did you mean 'adam'?"),
    "map steps": ("start: encoder", "start: {name: map, steps: 0, step_size: 0.1}", "inference.start.steps",
                  "expected a positive number of steps, found 0"),
    "learning": ("batch_size: 16", "batchsize: 16", "learning.batchsize", "unknown key; did you mean 'batch_size'?"),
    "learner": ("learner: em", "learner: me", "learning.learner", "input should be 'em' or 'elbo' (found 'me')"),
    "draws": ("draws: all", "draws: al", "learning.draws", "input should be 'all', 'final' or 'start'"),
    "draws key": ("draws: all", "draws: {lst: 3}", "learning.draws", "input should be 'last'"),
    "too many draws": ("draws: all", "draws: {last: 6}", "learning.draws", "last: 6 needs between 1 and 5 draws"),
    "start before warm-up": ("draws: all", "draws: all\n  include_start: true", "learning.draws",
                             "include_start would average the start before a warm-up"),
    "nothing after warm-up": ("window: 3", "window: 8", "learning.draws",
                              "8 steps leave no draw after the first 8"),
    "encoder": ("objective: jeffreys", "objectiv: jeffreys", "learning.encoder.objectiv",
                "unknown key; did you mean 'objective'?"),
    "objective": ("objective: jeffreys", "objective: jefreys", "learning.encoder.objective",
                  "no objective 'jefreys'; did you mean 'jeffreys'?"),
    "encoder's optimizer": ("optimizer: {name: adam, step_size: 1e-3}", "optimizer: {name: adm, step_size: 1e-3}",
                            "learning.encoder.optimizer", "no optimizer 'adm'; did you mean 'adam'?"),
    "encoder's optimizer argument": ("step_size: 1e-3", "stepsize: 1e-3", "learning.encoder.optimizer.stepsize",
                                     "unknown key; did you mean 'step_size'?"),
    "optimizer": ("adam, step_size: 1e-2", "sdg, step_size: 1e-2", "learning.optimizer",
                  "no optimizer 'sdg'; did you mean 'sgd'?"),
    "optimizer argument": ("step_size: 1e-2", "lr: 1e-2", "learning.optimizer.lr", "unknown key"),
    "optimizer step size": ("step_size: 1e-2", "step_size: -1e-2", "learning.optimizer", "-0.01"),
    "no updates": ("  updates: 12", "", "learning.updates", "missing; this key is needed"),
    "updates in words": ("updates: 12", "updates: many", "learning.updates", "valid integer (found 'many')"),
    "updates as float": ("updates: 12", "updates: 12.0", "learning.updates", "valid integer (found 12.0)"),
    "updates true": ("updates: 12", "updates: true", "learning.updates", "valid integer (found True)"),
    "incremental encoder": ("draws: all", "draws: all\n  update: step", "learning.update",
                            "step (incremental PC) learns no encoder and keeps no chains"),
    "record": ("spontaneous: 6", "spontanous: 6", "record.spontanous", "unknown key; did you mean 'spontaneous'?"),
    "probe key": ("{read: energy}", "{reed: energy}", "record.probes[1].reed", "unknown key; did you mean 'read'?"),
    "probe": ("{read: energy}", "{read: enregy}", "record.probes[1].read", "no probe 'enregy'; did you mean 'energy'?"),
    "probe's node": ("nodes: [z]", "nodes: [w]", "record.probes[0].nodes", "no node 'w'; valid names: x, z"),
    "probe's unit": ("nodes: [z]", "nodes: [z], units: [4]", "record.probes[0].units",
                     "node z has units 0 to 3, found 4"),
    "probe's no unit": ("nodes: [z]", "nodes: [z], units: []", "record.probes[0].units", "at least one unit"),
    "probe twice": ("{read: gradient_norm}", "{read: [drift, energy]}", "record.probes[2].read",
                    "energy is recorded twice"),
    "record's images": ("images: 2", "images: 41", "record.images", "image 40 is asked for, but the test set has 40"),
    "record's image": ("images: 2", "images: [0, 50]", "record.images", "image 50 is asked for"),
    "record's no image": ("images: 2", "images: []", "record.images", "found []"),
    "record's updates": ("spontaneous: 6", "at_updates: [13]", "record.at_updates",
                         "update 13 is after the last one, 12"),
    "evaluation": ("samples: 4", "sampels: 4", "evaluation.sampels", "unknown key; did you mean 'samples'?"),
    "measure": ("temperatures: 8", "temperature: 8", "evaluation.log_likelihood.temperature",
                "unknown key; did you mean 'temperatures'?"),
    "method": ("method: ais", "method: asi", "evaluation.log_likelihood.method", "input should be 'ais' or 'iwae'"),
    "measure's images": ("elbo: {images: 6}", "elbo: {images: 41}", "evaluation.elbo.images",
                         "41 images are asked for, but the test set has 40"),
    "evaluation's updates": ("at_updates: [5, last]", "at_updates: [5, 20]", "evaluation.at_updates",
                             "update 20 is after the last one, 12"),
    "evaluation's word": ("at_updates: [5, last]", "at_updates: [5, lats]", "evaluation.at_updates[1]",
                          "input should be 'last' (found 'lats')"),
    "evaluation on": ("samples: 4", "samples: 4\n  on: validation", "evaluation.elbo.images", ""),
    "figure": ("figures: []", "figures: [energy, sampels]", "figures[1]",
               "no figure 'sampels'; did you mean 'samples'?"),
    "figures": ("figures: []", "figures: samples", "figures", "input should be a valid list (found 'samples')"),
    "batch": ("batch_size: 16", "batch_size: 201", "learning.batch_size",
              "a batch of 201 is larger than the training set (200 images)"),
    "data set": ("name: digits", "name: digitss", "data.name", "no data set 'digitss'; did you mean 'digits'?"),
    "binarise": ("binarise: 127", "binarise: 255", "data.binarise", "less than or equal to 254 (found 255)"),
    "clamp": ("clamp: {x: image}", "clamp: {y: image}", "clamp.y", "no node 'y'; valid names: x, z"),
    "clamp's word": ("clamp: {x: image}", "clamp: {x: imgae}", "clamp.x",
                     "expected image, label, a number or values of shape [1, 8, 8], found 'imgae'"),
    "clamp's shape": ("clamp: {x: image}", "clamp: {x: [1, 2, 3]}", "clamp.x", "values of shape [1, 8, 8]"),
    "clamp's nan": ("clamp: {x: image}", "clamp: {x: .nan}", "clamp.x", "found nan"),
    "clamp nothing of the encoder": ("clamp: {x: image}", "clamp: {}", "clamp", "the encoder reads node x"),
    "clamp the encoder's": ("clamp: {x: image}", "clamp: {x: image, z: 0.0}", "clamp.z",
                            "node z is given by the encoder"),
    "label of an image": ("clamp: {x: image}", "clamp: {x: label}", "clamp.x", "a label is one-hot"),
    "mask": ("clamp: {x: image}", "clamp: {x: image}\nmask: {y: top}", "mask.y", "no node 'y'"),
    "mask without clamp": ("clamp: {x: image}", "clamp: {x: image}\nmask: {z: 1}", "mask.z", "has a mask but no clamp"),
    "mask's word": ("clamp: {x: image}", "clamp: {x: image}\nmask: {x: tpo}", "mask.x",
                    "expected top, bottom, left, right, {box: [y0, x0, y1, x1]}"),
    "mask's number": ("clamp: {x: image}", "clamp: {x: image}\nmask: {x: 0.5}", "mask.x", "a mask holds 1"),
    "mask's box": ("clamp: {x: image}", "clamp: {x: image}\nmask: {x: {box: 3}}", "mask.x.box",
                   "expected [y0, x0, y1, x1]"),
    "mask's box outside": ("clamp: {x: image}", "clamp: {x: image}\nmask: {x: {box: [0, 0, 9, 8]}}", "mask.x.box",
                           "y1 ≤ 8"),
    "device": ("seed: 3", "device: gpu", "device", "no device 'gpu'"),
    "device in words": ("seed: 3", "device: cpuu", "device", "no device 'cpuu'; did you mean 'cpu'?"),
    "seed": ("seed: 3", "seed: -3", "seed", "greater than or equal to 0 (found -3)"),
    "engine": ("seed: 3", "engine: jax", "engine", "(found 'jax')"),
    "dtype": ("seed: 3", "dtype: float8", "dtype", "'float32' or 'float64' (found 'float8')"),
    "time step": ("seed: 3", "dt: 3", "dt", "valid string (found 3)"),
    "time step's unit": ("seed: 3", "dt: 3 minutes", "dt", "found '3 minutes': minutes is none of s, second, ms"),
    "weights": ("seed: 3", "weights: 3", "weights", "valid string (found 3)"),
}  # fmt: skip


@pytest.mark.parametrize("name", IN_THE_FILE)
def test_mistake_is_named_at_its_place(tmp_path: Path, name: str) -> None:
    old, new, path, message = IN_THE_FILE[name]
    assert STUDY.count(old) >= 1
    text = STUDY.replace(old, new, 1)
    if name == "evaluation on":
        text = text.replace("elbo: {images: 6}", "elbo: {images: 21}")
    file = write_study(tmp_path, text)
    with pytest.raises(PcsimError) as caught:
        prepare(file)
    first = str(caught.value).splitlines()[0]
    assert re.match(rf"{re.escape(str(file))}:\d+: {re.escape(path)}: ", first), caught.value
    assert message in str(caught.value)


def test_the_study_itself_is_good(tmp_path: Path) -> None:
    assert prepare(write_study(tmp_path)).circuit.leaves == ("x",)


def test_line_of_a_mistake(tmp_path: Path) -> None:
    file = write_study(tmp_path, STUDY.replace("  steps: 8", "  stepz: 8"))
    line = STUDY.splitlines().index("  steps: 8") + 1
    with pytest.raises(StudyError) as caught:
        prepare(file)
    assert f"{file}:{line}: inference.stepz: unknown key; did you mean 'steps'?" in str(caught.value)


def test_every_mistake_is_reported_at_once(tmp_path: Path) -> None:
    file = write_study(tmp_path, STUDY.replace("seed: 3", "sede: 3").replace("updates: 12", "updates: many"))
    with pytest.raises(StudyError) as caught:
        prepare(file)
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "inference.stepz=3",
            "override 'inference.stepz=3': inference.stepz: unknown key; did you mean 'steps'?",
        ),
        (
            "inference.steps=many",
            "override 'inference.steps=many': inference.steps: input should be a valid integer",
        ),
        ("seed.x=3", "override 'seed.x=3': seed is 3, it has no keys; write seed=…"),
        ("learning", "override 'learning': expected key.path=value, for example inference.steps=50"),
        ("learning.updates=4", "study.yaml:"),
        ("device=cuda:99", "override 'device=cuda:99': device: device 'cuda:99' cannot be used here"),
    ],
)
def test_overrides(tmp_path: Path, override: str, message: str) -> None:
    """A mistake in an override is told of the override; one that it causes elsewhere, of that place."""
    with pytest.raises(StudyError) as caught:
        prepare(write_study(tmp_path), (override,))
    assert message in str(caught.value)


def test_missing_files_name_the_nearest(tmp_path: Path) -> None:
    file = write_study(tmp_path)
    with pytest.raises(StudyError, match=r"studdy\.yaml: no such file; did you mean 'study\.yaml'"):
        prepare(tmp_path / "studdy.yaml")
    with pytest.raises(CircuitError) as caught:
        prepare(file, ("circuit=circiut.yaml",))
    assert "circuit: " in str(caught.value)
    assert "circiut.yaml: no such circuit file; did you mean 'circuit.yaml'" in str(caught.value)


def test_nothing_to_do(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="nothing to do: no learning, no record and no evaluation"):
        prepare(write_study(tmp_path), ("learning=", "record=", "evaluation={}"))


def test_no_data_for_an_image(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="a node is clamped to image or label, but there is no data"):
        prepare(write_study(tmp_path), ("data=",))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("inference.start=encoder", "inference.start: the circuit has no encoder"),
        ("learning.encoder.objective=forward", "forward: the circuit has no encoder"),
        ("learning.learner=elbo", "elbo needs an encoder, and the circuit has none"),
        ("evaluation.elbo={images: 4}", "evaluation.elbo: it needs an encoder"),
        (
            "evaluation.log_likelihood={method: iwae, images: 4}",
            "evaluation.log_likelihood: it needs an encoder",
        ),
    ],
)
def test_what_needs_an_encoder(tmp_path: Path, override: str, message: str) -> None:
    file = write_study(tmp_path, circuit=CIRCUIT.partition("encoder:")[0])
    plain = ("inference.start=prior", "learning.encoder={objective: none}", "evaluation={samples: 2}")
    prepare(file, plain)
    with pytest.raises(StudyError, match=re.escape(message)):
        prepare(file, (*plain, override))


def test_image_of_another_shape(tmp_path: Path) -> None:
    file = write_study(tmp_path, circuit=CIRCUIT.replace("8, 8", "4, 16"))
    with pytest.raises(
        DataError, match=r"clamp\.x: the images have shape \[1, 8, 8\].* node x has shape \[1, 4, 16\]"
    ):
        prepare(file)


DISCRETE_PARENT = """\
nodes:
  y: {shape: [10], distribution: categorical}
  z: {shape: [4], distribution: gaussian}
  x: {shape: [64], distribution: bernoulli}
edges:
  - {from: y, to: x, layers: [{linear: 64}]}
  - {from: z, to: x, layers: [{linear: 64}]}
"""
NO_ENCODER = ("inference.start=prior", "learning.encoder={objective: none}", "evaluation={samples: 2}")


def test_discrete_node_with_children_is_clamped(tmp_path: Path) -> None:
    file = write_study(tmp_path, circuit=DISCRETE_PARENT)
    what = "node y is discrete and has a child (x); clamp it"
    with pytest.raises(StudyError) as caught:
        prepare(file, NO_ENCODER)
    assert what in str(caught.value)
    prepare(file, (*NO_ENCODER, "clamp={x: image, y: label}"))
    with pytest.raises(
        StudyError, match=re.escape("mask.y: node y is discrete and has a child (x); clamp it wholly")
    ):
        prepare(file, (*NO_ENCODER, "clamp={x: image, y: label}", "mask={y: 1}"))


def test_labels_fit_their_node(tmp_path: Path) -> None:
    file = write_study(tmp_path, circuit=DISCRETE_PARENT.replace("[10]", "[9]"))
    with pytest.raises(StudyError, match=re.escape("clamp.y: the labels go up to 9, but node y has 9 units")):
        prepare(file, (*NO_ENCODER, "clamp={x: image, y: label}"))


def test_every_node_held(tmp_path: Path) -> None:
    file = write_study(tmp_path, circuit=CIRCUIT.partition("encoder:")[0])
    with pytest.raises(StudyError, match="clamp: every node is held; nothing is left to infer"):
        prepare(file, (*NO_ENCODER, "clamp={x: image, z: 0.0}"))


def test_not_enough_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"2000 training images asked for, \d+ of the 1797"):
        prepare(write_study(tmp_path), ("data.train=2000",))


def test_folder_without_source(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="folder"):
        prepare(write_study(tmp_path), ("data.name=folder", "data.size=8"))


def test_tau_needs_a_time_step(tmp_path: Path) -> None:
    file = write_study(tmp_path, circuit=CIRCUIT.replace("1.0}}}", "1.0}}, tau: 10 ms}"))
    with pytest.raises(
        StudyError, match=r"dt: node z has tau: 10 ms; the study needs dt, for example 0\.1 ms"
    ):
        prepare(file)
    assert prepare(file, ("dt=0.1 ms",)).mobility == pytest.approx({"z": 0.1 / 10 / 0.05})


def test_pixels_that_are_no_pixels() -> None:
    """NaN cannot be an image: pixels are uint8, and where they are not, the message counts the NaN."""
    pixels = np.zeros((3, 1, 8, 8))
    pixels[1, 0, 2, 3] = np.nan
    with pytest.raises(
        DataError, match=r"mine: train: pixels are float64 \[3, 1, 8, 8\], 1 of them NaN; expected uint8"
    ):
        datasets.from_arrays("mine", datasets.Arrays(pixels))


LINEAR = """\
nodes:
  z: {shape: [2], distribution: {gaussian: {precision: 3.0}}}
  x: {shape: [2], distribution: {gaussian: {precision: 1.0}}}
edges:
  - {from: z, to: x, layers: [{linear: {weight: [[2.0, 0.0], [0.0, 1.0]], bias: [0.0, 0.0]}}]}
"""
LOOK = """\
circuit: circuit.yaml
clamp: {x: [1.0, 1.0]}
inference:
  kernel: {name: langevin, step_size: STEP, temperature: 1.0}
  preconditioner: none
  steps: 200
record: {images: 1, chains: 4, steps: 200, block: 25, probes: [{read: [value, error]}, {read: energy}]}
"""


@pytest.mark.parametrize(("step_size", "warned"), [(0.28, False), (0.29, True)])
def test_certain_divergence_is_foretold(tmp_path: Path, step_size: float, warned: bool) -> None:
    """Λ = 3 I + WᵀW has λ_max = 3 + 4 = 7, so γ λ_max = 2 at γ = 2/7 = 0.2857."""
    file = write_study(tmp_path, LOOK.replace("STEP", str(step_size)), LINEAR)
    plan = prepare(file)
    warnings = advice.warnings_of(plan, training.materials_of(plan))
    assert bool(warnings) == warned
    if warned:
        assert "inference.kernel.step_size: 0.29 times the largest curvature 7 is 2.03 ≥ 2" in warnings[0]
        assert "take a step size below 0.286" in warnings[0]
