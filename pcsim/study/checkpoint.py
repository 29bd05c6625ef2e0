"""The state of a training, saved whole and loaded without running anybody's code."""

import hashlib
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from pcsim.errors import RunError, nearest
from pcsim.learning.learner import Learner
from pcsim.study.directory import RunDirectory, write_atomically

FORMAT = 1
DIGEST = hashlib.sha256().digest_size
KEYS = {"params", "theta", "phi", "previous", "progress"}


class Progress(NamedTuple):
    """How far a training has come."""

    update: int = 0
    seconds: float = 0.0
    gradient_evaluations: int = 0


def save(directory: RunDirectory, learner: Learner, progress: Progress) -> None:
    """Replace the checkpoint: parameters, optimisers, persistent chains, progress. Draws need no state: every
    update derives its stream from the seed and its own number."""
    state = {
        "format": FORMAT,
        "params": learner.params,
        "theta": learner.theta.state_dict() if learner.theta else None,
        "phi": learner.phi.state_dict() if learner.phi else None,
        "previous": learner.previous,
        "progress": progress._asdict(),
    }
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    # torch does not notice bits that a disk has turned over
    write_atomically(directory.checkpoint, hashlib.sha256(content).digest() + content)
    save_weights(directory.weights, learner.params)


def restore(directory: RunDirectory, learner: Learner) -> Progress:
    """Load the checkpoint into the learner, in place; zero progress when there is none."""
    if not directory.checkpoint.is_file():
        return Progress()
    state = _load(directory.checkpoint)
    copy_into(learner.params, state["params"], directory.checkpoint)
    for optimizer, saved in ((learner.theta, state["theta"]), (learner.phi, state["phi"])):
        if optimizer is not None and saved is not None:
            optimizer.load_state_dict(saved)
    for name, value in state["previous"].items():
        learner.previous[name] = value.to(next(iter(learner.params.values())).device)
    return Progress(**state["progress"])


def _load(path: Path) -> dict[str, Any]:
    advice = "the checkpoint is damaged; --fresh starts anew"
    try:
        whole = path.read_bytes()
        stamp, content = whole[:DIGEST], whole[DIGEST:]
        if hashlib.sha256(content).digest() != stamp:
            raise ValueError("its checksum is another")
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
    ) as failure:
        cause = (str(failure).splitlines() or [type(failure).__name__])[0][:120]
        raise RunError(f"{path}: cannot be read ({cause}); {advice}") from failure
    if not isinstance(state, dict) or state.get("format") != FORMAT or not state.keys() >= KEYS:
        raise RunError(f"{path}: not a checkpoint of this version of pcsim; --fresh starts anew")
    return state


def save_weights(path: Path, params: dict[str, Tensor]) -> None:
    """Parameters by name, as safetensors."""
    write_atomically(path, to_bytes({n: p.detach().cpu().contiguous() for n, p in params.items()}))


def load_weights(path: Path) -> dict[str, Tensor]:
    """Parameters of a run directory or a safetensors file."""
    file = weights_file(path)
    try:
        with safe_open(file, framework="pt") as content:
            return {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118  # not a mapping
    except (SafetensorError, OSError) as failure:
        raise RunError(f"weights: {file}: not a readable safetensors file ({failure})") from failure


def weights_file(path: Path) -> Path:
    """The safetensors file of a run directory, or the file itself."""
    file = RunDirectory(path).weights if path.is_dir() else path
    if not file.is_file():
        raise RunError(f"weights: {file}: no such file; name a run directory or a .safetensors file")
    return file


def digest(path: Path) -> str:
    """Sixteen hex digits of the content of a run's weights or of a safetensors file."""
    with weights_file(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()[:16]


def copy_into(params: dict[str, Tensor], given: dict[str, Tensor], origin: Path) -> None:
    """Copy parameters in place; names and shapes must be those of the circuit."""
    for name in params:
        if name not in given:
            raise RunError(f"{origin}: it has no parameter {name!r} of this circuit; {nearest(name, given)}")
        if given[name].shape != params[name].shape:
            shapes = f"{list(given[name].shape)} there, {list(params[name].shape)} in the circuit"
            raise RunError(f"{origin}: parameter {name!r} has another shape: {shapes}")
    if extra := sorted(set(given) - set(params)):
        raise RunError(f"{origin}: it holds {extra[0]!r}, which this circuit does not have")
    for name, value in params.items():
        value.copy_(given[name])
