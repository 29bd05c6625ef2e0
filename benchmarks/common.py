"""What the benchmark scripts share: interleaved timing, the machine in words, a table and a JSON file."""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import torch

ROOT = Path(__file__).resolve().parents[1]
CELEBA_SAMPLE = ROOT.parent / "shared" / "data" / "celeba_half89x109_jpeg.zip"


QUIET = 0.1
"""Processors that others may keep busy during a repetition that counts as quiet."""
LEAST = 4
"""Repetitions that are run in any case."""


class Timing(NamedTuple):
    """Seconds of each repetition of one competitor, in the order in which the repetitions ran."""

    name: str
    seconds: list[float]
    processor: list[float]
    """Processor seconds of all threads: hardly moved by other processes, but with several threads they also
    hold the time in which one waits for another."""
    steps: int

    def milliseconds(self) -> float:
        """Median per step."""
        return 1e3 * statistics.median(self.seconds) / self.steps


class Race(NamedTuple):
    """The timings of all competitors, from the same repetitions."""

    times: dict[str, Timing]
    conditions: str
    """How many repetitions counted, and why those."""


def interleave(
    works: Mapping[str, Callable[[], Any]], repetitions: int, steps: int = 1, patience: float = 60.0
) -> Race:
    """Each work once per repetition, in an order that rotates, so that load from elsewhere hits all alike.

    Goes on until `repetitions` of them passed while other processes kept at most a tenth of one processor busy,
    or for `patience` seconds; what counts are the quietest ones, the same for all competitors, whatever they
    took. The first repetition warms up.
    """
    names = list(works)
    runs: list[tuple[float, dict[str, tuple[float, float]]]] = []
    deadline, number = time.perf_counter() + patience, 0
    while sum(share <= QUIET for share, _ in runs) < repetitions:
        _wait_for_quiet(deadline)
        if time.perf_counter() > deadline and len(runs) >= min(repetitions, LEAST):
            break
        begin, others = time.perf_counter(), _busy_elsewhere()
        order = [names[(number + offset) % len(names)] for offset in range(len(names))]
        run = {name: _seconds(works[name]) for name in order}
        share = (_busy_elsewhere() - others) / (time.perf_counter() - begin)
        runs += [(share, run)] if number else []
        number += 1
    counted = sorted(runs, key=lambda item: item[0])[:repetitions]
    most = max(0.0, counted[-1][0])
    conditions = f"the quietest {len(counted)} of {len(runs)}: other processes used ≤ {most:.2f} processors"
    times = {}
    for name in names:
        wall, processor = zip(*(run[name] for _, run in counted), strict=True)
        times[name] = Timing(name, list(wall), list(processor), steps)
    return Race(times, conditions)


def _wait_for_quiet(deadline: float) -> None:
    """Sleeps until other processes leave the machine alone for a fifth of a second, at most to the deadline."""
    while time.perf_counter() < deadline:
        others = _busy_elsewhere()
        time.sleep(0.2)
        if (_busy_elsewhere() - others) / 0.2 <= QUIET:
            return


def _seconds(work: Callable[[], Any]) -> tuple[float, float]:
    begin, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - begin, time.process_time() - processor


def _busy_elsewhere() -> float:
    """Processor seconds that the whole machine used so far, less this process's; 0 where nothing tells."""
    stat = Path("/proc/stat")
    if not stat.is_file():
        return 0.0
    user, nice, system, _, _, interrupts, soft, steal = (int(v) for v in stat.read_text().split()[1:9])
    ticks = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + interrupts + soft + steal) / ticks - time.process_time()


class Ratio(NamedTuple):
    """How two competitors compare within one run."""

    medians: float
    """Ratio of medians: the number that the target is about."""
    minima: float
    """Ratio of minima: the same on an idle machine."""
    paired: tuple[float, float]
    """Quartiles of the ratio within one repetition."""
    processor: float
    """Ratio of the medians of processor time."""


def ratio(a: Timing, b: Timing) -> Ratio:
    """a over b, per step."""
    scale = b.steps / a.steps
    pairs = [x / y * scale for x, y in zip(a.seconds, b.seconds, strict=True)]
    low, _, high = statistics.quantiles(pairs, n=4)
    processor = statistics.median(a.processor) / statistics.median(b.processor) * scale
    minima = min(a.seconds) / min(b.seconds) * scale
    return Ratio(a.milliseconds() / b.milliseconds(), minima, (low, high), processor)


def shown(value: Ratio, target: float | None = None) -> str:
    """The ratio of medians, how sure it is, and the verdict where there is a target."""
    low, high = value.paired
    text = f"{value.medians:.2f} (minima {value.minima:.2f}, pairs {low:.2f}-{high:.2f}, "
    text += f"processor time {value.processor:.2f})"
    if target is None:
        return text
    return f"{text}; target ≤ {target:g}: {'met' if value.medians <= target else 'MISSED'}"


def machine() -> dict[str, Any]:
    """CPU, cores, versions."""
    names = ("pcsim", "torch", "numpy", "zarr", "xarray")
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "default"),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in names},
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return model or platform.processor() or platform.machine()


def load() -> float:
    """Mean number of running processes over the last minute."""
    return os.getloadavg()[0]


def arguments(description: str, **defaults: int) -> argparse.Namespace:
    """The command line of a script: `--threads`, `--out`, and whole numbers with these defaults."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--patience", type=float, default=60.0, help="seconds to wait for quiet per comparison"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "benchmarks")
    for name, value in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    given.load_before = load()
    return given


def report(name: str, rows: Mapping[str, str], given: argparse.Namespace, **numbers: Any) -> None:
    """Prints `rows` as a table under the machine's description, and writes all of it to OUT/name.json."""
    loads = [round(given.load_before, 2), round(load(), 2)]
    content = {"benchmark": name, "machine": machine(), "load": loads, "rows": dict(rows), **numbers}
    host = content["machine"]
    print(
        f"{name}: {host['cpu']}, {host['cores']} cores, {host['threads']} threads, python {host['python']}, ",
        end="",
    )
    print(f"torch {host['torch']}, zarr {host['zarr']}; load {loads[0]} before, {loads[1]} after")
    width = max(len(row) for row in rows)
    for row, text in rows.items():
        print(f"  {row:<{width}}  {text}")
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / f"{name}.json").write_text(json.dumps(content, indent=1, default=list) + "\n")


def faces(n: int) -> tuple[torch.Tensor, str]:
    """uint8 `[n, 3, 64, 64]`: aligned faces where the sample lies beside the checkout, else synthetic images."""
    from pcsim.study.bench import smooth_images

    if not CELEBA_SAMPLE.is_file():
        return smooth_images(n), "synthetic smooth images"
    import io
    import zipfile

    import numpy as np
    from PIL import Image

    pictures = []
    with zipfile.ZipFile(CELEBA_SAMPLE) as archive:
        for name in sorted(archive.namelist())[:n]:
            with Image.open(io.BytesIO(archive.read(name))) as picture:
                square = (
                    picture.convert("RGB").crop((7, 17, 81, 91)).resize((64, 64), Image.Resampling.BILINEAR)
                )
                pictures.append(np.asarray(square).transpose(2, 0, 1))
    return torch.from_numpy(np.stack(pictures)), "CelebA, central 148 pixels at 64x64"
