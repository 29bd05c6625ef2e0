"""One study from start to end: train, evaluate, record; stop anywhere and go on from there to the same bits."""

import io
import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ruamel.yaml import YAML

from pcsim.engines.torch.program import Params
from pcsim.errors import Divergence, RunError
from pcsim.record import TraceWriter
from pcsim.study import checkpoint, directory, recording
from pcsim.study.build import Plan, version
from pcsim.study.checkpoint import Progress
from pcsim.study.directory import Metrics, RunDirectory
from pcsim.study.engines import CODEGEN
from pcsim.study.evaluating import evaluate
from pcsim.study.load import PLACES, identity
from pcsim.study.milestones import Milestones, milestones_of
from pcsim.study.recorded import session_of
from pcsim.study.reporter import Reporter
from pcsim.study.stopping import Stopped, Stopper
from pcsim.study.training import Materials, initial_parameters, learner_of, train, training_size


def run_directory(plan: Plan, fingerprint: str, out: Path | None) -> RunDirectory:
    """`runs/<study>/<hash of all that decides the numbers>`, unless the caller names a folder."""
    if out is not None:
        return RunDirectory(out)
    return RunDirectory(Path("runs") / plan.loaded.name / identity_of(plan, fingerprint))


def identity_of(plan: Plan, fingerprint: str) -> str:
    """The identity of a plan on images with that fingerprint, and with the weights that it loads."""
    if plan.study.weights is not None:
        fingerprint += checkpoint.digest(plan.loaded.path(plan.study.weights))
    return identity(plan.study, dict(plan.circuit.spec), fingerprint, version())


def run(plan: Plan, run_to: RunDirectory, materials: Materials, reporter: Reporter, stopper: Stopper) -> None:
    """Everything that the study asks for, in the run directory; what is done already is not done again.

    Raises `Stopped` after a request to stop, with all progress kept, and `Divergence` with the trace readable.
    """
    study = plan.study
    torch.set_num_threads(study.threads or torch.get_num_threads())
    with directory.locked(run_to):
        _begin(plan, run_to, materials)
        try:
            _work(plan, run_to, materials, reporter, stopper)
        except Stopped as stop:
            directory.update_manifest(run_to, status="stopped", reason=stop.reason, end=_now())
            raise
        except Divergence as failure:
            directory.update_manifest(run_to, status="failed", reason=str(failure), end=_now())
            raise
        directory.update_manifest(run_to, status="complete", end=_now())


def _begin(plan: Plan, run_to: RunDirectory, materials: Materials) -> None:
    before = directory.read_manifest(run_to)
    mine = identity_of(plan, _fingerprint(materials))
    if before and before.get("identity") != mine:
        raise RunError(
            f"{run_to.path}: holds a run of another study, data or version (identity {before.get('identity')}, "
            f"this is {mine}); --fresh starts anew, --out names another folder"
        )
    directory.write_atomically(run_to.study, resolved(plan))
    now = directory.provenance(_device_name(plan.device), torch.get_num_threads())
    directory.update_manifest(
        run_to,
        status="running",
        study=plan.loaded.name,
        description=plan.study.description,
        seed=plan.study.seed,
        engine=plan.study.engine,
        codegen=None if plan.study.engine == "torch" else plan.study.codegen or CODEGEN,
        identity=mine,
        data={**materials.images.preparation, "fingerprint": materials.images.fingerprint}
        if materials.images
        else None,
        sessions=[*before.get("sessions", []), now],
        **now,
    )


def resolved(plan: Plan) -> bytes:
    """The study with its circuit stated in place and its paths absolute: it runs again as it stands."""
    content: dict[str, Any] = plan.study.model_dump(mode="json", exclude_none=True)
    content["circuit"] = dict(plan.circuit.spec)
    if plan.study.weights is not None:
        content["weights"] = str(plan.loaded.path(plan.study.weights).resolve())
    for key in PLACES:
        if plan.study.data is not None and (text := getattr(plan.study.data, key)) is not None:
            content["data"][key] = str(plan.loaded.path(text).resolve())
    stream = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None
    yaml.representer.sort_base_mapping_type_on_output = False  # the schema's order is the reader's
    yaml.width = 100
    yaml.dump(content, stream)
    return stream.getvalue().encode()


def is_complete(run_to: RunDirectory, plan: Plan, fingerprint: str) -> bool:
    """Has this very study run to its end in that directory?"""
    manifest = directory.read_manifest(run_to)
    mine = identity_of(plan, fingerprint)
    return manifest.get("status") == "complete" and manifest.get("identity") == mine


def _fingerprint(materials: Materials) -> str:
    return materials.images.fingerprint if materials.images else ""


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def _work(
    plan: Plan, run_to: RunDirectory, materials: Materials, reporter: Reporter, stopper: Stopper
) -> None:
    stops = milestones_of(plan)
    params = initial_parameters(plan)
    progress = Progress()
    learner = None
    if plan.study.learning:
        n_train = training_size(materials, plan.study.learning)
        learner = learner_of(plan, params, n_train, materials.clamping.masks)
        progress = checkpoint.restore(run_to, learner)
    if learner is not None and plan.study.record is not None:
        session_of(
            plan, materials, params
        )  # a trace that could not be written is refused before the learning
    metrics = Metrics(run_to.metrics, progress.update)
    # a recording that learns has left better weights than the first ones; those of a checkpoint may be missing, where
    # a kill struck between the two files
    taught = plan.study.plasticity is not None and run_to.weights.exists()
    if (learner is None and not taught) or progress.update:
        checkpoint.save_weights(run_to.weights, params)
    with reporter.task("learning", stops.last, progress.update) as advance:
        for update in stops.all():
            if learner is not None and progress.update < update:
                progress = train(
                    plan, materials, learner, progress, update, metrics=metrics, directory=run_to,
                    stopper=stopper, advance=advance,
                )  # fmt: skip
                checkpoint.save(run_to, learner, progress)
            if progress.update == update or learner is None:
                with stopper.at_once():
                    _milestone(plan, run_to, materials, params, progress, stops, metrics, reporter)


def _milestone(
    plan: Plan, run_to: RunDirectory, materials: Materials, params: Params, progress: Progress,
    stops: Milestones, metrics: Metrics, reporter: Reporter,
) -> None:  # fmt: skip
    """Evaluate and record at this update, unless it is on disk already."""
    update = progress.update
    if update in stops.evaluation and update not in metrics.evaluated:
        summary, arrays = evaluate(plan, materials, params, update, reporter)
        # the line comes last: it says that the arrays are there
        save_arrays(run_to.evaluation(update), arrays)
        metrics.append({"kind": "evaluation", **progress._asdict(), **summary})
    if update in stops.recording:
        record(plan, run_to, materials, params, stops.recording.index(update), reporter)


def save_arrays(path: Path, arrays: dict[str, Any]) -> None:
    """Arrays by name, without pickle, written whole."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    directory.write_atomically(path, buffer.getvalue())


def record(
    plan: Plan, run_to: RunDirectory, materials: Materials, params: Params, index: int, reporter: Reporter
) -> None:
    """The recording pass at one update; a trace that is there already is continued where it ended."""
    session, layout = session_of(plan, materials, params)
    if session.simulator is not None:
        keep = partial(checkpoint.save_weights, run_to.weights)
        session = session._replace(simulator=session.simulator._replace(keep=keep))
    update = milestones_of(plan).recording[index]
    total = session.spontaneous + session.steps + 1
    writer = TraceWriter(run_to.trace, layout, update=index if layout.updates else 0)
    if writer.n_written == len(layout.steps):
        writer.close()  # a kill may have come before the metadata were consolidated
        return
    with writer, reporter.task("recording", total) as advance:
        recording.record(session, writer, plan.study.seed, ("record", update), advance)


def fresh(run_to: RunDirectory) -> None:
    """Remove what an earlier run left in the directory (only what runs leave)."""
    with directory.locked(run_to):
        try:
            # the checkpoint first: what is left after a kill in here is then taken for nothing done
            for name in (
                "checkpoints",
                "metrics.jsonl",
                "trace.zarr",
                "evaluation",
                "figures",
                "landscape.zarr",
                "inferred",
                "study.yaml",
                "manifest.json",
            ):
                path = run_to.path / name
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
        except OSError as failure:
            raise RunError(f"{run_to.path}: cannot remove the earlier run ({failure.strerror})") from failure
