"""The training of one study: from a checkpoint to an update, in order, to the same bits however often it stops."""

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch

from pcsim import datasets
from pcsim.datasets import Images, Split
from pcsim.engines.torch.program import Params
from pcsim.engines.torch.starts import prior_start
from pcsim.engines.torch.target import CircuitTarget, Clamp
from pcsim.errors import StudyError
from pcsim.inference.rng import child_seed, seed_stream
from pcsim.learning.learner import Batch, Learner, learn_batch, make_learner
from pcsim.study import checkpoint, checks
from pcsim.study.build import Plan, optimizer_of
from pcsim.study.checkpoint import Progress
from pcsim.study.directory import Metrics, RunDirectory
from pcsim.study.load import data_options
from pcsim.study.schema import Learning
from pcsim.study.stimuli import Clamping, Order, Stimuli, batches, check_images, clamping_of, place
from pcsim.study.stopping import Stopper

LOG_LINES = 200
"""About as many lines of training metrics as a run leaves."""


class Materials(NamedTuple):
    """What a run works on: the images on the device, and how they become values."""

    images: Images | None
    split: Split | None
    train: Stimuli | None
    clamping: Clamping


def materials_of(plan: Plan) -> Materials:
    """Load, split and place the study's images; raises where they do not fit the circuit or the batch."""
    study = plan.study
    clamping = clamping_of(study, plan.loaded.source, plan.circuit, plan.device, plan.dtype)
    if study.data is None:
        return Materials(None, None, None, clamping)
    images = datasets.load(study.data.name, **data_options(plan.loaded))
    check_images(plan.circuit, study.clamp, images.shape)
    split = datasets.split(images, study.data.train, study.data.validation, study.data.test, study.data.seed)
    checks.check_images(plan.loaded.source, study, plan.circuit, images, split)
    train = place(split.train, plan.device) if study.learning else None
    return Materials(images, split, train, clamping)


def initial_parameters(plan: Plan) -> Params:
    """The study's weights: drawn from its seed, or loaded from a run or a file."""
    generator = torch.Generator().manual_seed(child_seed(plan.study.seed, "weights"))
    params = plan.program.initial_parameters(generator, plan.dtype, plan.device)
    if plan.study.weights is not None:
        path = plan.loaded.path(plan.study.weights)
        checkpoint.copy_into(params, checkpoint.load_weights(path), path)
    return params


def learner_of(plan: Plan, params: Params, n_train: int, masks: Mapping[str, torch.Tensor]) -> Learner:
    """The learner of a study, with its persistent chains drawn from the prior where it keeps them."""
    learning, source = plan.study.learning, plan.loaded.source
    if learning is None or plan.method is None:
        raise StudyError("this study has no learning section")
    theta = optimizer_of(source, ("learning", "optimizer"), learning.optimizer)
    own = learning.encoder.optimizer
    phi = theta if own is None else optimizer_of(source, ("learning", "encoder", "optimizer"), own)
    learner = make_learner(plan.program, params, theta, phi)
    if learner.theta is None and learner.phi is None:
        source.fail(("learning",), "the circuit has nothing to learn: no weights and no `learn:`")
    if plan.method.start == "previous":
        rows = n_train * plan.method.n_chain
        # the chains start from the prior whatever the data: one row of zeros stands for all of them
        zeros = {n: torch.zeros(1, *plan.circuit.nodes[n].shape, dtype=plan.dtype, device=plan.device)
                 for n in plan.study.clamp}  # fmt: skip
        clamp = Clamp({n: zero.expand(rows, *zero.shape[1:]) for n, zero in zeros.items()})
        target = CircuitTarget(plan.program.bind(params), clamp._replace(masks=masks), rows)
        rng = seed_stream(plan.study.seed, "previous", device=plan.device)
        learner.previous.update(prior_start(target, rng))
    return learner


def training_size(materials: Materials, learning: Learning) -> int:
    """Number of training images; without data, rows of literal values, as many as a batch."""
    return len(materials.split.train) if materials.split else learning.batch_size


def train(
    plan: Plan, materials: Materials, learner: Learner, progress: Progress, until: int, *, metrics: Metrics,
    directory: RunDirectory, stopper: Stopper, advance: Callable[[int], None],
) -> Progress:  # fmt: skip
    """Learn up to update `until`; every update's draws come from (seed, its number), so stopping changes nothing.

    Checkpoints now and then and at a request to stop.
    """
    study, method, learning = plan.study, plan.method, plan.study.learning
    assert method is not None
    assert learning is not None
    order = Order(training_size(materials, learning), learning.batch_size, study.seed)
    log_every = max(1, learning.updates // LOG_LINES)
    saved, begin = time.monotonic(), time.perf_counter()
    for update, rows, values in batches(materials.clamping, materials.train, order, progress.update, until):
        batch = Batch(values, materials.clamping.masks, torch.from_numpy(rows).to(plan.device))
        rng = seed_stream(study.seed, "chain", update, device=plan.device)
        outcome = learn_batch(learner, method, batch, rng, update)
        logged = (update + 1) % log_every == 0
        energy = float(outcome.energy().mean()) if logged else None  # waits for the device
        now = time.perf_counter()
        progress = Progress(
            update + 1,
            progress.seconds + now - begin,
            progress.gradient_evaluations + outcome.gradient_evaluations,
        )
        begin = now
        if logged:
            metrics.append({"kind": "train", **progress._asdict(), "energy": energy})
        advance(1)
        if time.monotonic() - saved > study.checkpoint_seconds or stopper.asked():
            _synchronize(plan.device)
            checkpoint.save(directory, learner, progress)
            stopper.check()
            saved, begin = time.monotonic(), time.perf_counter()
    _synchronize(plan.device)
    return progress._replace(seconds=progress.seconds + time.perf_counter() - begin)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
