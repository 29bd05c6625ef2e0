"""How long one update of a study takes, apart from evaluation, recording and reading files."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from pcsim.inference.rng import seed_stream
from pcsim.learning.learner import Batch, learn_batch
from pcsim.study.build import build
from pcsim.study.load import load_study
from pcsim.study.training import initial_parameters, learner_of, materials_of, training_size


def update_timer(study: Path, overrides: Sequence[str]) -> Callable[[], float]:
    """A function that does one update, past the first batches that start from the prior, and returns its seconds."""
    plan = build(load_study(study, overrides))
    torch.set_num_threads(plan.study.threads or torch.get_num_threads())
    materials = materials_of(plan)
    method, learning = plan.method, plan.study.learning
    assert method is not None
    assert learning is not None
    n_train = training_size(materials, learning)
    learner = learner_of(plan, initial_parameters(plan), n_train, materials.clamping.masks)
    rows = np.arange(learning.batch_size)
    batch = Batch(
        materials.clamping.values(materials.train, rows), {}, torch.from_numpy(rows).to(plan.device)
    )
    count = method.prior_batches

    def timed() -> float:
        nonlocal count
        count += 1
        rng = seed_stream(plan.study.seed, "timing", count, device=plan.device)
        begin = time.perf_counter()
        learn_batch(learner, method, batch, rng, count)
        if plan.device.type == "cuda":
            torch.cuda.synchronize(plan.device)
        return time.perf_counter() - begin

    return timed
