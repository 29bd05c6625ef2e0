"""Schedules of stimuli: what is held when, what the encoder does at an onset, and what the trace says of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

import pcsim
from pcsim.api import Probe, parameters_of
from pcsim.engines.torch.program import Program
from pcsim.inference.kernels import langevin
from pcsim.inference.rng import seed_stream
from pcsim.record import TraceWriter, open_trace
from pcsim.study import build, load, recorded, recording, run, training
from pcsim.study.pictures import shuffled
from tests.study.cases import STUDY, write_study
from tests.study.test_bad_files import go

CIRCUIT: dict[str, Any] = {
    "nodes": {
        "z": {"shape": [2], "distribution": "gaussian"},
        "x": {"shape": [1, 4, 4], "distribution": {"gaussian": {"precision": 4.0}}},
    },
    "edges": [{"from": "z", "to": "x", "layers": [{"linear": 16}, {"reshape": [1, 4, 4]}]}],
    "encoder": [{"from": "x", "to": "z", "layers": [{"reshape": [16]}, {"linear": 4}]}],
}
IMAGES = np.linspace(-1, 1, 3 * 16).reshape(3, 1, 4, 4)
VALUES = (Probe(("value",)),)


def shown(stimulus: list[dict[str, Any]], **more: Any) -> xr.DataTree:
    """The trace of a schedule on three images."""
    options: dict[str, Any] = {"probes": VALUES, "chains": 2, "device": "cpu", **more}
    trace: xr.DataTree = pcsim.sample(CIRCUIT, IMAGES, langevin(0.05), stimulus=stimulus, **options)
    return trace


def pictures(trace: xr.DataTree, frame: int) -> NDArray[np.float64]:
    """x in one frame, `[image, step, 4, 4]` of the first chain."""
    here = trace["x"]["value"].isel(chain=0, step=trace.coords["frame"].values == frame)
    return here.transpose("image", "step", ...).values[:, :, 0]


def test_steps_phases_and_frames() -> None:
    """Step 0 is the first onset of a stimulus; n steps are n records, the last phase ends in one more."""
    trace = shown([
        {"show": "blank", "steps": 4},
        {"repeat": 2, "phases": [{"show": "image", "steps": 3, "name": "standard"}, {"show": "omission", "steps": 2}]},
    ])  # fmt: skip
    names = ["blank"] * 4 + (["standard"] * 3 + ["omission"] * 2) * 2 + ["omission"]
    assert trace.coords["step"].values.tolist() == list(range(-4, 11))
    assert trace.coords["phase"].values.tolist() == names
    assert trace.coords["frame"].values.tolist() == [0] * 4 + [1] * 3 + [2] * 2 + [3] * 3 + [4] * 3
    assert trace.coords["onset"].values.tolist() == [-4, 0, 3, 5, 8]
    told = json.loads(trace.attrs["stimulus"])
    assert [phase["onset"] for phase in told] == [-4, 0, 3, 5, 8]
    assert told[1] == {
        "frame": 1,
        "name": "standard",
        "onset": 0,
        "steps": 3,
        "show": "image",
        "encoder": "none",
    }


def test_what_each_phase_holds() -> None:
    trace = shown([
        {"show": "image", "steps": 2}, {"show": "omission", "steps": 2}, {"show": {"image": 2}, "steps": 2},
        {"show": {"next": 1}, "steps": 2}, {"show": {"x": 0.25}, "steps": 2}, {"show": "mask", "steps": 2},
        {"show": "blank", "steps": 5},
    ])  # fmt: skip
    whole = np.repeat(IMAGES, 2, 1).reshape(3, 2, 4, 4)
    assert pictures(trace, 0) == pytest.approx(whole)
    assert not pictures(trace, 1).any()
    assert pictures(trace, 2) == pytest.approx(np.broadcast_to(whole[2], whole.shape))
    assert pictures(trace, 3) == pytest.approx(whole[[1, 2, 0]])
    assert (pictures(trace, 4) == 0.25).all()
    masked = pictures(trace, 5)[:, 0]
    assert np.sort(masked.reshape(3, -1)) == pytest.approx(np.sort(IMAGES.reshape(3, -1)))
    assert (masked != IMAGES[:, 0]).any(axis=(1, 2)).all()
    # released: it moves, from where it was held
    free = pictures(trace, 6)
    assert np.array_equal(free[:, 0], masked)
    assert (np.diff(free, axis=1) != 0).all()
    # a node that is held at a value of its own has what it was held at beside the trace, NaN where it was free
    kept = trace["x"]["shown"].to_numpy()[:, :, 0]
    assert np.isnan(kept[:, 6]).all()
    assert (kept[:, 4] == 0.25).all()
    assert np.array_equal(kept[:, 5], masked)


def test_chain_goes_on_where_nothing_replaces_it() -> None:
    """An onset without the encoder changes what is held, not where the state stands: noise-free, one descent."""
    kernel, start = langevin(0.05, 0.0), "prior"
    phases = [{"show": "image", "steps": 5}, {"show": "image", "steps": 7}]
    split = pcsim.sample(
        CIRCUIT, IMAGES, kernel, stimulus=phases, start=start, probes=VALUES, seed=4, device="cpu"
    )
    whole = pcsim.sample(CIRCUIT, IMAGES, kernel, 12, start=start, probes=VALUES, seed=4, device="cpu")
    assert np.array_equal(split["z"]["value"].values, whole["z"]["value"].values)


def test_plain_schedule_is_the_same_as_a_stated_one() -> None:
    """Without `stimulus`, [blank S, image T]; only the step that leads to the sweep is left out there."""
    stated = [{"show": "image", "steps": 9}]
    here = shown(stated, start="encoder", seed=2)
    plain = pcsim.sample(
        CIRCUIT, IMAGES, langevin(0.05), 9, start="encoder", probes=VALUES, chains=2, seed=2, device="cpu"
    )
    assert np.array_equal(here["z"]["value"].values, plain["z"]["value"].values)
    assert here.coords["step"].values.tolist() == plain.coords["step"].values.tolist()
    # the labels of a run without a schedule stay what they were
    assert plain.coords["phase"].values.tolist() == ["sweep"] + ["evoked"] * 9
    assert "frame" not in plain.coords
    assert "onset" not in plain.coords
    assert "stimulus" not in plain.attrs


def test_blank_is_the_prior() -> None:
    """Spontaneous activity samples the joint prior: closed-form variance of z with its step-size bias."""
    linear = {
        "nodes": {
            "z": {"shape": [1], "distribution": "gaussian"},
            "x": {"shape": [1], "distribution": "gaussian"},
        },
        "edges": [{"from": "z", "to": "x", "layers": [{"linear": {"weight": [[1.0]], "bias": False}}]}],
    }
    chains, step_size = 8000, 0.1
    trace = pcsim.sample(
        linear, np.array([[3.0]]), langevin(step_size), chains=chains, probes=(Probe(("value",), every=60),),
        stimulus=[{"show": "image", "steps": 60}, {"show": "blank", "steps": 60}], device="cpu",
    )  # fmt: skip
    joint = np.array([[2.0, -1.0], [-1.0, 1.0]])
    s = np.linalg.inv(joint @ (np.eye(2) - step_size / 2 * joint))
    found = np.cov(np.stack([trace[n]["value"].sel(step=120).values[0, :, 0] for n in ("z", "x")]))
    error = np.sqrt((np.outer(np.diag(s), np.diag(s)) + s**2) / chains)
    slow = (1 - step_size * np.linalg.eigvalsh(joint).min()) ** 120 * 9  # what is left of the stimulus
    assert (np.abs(found - s) <= 4 * error + slow).all()


@pytest.mark.parametrize("kind", ["blur", "contrast", "occlude", "all"])
def test_transforms(kind: str) -> None:
    """Oracle: scipy's two-dimensional filter; arithmetic by hand."""
    every = {"blur": 1.5, "contrast": 0.5, "occlude": "left"}
    transform = every if kind == "all" else {kind: every[kind]}
    trace = shown([{"show": "image", "steps": 1, "transform": transform}])
    expected = IMAGES[:, 0]
    if "blur" in transform:
        expected = np.stack([gaussian_filter(picture, 1.5, mode="nearest") for picture in expected])
    if "contrast" in transform:
        expected = 0.5 * expected
    if "occlude" in transform:
        expected = expected.copy()
        expected[:, :, :2] = -1.0
    assert pictures(trace, 0)[:, 0] == pytest.approx(expected)
    assert json.loads(trace.attrs["stimulus"])[0]["transform"] == transform


def test_a_mask_shuffles_whole_pixels() -> None:
    """The channels of a pixel stay together, and every image has an order of its own."""
    n = torch.arange(16.0)
    picture = torch.stack((n, n + 100, n + 200)).reshape(1, 3, 4, 4).expand(2, 3, 4, 4)
    made = shuffled(picture, seed_stream(0, "mask"))
    assert torch.equal(made[:, 1], made[:, 0] + 100)
    assert torch.equal(made[:, 2], made[:, 0] + 200)
    assert not torch.equal(made[0], made[1])


def test_replace_starts_every_phase_at_the_encoder() -> None:
    """z at each onset is a draw of q: standardised, the draws of many chains are standard normal."""
    chains = 4000
    trace = shown(
        [{"show": "image", "steps": 30}, {"show": {"next": 1}, "steps": 30}], start="encoder", chains=chains,
        probes=(Probe(("value",), ("z",), every=30),),
    )  # fmt: skip
    mean, scale = (trace["encoder/z"][name].to_numpy() for name in ("mean", "scale"))
    for step, order in ((0, [0, 1, 2]), (30, [1, 2, 0])):
        z = trace["z"]["value"].sel(step=step).values
        standard = (z - mean[order][:, None]) / scale[order][:, None]
        assert standard.mean(1) == pytest.approx(0, abs=4 / np.sqrt(chains))
        assert standard.var(1) == pytest.approx(1, abs=4 * np.sqrt(2 / chains))


def test_drive_is_one_more_gaussian_factor() -> None:
    """T = 0 with a drive converges to (Λ m + μ/v)/(Λ + 1/v); after `drive: n` steps it is gone again."""
    kernel = langevin(0.02, 0.0)
    phases = [{"show": "blank", "steps": 1}, {"show": "image", "steps": 600, "onset": "drive"},
              {"show": "image", "steps": 900, "onset": {"drive": 300}}]  # fmt: skip
    trace = pcsim.sample(CIRCUIT, IMAGES, kernel, stimulus=phases, probes=VALUES, device="cpu", weights=None)
    circuit = pcsim.load(CIRCUIT)
    params = parameters_of(Program(circuit), None, 0, torch.float64, torch.device("cpu"))
    weight, bias = params["z->x.0.weight"].numpy(), params["z->x.0.bias"].numpy()
    curvature = np.eye(2) + 4 * weight.T @ weight
    force = 4 * (IMAGES.reshape(3, 16) - bias) @ weight
    mean, scale = (trace["encoder/z"][name].to_numpy() for name in ("mean", "scale"))
    for image in range(3):
        pull = np.diag(scale[image] ** -2.0)
        driven = np.linalg.solve(curvature + pull, force[image] + pull @ mean[image])
        alone = np.linalg.solve(curvature, force[image])
        z = trace["z"]["value"].isel(image=image, chain=0)
        assert z.sel(step=600).values == pytest.approx(driven, abs=1e-9)
        assert z.sel(step=900).values == pytest.approx(driven, abs=1e-9)
        assert z.sel(step=1500).values == pytest.approx(alone, abs=1e-9)
        assert np.abs(driven - alone).max() > 1e-3


def test_noise_and_stimulus_together() -> None:
    """Shared noise of correlation 1 moves both units alike: their difference follows the descent without noise."""
    unit = {"shape": [2], "distribution": "gaussian"}
    flat = {"nodes": {"z": unit, "x": unit},
            "edges": [{"from": "z", "to": "x", "layers": ["identity"]}]}  # fmt: skip
    trace = pcsim.sample(
        flat, {"x": [[1.0, -1.0]]}, langevin(0.1), noise={"shared": 1.0}, probes=VALUES, device="cpu",
        stimulus=[{"show": "image", "steps": 20}, {"show": {"x": [0.0, 0.0]}, "steps": 20}],
    )  # fmt: skip
    z = trace["z"]["value"].values[0, 0]
    difference = z[:, 0] - z[:, 1]
    expected = difference[0]
    for step in range(1, 41):
        expected = expected - 0.1 * (2 * expected - (2.0 if step <= 20 else 0.0))
        assert difference[step] == pytest.approx(expected, abs=1e-12)
    assert z[:, 0].std() > 0.05


SCHEDULE = """\
stimulus:
  - {show: blank, steps: 5}
  - repeat: 2
    phases:
      - {show: image, steps: 6}
      - {show: mask, steps: 5, onset: none}
  - {show: {series: frames.csv}, steps: 4, transform: {contrast: 0.5}}
noise: {steps: 2, shared: 0.2}
"""


def a_study(folder: Path) -> Path:
    """A study that only looks, with a schedule, coloured noise and a series from a file."""
    text = STUDY[: STUDY.index("learning:")] + STUDY[STUDY.index("record:") : STUDY.index("evaluation:")]
    for line in ("  spontaneous: 6\n", "  steps: 12\n"):
        text = text.replace(line, "")
    rows = [",".join(f"x.{i}" for i in range(64)), *(",".join(["1"] * 64) for _ in range(3))]
    file = write_study(folder, text + SCHEDULE)
    (folder / "frames.csv").write_text("\n".join(rows))
    return file


def test_study_records_its_schedule_and_resumes_to_the_same_bits(tmp_path: Path) -> None:
    """A trace whose later blocks were lost is completed to the very bits of one that was written at once."""

    file = a_study(tmp_path)
    go(file, tmp_path / "whole")
    whole = open_trace(tmp_path / "whole" / "trace.zarr").load()
    assert whole.coords["phase"].values.tolist() == (
        ["blank"] * 5 + (["image"] * 6 + ["mask"] * 5) * 2 + ["series"] * 13
    )
    assert set(np.unique(whole["x"]["shown"].to_numpy()[:, 5:])) == {0.75}
    plan = build.build(load.load_study(file))
    materials = training.materials_of(plan)
    session, layout = recorded.session_of(plan, materials, training.initial_parameters(plan))
    path = tmp_path / "trace.zarr"

    for most in (9, 17, 30):
        with pytest.raises(Enough), TraceWriter(path, layout) as writer:
            recording.record(session, writer, 3, ("record", 0), Patience(most))
    with TraceWriter(path, layout) as writer:
        assert 0 < writer.n_written < len(layout.steps)
        recording.record(session, writer, 3, ("record", 0), Patience(10_000))
    again = open_trace(path).load()
    for name in ("z", "x"):
        mine, other = whole[name].to_dataset(inherit=False), again[name].to_dataset(inherit=False)
        assert set(mine) == set(other)
        xr.testing.assert_identical(mine.drop_attrs(), other.drop_attrs())


class Enough(Exception):
    """The recording was stopped on purpose."""


class Patience:
    """Counts recorded steps and stops after so many."""

    def __init__(self, left: int) -> None:
        self.left = left

    def __call__(self, amount: int) -> None:
        """Some steps were recorded."""
        self.left -= amount
        if self.left < 0:
            raise Enough


def test_times_become_steps_of_dt(tmp_path: Path) -> None:
    """50 ms at 2 ms a step are 25 steps; a colour of 5 ms is 2.5; 100 Hz are 0.2 spikes a step."""
    file = a_study(tmp_path)
    words = ["dt=2 ms", "stimulus=[{show: image, time: 50 ms}]",
             "noise={tau: 5 ms, shared: 0.1, shot: {rate: 100 Hz}}"]  # fmt: skip
    plan = build.build(load.load_study(file, words))
    assert [phase.steps for phase in plan.phases] == [25]
    assert plan.noise.colour_steps == pytest.approx(2.5)
    assert plan.noise.spikes == pytest.approx(0.2)
    session, layout = recorded.session_of(
        plan, training.materials_of(plan), training.initial_parameters(plan)
    )
    assert session.noise == plan.noise
    assert layout.steps == range(26)
    plain = build.build(load.load_study(file, ["stimulus=[{show: image, steps: 25}]", "noise={steps: 2.5}"]))
    assert plain.noise.colour_steps == 2.5


def test_single_units_of_a_held_node_stand_beside_all_that_is_observed() -> None:
    """What is recorded of some units keeps the dims' names, what holds all of them has names of its own."""
    probes = (Probe(("value", "error"), ("x",), (0,)), Probe(("value",), ("z",), (1,)))
    trace = shown([{"show": "image", "steps": 2}], probes=probes)
    assert trace["x"]["observed"].dims == ("image", "all_channel", "all_y", "all_x")
    assert trace["z"]["value"].coords["unit"].values.tolist() == [1]


def test_a_study_of_images_can_run_on_brian2(tmp_path: Path) -> None:
    """Images are single precision on torch and double in a neural simulator, which refuses no study for that."""
    pytest.importorskip("brian2")
    plan = build.build(load.load_study(a_study(tmp_path), ["engine=brian2", "inference.preconditioner=none"]))
    assert plan.dtype == torch.float32


def test_the_numbers_of_a_series_decide_the_identity_of_a_run(tmp_path: Path) -> None:
    """Another table under the same name is another study; the run carries the numbers itself."""
    file = a_study(tmp_path)
    before = build.build(load.load_study(file))
    assert run.identity_of(before, "") == run.identity_of(build.build(load.load_study(file)), "")
    table = tmp_path / "frames.csv"
    table.write_text(table.read_text().replace("1,1,1", "0,1,1", 1))
    after = build.build(load.load_study(file))
    assert run.identity_of(before, "") != run.identity_of(after, "")
    again = tmp_path / "elsewhere" / "again.yaml"
    again.parent.mkdir()
    again.write_bytes(run.resolved(after))
    assert run.identity_of(build.build(load.load_study(again)), "") == run.identity_of(after, "")
