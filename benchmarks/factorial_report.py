"""Tables and the figure of the factorial, from docs/results/factorial.json and the runs' per-image results.

python benchmarks/factorial_report.py [--out runs/factorial]
"""

import argparse
import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pcsim.figures.style import COLOURS, PAGE, REFERENCE, STYLE
from pcsim.study.paired import Estimate, estimate

RESULT = Path(__file__).parents[1] / "docs" / "results" / "factorial.json"
CHAINS = tuple(
    f"T{t}-{s}-{d}" for t, s, d in itertools.product((0, 1), ("prior", "encoder"), ("final", "all"))
)
VAE_UPDATES, VAE_EVALUATIONS, VAE_SECONDS = (
    f"vae-equal-{what}" for what in ("updates", "evaluations", "seconds")
)
REFERENCE_CELL = "T0-prior-final"
Table = NDArray[np.float64]


def values(out: Path, cell: str, index: int, updates: float, seeds: int) -> Table:
    """Log-likelihood per seed and image at a number of updates, linear in log(updates) between the evaluated ones."""
    rows = []
    for seed in range(seeds):
        run = out / "final" / cell / f"try{index}-seed{seed}"
        files = sorted((run / "evaluation").glob("*.npz"))
        marks = np.array([int(file.stem) for file in files], float)
        per_image = np.stack([np.load(file, allow_pickle=False)["log_likelihood"] for file in files])
        if not marks[0] <= updates <= marks[-1]:
            raise SystemExit(f"{run}: evaluated at {marks}, not at {updates:.0f}")
        right = int(np.searchsorted(marks, updates))
        left = max(right - 1, 0)
        weight = 0.0 if right == left else np.log(updates / marks[left]) / np.log(marks[right] / marks[left])
        rows.append((1 - weight) * per_image[left] + weight * per_image[right])
    return np.stack(rows)


def show(e: Estimate) -> str:
    """Mean and interval."""
    return f"{e.mean:+.2f} [{e.low:+.2f}, {e.high:+.2f}]"


def budgets(result: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Updates of every cell under each notion of equal: updates, gradient evaluations, seconds."""
    seconds = result["seconds_per_update"]
    total = min(400 * seconds[cell] for cell in CHAINS)
    by_time = {cell: total / seconds[cell] for cell in CHAINS}
    vae_by_time = total / seconds[VAE_SECONDS]
    return {
        "equal updates (400)": dict.fromkeys(CHAINS, 400.0) | {VAE_UPDATES: 400.0},
        "equal gradient evaluations (20,400)": dict.fromkeys(CHAINS, 400.0) | {VAE_EVALUATIONS: 400.0 * 51},
        f"equal seconds ({total:.0f} s on one thread)": by_time | {VAE_SECONDS: vae_by_time},
    }


def contrasts(found: Mapping[str, Table]) -> dict[str, Estimate]:
    """Main effects and interactions of the eight chain cells, per seed and image, with their intervals."""

    def level(cell: str, factor: str) -> int:
        temperature, start, draws = cell.split("-")
        return {"noise": temperature == "T1", "encoder": start == "encoder", "all draws": draws == "all"}[
            factor
        ]

    def effect(*factors: str) -> Table:
        signs = {c: np.prod([1 if level(c, f) else -1 for f in factors]) for c in CHAINS}
        # a main effect is a difference of means over four cells; an interaction half a difference of differences
        return np.sum([signs[c] * found[c] for c in CHAINS], axis=0) / 4

    names = [("noise",), ("encoder",), ("all draws",), ("noise", "encoder"), ("noise", "all draws"),
             ("encoder", "all draws")]  # fmt: skip
    return {" × ".join(n): estimate(list(effect(*n)), same_images=True) for n in names}


def figure(tables: Mapping[str, Mapping[str, Table]]) -> Figure:
    """Log-likelihood of every cell with its interval, one panel per notion of equal."""
    drawn = Figure(figsize=(PAGE, 3.4), layout="constrained")
    axes = drawn.subplots(1, len(tables), sharex=True, sharey=False, squeeze=False)[0]
    for axis, (title, found) in zip(axes, tables.items(), strict=True):
        names = list(found)
        for place, name in enumerate(reversed(names)):
            e = estimate(list(found[name]), same_images=True)
            method = "VAE" if name.startswith("vae") else "LPC" if name.startswith("T1") else "PC"
            seeds = found[name].mean(axis=1)
            axis.plot(seeds, [place] * len(seeds), ".", color=COLOURS[method], alpha=0.5, ms=4)
            axis.plot([e.mean], [place], "o", color=COLOURS[method], ms=5)
        axis.set_yticks(range(len(names)), ["VAE" if n.startswith("vae") else n for n in reversed(names)])
        if axis is not axes[0]:
            axis.set_yticklabels([])
        axis.set_title(title, fontsize=7.5)
        axis.set_xlabel("log p(x), nats per image")
        axis.grid(axis="x", color=REFERENCE, alpha=0.2)
    return drawn


def per_cell(found: Mapping[str, Table], updates: Mapping[str, float]) -> list[str]:
    """A Markdown table: mean log-likelihood and the paired difference to vanilla PC."""
    lines = ["| cell | updates | log p(x), nats | difference to T0-prior-final |", "|---|---:|---:|---:|"]
    for name, table in found.items():
        gap = estimate(list(table - found[REFERENCE_CELL]), same_images=True)
        shown = "–" if name == REFERENCE_CELL else show(gap)
        label = "VAE" if name.startswith("vae") else name
        lines.append(f"| {label} | {updates[name]:.0f} | {table.mean():.2f} | {shown} |")
    return lines


def section(lines: list[str], title: str, rows: Mapping[str, Any], text: Callable[[Any], str]) -> None:
    """Append a two-column table."""
    lines += [
        f"#### {title}",
        "",
        "| | |",
        "|---|---:|",
        *(f"| {k} | {text(v)} |" for k, v in rows.items()),
        "",
    ]


def main() -> None:
    """Print the tables as Markdown and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/factorial"))
    options = parser.parse_args()
    result = json.loads(RESULT.read_text())
    cells = result["cells"]
    index = {
        name: [tuple(t["settings"]) for t in c["tries"]].index(tuple(c["chosen"]))
        for name, c in cells.items()
    }
    lines: list[str] = []
    section(lines, "Chosen settings", {n: c["chosen"] for n, c in cells.items()}, lambda c: ", ".join(c))
    section(lines, "Seconds per update", result["seconds_per_update"], lambda s: f"{1000 * s:.1f} ms")
    tables = {}
    for title, updates in budgets(result).items():
        found = {n: values(options.out, n, index[n], u, len(cells[n]["seeds"])) for n, u in updates.items()}
        tables[title] = found
        lines += [f"### {title[0].upper()}{title[1:]}", "", *per_cell(found, updates), ""]
        section(lines, "Effects", contrasts(found), show)
    print("\n".join(lines))
    with matplotlib.rc_context(STYLE):
        drawn = figure(tables)
        for suffix in ("svg", "png"):
            drawn.savefig(RESULT.parent / f"factorial.{suffix}", dpi=200)


if __name__ == "__main__":
    main()
