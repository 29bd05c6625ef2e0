"""Packs picture files in blocks, by several processes; after a kill it goes on from the finished blocks."""

import hashlib
import io
import json
import multiprocessing
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL
from PIL import Image, ImageOps, UnidentifiedImageError

from pcsim.datasets.listing import read_member
from pcsim.datasets.store import FORMAT, write_array, write_json
from pcsim.datasets.types import Box, Member, Pictures, Pixels, Progress
from pcsim.errors import DataError

BLOCK = 512
FILTER = "bilinear with antialiasing, after the crop"
MODES = {1: "L", 3: "RGB"}
DEEP = ("I", "F")


class Cut(NamedTuple):
    """How a picture becomes an image: `frame` gives the box for `crop`, then `size` pixels along a side."""

    frame: Callable[[int, int, int | None], Box]
    crop: int | None
    size: int
    channel: int


class Block(NamedTuple):
    """The work of one call: some members of the collection at `source`, written to `path`.npy and .json."""

    source: str
    members: tuple[Member, ...]
    cut: Cut
    path: str


def decode(content: bytes, cut: Cut) -> Pixels:
    """One picture as uint8 `[channel, y, x]`: decoded at full size, upright by its EXIF tag, cut, resized."""
    with Image.open(io.BytesIO(content)) as opened:
        if opened.mode.startswith(DEEP):
            raise ValueError(f"grey levels of mode {opened.mode}; expected 8 bits a channel")
        upright = ImageOps.exif_transpose(opened).convert(MODES[cut.channel])
    square = upright.crop(cut.frame(upright.width, upright.height, cut.crop))
    small = np.asarray(square.resize((cut.size, cut.size), Image.Resampling.BILINEAR))
    return small.reshape(cut.size, cut.size, cut.channel).transpose(2, 0, 1)


def decode_members(
    source: Path, members: tuple[Member, ...], cut: Cut
) -> tuple[Pixels, list[int], list[list[str]]]:
    """The images that could be read, their positions in `members`, [name, reason] of those that could not."""
    pixels = np.empty((len(members), cut.channel, cut.size, cut.size), np.uint8)
    kept: list[int] = []
    broken: list[list[str]] = []
    with ExitStack() as stack:
        archive = None if source.is_dir() else stack.enter_context(source.open("rb"))
        for position, member in enumerate(members):
            try:
                content = (
                    (source / member.name).read_bytes() if archive is None else read_member(archive, member)
                )
                pixels[len(kept)] = decode(content, cut)
            except MemoryError:
                raise
            except UnidentifiedImageError:  # its own message holds an address, and no two runs would be alike
                broken.append([member.name, "not a picture"])
            except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error and more
                broken.append([member.name, f"{error}" or type(error).__name__])
            else:
                kept.append(position)
    return pixels[: len(kept)], kept, broken


def pack_block(block: Block) -> int:
    """Writes one block, its .json last, and returns its number of members; runs in a worker process."""
    pixels, kept, broken = decode_members(Path(block.source), block.members, block.cut)
    write_array(Path(f"{block.path}.npy"), pixels.shape, [pixels])
    write_json(Path(f"{block.path}.json"), {"kept": kept, "broken": broken})
    return len(block.members)


def job_key(pictures: Pictures, cut: Cut) -> str:
    """Sixteen digits that change with anything that decides the blocks: members, cut, filter, Pillow."""
    content = repr(
        (pictures.kind, pictures.members, pictures.part, cut[1:], BLOCK, FILTER, FORMAT, PIL.__version__)
    )
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def blocks_of(pictures: Pictures, cut: Cut, folder: Path) -> list[Block]:
    """All blocks of a collection, in order."""
    starts = range(0, len(pictures.members), BLOCK)
    return [
        Block(
            str(pictures.source),
            pictures.members[k : k + BLOCK],
            cut,
            str(folder / f"block-{k // BLOCK:05d}"),
        )
        for k in starts
    ]


def pack_blocks(blocks: list[Block], workers: int, progress: Progress) -> None:
    """Packs the blocks that are not on disk yet; `progress(images done, images in all)` after each."""
    todo = [b for b in blocks if not (Path(f"{b.path}.json").exists() and Path(f"{b.path}.npy").exists())]
    total = sum(len(b.members) for b in blocks)
    done = total - sum(len(b.members) for b in todo)
    progress(done, total)
    for finished in map(pack_block, todo) if min(workers, len(todo)) <= 1 else _in_processes(todo, workers):
        done += finished
        progress(done, total)


def _in_processes(todo: list[Block], workers: int) -> Iterator[int]:
    context = multiprocessing.get_context("spawn")
    count = min(workers, len(todo))
    with ProcessPoolExecutor(count, mp_context=context, initializer=_end_with_parent) as pool:
        futures = [pool.submit(pack_block, block) for block in todo]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise DataError(
                "a worker process ended unexpectedly (killed, out of memory, or started from a script "
                "without `if __name__ == '__main__':`); run again, with 1 worker if it happens again: "
                "finished blocks are kept"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _end_with_parent() -> None:
    """Ends this worker when the main process is killed; it would wait for work for ever otherwise."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def assemble(
    blocks: list[Block], part: tuple[str, ...], folder: Path
) -> tuple[dict[str, Any], list[list[str]]]:
    """Writes train.npy (validation.npy, test.npy) from the blocks; returns their records and the broken."""
    records = [json.loads(Path(f"{block.path}.json").read_text("utf-8")) for block in blocks]
    parts = [[part[k * BLOCK + position] for position in record["kept"]] for k, record in enumerate(records)]
    broken = [entry for record in records for entry in record["broken"]]
    count = Counter(name for names in parts for name in names)
    if not count["train"]:
        first = (
            f"{broken[0][0]}: {broken[0][1]}" if broken else "the partition file gives them to other parts"
        )
        raise DataError(
            f"{blocks[0].source}: no training image could be read of {len(part)} pictures; {first}"
        )
    cut = blocks[0].cut
    arrays: dict[str, Any] = {}
    for name in sorted(count):
        shape = (count[name], cut.channel, cut.size, cut.size)
        pieces = (
            np.load(f"{b.path}.npy")[np.array(p) == name] for b, p in zip(blocks, parts, strict=True) if p
        )
        digest = write_array(folder / f"{name}.npy", shape, pieces)
        arrays[name] = {"shape": list(shape), "dtype": "uint8", "sha256": digest}
    return arrays, broken


def processors() -> int:
    """The number of processors that this process may use (a batch system may allow fewer than there are)."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
