"""Streams, the seed tree, recorded draws."""

import pytest
import torch

from pcsim.errors import StudyError
from pcsim.inference.rng import Draw, Replay, child_seed, seed_stream

F64 = torch.float64


def test_seed_tree_is_deterministic_and_names_are_independent() -> None:
    """Oracle: same path, same bits; other paths or seeds, correlations below 4 s.e. = 4/sqrt(n)."""
    like = torch.zeros(10_000, dtype=F64)
    paths: list[tuple[int, tuple[str | int, ...]]] = [
        (0, ()),
        (0, ("train",)),
        (0, ("train", 1)),
        (0, ("train", "1")),
        (0, ("train1",)),
        (0, (1, "train")),
        (1, ("train",)),
    ]
    draws = torch.stack([seed_stream(seed, *path).normal(like) for seed, path in paths])
    again = torch.stack([seed_stream(seed, *path).normal(like) for seed, path in reversed(paths)]).flip(0)
    assert torch.equal(draws, again)
    correlation = torch.corrcoef(draws) - torch.eye(len(paths), dtype=F64)
    assert correlation.abs().max() < 4 / 10_000**0.5
    assert len({child_seed(seed, *path) for seed, path in paths}) == len(paths)


def test_stream_does_not_touch_the_global_generator() -> None:
    before = torch.get_rng_state()
    seed_stream(0, "x").normal(torch.zeros(100))
    assert torch.equal(torch.get_rng_state(), before)


def test_stream_ignores_strides_and_keeps_dtype() -> None:
    like = torch.zeros(20, 30)
    a, b = seed_stream(0).normal(like), seed_stream(0).normal(torch.zeros(30, 20).T)
    assert torch.equal(a, b)
    assert seed_stream(0).uniform(like.double()).dtype == F64


@pytest.mark.parametrize(
    ("tape", "message"),
    [
        ([], "all 0 recorded draws are used"),
        (
            [Draw("normal", torch.zeros(2, 2))],
            r"draw 0 is normal of shape \(2, 2\), asked for is normal of shape \(3,\)",
        ),
        ([Draw("uniform", torch.zeros(3))], "draw 0 is uniform"),
    ],
)
def test_replay_says_what_is_wrong(tape: list[Draw], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        Replay(tape).normal(torch.zeros(3))


def test_replay_hands_out_copies() -> None:
    value = torch.ones(3)
    Replay([Draw("normal", value)]).normal(torch.zeros(3)).add_(5)
    assert torch.equal(value, torch.ones(3))


def test_seed_must_not_be_negative() -> None:
    with pytest.raises(StudyError, match="seed"):
        seed_stream(-1)
