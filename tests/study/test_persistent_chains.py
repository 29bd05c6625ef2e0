"""Chains that go on from batch to batch, in a study of literal values."""

from pathlib import Path

import torch

from pcsim.study import build, checkpoint, load, run, stopping, training
from pcsim.study.directory import RunDirectory
from pcsim.study.reporter import Silent

STUDY = """
circuit:
  nodes: {z: {shape: [1], distribution: gaussian}, x: {shape: [1], distribution: gaussian}}
  edges: [{from: z, to: x, layers: [{linear: {weight: [[2.0]]}}]}]
clamp: {x: [1.0]}
inference: {kernel: {name: langevin, step_size: 0.1, temperature: 0}, preconditioner: none, start: previous, steps: 3}
learning: {updates: 20, batch_size: 4, optimizer: {name: sgd, step_size: 1.0e-13}}
"""


def test_chains_persist_without_data(tmp_path: Path) -> None:
    """Oracle: at T = 0 every step halves the way to the mode 2/5 (γλ = .1·5): 20 batches of 3 steps leave 2⁻⁶⁰.

    Chains that started anew in each batch would be 2⁻³ away.
    """
    file = tmp_path / "study.yaml"
    file.write_text(STUDY)
    plan = build.build(load.load_study(file))
    directory = RunDirectory(tmp_path / "run")
    run.run(plan, directory, training.materials_of(plan), Silent(), stopping.Stopper())
    learner = training.learner_of(plan, training.initial_parameters(plan), 4, {})
    checkpoint.restore(directory, learner)
    found = learner.previous["z"]
    assert found.shape == (4, 1)
    assert torch.allclose(found, torch.full_like(found, 0.4), atol=1e-9, rtol=0)
