"""Held-out log-likelihood and training energy against what they cost."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from scipy import stats

from pcsim.errors import RunError
from pcsim.figures.run_view import Row, RunView
from pcsim.figures.style import PAGE, REFERENCE, Look, looks, sheet

Array = NDArray[np.float64]
COSTS = {
    "update": "parameter updates",
    "gradient_evaluations": "gradient evaluations",
    "seconds": "training time (s)",
}
NOTE = "bars: 95 % interval over held-out images; thin line: single batches, bold line: running mean"
SMOOTHED = 20
"""The bold energy is a running mean over one part in so many of the training."""


def learning_curve(runs: Sequence[RunView]) -> Figure:
    """Log-likelihood (mean, 95 % interval over images) and training energy against updates, evaluations, seconds."""
    styles = looks(runs)
    likelihoods = [_likelihoods(run) for run in runs]
    energies = [[row for row in run.rows("train") if row.get("energy") is not None] for run in runs]
    drawn = [any(likelihoods), any(energies)]
    if not any(drawn):
        raise RunError(
            f"no learning curve: no log-likelihood or energy in {', '.join(str(r.path) for r in runs)}"
        )
    figure = sheet(PAGE, 1.9 * sum(drawn) + 0.5)
    panels = figure.subplots(sum(drawn), len(COSTS), sharey="row", sharex="col", squeeze=False)
    if drawn[0]:
        for points, look in zip(likelihoods, styles, strict=True):
            _draw_likelihood(panels[0], points, look)
        panels[0, 0].set_ylabel("held-out log-likelihood\n(nats/image)")
    if drawn[1]:
        for rows, look in zip(energies, styles, strict=True):
            _draw_energy(panels[-1], rows, look)
        panels[-1, 0].set_ylabel("training energy U\n(nats/image)")
    for axes, title in zip(panels[-1], COSTS.values(), strict=True):
        axes.set_xlabel(title)
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    keys = {
        name: handle
        for row in panels
        for handle, name in zip(*row[0].get_legend_handles_labels(), strict=True)
    }
    figure.legend(keys.values(), keys.keys(), loc="outside upper center", ncols=min(len(keys), 4))
    figure.supxlabel(NOTE, fontsize=6.5, color=REFERENCE)
    return figure


def _likelihoods(run: RunView) -> list[dict[str, float]]:
    """Cost, mean and half-width of the 95 % t interval over images, at every evaluation that has them."""
    on_disk, points = set(run.evaluated()), []
    for row in run.rows("evaluation"):
        if row.get("log_likelihood") is None:
            continue
        half = 0.0
        if int(row["update"]) in on_disk:
            values = run.evaluation(int(row["update"])).get("log_likelihood", np.empty(0))
            if len(values) > 1:
                error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
                half = float(stats.t.ppf(0.975, len(values) - 1)) * error
        points.append(
            {cost: float(row[cost]) for cost in COSTS} | {"mean": float(row["log_likelihood"]), "half": half}
        )
    return points


def _draw_likelihood(panels: Sequence[Axes], points: Sequence[dict[str, float]], look: Look) -> None:
    for axes, cost in zip(panels, COSTS, strict=True):
        axes.errorbar(
            [p[cost] for p in points], [p["mean"] for p in points], yerr=[p["half"] for p in points], color=look.color,
            linestyle=look.dashes, marker="o", markersize=3, capsize=2, elinewidth=0.8, label=look.label,
        )  # fmt: skip


def _draw_energy(panels: Sequence[Axes], rows: Sequence[Row], look: Look) -> None:
    if not rows:
        return
    energy = np.array([row["energy"] for row in rows], np.float64)
    for axes, cost in zip(panels, COSTS, strict=True):
        spent = np.array([row[cost] for row in rows], np.float64)
        axes.plot(spent, energy, color=look.color, linewidth=0.6, alpha=0.35)
        axes.plot(spent, _running(energy), color=look.color, linestyle=look.dashes, label=look.label)


def _running(values: Array) -> Array:
    """Centred running mean, over fewer values at the ends."""
    width = max(1, len(values) // SMOOTHED)
    kernel = np.ones(width)
    return np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same")
