"""Stimuli, noise and engines that cannot run as written are refused at their line, before anything is computed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pcsim
from pcsim.errors import CircuitError, PcsimError, StudyError
from pcsim.inference.kernels import langevin
from pcsim.study import build, load, recorded, training

CIRCUIT = """\
nodes:
  z_before: {past: z}
  z: {shape: [2], distribution: gaussian}
  x: {shape: [2], distribution: {gaussian: {precision: 2.0}}}
  s: {shape: [3], distribution: categorical}
edges:
  - {from: z_before, to: z, layers: [{linear: 2}]}
  - {from: z, to: x, layers: [tanh, {linear: 2}]}
  - {from: z, to: s, layers: [{linear: 3}]}
"""

STUDY = """\
circuit: circuit.yaml
clamp: {x: [1.0, 2.0]}
inference:
  kernel: {name: langevin, step_size: 0.1}
  preconditioner: none
  steps: 0
record: {images: 2, chains: 2, probes: [{read: value}]}
stimulus:
  - {show: blank, steps: 5}
  - {show: image, steps: 5}
noise: {shared: 0.5}
"""
BLANK, IMAGE, NOISE, KERNEL, RECORD = (
    next(line for line in STUDY.splitlines() if word in line)
    for word in ("blank", "image,", "noise", "kernel", "record")
)


def load_text(folder: Path, study: str, circuit: str = CIRCUIT) -> build.Plan:
    """The plan of a study and a circuit written out."""
    (folder / "circuit.yaml").write_text(circuit)
    (folder / "study.yaml").write_text(study)
    return build.build(load.load_study(folder / "study.yaml"))


def test_the_study_is_right_as_it_stands(tmp_path: Path) -> None:
    plan = load_text(tmp_path, STUDY)
    assert [phase.steps for phase in plan.phases] == [5, 5]
    assert plan.noise.shared == 0.5


def shows(what: str, more: str = "") -> tuple[str, str]:
    """The second phase replaced."""
    return IMAGE, f"  - {{show: {what}, steps: 5{more}}}"


MISTAKES: dict[str, tuple[str, str, str, str]] = {
    "word": (*shows("imgae"), "stimulus[1].show", "'imgae'"),
    "node": (*shows("{y: 1.0}"), "stimulus[1].show.y", "no node 'y' and no word"),
    "past": (*shows("{z_before: 1.0}"), "stimulus[1].show.z_before", "holds the frame before; it is not shown"),
    "two words": (*shows("{image: 1, next: 1}"), "stimulus[1].show", "expected nodes with values, or one of"),
    "a word and a node": (*shows("{simulate: 3, x: 1.0}"), "stimulus[1].show", "expected nodes with values, or one"),
    "nothing": (*shows("{}"), "stimulus[1].show", "expected nodes with values"),
    "no such image": (*shows("{image: 2}"), "stimulus[1].show.image", "image 2 of 2 recorded images"),
    "half an image": (*shows("{image: 0.5}"), "stimulus[1].show.image", "expected a whole number from 0, found 0.5"),
    "no frames": (*shows("{simulate: 0}"), "stimulus[1].show.simulate", "expected a whole number from 1, found 0"),
    "value of another shape": (*shows("{x: [1.0, 2.0, 3.0]}"), "stimulus[1].show.x",
                               "expected a number or values of shape [2], found [3]"),
    "one value for two units": (*shows("{x: [1.0]}"), "stimulus[1].show.x",
                                "expected a number or values of shape [2], found [1]"),
    "value in words": (*shows("{x: bright}"), "stimulus[1].show.x", "expected numbers, found 'bright'"),
    "value not a number": (*shows("{x: .nan}"), "stimulus[1].show.x", "expected finite numbers"),
    "value out of range": (*shows("{s: 3.0}"), "stimulus[1].show.s", "must lie in [0, 1]"),
    "series of another shape": (*shows("{series: {x: [[1], [2]]}}"), "stimulus[1].show.series.x",
                                "expected a list of frames of shape [2], found [2, 1]"),
    "series of different lengths": (*shows("{series: {x: [[1, 2]], s: [[1, 0, 0], [0, 1, 0]]}}"),
                                    "stimulus[1].show.series", "different numbers of frames: [1, 2]"),
    "series longer than the simulation": (*shows("{simulate: 3, series: {s: [[1, 0, 0]]}}"),
                                          "stimulus[1].show.series", "1 frames for a simulation of 3"),
    "no file": (*shows("{series: none.csv}"), "stimulus[1].show.series", "no such file"),
    "series without a node": (*shows("{series: {y: [1]}}"), "stimulus[1].show.series", "no node 'y'"),
    "key": (*shows("image", ", stepz: 3"), "stimulus[1].stepz", "unknown key; did you mean 'steps'"),
    "steps of zero": (IMAGE, IMAGE.replace("5", "0"), "stimulus[1].steps", "greater than 0"),
    "no length": (IMAGE, "  - {show: image}", "stimulus[1]", "expected either steps or time"),
    "two lengths": (*shows("image", ", time: 5 ms"), "stimulus[1]", "expected either steps or time"),
    "time without dt": (IMAGE, "  - {show: image, time: 5 ms}", "stimulus[1].time", "5 ms needs a dt"),
    "time in volts": (IMAGE, "  - {show: image, time: 5 mV}", "stimulus[1].time", "mV is none of s, second, ms"),
    "broken time": (IMAGE, "  - {show: image, time: 5 ms}\ndt: 2 ms", "stimulus[1].time",
                    "5 ms is 2.5 steps of 2 ms; expected a whole number of them"),
    "onset without encoder": (*shows("image", ", onset: replace"), "stimulus[1].onset", "the circuit has none"),
    "onset": (*shows("image", ", onset: restart"), "stimulus[1].onset", "'restart'"),
    "repeat of zero": (BLANK, "  - {repeat: 0, phases: [{show: blank, steps: 3}]}", "stimulus[0].repeat",
                       "greater than 0"),
    "deep in a repeat": (BLANK, "  - repeat: 2\n    phases:\n      - {show: {y: 1}, steps: 3}",
                         "stimulus[0].phases[0].show.y", "no node 'y'"),
    "all held": (*shows("{z: 0.0, x: 0.0, s: [1, 0, 0]}"), "stimulus[1].show", "nothing is left to infer"),
    "transform": (*shows("image", ", transform: {blurr: 2.0}"), "stimulus[1].transform.blurr",
                  "unknown key; did you mean 'blur'"),
    "blurred vector": (*shows("{x: 1.0}", ", transform: {blur: 2.0}"), "stimulus[1].transform.blur",
                       "node x has shape [2], not that of an image"),
    "occluded vector": (*shows("{x: 1.0}", ", transform: {occlude: top}"), "stimulus[1].transform.occlude", ""),
    "transformed blank": (BLANK, "  - {show: blank, steps: 5, transform: {contrast: 0.5}}", "stimulus[0].transform",
                          "shows nothing that could be transformed"),
    "blurred clamp": (*shows("image", ", transform: {blur: 2.0}"), "stimulus[1].transform.blur",
                      "node x has shape [2], not that of an image"),
    "occluded clamp": (*shows("mask", ", transform: {occlude: half}"), "stimulus[1].transform.occlude",
                       "expected top, bottom, left, right"),
    "repeat": (BLANK, "  - {repeats: 2, phases: [{show: blank, steps: 3}]}", "stimulus[0].repeats",
               "unknown key; did you mean 'repeat'"),
    "phases as words": (BLANK, "  - {repeat: 2, phases: [blank]}", "stimulus[0].phases[0]",
                        "expected a mapping, {key: value} (found 'blank')"),
    "phase as a word": (BLANK, "  - blank", "stimulus[0]", "expected a mapping, {key: value} (found 'blank')"),
    "endless time": (IMAGE, "  - {show: image, time: 1e400 s}\ndt: 1 ms", "stimulus[1].time", "a positive time"),
    "probes out of step": (RECORD, RECORD.replace("{read: value}", "{read: value, every: 2}, {read: error, every: 3}"),
                           "record.probes[1].every", "expected a multiple of the finest probe's every, 2; found 3"),
    "other units": (RECORD, RECORD.replace("{read: value}", "{read: value, units: [0]}, {read: error, nodes: [z]}"),
                    "record.probes[1].units", "expected the same units in all probes of node z; another reads [0]"),
    "endless spikes": (NOISE, "noise: {shot: {per_step: 1e9}}", "noise", "spikes per step are Gaussian noise"),
    "steps beside it": (RECORD, RECORD.replace("chains: 2", "chains: 2, steps: 5"), "record.steps",
                        "stimulus says what is shown for how long"),
    "stimulus without record": (RECORD, "evaluation: {samples: 2}", "stimulus", "no record section"),
    "colour": (NOISE, "noise: {tau: 5 ms}", "noise.tau", "needs the study's dt"),
    "colour in volts": (NOISE, "noise: {tau: 5 mV}\ndt: 1 ms", "noise.tau", "mV is none of s, second"),
    "colour twice": (NOISE, "noise: {tau: 5 ms, steps: 3}\ndt: 1 ms", "noise.steps", "either tau or steps"),
    "colour below a step": (NOISE, "noise: {tau: 0.5 ms}\ndt: 1 ms", "noise", "0.5 steps; a colour shorter than"),
    "colour of half a step": (NOISE, "noise: {steps: 0.5}", "noise.steps", "greater than or equal to 1"),
    "correlation": (NOISE, "noise: {shared: 1.5}", "noise.shared", "less than or equal to 1"),
    "shot": (NOISE, "noise: {shot: {}}", "noise.shot", "expected either rate or per_step"),
    "shot without dt": (NOISE, "noise: {shot: {rate: 100 Hz}}", "noise.shot", "needs the study's dt"),
    "shot in time": (NOISE, "noise: {shot: {rate: 100 ms}}\ndt: 1 ms", "noise.shot.rate", "ms is none of Hz, kHz"),
    "noise key": (NOISE, "noise: {colour: 3}", "noise.colour", "unknown key"),
    "noise on errors": (NOISE, "noise: {on: errors}", "noise.on", "errors have no state on torch"),
    "noise of another kernel": (KERNEL, KERNEL.replace("langevin", "mala"), "noise",
                                "its options shape the noise of langevin"),
    "noise at zero": (KERNEL, KERNEL.replace("0.1", "0.1, temperature: 0"), "noise", "there is no noise to shape"),
    "short phase": ("  preconditioner: none", "  preconditioner: {name: frozen, window: 5}", "stimulus[0].steps",
                    "the kernel adapts in the first 5 steps of every phase, and this one has 5"),
    "learning": (NOISE, "learning: {updates: 3}", "learning", "training images come in random order"),
    "evaluation": (NOISE, "evaluation: {log_likelihood: {}}", "evaluation.log_likelihood",
                   "held-out images are measured one by one"),
    "clamped past": ("clamp: {x: [1.0, 2.0]}", "clamp: {x: [1.0, 2.0], z_before: 0.0}", "clamp.z_before",
                     "state its mean for the first frame"),
    "error of the past": (RECORD, RECORD.replace("{read: value}", "{read: error, nodes: [z_before]}"),
                          "record.probes[0].nodes", "it has a value, no error and no drift"),
    "codegen on torch": (NOISE, "codegen: cython", "codegen", "only engine: brian2 generates code"),
    "engine": (NOISE, "engine: nest", "engine", "'nest'"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_named_at_its_place(tmp_path: Path, name: str) -> None:
    line, instead, path, says = MISTAKES[name]
    with pytest.raises(StudyError) as caught:
        load_text(tmp_path, STUDY.replace(line, instead))
    message = str(caught.value)
    assert says in message
    assert f": {path}: " in message
    assert "study.yaml:" in message


def test_a_drive_has_room_for_what_adapts_first(tmp_path: Path) -> None:
    circuit = CIRCUIT + "encoder:\n  - {from: x, to: z, layers: [{linear: 4}]}\n"
    study = STUDY.replace("preconditioner: none", "preconditioner: {name: frozen, window: 4}")
    study = study.replace(NOISE, "").replace(IMAGE, IMAGE.replace("steps: 5", "steps: 12, onset: {drive: 3}"))
    with pytest.raises(
        StudyError, match=r"stimulus\[1\].onset: the kernel adapts in the first 4 steps of a drive"
    ):
        load_text(tmp_path, study, circuit)
    assert load_text(tmp_path, study.replace("drive: 3", "drive: 6"), circuit).phases[1].steps == 12


def test_one_clamped_value_is_not_spread_over_two_units(tmp_path: Path) -> None:
    plan = load_text(tmp_path, STUDY.replace("clamp: {x: [1.0, 2.0]}", "clamp: {x: [1.0]}"))
    with pytest.raises(
        StudyError, match=r"clamp.x: expected image, label, a number or values of shape \[2\]"
    ):
        training.materials_of(plan)


def test_blocks_that_cut_a_probe_are_refused_at_the_recording(tmp_path: Path) -> None:
    record = RECORD.replace("{read: value}", "{read: value, every: 3}, {read: energy}").replace(
        "images", "block: 4, images"
    )
    plan = load_text(tmp_path, STUDY.replace(RECORD, record))
    with pytest.raises(
        StudyError, match=r"study.yaml:\d+: record: z_before/value: every: 3 does not divide the block"
    ):
        recorded.session_of(plan, training.materials_of(plan), training.initial_parameters(plan))


def test_a_missing_series_has_a_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "frames.csv").write_text("x.0,x.1\n1,2")
    with pytest.raises(StudyError, match=r"frame\.csv: no such file; did you mean 'frames\.csv'\?"):
        load_text(tmp_path, STUDY.replace(*shows("{series: frame.csv}")))


def test_a_schedule_of_nothing_is_refused(tmp_path: Path) -> None:
    study = STUDY.replace(BLANK + "\n", "").replace(IMAGE, "  - {repeat: 2, phases: []}")
    with pytest.raises(StudyError, match=r"study.yaml:\d+: stimulus: expected at least one phase"):
        load_text(tmp_path, study)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("x.0\n1", "expected a list of frames of shape [2], found [1, 1]"),
        ("x.0,x.1", "expected a line of names and at least one frame"),
        ("x.0,x.1\n1,two", "a cell of node x is no number"),
        ("x.0,x.1\n1", "a cell of node x is no number"),
        ("y\n1", "no node 'y'"),
        ("x.0,x.2\n1,2", "the columns of node x are ['x.0', 'x.2']; no column 'x.1'"),
        ("x.0,x.1\n1,inf", "expected finite numbers"),
    ],
)
def test_bad_tables_are_named(tmp_path: Path, table: str, says: str) -> None:
    (tmp_path / "frames.csv").write_text(table)
    with pytest.raises(StudyError, match=r"frames\.csv|shape|no node|finite") as caught:
        load_text(tmp_path, STUDY.replace(*shows("{series: frames.csv}")))
    assert says in str(caught.value)


def test_a_discrete_parent_is_not_released(tmp_path: Path) -> None:
    circuit = """\
nodes:
  s: {shape: [2], distribution: categorical}
  x: {shape: [2], distribution: gaussian}
edges:
  - {from: s, to: x, layers: [{linear: 2}]}
"""
    study = STUDY.replace("clamp: {x: [1.0, 2.0]}", "clamp: {s: [1.0, 0.0]}")
    with pytest.raises(StudyError, match="node s is discrete and has a child"):
        load_text(tmp_path, study, circuit)


TORCH_CANNOT = {
    "error_tau": ("z: {shape: [2], distribution: gaussian, error_tau: 1 ms}", "errors are instantaneous"),
    "errors": ("z: {shape: [2], distribution: gaussian, errors: {split: true}}", "no gradient of an energy"),
    "adaptation": (
        "z: {shape: [2], distribution: gaussian, adaptation: {tau: 5 ms, strength: 1.0}}",
        "fatigue",
    ),
}


@pytest.mark.parametrize("name", TORCH_CANNOT)
def test_torch_refuses_what_only_a_simulator_has(tmp_path: Path, name: str) -> None:
    node, says = TORCH_CANNOT[name]
    circuit = CIRCUIT.replace("z: {shape: [2], distribution: gaussian}", node)
    with pytest.raises(CircuitError, match=says) as caught:
        load_text(tmp_path, STUDY, circuit)
    assert "study.yaml:1: circuit: node z: " in str(caught.value)
    assert "engine: brian2" in str(caught.value)
    with pytest.raises(CircuitError, match=says):
        pcsim.sample(tmp_path / "circuit.yaml", {"x": np.zeros((1, 2))}, langevin(0.1), 3)


def test_torch_refuses_delays(tmp_path: Path) -> None:
    circuit = CIRCUIT.replace("layers: [tanh, {linear: 2}]}", "layers: [tanh, {linear: 2}], delay: 2 ms}")
    with pytest.raises(
        CircuitError, match="edge z->x: delay: 2 ms: torch evaluates all nodes at one instant"
    ):
        load_text(tmp_path, STUDY, circuit)


SIMPLE: dict[str, Any] = {"nodes": {"z": {"shape": [2], "distribution": "gaussian"},
                                    "x": {"shape": [2], "distribution": "gaussian"}},
                          "edges": [{"from": "z", "to": "x", "layers": ["identity"]}]}  # fmt: skip


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"stimulus": []}, "stimulus: expected at least one phase"),
        ({"stimulus": [{"show": {"y": 1}, "steps": 3}]}, r"sample: stimulus\[0\].show.y: no node 'y'"),
        ({"stimulus": [{"show": "image", "time": "5 ms"}]}, "needs a dt"),
        ({"stimulus": [{"show": "image", "steps": 3}], "spontaneous": 5}, "leave out steps and spontaneous"),
        ({"noise": {"tau": "5 ms"}}, "noise.tau: a time or a rate needs the study's dt"),
        ({"noise": {"on": "errors"}}, "errors have no state on torch"),
        ({"noise": {"shared": 2.0}}, "noise.shared: input should be less than or equal to 1"),
    ],
)
def test_calls_from_python_are_refused_alike(more: dict[str, Any], says: str) -> None:
    with pytest.raises(PcsimError, match=says):
        pcsim.sample(SIMPLE, {"x": np.zeros((2, 2))}, langevin(0.1), **more)
    with pytest.raises(StudyError, match="at temperature 0 there is no noise"):
        pcsim.sample(SIMPLE, {"x": np.zeros((2, 2))}, langevin(0.1, 0.0), 3, noise={"shared": 0.5})
