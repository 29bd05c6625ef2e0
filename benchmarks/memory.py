"""(d) Peak memory of learning and of recording does not grow with the number of steps.

Each measurement is a fresh process (peak resident set, `ru_maxrss`); learning is one expectation over all
draws of the hierarchy, recording keeps all 552 units of every step in a trace on disk.
"""

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from common import arguments, report
from recording import layout, recorded

from pcsim.study.bench import hierarchy, learn_steps

STEPS = (300, 3000)
TARGET = 1.02


def measure(what: str, steps: int) -> None:
    """Does the work and prints the peak in MiB; runs in a process of its own."""
    torch.set_num_threads(1)
    case = hierarchy("cpu")
    if what == "learning":
        learn_steps(case, steps)
    else:
        units = {"z0/value": (40,), "z1/value": (256,), "z2/value": (256,)}
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            recorded(case, layout(case, units, steps), Path(folder))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def peak(what: str, steps: int) -> float:
    """MiB of a fresh process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--measure", what, str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return float(done.stdout)


def main() -> None:
    """Median of three processes each."""
    given = arguments(__doc__.splitlines()[0], repetitions=3)
    rows, kept = {}, {}
    for what in ("learning", "recording"):
        peaks = {steps: sorted(peak(what, steps) for _ in range(given.repetitions)) for steps in STEPS}
        low, high = (peaks[steps][given.repetitions // 2] for steps in STEPS)
        rows |= {
            f"{what}, T = {steps}: MiB": f"{values[len(values) // 2]:.1f}" for steps, values in peaks.items()
        }
        verdict = "met" if high / low <= TARGET else "MISSED"
        rows[f"{what}: T = {STEPS[1]} / T = {STEPS[0]}"] = f"{high / low:.3f}; target ≤ {TARGET}: {verdict}"
        kept[what] = peaks
    report("memory", rows, given, mebibytes=kept)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(sys.argv[2], int(sys.argv[3]))
    else:
        main()
