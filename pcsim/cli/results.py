"""What a run measured, as a table after it: mean ± standard error with units, and what to make of it."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pcsim.cli.terminal import err, table

if TYPE_CHECKING:
    from pcsim.study.directory import RunDirectory
    from pcsim.study.schema import Study

UNITS = {
    "log_likelihood": "nats per image",
    "elbo": "nats per image",
    "reconstruction_error": "squared error per pixel",
    "completion_error": "squared error per hidden pixel",
}
FEWEST = 2.0
"""Below this effective sample size a single particle carries the estimate."""


def show_results(run_to: "RunDirectory", study: "Study") -> None:
    """Print the last evaluation of a run, if it has any."""
    from pcsim.study.directory import read_metrics

    rows = [row for row in read_metrics(run_to.metrics) if row["kind"] == "evaluation"]
    shown = results(rows[-1], study) if rows else []
    if shown:
        on = study.evaluation.on
        title = f"{on} images, update {rows[-1]['update']}: mean ± standard error over images"
        table(title, ["measure", "value", "unit"], shown)
        for line in warnings(rows[-1], study):
            err.print(f"warning: {line}", markup=False)


def results(row: Mapping[str, Any], study: "Study") -> list[list[str]]:
    """One line per measure."""
    lines = [
        [name.replace("_", " "), mean_and_error(row[name], row.get(f"{name}_standard_error")), unit]
        for name, unit in UNITS.items()
        if name in row
    ]
    if "effective_sample_size" in row:
        size = f"{row['effective_sample_size']:.3g}"
        lines.append(["effective sample size", size, f"of {particles(study)} particles"])
    return lines


def warnings(row: Mapping[str, Any], study: "Study") -> list[str]:
    """What makes a number of the table doubtful."""
    size, wanted = row.get("effective_sample_size"), study.evaluation.log_likelihood
    if size is None or wanted is None or size >= FEWEST:
        return []
    more = "temperatures" if wanted.method == "ais" else "samples"
    return [
        f"effective sample size {size:.3g} of {particles(study)} particles: the log-likelihood is likely too low; "
        f"take more evaluation.log_likelihood.{more}"
    ]


def particles(study: "Study") -> int:
    """How many weighted draws stand behind the log-likelihood of one image."""
    wanted = study.evaluation.log_likelihood
    if wanted is None:
        return 0
    return wanted.particles if wanted.method == "ais" else wanted.samples


def mean_and_error(mean: float, error: float | None) -> str:
    """Both with two figures of the error.

    >>> mean_and_error(-117.2480, 2.2561)
    '-117.2 ± 2.3'
    """
    if error is None or not (math.isfinite(error) and error > 0 and math.isfinite(mean)):
        return f"{mean:.4g}"
    digits = min(max(0, 1 - math.floor(math.log10(error))), 8)
    return f"{mean:.{digits}f} ± {error:.{digits}f}"
