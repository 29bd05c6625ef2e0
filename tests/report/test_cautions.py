"""Many cautions in few lines: kinds, order, and that nothing is dropped silently."""

from pcsim.report.cautions import MOST, Caution, at_the_top, condensed

STATIONARY = "must not be read as stationary: split R-hat is above 1.01 in {} of 20 series (worst 1.3)"
PRECISE = "must not be read as precise: fewer than 400 effective draws in 3 of 20 series (fewest 9)"


def test_cautions_of_one_kind_become_one_line_with_the_strongest_of_each_run() -> None:
    given = [
        Caution("PC", STATIONARY.format(2)),
        Caution("LPC", STATIONARY.format(5)),
        Caution("LPC", STATIONARY.format(17)),
        Caution("LPC", "spontaneous: " + STATIONARY.format(20)),
    ]
    (line,) = condensed(given)
    assert line.kind == "must not be read as stationary"
    assert line.sentences == 2
    assert "PC: " in line.line
    assert "2 of 20" in line.line
    # before the stimulus chains are shorter: the response stands for the run
    assert "LPC: must not be read as stationary: split R-hat is above 1.01 in 17 of 20 series" in line.line


def test_runs_that_earn_the_same_sentence_share_it() -> None:
    (line,) = condensed([Caution("PC", PRECISE), Caution("LPC", PRECISE)])
    assert line.line == f"PC, LPC: {PRECISE}"


def test_the_top_has_at_most_eight_lines_the_most_important_first_and_counts_the_rest() -> None:
    others = [Caution("", f"{chr(97 + i)} thing may be wrong: why") for i in range(10)]
    sections = [others, [Caution("", PRECISE)], [Caution("", STATIONARY.format(1)), Caution("", PRECISE)],
                [Caution("PC", "not complete: the run is failed (out of memory)")]]  # fmt: skip
    top = at_the_top(sections)
    assert len(top) == MOST
    assert [w.kind for w in top[:3]] == [
        "not complete", "must not be read as stationary", "must not be read as precise",
    ]  # fmt: skip
    assert top[2].sections == (2, 3)
    # 13 kinds, 7 of them shown
    assert top[-1].line == "6 more stand in their sections"
    assert top[-1].sections == (1,)


def test_without_cautions_nothing_stands_at_the_top() -> None:
    assert at_the_top([[], []]) == ()
