"""`bench`: how fast this machine is."""

import json
import os
from pathlib import Path

from pcsim.cli.terminal import Bars, out, table


def bench_command(device: str | None, threads: int | None, out_file: Path | None) -> None:
    """Time the two measured circuits on one device, print the table, and write it to a file when asked."""
    import torch

    from pcsim.study.bench import BATCH, speeds
    from pcsim.study.build import device_of, version

    if threads is not None:
        torch.set_num_threads(threads)
    place = device_of(device or "auto")
    name = torch.cuda.get_device_name(place) if place.type == "cuda" else f"{os.cpu_count()} cores"
    with Bars().task("measuring", 4) as tick:
        found = speeds(place, tick)
    where = (
        f"{place} ({name}), {torch.get_num_threads()} threads, pcsim {version()}, torch {torch.__version__}"
    )
    load = os.getloadavg()[0]
    out.print(f"{where}; batch {BATCH}, float32; load {load:.1f}", markup=False)
    rows = [[speed.what, f"{speed.milliseconds:.3g}", f"{speed.images:,.0f}"] for speed in found]
    table("", ["what", "ms per step", "images/s"], rows)
    if out_file is not None:
        content = {"machine": where, "load": load, "batch": BATCH, "rows": [s._asdict() for s in found]}
        out_file.parent.mkdir(parents=True, exist_ok=True)
        out_file.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
