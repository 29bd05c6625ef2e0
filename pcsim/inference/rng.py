"""Sources of draws (`Rng`): streams from a seed tree, recorded draws handed in again, and a recorder."""

import hashlib
import json
from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pcsim.errors import StudyError
from pcsim.inference.types import Rng

Kind = Literal["normal", "uniform"]


class Draw(NamedTuple):
    """One call to an `Rng`: which method, and what it returned."""

    kind: Kind
    value: Tensor


class Stream:
    """Draws from one explicit `torch.Generator`.

    On a CPU the Mersenne Twister itself is four fifths of the cost of a normal draw (3.5 ns in float32), so
    one flat draw for all leaves, a reused buffer or another generator saves nothing worth having.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal draws of `like`'s shape, dtype and device; independent of its strides."""
        return torch.randn(like.shape, generator=self.generator, dtype=like.dtype, device=like.device)

    def uniform(self, like: Tensor) -> Tensor:
        """Uniform draws on [0, 1) of `like`'s shape, dtype and device."""
        return torch.rand(like.shape, generator=self.generator, dtype=like.dtype, device=like.device)

    def get_state(self) -> Tensor:
        """The generator's state (uint8, on the CPU), from which `set_state` continues to the same bits."""
        return self.generator.get_state()

    def set_state(self, state: Tensor) -> None:
        """Continues from a state that `get_state` returned, on the same kind of device."""
        self.generator.set_state(state)


class Replay:
    """Hands in recorded draws, in the order in which they were made.

    Draws are converted to the dtype and device of the asking leaf. Raises `StudyError` where the tape is at
    its end, or holds another kind or shape than is asked for.
    """

    def __init__(self, tape: Iterable[Draw]) -> None:
        self.tape = tuple(tape)
        self.read = 0

    def normal(self, like: Tensor) -> Tensor:
        """The next recorded draw, which must be a normal one of `like`'s shape."""
        return self._next("normal", like)

    def uniform(self, like: Tensor) -> Tensor:
        """The next recorded draw, which must be a uniform one of `like`'s shape."""
        return self._next("uniform", like)

    def _next(self, kind: Kind, like: Tensor) -> Tensor:
        if self.read == len(self.tape):
            raise StudyError(
                f"replay: all {len(self.tape)} recorded draws are used, and a {kind} draw of shape "
                f"{tuple(like.shape)} is asked for; record as many steps as are replayed"
            )
        draw = self.tape[self.read]
        if draw.kind != kind or draw.value.shape != like.shape:
            raise StudyError(
                f"replay: draw {self.read} is {draw.kind} of shape {tuple(draw.value.shape)}, asked for is "
                f"{kind} of shape {tuple(like.shape)}; kernel, leaves and rows must be those of the recording"
            )
        self.read += 1
        return draw.value.to(like.device, like.dtype, copy=True)


class Recorder:
    """Passes on the draws of another `Rng` and keeps copies on `tape`, ready for `Replay`."""

    def __init__(self, source: Rng) -> None:
        self.source = source
        self.tape: list[Draw] = []

    def normal(self, like: Tensor) -> Tensor:
        """The source's next normal draw, recorded."""
        return self._keep("normal", self.source.normal(like))

    def uniform(self, like: Tensor) -> Tensor:
        """The source's next uniform draw, recorded."""
        return self._keep("uniform", self.source.uniform(like))

    def _keep(self, kind: Kind, value: Tensor) -> Tensor:
        self.tape.append(Draw(kind, value.clone()))
        return value


def child_seed(seed: int, *path: str | int) -> int:
    """A 63-bit seed for one named place in the seed tree of a study.

    The path is hashed into the spawn key of a numpy `SeedSequence`, so a name gives the same seed whatever
    other names exist and in which order they are asked for. `1` and `"1"` are different names.
    """
    if seed < 0:
        raise StudyError(f"seed: {seed!r} must be a whole number, 0 or above")
    digest = hashlib.sha256(json.dumps(path).encode()).digest()
    spawn_key = tuple(int(word) for word in np.frombuffer(digest, dtype="<u4"))
    word = np.random.SeedSequence(seed, spawn_key=spawn_key).generate_state(1, np.uint64)[0]
    return int(word) >> 1


def seed_stream(seed: int, *path: str | int, device: str | torch.device = "cpu") -> Stream:
    """The `Stream` at one place of the seed tree: same seed and path, same draws; other paths, other draws.

    torch's CPU generator keeps 32 bits of its seed: among n streams two coincide with probability n²/2³³.

    >>> a, b = seed_stream(0, "train", 3), seed_stream(0, "train", 3)
    >>> bool((a.normal(torch.zeros(2)) == b.normal(torch.zeros(2))).all())
    True
    """
    generator = torch.Generator(device)
    generator.manual_seed(child_seed(seed, *path))
    return Stream(generator)
