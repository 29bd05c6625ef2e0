"""A report holds a bounded part of a trace at a time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.report.made import Plan, write_run

SCRIPT = """
import resource, sys
from pathlib import Path
from pcsim.analysis import slabs
from pcsim.figures.run_view import view
from pcsim.report import subject
from pcsim.report.write import write_report

small, large, target, budget = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
# the budgets are made for machines with gigabytes: scaled down like the trace of this test
slabs.by_slab.__defaults__ = (budget,)
subject.thin.__defaults__ = (budget,)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
write_report([view(small)], target)  # what libraries take
before = peak()
write_report([view(large)], target)
print(peak() - before)
"""


@pytest.mark.slow
def test_memory_stays_far_below_the_size_of_the_trace(tmp_path: Path) -> None:
    """550 MB of trace, budgets of 16 MiB: less than a third of the trace is ever held (blocks, slabs in float64)."""
    small = write_run(tmp_path / "small", Plan(images=2, chains=8, steps=400))
    large = write_run(
        tmp_path / "large", Plan(images=16, chains=16, units=64, spontaneous=200, steps=4000, block=50)
    )
    size = sum(file.stat().st_size for file in (large / "trace.zarr").rglob("*") if file.is_file())
    assert size > 5e8
    # glibc keeps freed memory in an arena for every thread of the reader: only what is held should count
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, small, large, tmp_path / "page.html", str(2**24)],
        capture_output=True, text=True, timeout=300, check=True, env=alone,
    )  # fmt: skip
    assert int(done.stdout.split()[-1]) < size / 3, (
        f"{int(done.stdout.split()[-1]) / 1e6:.0f} of {size / 1e6:.0f} MB"
    )
