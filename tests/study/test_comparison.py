"""Comparisons of runs: budgets on constructed runs, intervals against scipy, refusals with their reasons."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from pcsim.errors import RunError
from pcsim.study.comparison import Basis, Comparison, Row, compare
from pcsim.study.comparison_text import tables_text, to_json, to_markdown
from pcsim.study.paired import estimate
from tests.figures.synthetic import evaluation, study_of, write_run

Arrays = Mapping[str, NDArray[Any]]


def table(comparison: Comparison, basis: Basis) -> tuple[float | None, dict[str, Row]]:
    found = next(t for t in comparison.tables if t.basis == basis)
    return found.budget, {row.label: row for row in found.rows}


def pair(
    folder: Path,
    first: Mapping[int, Arrays],
    second: Mapping[int, Arrays],
    seconds: tuple[float, float] = (0.1, 0.1),
) -> list[Path]:
    return [
        write_run(folder / "mnist_pc" / "a", study_of("pc"), first, seconds[0]),
        write_run(folder / "mnist_lpc" / "b", study_of("lpc"), second, seconds[1], gradients_per_update=100),
    ]


# ---- intervals


@pytest.mark.parametrize("n", [2, 7, 200])
def test_one_seed_is_the_paired_t_test(n: int) -> None:
    rng = np.random.default_rng(n)
    a, b = rng.standard_normal((2, n))
    found = estimate([b - a], same_images=True)
    test = stats.ttest_rel(b, a)
    interval = test.confidence_interval(0.95)
    assert found.mean == pytest.approx((b - a).mean(), rel=1e-12)
    assert found.mean / found.standard_error == pytest.approx(test.statistic, rel=1e-9)
    np.testing.assert_allclose([found.low, found.high], [interval.low, interval.high], rtol=1e-9)
    assert found.degrees_of_freedom == test.df


def test_seeds_with_their_own_images_are_the_unit() -> None:
    tables = [np.random.default_rng(i).normal(i, 1, 30) for i in range(5)]
    found = estimate(tables, same_images=False)
    means = np.array([t.mean() for t in tables])
    low, high = stats.t.interval(0.95, 4, means.mean(), stats.sem(means))
    np.testing.assert_allclose([found.low, found.high], [low, high], rtol=1e-12)


def test_crossed_variance_is_unbiased() -> None:
    """E[var] = σ_s²/S + σ_i²/n + σ_e²/(S n); 4 s.e. of the simulation, and the interval covers 95 % of the time."""
    rng, seeds, images, spread = np.random.default_rng(0), 6, 40, (2.0, 3.0, 1.5)
    variances, covered = [], []
    for _ in range(1000):
        by_seed = spread[0] * rng.standard_normal((seeds, 1))
        by_image = spread[1] * rng.standard_normal((1, images))
        found = estimate(list(by_seed + by_image + spread[2] * rng.standard_normal((seeds, images))), True)
        variances.append(found.standard_error**2)
        covered.append(found.low <= 0 <= found.high)
    exact = spread[0] ** 2 / seeds + spread[1] ** 2 / images + spread[2] ** 2 / (seeds * images)
    assert abs(np.mean(variances) - exact) < 4 * np.std(variances) / math.sqrt(1000)
    assert abs(np.mean(covered) - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 1000)


def test_crossed_limits_are_the_two_t_intervals() -> None:
    """All variance between seeds: the seeds are the unit; all between images: the images are."""
    effect = np.random.default_rng(1).standard_normal(6)
    by_seed = estimate([np.full(50, e) for e in effect], True)
    by_image = estimate([effect] * 4, True)
    for found in (by_seed, by_image):
        low, high = stats.t.interval(0.95, 5, effect.mean(), stats.sem(effect))
        np.testing.assert_allclose([found.low, found.high], [low, high], rtol=1e-9)


@pytest.mark.parametrize("values", [np.array([1.0]), np.array([1.0, math.nan]), np.array([1.0, -math.inf])])
def test_no_interval_where_there_is_none(values: NDArray[Any]) -> None:
    found = estimate([values], True)
    assert math.isnan(found.low)
    assert math.isnan(found.standard_error)


# ---- budgets


def test_equal_updates_is_the_last_one_common_to_all(tmp_path: Path) -> None:
    stages = {u: evaluation(u / 10) for u in (0, 100, 200)}
    runs = pair(tmp_path, stages, {u: evaluation(u / 10, seed=3) for u in (0, 100, 150)})
    budget, rows = table(compare(runs), "update")
    assert budget == 100
    assert [r.readings[0].update for r in rows.values()] == [100, 100]
    cell = rows["Langevin PC"].cells["log_likelihood"]
    interval = stats.ttest_rel(
        evaluation(10, seed=3)["log_likelihood"], stages[100]["log_likelihood"]
    ).confidence_interval()
    assert cell.difference is not None
    np.testing.assert_allclose(cell.difference[2:4], interval, rtol=1e-9)
    assert cell.value.mean == pytest.approx(evaluation(10, seed=3)["log_likelihood"].mean())
    assert rows["vanilla PC"].cells["log_likelihood"].difference is None


def test_equal_seconds_reads_each_run_at_its_last_evaluation_in_time(tmp_path: Path) -> None:
    """PC spends 100 updates · 0.1 s = 10 s; LPC (1 s an update) is read at 10 updates, not at 5, not at 20."""
    first = {u: evaluation(u) for u in (50, 100)}
    second = {u: evaluation(u, seed=1) for u in (5, 10, 20)}
    comparison = compare(pair(tmp_path, first, second, (0.1, 1.0)))
    budget, rows = table(comparison, "seconds")
    assert budget == pytest.approx(10)
    assert [r.readings[0].update for r in rows.values()] == [100, 10]
    assert [r.note for r in rows.values()] == ["", ""]
    budget, rows = table(comparison, "gradient_evaluations")  # 100 · 50 = 5000 against 20 · 100 = 2000
    assert budget == 2000
    assert rows["vanilla PC"].cells == {}
    assert (
        "no evaluation within 2000 gradient evaluations (the first came after 2500" in rows["vanilla PC"].note
    )
    assert rows["Langevin PC"].cells["elbo"].difference is None
    budget, rows = table(comparison, "update")
    assert budget is None
    assert all(row.note == "no update at which every run was evaluated" for row in rows.values())


def test_a_reading_well_before_the_budget_is_marked(tmp_path: Path) -> None:
    first, second = {100: evaluation(1)}, {2: evaluation(2), 20: evaluation(3)}
    _, rows = table(compare(pair(tmp_path, first, second, (0.1, 1.0))), "seconds")
    assert rows["Langevin PC"].note == "read at 2 of 10 s, its last evaluation within the budget"


def test_a_metric_that_one_run_lacks_has_no_difference(tmp_path: Path) -> None:
    bare = {k: v for k, v in evaluation(1).items() if k != "elbo"}
    comparison = compare(pair(tmp_path, {10: bare}, {10: evaluation(2)}))
    _, rows = table(comparison, "update")
    assert "elbo" not in rows["vanilla PC"].cells
    assert rows["Langevin PC"].cells["elbo"].difference is None
    assert comparison.metrics == ("log_likelihood", "reconstruction_error", "elbo")


# ---- seeds


def seeded(folder: Path, seeds: range, own_images: bool) -> list[Path]:
    paths = []
    for kind, gain in (("pc", 0.0), ("lpc", 20.0)):
        for seed in seeds:
            arrays = evaluation(gain + 3 * math.sin(seed + gain), seed=seed + int(gain))
            if own_images:
                arrays["original"] = np.roll(arrays["original"], seed, axis=-1)
            paths.append(write_run(folder / f"mnist_{kind}" / f"s{seed}", study_of(kind, seed), {10: arrays}))
    return paths


@pytest.mark.parametrize("own_images", [False, True])
def test_seeds_of_one_study_are_one_row_paired_by_seed(own_images: bool, tmp_path: Path) -> None:
    paths = seeded(tmp_path, range(5), own_images)
    _, rows = table(compare([paths[7], *paths[:5], *paths[5:7], *paths[8:]]), "update")
    assert list(rows) == ["Langevin PC (5 seeds)", "vanilla PC (5 seeds)"]
    differences = [
        evaluation(3 * math.sin(s), seed=s)["log_likelihood"]
        - evaluation(20 + 3 * math.sin(s + 20), seed=s + 20)["log_likelihood"]
        for s in range(5)
    ]
    found = rows["vanilla PC (5 seeds)"].cells["log_likelihood"].difference
    assert found is not None
    assert found == estimate(differences, same_images=not own_images)
    assert (found.seeds, len(rows["vanilla PC (5 seeds)"].readings)) == (5, 5)


def test_studies_without_a_common_seed_are_not_paired(tmp_path: Path) -> None:
    paths = seeded(tmp_path, range(4), own_images=False)
    _, rows = table(compare([*paths[:2], *paths[6:]]), "update")
    row = rows["Langevin PC (2 seeds)"]
    assert row.cells["log_likelihood"].difference is None
    assert "no seed in common" in row.note


# ---- refusals


def change(key: str, value: Any) -> Callable[[Path], None]:
    def act(run: Path) -> None:
        manifest = json.loads((run / "manifest.json").read_text())
        (run / "manifest.json").write_text(json.dumps(manifest | {key: value}))

    return act


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"original": np.zeros((10, 1, 28, 28))}, "different held-out images"),
        ({"image": np.arange(60)[::-1]}, "different held-out images"),
        ({"elbo": np.zeros((60, 2))}, r"damaged evaluation \(elbo has shape \(60, 2\)"),
    ],
)
def test_other_images_are_refused(second: Arrays, message: str, tmp_path: Path) -> None:
    runs = pair(tmp_path, {10: evaluation(1)}, {10: evaluation(2) | dict(second)})
    with pytest.raises(RunError, match=message):
        compare(runs)


def test_without_pictures_the_seed_must_tell_the_images(tmp_path: Path) -> None:
    arrays = evaluation(1, pictures=False)
    one = write_run(tmp_path / "s" / "a", study_of("pc", 0), {10: arrays})
    other = write_run(tmp_path / "t" / "b", study_of("lpc", 1), {10: arrays})
    with pytest.raises(RunError, match=r"different held-out images.*same `data`, `evaluation` and `seed`"):
        compare([one, other])


def test_other_data_are_refused(tmp_path: Path) -> None:
    runs = pair(tmp_path, {10: evaluation(1)}, {10: evaluation(2)})
    change("data", {"fingerprint": "beef"})(runs[1])
    with pytest.raises(RunError, match=r"different data \(fingerprints beef and f00d\)"):
        compare(runs)
    other = write_run(tmp_path / "grey" / "c", study_of("lpc", binarise=60), {10: evaluation(2)})
    with pytest.raises(RunError, match=r"data.binarise: 60, .* has 127"):
        compare([runs[0], other])


def test_too_few_runs_and_unevaluated_runs_are_refused(tmp_path: Path) -> None:
    one, other = pair(tmp_path, {10: evaluation(1)}, {})
    with pytest.raises(RunError, match="at least two runs, got 1"):
        compare([one])
    with pytest.raises(RunError, match="given twice"):
        compare([one, one])
    change("status", "failed")(other)
    with pytest.raises(RunError, match=r"b: no evaluation yet \(status: failed\)"):
        compare([one, other])
    with pytest.raises(RunError, match="no such run directory; did you mean 'a'"):
        compare([one, one.parent / "aa"])


def test_unfinished_runs_and_other_machines_are_labelled(tmp_path: Path) -> None:
    runs = pair(tmp_path, {10: evaluation(1)}, {10: evaluation(2)})
    change("status", "stopped")(runs[1])
    change("threads", 2)(runs[1])
    notes = compare(runs).notes
    assert notes[0] == f"{runs[1]}: stopped, not complete"
    assert "equal seconds mean little" in notes[1]


def test_an_evaluation_lost_from_disk_is_not_read(tmp_path: Path) -> None:
    runs = pair(tmp_path, {10: evaluation(1), 20: evaluation(1)}, {10: evaluation(2), 20: evaluation(2)})
    (runs[1] / "evaluation" / "00000020.npz").unlink()
    assert table(compare(runs), "update")[0] == 10


# ---- rendering


def test_renderings_hold_the_same_numbers(tmp_path: Path) -> None:
    runs = pair(tmp_path, {10: evaluation(1)}, {10: evaluation(9, seed=1)})
    comparison = compare(runs)
    content = json.loads(to_json(comparison), parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    row = content["tables"][0]["rows"][1]
    mean, low = (row["cells"]["log_likelihood"]["difference"][key] for key in ("mean", "low"))
    assert f"Δ {mean:+.2f} [{low:+.2f}" in to_markdown(comparison)
    lines = [line for line in to_markdown(comparison).splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    shown = tables_text(comparison)
    assert len(shown) == 3
    assert [t.row_count for t in shown] == [2, 2, 2]
    assert to_json(comparison) == to_json(compare(runs))


def test_numbers_that_are_not_finite_are_said_and_become_null(tmp_path: Path) -> None:
    arrays = evaluation(2)
    arrays["log_likelihood"][3] = -math.inf
    comparison = compare(pair(tmp_path, {10: evaluation(1)}, {10: arrays}))
    _, rows = table(comparison, "update")
    assert rows["Langevin PC"].note == "not finite on some image: log_likelihood"
    cells = json.loads(to_json(comparison))["tables"][0]["rows"][1]["cells"]
    assert cells["log_likelihood"]["difference"]["low"] is None
    assert "-inf" in to_markdown(comparison)
