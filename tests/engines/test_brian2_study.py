"""A study on Brian2: the trace of torch to rounding, interruptions, and what is refused with its line.

Oracle: the torch engine's own recording of the same study, which draws from the same streams.
"""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from pcsim.errors import Divergence
from pcsim.study import build, checkpoint, load, run, training
from pcsim.study.directory import RunDirectory, read_manifest
from pcsim.study.reporter import Silent
from pcsim.study.stopping import Stopper
from tests.study.cases import command, environment

AGREEMENT = 1e-9

CIRCUIT = """\
nodes:
  z: {shape: [3], distribution: gaussian}
  h: {shape: [4], distribution: {gaussian: {precision: 2.0}}, tau: 25 ms}
  x: {shape: [5], distribution: {gaussian: {precision: [1.0, 2.0, 1.5, 1.0, 0.5]}}}
  y: {shape: [2], distribution: bernoulli}
edges:
  - {from: z, to: h, layers: [{linear: 4}]}
  - {from: h, to: x, layers: [tanh, {linear: 5}]}
  - {from: h, to: y, layers: [{linear: 3}, softplus, {linear: 2}]}
encoder:
  - {from: x, to: z, layers: [{linear: 6}]}
"""

STUDY = """\
seed: 5
circuit: circuit.yaml
clamp: {x: [0.5, -1.0, 0.3, 2.0, 0.1], y: [1.0, 0.0]}
dt: 1 ms
inference:
  kernel: {name: langevin, step_size: 0.05}
  preconditioner: none
  start: encoder
  steps: 8
record:
  images: 2
  chains: 3
  spontaneous: 5
  steps: 12
  block: 4
  probes:
    - {read: [value, error, drift], nodes: [z, h, x]}
    - {read: [value, error], nodes: [y]}
    - {read: [energy, gradient_norm], every: 2}
"""

PHASES = """\
mask: {x: [1, 1, 0, 0, 1]}
noise: {tau: 4 ms, shared: 0.3, shot: {rate: 300 Hz}}
stimulus:
  - {show: blank, time: 6 ms}
  - {show: image, steps: 7, onset: {drive: 3}}
  - {show: omission, steps: 4, onset: none}
  - {repeat: 2, phases: [{show: {x: [1.0, 1.0, 0.0, 0.0, -1.0]}, steps: 3}]}
  - {show: image, steps: 5, onset: replace}
  - {show: mask, steps: 4, onset: drive}
"""

TEMPORAL = """\
seed: 1
circuit:
  nodes:
    before: {past: z, mean: [0.3, -0.2]}
    z: {shape: [2], distribution: {gaussian: {precision: 2.0}}, tau: 30 ms}
    x: {shape: [2], distribution: gaussian}
  edges:
    - {from: before, to: z, layers: [{linear: {weight: [[0.9, 0.2], [-0.1, 0.8]]}}]}
    - {from: z, to: x, layers: [{linear: {weight: [[1.0, 0.0], [0.5, 1.0]]}}]}
dt: 1 ms
inference: {kernel: {name: langevin, step_size: 0.1}, preconditioner: none, steps: 1}
stimulus:
  - {show: {x: [1.0, 0.5]}, steps: 6}
  - {show: {x: [0.0, 0.5]}, steps: 6}
  - {show: blank, steps: 4}
  - {show: {x: [-1.0, 2.0]}, steps: 6}
record: {images: 1, chains: 4, block: 5, probes: [{read: [value], nodes: [before, z, x]}, {read: [energy]}]}
"""


def write(folder: Path, study: str = STUDY, circuit: str = CIRCUIT) -> Path:
    """The study and its circuit as files in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "circuit.yaml").write_text(circuit)
    (folder / "study.yaml").write_text(study)
    return folder / "study.yaml"


def in_process(file: Path, overrides: list[str], out: Path) -> xr.DataTree:
    """`pcsim run` without its process: the trace."""
    torch.set_num_threads(1)
    plan = build.build(load.load_study(file, overrides))
    run.run(plan, RunDirectory(out), training.materials_of(plan), Silent(), Stopper())
    with xr.open_datatree(out / "trace.zarr", engine="zarr") as tree:
        return tree.load()


def assert_agree(one: xr.DataTree, other: xr.DataTree) -> None:
    """The same groups, variables, dims, coordinates and attributes; numbers to 1e-9, and something moves."""
    assert [n.path for n in one.subtree] == [n.path for n in other.subtree]
    for node in one.subtree:
        a, b = node.to_dataset(), other[node.path].to_dataset()
        assert set(a.variables) == set(b.variables)
        for name in a.variables:
            assert a[name].dims == b[name].dims
            assert a[name].dtype == b[name].dtype
            assert a[name].attrs == b[name].attrs
            if a[name].dtype.kind != "f":
                assert (a[name].values == b[name].values).all()
            else:
                np.testing.assert_allclose(b[name].values, a[name].values, rtol=0, atol=AGREEMENT)
    changed = {k for k in one.attrs.keys() | other.attrs.keys() if one.attrs.get(k) != other.attrs.get(k)}
    assert changed <= {"engine", "codegen", "circuit", "layout"}
    assert float(one["z/value"].std()) > 0.1


@pytest.mark.parametrize(
    "study", [STUDY, STUDY.replace("  spontaneous: 5\n  steps: 12\n", "") + PHASES, TEMPORAL],
    ids=["spontaneous and evoked", "phases, noise and a mask", "past nodes"],
)  # fmt: skip
def test_both_engines_leave_the_same_trace(tmp_path: Path, study: str) -> None:
    file = write(tmp_path, study)
    torch_trace = in_process(file, [], tmp_path / "torch")
    brian = in_process(file, ["engine=brian2"], tmp_path / "brian2")
    assert brian.attrs["engine"] == "brian2"
    assert brian.attrs["codegen"] == "numpy"
    assert brian.coords["time"].attrs["units"] == "s"
    np.testing.assert_allclose(brian.coords["time"], 1e-3 * brian.coords["step"], rtol=1e-12)
    assert_agree(torch_trace, brian)


def test_manifest_says_what_ran(tmp_path: Path) -> None:
    in_process(write(tmp_path), ["engine=brian2", "record.steps=2"], tmp_path / "out")
    manifest = read_manifest(RunDirectory(tmp_path / "out"))
    assert (manifest["engine"], manifest["codegen"], manifest["status"]) == ("brian2", "numpy", "complete")
    assert manifest["versions"]["brian2"][0].isdigit()


def test_another_seed_gives_another_trace(tmp_path: Path) -> None:
    """Negative control of the agreement: it is the draws that agree."""
    file = write(tmp_path)
    one = in_process(file, ["engine=brian2"], tmp_path / "one")
    other = in_process(file, ["engine=brian2", "seed=6"], tmp_path / "other")
    with pytest.raises(AssertionError):
        assert_agree(one, other)


class _Killed(BaseException):
    """A kill that leaves everything as it stands: no handler catches it, `finally` blocks aside."""


def _dying(see: Callable[..., None], after: int) -> Callable[..., None]:
    """As `see`, so many times; then a kill."""
    counter = itertools.count()

    def dying(*arguments: Any) -> None:
        if next(counter) == after:
            raise _Killed
        see(*arguments)

    return dying


@pytest.mark.parametrize("after", [0, 6, 17])
def test_killed_recording_goes_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    file, words = write(tmp_path), ["engine=brian2"]
    whole = in_process(file, words, tmp_path / "whole")
    from pcsim.study import recording_brian2

    with monkeypatch.context() as patch:
        patch.setattr(recording_brian2.Player, "_see", _dying(recording_brian2.Player._see, after))
        with pytest.raises(_Killed):
            in_process(file, words, tmp_path / "pieces")
    pieces = in_process(file, words, tmp_path / "pieces")
    for node in whole.subtree:
        for name in node.data_vars:
            assert node[name].values.tobytes() == pieces[node.path][name].values.tobytes()


def test_divergence_names_step_node_and_energy(tmp_path: Path) -> None:
    """A linear edge with γ λ > 2: every step multiplies the distance; the steps before are in the trace."""
    circuit = CIRCUIT.replace("[tanh, {linear: 5}]", "[{linear: {weight: [" + "[3, 0, 0, 0], " * 5 + "]}}]")
    file = write(tmp_path, STUDY.replace("spontaneous: 5", "spontaneous: 0"), circuit)
    words = ["engine=brian2", "record.steps=200", "dt=24 ms"]
    with pytest.raises(
        Divergence, match=r"diverged at step 25: node 'h', energy .*; dt is too long"
    ) as caught:
        in_process(file, words, tmp_path / "out")
    assert 1e3 < caught.value.energy < np.inf
    with xr.open_datatree(tmp_path / "out" / "trace.zarr", engine="zarr") as tree:
        assert 0 < tree.attrs["n_written"] <= caught.value.step + 1
        assert np.isfinite(tree["z/value"].values[:, :, :24]).all()
    assert read_manifest(RunDirectory(tmp_path / "out"))["status"] == "failed"


@pytest.mark.slow
def test_compiled_program_leaves_the_same_trace(tmp_path: Path) -> None:
    import brian2

    file = write(tmp_path, STUDY.replace("spontaneous: 5", "spontaneous: 0"))
    before = list(brian2.prefs.devices.cpp_standalone.extra_make_args_unix)
    compiled = in_process(file, ["engine=brian2", "codegen=cpp_standalone"], tmp_path / "compiled")
    assert brian2.prefs.devices.cpp_standalone.extra_make_args_unix == before
    assert compiled.attrs["codegen"] == "cpp_standalone"
    assert_agree(in_process(file, [], tmp_path / "torch"), compiled)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_stops_it_and_the_same_command_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    """Brian2 takes Ctrl-C for itself when it is imported; the run's own handler must come first again."""
    file = write(tmp_path)
    words = ["run", file, "engine=brian2", "record.steps=3000", "--out", tmp_path / "pieces"]
    process = subprocess.Popen(command(*words), env=environment(tmp_path), stdout=subprocess.DEVNULL)
    written = tmp_path / "pieces" / "trace.zarr" / "zarr.json"
    _wait(lambda: written.is_file() and '"n_written": 0' not in written.read_text(), process)
    process.send_signal(number)
    assert process.wait(60) == {signal.SIGINT: 130, signal.SIGTERM: 143}.get(number, -number)
    status = read_manifest(RunDirectory(tmp_path / "pieces"))["status"]
    assert status == ("running" if number == signal.SIGKILL else "stopped")
    pieces = in_process(file, ["engine=brian2", "record.steps=3000"], tmp_path / "pieces")
    whole = in_process(file, ["engine=brian2", "record.steps=3000"], tmp_path / "whole")
    assert whole["h/value"].values.tobytes() == pieces["h/value"].values.tobytes()


def _wait(there: Callable[[], bool], process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + 120
    while not there():
        assert process.poll() is None, "it ended before it could be stopped"
        assert time.monotonic() < end
        time.sleep(0.02)


LESSON = """\
seed: 0
circuit:
  nodes:
    z: {shape: [1], distribution: gaussian}
    x: {shape: [1], distribution: gaussian}
    y: {shape: [1], distribution: gaussian}
  edges:
    - {from: z, to: x, layers: [{linear: {weight: [[0.5]]}}]}
    - {from: x, to: y, layers: [{linear: {weight: [[1.0]]}}]}
clamp: {z: 2.0, x: 3.0}
engine: brian2
plasticity: {step_size: 0.01, parameters: [z->x.0.weight]}
inference: {kernel: {name: langevin, step_size: 0.1, temperature: 0.0}, preconditioner: none, steps: 1}
record: {images: 1, chains: 2, steps: 40, block: 8, probes: [{read: [value, energy], nodes: [x, y]}]}
"""


def test_plasticity_learns_while_it_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """w ← w + η (x − w z) z with z and x held: x − w z = (x − w₀ z)(1 − η z²)^n, and the energy is that of its square.

    The weights of the run are those after its last step, also where it was killed before.
    """
    file = write(tmp_path, LESSON)
    trace = in_process(file, [], tmp_path / "whole")
    steps = np.arange(41)
    error = (3.0 - 0.5 * 2.0) * (1 - 0.01 * 4.0) ** steps
    expected = 0.5 * error**2 + 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(trace["x/energy"].values, np.broadcast_to(expected, (1, 2, 41)), rtol=1e-12)
    weights = checkpoint.load_weights(tmp_path / "whole")
    np.testing.assert_allclose(weights["z->x.0.weight"], [[(3.0 - error[-1]) / 2.0]], rtol=1e-12)
    from pcsim.study import recording_brian2

    with monkeypatch.context() as patch:
        patch.setattr(recording_brian2.Player, "_see", _dying(recording_brian2.Player._see, 20))
        with pytest.raises(_Killed):
            in_process(file, [], tmp_path / "pieces")
    in_process(file, [], tmp_path / "pieces")
    again = checkpoint.load_weights(tmp_path / "pieces")
    assert torch.equal(again["z->x.0.weight"], weights["z->x.0.weight"])
    loaded = in_process(file, ["plasticity=", f"weights={tmp_path / 'whole'}"], tmp_path / "loaded")
    np.testing.assert_allclose(loaded["x/energy"].values, expected[-1], rtol=1e-12)


def test_leaky_errors_in_a_study_follow_bogacz(tmp_path: Path) -> None:
    """tau dv/dt = −e_v + 2 v e_u, tau_ε de/dt = (z − η) − Σ e, by hand from the recorded start."""
    study = """\
circuit:
  nodes:
    v: {shape: [1], distribution: gaussian, mean: 3.0, tau: 1 s, error_tau: 1 s}
    u: {shape: [1], distribution: {gaussian: {precision: 0.5}}, tau: 1 s, error_tau: 1 s}
  edges: [{from: v, to: u, layers: [square, {linear: {weight: [[1.0]]}}]}]
clamp: {u: 2.0}
engine: brian2
dt: 10 ms
inference: {kernel: {name: langevin, step_size: 0.01, temperature: 0.0}, preconditioner: none, steps: 1}
record: {images: 1, chains: 1, steps: 300, probes: [{read: [value, error], nodes: [v, u]}, {read: energy}]}
"""
    trace = in_process(write(tmp_path, study), [], tmp_path / "out")
    v, e, f = float(trace["v/value"].values[0, 0, 0, 0]), 0.0, 0.0
    for step in range(301):
        found = [trace[path].values[0, 0, step, 0] for path in ("v/value", "v/error", "u/error")]
        np.testing.assert_allclose(found, (v, e, f), atol=1e-10)
        energy = 0.5 * (v - 3) ** 2 + 0.25 * (2 - v * v) ** 2 + np.log(2 * np.pi) - 0.5 * np.log(0.5)
        np.testing.assert_allclose(trace["energy"].values[0, 0, step], energy, rtol=1e-10)
        v, e, f = v + 0.01 * (2 * v * f - e), e + 0.01 * (v - 3 - e), f + 0.01 * (2 - v * v - 2 * f)


HUNDRED = """\
seed: 0
circuit:
  nodes:
    z: {shape: [40], distribution: gaussian, tau: 100 ms}
    x: {shape: [60], distribution: gaussian, tau: 100 ms}
  edges: [{from: z, to: x, layers: [tanh, {linear: 60}]}]
clamp: {x: 0.5}
engine: brian2
dt: 1 ms
inference: {kernel: {name: langevin, step_size: 0.01}, preconditioner: none, steps: 1}
record: {images: 1, chains: 1, steps: 1000, probes: [{read: [value, error]}]}
"""
PEAK = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
"""MiB."""


@pytest.mark.slow
def test_a_minute_of_a_hundred_units_takes_no_more_memory_than_a_quarter(tmp_path: Path) -> None:
    """Values and errors of every step go to disk, 96 MB of them: kept, 45 s more would be 72 MB more.

    The bound is a quarter of that. Peak resident set of a process each.
    """
    file = write(tmp_path, HUNDRED)
    peaks = {}
    for steps in (15_000, 60_000):
        words = ["run", str(file), f"record.steps={steps}", "--out", str(tmp_path / str(steps))]
        code = f"import sys; sys.argv = {['pcsim', *words]!r}\nfrom pcsim.cli import app\n"
        code += f"try:\n    app()\nexcept SystemExit as end:\n    assert not end.code\n{PEAK}"
        done = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        peaks[steps] = float(done.stdout.split()[-1])
        with xr.open_datatree(tmp_path / str(steps) / "trace.zarr", engine="zarr") as tree:
            assert tree["z/value"].shape == (1, 1, steps + 1, 40)
            assert np.isfinite(tree["z/value"].values[:, :, -1]).all()
        shutil.rmtree(tmp_path / str(steps))
    assert peaks[60_000] - peaks[15_000] < 0.25 * 45_000 * 200 * 8 / 2**20
