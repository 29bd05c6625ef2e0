"""Whole runs of small studies: what they leave, and that it is what the study asked for."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from pcsim.record import open_trace
from pcsim.study import build, load, run, stopping, training
from pcsim.study.directory import RunDirectory
from tests.study.cases import CIRCUIT, STUDY, overridden, write_study
from tests.study.test_bad_files import go
from tests.study.test_bad_studies import DISCRETE_PARENT, LINEAR, LOOK

LOOK_ONLY = overridden(["evaluation={}", "record.steps=6", "record.spontaneous=5", "record.block=100"])


def test_trace_has_the_layout_of_the_example(tmp_path: Path) -> None:
    """Opened by plain xarray: groups, dims, coordinates and attributes as example.md shows them."""
    go(write_study(tmp_path), tmp_path / "out", *LOOK_ONLY)
    with xr.open_datatree(tmp_path / "out" / "trace.zarr", engine="zarr") as tree:
        assert set(tree.groups) == {"/", "/z", "/x", "/encoder", "/encoder/z"}
        assert dict(tree.sizes) == {"image": 2, "chain": 3, "step": 12}
        assert {"image", "chain", "step", "phase", "label"} <= set(tree.coords)
        assert tree.coords["phase"].dims == ("step",)
        assert tree.coords["label"].dims == ("image",)
        assert [*tree.coords["step"].values] == list(range(-5, 7))
        phases = ["spontaneous"] * 5 + ["sweep"] + ["evoked"] * 6
        assert [*tree.coords["phase"].values] == phases
        for name in ("energy", "gradient_norm"):
            assert tree[name].dims == ("image", "chain", "step")
        for name in ("value", "error"):
            assert tree["z"][name].dims == ("image", "chain", "step", "unit")
            assert tree["z"][name].shape == (2, 3, 12, 4)
        assert tree["z"]["precision"].dims == ()
        assert float(tree["z"]["precision"]) == 1.0
        assert tree["x"]["observed"].dims == ("image", "channel", "y", "x")
        assert tree["x"]["energy"].dims == ("image", "chain", "step")
        for name in ("mean", "scale"):
            assert tree["encoder/z"][name].dims == ("image", "unit")
        assert tree.attrs["n_written"] == 12
        assert {"schema", "circuit", "study", "seed", "engine", "versions"} <= set(tree.attrs)
        assert json.loads(tree.attrs["circuit"])["nodes"]["z"]["shape"] == [4]
        for name in ("energy", "z/value", "z/error"):
            assert np.isfinite(tree[name].values).all(), name
        observed = tree["x"]["observed"].values
        assert set(np.unique(observed)) == {0.0, 1.0}


def test_recorded_errors_and_energies_are_those_of_the_values(tmp_path: Path) -> None:
    """Oracle: Gaussian z with precision 1 and mean 0 has ε = z and energy ½|z|² + 2 log 2π (4 units)."""
    go(write_study(tmp_path), tmp_path / "out", *LOOK_ONLY, "record.dtype=float64", "dtype=float64")
    trace = open_trace(tmp_path / "out" / "trace.zarr")
    z = trace["z/value"].values
    np.testing.assert_array_equal(trace["z/error"].values, z)
    energy = 0.5 * (z**2).sum(-1) + 2 * np.log(2 * np.pi)
    np.testing.assert_allclose(trace["z/energy"].values, energy, rtol=1e-12)
    np.testing.assert_allclose(
        (trace["z/energy"] + trace["x/energy"]).values[..., 5:], trace["energy"].values[..., 5:]
    )


def test_images_are_clamped_as_the_study_says(tmp_path: Path) -> None:
    """Oracle: the data set itself, through the seeded split."""
    file = write_study(tmp_path)
    go(file, tmp_path / "out", *LOOK_ONLY, "record.images=[5, 0]")
    plan = build.build(load.load_study(file, LOOK_ONLY))
    split = training.materials_of(plan).split
    assert split is not None
    trace = open_trace(tmp_path / "out" / "trace.zarr")
    pixels = split.test.pixels()[[5, 0]]
    np.testing.assert_array_equal(trace["x/observed"].values, pixels > 127)
    assert split.test.label is not None
    np.testing.assert_array_equal(trace.coords["label"].values, split.test.label[[5, 0]])


GAUSSIAN = CIRCUIT.replace("distribution: bernoulli", "distribution: {gaussian: {precision: 4.0}}")


def test_in_painting_holds_the_mask_and_samples_the_rest(tmp_path: Path) -> None:
    """mask: {x: top}: rows 0-3 stand at the image at every evoked step, rows 4-7 move like a latent."""
    file = write_study(tmp_path, circuit=GAUSSIAN)
    words = [*LOOK_ONLY, "mask={x: top}", "record.probes=[{read: [value, error]}, {read: energy}]",
             "data.binarise=", "evaluation={reconstruction: {images: 3}, log_likelihood: {images: 2, particles: 2, "
             "temperatures: 4}}"]  # fmt: skip
    go(file, tmp_path / "out", *words)
    trace = open_trace(tmp_path / "out" / "trace.zarr")
    evoked = trace["x/value"].where(trace.coords["step"] >= 0, drop=True)
    observed = trace["x/observed"].values[:, None, None]
    held = np.broadcast_to(observed[..., :4, :], evoked.values[..., :4, :].shape)
    np.testing.assert_array_equal(evoked.values[..., :4, :], held)
    assert (np.ptp(evoked.values[..., 4:, :], axis=2) > 0).all()
    spontaneous = trace["x/value"].where(trace.coords["step"] < 0, drop=True).values
    assert (np.ptp(spontaneous, axis=2) > 0).all()
    rows = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert {"reconstruction_error", "completion_error", "log_likelihood"} <= set(rows[-1])


def test_masked_pixels_of_a_discrete_leaf_do_not_count(tmp_path: Path) -> None:
    """Oracle: the energy of the held half alone, −Σ log Bernoulli(x | η) over rows 0-3, from the recorded z."""
    file = write_study(tmp_path)
    words = [*LOOK_ONLY, "mask={x: top}", "dtype=float64", "inference.start=prior",
             "record.probes=[{read: [value]}, {read: energy}]"]  # fmt: skip
    go(file, tmp_path / "out", *words)
    plan = build.build(load.load_study(file, words))
    bound = plan.program.bind(training.initial_parameters(plan))
    trace = open_trace(tmp_path / "out" / "trace.zarr")
    z = torch.from_numpy(trace["z/value"].values[:, :, -1].reshape(6, 4))
    eta, _ = bound.prediction(bound.nodes[1], {"z": z}, 6)
    x = torch.from_numpy(trace["x/observed"].values).repeat_interleave(3, 0)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(eta, x, reduction="none")
    expected = loss[..., :4, :].sum((1, 2, 3)).reshape(2, 3)
    np.testing.assert_allclose(trace["x/energy"].values[..., -1], expected, rtol=1e-6)


def test_spontaneous_pixels_are_ancestral_draws(tmp_path: Path) -> None:
    """Oracle: unclamped Bernoulli pixels are 0 or 1, new at each step, with the mean σ(η) that z predicts.

    3 chains × 2 images × 40 steps × 64 pixels = 15,360 independent draws given z: their sum is within 5 standard
    errors of Σ σ(η), with variance Σ σ(η)(1 − σ(η)).
    """
    file = write_study(tmp_path)
    words = [*LOOK_ONLY, "record.spontaneous=40", "dtype=float64", "record.probes=[{read: [value]}]"]
    go(file, tmp_path / "out", *words)
    plan = build.build(load.load_study(file, words))
    bound = plan.program.bind(training.initial_parameters(plan))
    trace = open_trace(tmp_path / "out" / "trace.zarr").isel(step=slice(0, 40))
    z = torch.from_numpy(trace["z/value"].values.reshape(-1, 4))
    eta, _ = bound.prediction(bound.nodes[1], {"z": z}, len(z))
    p = torch.sigmoid(eta).numpy()
    drawn = trace["x/value"].values
    assert set(np.unique(drawn)) == {0.0, 1.0}
    error = (drawn.sum() - p.sum()) / np.sqrt((p * (1 - p)).sum())
    assert abs(error) < 5
    assert (np.ptp(drawn, axis=2).reshape(6, -1).sum(1) > 0).all()


def test_label_and_image_both_clamped(tmp_path: Path) -> None:
    """Two observed nodes: the label as one-hot, the image released before the stimulus, the label never."""
    file = write_study(tmp_path, circuit=DISCRETE_PARENT)
    measures = "{reconstruction: {images: 4}, log_likelihood: {images: 2, particles: 2, temperatures: 4}}"
    go(file, tmp_path / "out", "clamp={x: image, y: label}", "inference.start=prior", "learning.updates=3",
       "learning.encoder={objective: none}", "record.probes=[{read: value}]", f"evaluation={measures}")  # fmt: skip
    trace = open_trace(tmp_path / "out" / "trace.zarr")
    hot = np.eye(10)[trace.coords["label"].values]
    np.testing.assert_array_equal(trace["y/observed"].values, hot)
    everywhere = np.broadcast_to(hot[:, None, None], trace["y/value"].shape)
    np.testing.assert_array_equal(trace["y/value"].values, everywhere)


def test_several_observed_nodes_at_stated_values(tmp_path: Path) -> None:
    """Oracle: two leaves y_i = w_i z + noise held at values: posterior precision 1 + Σ w_i² = 6, mean 1.

    T = 1, γ = .05 without preconditioner: variance 1/(6(1 − .05 · 6/2)) = .196; the mean over 2,000 chains
    at the last step is within 5 standard errors of Σ w_i y_i / 6.
    """
    circuit = {
        "nodes": {"z": {"shape": [1], "distribution": "gaussian"}}
        | {n: {"shape": [1], "distribution": "gaussian"} for n in ("a", "b")},
        "edges": [
            {"from": "z", "to": n, "layers": [{"linear": {"weight": [[w]], "bias": [0.0]}}]}
            for n, w in (("a", 1.0), ("b", 2.0))
        ],
    }
    text = (
        LOOK.replace("STEP", "0.05")
        .replace("circuit.yaml", json.dumps(circuit))
        .replace("chains: 4", "chains: 2000")
    )
    text = text.replace("{x: [1.0, 1.0]}", "{a: 2.0, b: [2.0]}")
    go(write_study(tmp_path, text), tmp_path / "out")
    last = open_trace(tmp_path / "out" / "trace.zarr")["z/value"].values[0, :, -1, 0]
    variance = 1 / (6 * (1 - 0.05 * 6 / 2))
    assert abs(last.mean() - 1.0) < 5 * np.sqrt(variance / 2000)
    assert abs(last.var(ddof=1) / variance - 1) < 5 * np.sqrt(2 / 1999)


def test_vanilla_pc_without_preconditioner_descends(tmp_path: Path) -> None:
    """T = 0: the recorded energy never rises (law 4), up to rounding of float64."""
    file = write_study(
        tmp_path, LOOK.replace("STEP", "0.1").replace("temperature: 1.0", "temperature: 0"), LINEAR
    )
    go(file, tmp_path / "out")
    energy = open_trace(tmp_path / "out" / "trace.zarr")["energy"].values
    assert (np.diff(energy, axis=-1) <= 1e-12 * np.abs(energy[..., :-1])).all()


def test_complete_run_is_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, out = write_study(tmp_path), tmp_path / "out"
    go(file, out)

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("computed again")

    plan = build.build(load.load_study(file))
    materials = training.materials_of(plan)
    assert materials.images is not None
    assert run.is_complete(RunDirectory(out), plan, materials.images.fingerprint)
    for name in ("evaluate", "train"):
        monkeypatch.setattr(run, name, refuse)
    monkeypatch.setattr("pcsim.study.recording.record", refuse)
    go(file, out)  # forced past the question whether it is complete


def test_evaluation_updates_and_files(tmp_path: Path) -> None:
    file, out = (
        write_study(tmp_path, STUDY.replace("at_updates: [5, last]", "at_updates: [0, last]\n  every: 5")),
        tmp_path / "out",
    )
    go(file, out, "record=")
    assert sorted(p.stem for p in (out / "evaluation").iterdir()) == [
        "00000000",
        "00000005",
        "00000010",
        "00000012",
    ]
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["update"] for row in rows if row["kind"] == "evaluation"] == [0, 5, 10, 12]
    assert [row["update"] for row in rows if row["kind"] == "train"] == list(range(1, 13))
    with np.load(out / "evaluation" / "00000012.npz", allow_pickle=False) as arrays:
        assert arrays["log_likelihood"].shape == (4,)
        assert rows[-1]["log_likelihood"] == pytest.approx(arrays["log_likelihood"].mean())
        assert arrays["samples"].shape == (4, 1, 8, 8)


def test_stopper_asks_for_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    stopper = stopping.Stopper(0.0)
    with pytest.raises(stopping.Stopped, match="max-time"), stopper.at_once():
        raise AssertionError("entered after the time was up")
