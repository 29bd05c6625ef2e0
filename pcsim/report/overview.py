"""What was run, and what did it learn?"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pcsim.errors import RunError
from pcsim.figures import registry
from pcsim.report.cautions import Caution
from pcsim.report.gather import row
from pcsim.report.page import Cell, Number, Picture, Section, Table, picture, table
from pcsim.report.subject import Missing, Subject

MEASURES = {
    "log_likelihood": ("log-likelihood of held-out images", "nats"),
    "elbo": ("evidence lower bound", "nats"),
    "reconstruction_error": ("squared reconstruction error per pixel", ""),
}
"""Per-image arrays of an evaluation, with the words that readers know."""
PIXELS = ("samples", "reconstructions")
FEW = 10
"""Effective particles below which a log-likelihood reads low."""
FEW_PARTICLES = (
    "the log-likelihood must not be read as exact: annealed importance sampling had too few effective particles, "
    "so that it reads low, and not equally for all runs"
)


def what(runs: Sequence[Subject]) -> Section:
    """Study, engine, kernel and data of every run, with its settings to unfold."""
    names = [s.label for s in runs]
    facts: list[tuple[str, list[Cell]]] = [
        ("study", [s.run.study_name for s in runs]),
        ("what it is", [str(s.run.study.get("description", "")) for s in runs]),
        ("engine", [str(s.run.study.get("engine", "torch")) for s in runs]),
        ("chain", [_chain(s.run.study) for s in runs]),
        ("learning", [_learning(s.run.study) for s in runs]),
        ("data", [_data(s.run.manifest) for s in runs]),
        ("recorded", [_recorded(s) for s in runs]),
        ("seed", [str(s.run.seed) for s in runs]),
        ("on", [str(s.run.manifest.get("device", "")) for s in runs]),
        ("versions", [_versions(s.run.manifest) for s in runs]),
        ("status", [s.run.status for s in runs]),
    ]
    cautions = tuple(
        Caution(s.label if s.several else "", _not_complete(s)) for s in runs if s.run.status != "complete"
    )
    details = tuple((f"Settings of {s.label}", _plain(s.run.study)) for s in runs)
    shown = (table(names, [(n, c) for n, c in facts if any(c)]),)
    return Section("What was run?", "", shown, cautions=cautions, details=details)


def _not_complete(run: Subject) -> str:
    reason = str(run.run.manifest.get("reason") or "no reason was given").splitlines()[0]
    return f"not complete: the run is {run.run.status} ({reason}); what is shown is what it left"


def learned(runs: Sequence[Subject]) -> Section:
    """Held-out measures with standard errors, learning curve, samples and reconstructions."""
    shown = [s for s in runs if s.run.study.get("learning") or s.run.evaluated()]
    if not shown:
        raise Missing("no run learns or is evaluated")
    names, learns = [s.label for s in shown], [s for s in shown if s.run.study.get("learning")]
    rows = []
    for key, (title, unit) in MEASURES.items():
        numbers = {s.label: n for s in shown if (n := measure(s, key, unit)) is not None}
        rows.append(row(title, shown, numbers))
    pictures = [p for name in ("learning_curve", *PIXELS) if (p := _figure(name, learns)) is not None]
    told = [
        f"{s.label}: log-likelihood {n.shown} per held-out image." for s in shown
        if (n := measure(s, "log_likelihood", "nats")) is not None
    ]  # fmt: skip
    cautions = tuple(
        Caution(s.label if s.several else "", FEW_PARTICLES)
        for s in shown
        if _few_particles(s) and measure(s, "log_likelihood", "nats")
    )
    question = "What did it learn?" if learns else "How likely are the data?"
    return Section(question, " ".join(told), _unless_empty(table(names, rows)), tuple(pictures), cautions)


CAPTIONS = {
    "learning_curve": "Energy while learning, and the measures at the updates that were evaluated.",
    "samples": "Draws of the generative model.",
    "reconstructions": "Held-out images, and their reconstructions from the end of a chain.",
}


def _unless_empty(shown: Table) -> tuple[Table, ...]:
    return (shown,) if shown.rows else ()


def _figure(name: str, runs: Sequence[Subject]) -> Picture | None:
    """The figure of the runs that have what it shows; None where none has."""
    able = [s.run for s in runs if _drawable(name, s)]
    if not able:
        return None
    return picture(registry.draw(name, able), CAPTIONS[name], kind="png" if name in PIXELS else "svg")


def _drawable(name: str, run: Subject) -> bool:
    try:
        registry.draw(name, [run.run])
    except RunError:
        return False
    return True


def measure(run: Subject, key: str, unit: str) -> Number | None:
    """Mean over the images of the last evaluation, with its standard error; None where it was not evaluated."""
    if not run.run.evaluated():
        return None
    held = run.run.last_evaluation()
    found = held.get(key)
    if found is None or not np.isfinite(found).all():
        return None
    values = np.asarray(found, np.float64).reshape(len(found), -1).mean(1)
    if values.size > 1:
        error = float(values.std(ddof=1) / np.sqrt(values.size))
        return Number(float(values.mean()), error, unit, remark=f"mean over {values.size} images")
    error = _of_particles(run) if key == "log_likelihood" else float("nan")
    return Number(float(values.mean()), error, unit, remark="one image; the error is that of its particles")


def _of_particles(run: Subject) -> float:
    """Standard error of the logarithm of a mean of n weights, √(1/ESS − 1/n), by the delta method."""
    settings = (run.run.study.get("evaluation") or {}).get("log_likelihood") or {}
    size, count = _particles(run), settings.get("particles")
    if size is None or not count:
        return float("nan")
    return float(np.sqrt(max(1 / size - 1 / float(count), 0.0)))


def _particles(run: Subject) -> float | None:
    """Effective particles of the last evaluation, as its metrics say."""
    rows = run.run.rows("evaluation")
    size = rows[-1].get("effective_sample_size") if rows else None
    return None if size is None else float(size)


def _few_particles(run: Subject) -> bool:
    size = _particles(run)
    return size is not None and size < FEW


def _chain(study: Mapping[str, Any]) -> str:
    inference = study.get("inference") or {}
    kernel = inference.get("kernel", "langevin")
    kernel = {"name": kernel} if isinstance(kernel, str) else dict(kernel)
    rest = ", ".join(f"{k} {v}" for k, v in kernel.items() if k != "name")
    name = inference.get("preconditioner") or {}
    before = name.get("name", "") if isinstance(name, dict) else str(name)
    parts = [
        f"{kernel.get('name')} ({rest})" if rest else str(kernel.get("name")),
        f"{inference.get('steps', 0)} steps",
    ]
    parts += [f"preconditioner {before}"] if before and before != "none" else []
    start = inference.get("start")
    start = start.get("name") if isinstance(start, dict) else start
    return ", ".join([*parts, f"from the {start}" if start else ""]).rstrip(", ")


def _learning(study: Mapping[str, Any]) -> str:
    learning = study.get("learning")
    if not learning:
        return ""
    draws = learning.get("draws", "all")
    counts = f"{learning.get('updates')} updates of {learning.get('batch_size')} images"
    return f"{learning.get('learner', 'em')}, {counts}, draws: {draws}"


def _data(manifest: Mapping[str, Any]) -> str:
    data = manifest.get("data") or {}
    return f"{data.get('name', '')} ({str(data.get('fingerprint', ''))[:8]})" if data else ""


def _recorded(run: Subject) -> str:
    if run.trace is None:
        return "nothing"
    sizes = run.trace.sizes
    counts = ((sizes.get(name, 1), name) for name in ("image", "chain", "step"))
    words = " × ".join(f"{n} {name}{'s' if n != 1 else ''}" for n, name in counts)
    update = run.trace.coords.get("update")
    return (
        words if update is None else f"{words}; of the recordings at several updates the last, {int(update)}"
    )


def _versions(manifest: Mapping[str, Any]) -> str:
    versions = manifest.get("versions") or {}
    return ", ".join(f"{k} {v}" for k, v in versions.items() if k in ("pcsim", "torch", "brian2", "python"))


def _plain(study: Mapping[str, Any]) -> str:
    return json.dumps({k: v for k, v in study.items() if k != "circuit"}, indent=1, default=str)
