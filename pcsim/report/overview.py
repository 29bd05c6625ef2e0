"""What was run, and did it learn?"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pcsim.figures import registry
from pcsim.report.gather import row
from pcsim.report.page import Cell, Number, Picture, Section, picture, table
from pcsim.report.subject import Missing, Subject

MEASURES = {
    "log_likelihood": ("log-likelihood of held-out images", "nats"),
    "elbo": ("evidence lower bound", "nats"),
    "reconstruction_error": ("reconstruction error", "squared error per pixel"),
}
"""Per-image arrays of an evaluation, with the words that readers know."""
PIXELS = ("samples", "reconstructions")
FEW_PARTICLES = (
    "annealed importance sampling had fewer than 10 effective particles: the log-likelihood reads low, and not equally "
    "for all runs"
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
    cautions = [
        f"{s.label}: the run is {s.run.status}, not complete: {s.run.manifest.get('reason') or 'no reason was given'}"
        for s in runs if s.run.status != "complete"
    ]  # fmt: skip
    details = tuple((f"Settings of {s.label}", _plain(s.run.study)) for s in runs)
    return Section(
        "What was run?",
        "",
        (table(names, [(n, c) for n, c in facts if any(c)]),),
        (),
        tuple(cautions),
        details,
    )


def learned(runs: Sequence[Subject]) -> Section:
    """Held-out measures with standard errors, learning curve, samples and reconstructions."""
    trained = [s for s in runs if s.run.study.get("learning") or s.run.evaluated()]
    if not trained:
        raise Missing("no run learns or is evaluated")
    names = [s.label for s in trained]
    rows = []
    for key, (title, unit) in MEASURES.items():
        numbers = {s.label: n for s in trained if (n := _measure(s, key, unit)) is not None}
        rows.append(row(title, trained, numbers))
    pictures = [p for name in ("learning_curve", *PIXELS) if (p := _figure(name, trained)) is not None]
    told = [
        f"{s.label} reaches {n.shown} per held-out image." for s in trained
        if (n := _measure(s, "log_likelihood", "nats")) is not None
    ]  # fmt: skip
    caution = [FEW_PARTICLES] if _few_particles(trained) else []
    return Section(
        "What did it learn?", " ".join(told), (table(names, rows),), tuple(pictures), tuple(caution)
    )


CAPTIONS = {
    "learning_curve": "Energy while learning, and the measures at the updates that were evaluated.",
    "samples": "Draws of the generative model.",
    "reconstructions": "Held-out images and what the end of a chain makes of them.",
}


def _figure(name: str, runs: Sequence[Subject]) -> Picture | None:
    """The figure of the runs that have what it shows; None where none has."""
    from pcsim.errors import RunError

    able = list(runs)
    while able:
        try:
            drawn = registry.draw(name, [s.run for s in able])
        except RunError:
            able.pop()
            continue
        return picture(drawn, CAPTIONS[name], wide=True, kind="png" if name in PIXELS else "svg")
    return None


def _measure(run: Subject, key: str, unit: str) -> Number | None:
    if not run.run.evaluated():
        return None
    found = run.run.last_evaluation().get(key)
    if found is None or not np.isfinite(found).all():
        return None
    values = np.asarray(found, np.float64).reshape(len(found), -1).mean(1)
    return Number("", float(values.mean()), float(values.std(ddof=1) / np.sqrt(values.size)), unit, None,
                  f"{values.size} images")  # fmt: skip


def _few_particles(runs: Sequence[Subject]) -> bool:
    sizes = [s.run.last_evaluation().get("effective_sample_size") for s in runs if s.run.evaluated()]
    return any(size is not None and float(np.mean(size)) < 10 for size in sizes)


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
    return f"{sizes.get('image', 1)} images × {sizes.get('chain', 1)} chains × {sizes.get('step', 0)} steps"


def _versions(manifest: Mapping[str, Any]) -> str:
    versions = manifest.get("versions") or {}
    return ", ".join(f"{k} {v}" for k, v in versions.items() if k in ("pcsim", "torch", "brian2", "python"))


def _plain(study: Mapping[str, Any]) -> str:
    return json.dumps({k: v for k, v in study.items() if k != "circuit"}, indent=1, default=str)
