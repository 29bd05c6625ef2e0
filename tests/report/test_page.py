"""The page itself: self-contained, escaped, well-formed, warnings first, and honest about what is missing."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pcsim.errors import RunError
from pcsim.figures.run_view import view
from pcsim.report import write
from pcsim.report.page import Number, Page, Section, render, with_error
from pcsim.report.subject import subjects
from pcsim.report.write import SECTIONS, write_report
from tests.report.made import Plan, write_run

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Reader(HTMLParser):
    """Checks that every element is closed, and gathers ids, references and text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        given = dict(attrs)
        self.references += [str(given[name]) for name in ("src", "href") if name in given]
        self.ids += [str(given["id"])] if "id" in given else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def read(path: Path) -> Reader:
    """The page, parsed."""
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def both(vanilla: Path, langevin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run without and one with noise."""
    target = tmp_path_factory.mktemp("pages") / "both.html"
    write_report([view(vanilla), view(langevin)], target, made_by="pcsim test")
    return target


def test_the_page_is_well_formed_and_needs_no_network(both: Path) -> None:
    page = read(both)
    for reference in page.references:
        assert reference.startswith(("data:", "#")) or not re.match(r"[a-z]+:|//", reference), reference
    style = both.read_text(encoding="utf-8").split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    assert not {"script", "iframe", "object", "embed"} & set(page.tags)
    assert both.stat().st_size < 5_000_000


def test_links_and_the_contents_lead_somewhere(both: Path) -> None:
    page = read(both)
    assert len(set(page.ids)) == len(page.ids)
    for reference in page.references:
        if reference.startswith("#"):
            assert reference[1:] in page.ids
        elif not reference.startswith("data:"):
            assert (both.parent / reference).exists(), reference


def test_warnings_stand_before_all_findings(both: Path) -> None:
    text = both.read_text(encoding="utf-8")
    assert text.index("Read these first") < text.index('aria-label="In short"') < text.index('id="s1"')
    top = text.split('class="warnings"')[1].split("</section>")[0]
    assert 1 <= top.count("<li>") <= 8


def test_every_section_is_there_or_named_with_its_reason(both: Path) -> None:
    told = read(both).text
    for question in SECTIONS:
        assert question.rstrip("?") in told, question
    # three images are too few to decode, and the page says what was there and what is needed
    assert "3 images of 2 classes were recorded; decoding needs 10" in told
    # a run without noise is named where it has nothing to show
    assert "vanilla PC has no noise (T = 0)" in told


def test_everything_of_a_user_is_escaped(tmp_path: Path) -> None:
    evil = '<script>alert("1")</script><img src=x onerror=alert(2)>'
    path = write_run(tmp_path / "a&b<c>", Plan(images=1, chains=4, steps=100), description=evil)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest |= {"status": "failed", "reason": f"out of memory {evil}", "study": evil}
    (path / "manifest.json").write_text(json.dumps(manifest))
    target = tmp_path / "page.html"
    page = write_report([view(path)], target, made_by=evil)
    text = target.read_text(encoding="utf-8")
    assert "<script" not in text
    assert "<img src=x" not in text
    assert "&lt;script&gt;" in text
    read(target)
    # and what failed is the first thing said
    assert page.warned[0].kind.startswith("not complete")
    assert "out of memory" in page.warned[0].line


def test_a_run_without_trace_says_so(tmp_path: Path) -> None:
    path = write_run(tmp_path / "bare", Plan(images=1, chains=4, steps=100))
    run = view(path)
    bare = subjects([run])[0]._replace(trace=None)
    page = write.page_of([bare], tmp_path / "page.html", (), "")
    assert page.sections[0].question == "What was run?"
    absent = page.sections[-1]
    assert absent.question == "What could not be asked of these runs?"
    assert any("nothing was recorded" in note for note in absent.notes)
    assert len(absent.notes) == len(SECTIONS) - 1


def test_chains_without_a_stimulus_phase_and_of_one_image(tmp_path: Path) -> None:
    path = write_run(tmp_path / "one", Plan(images=1, chains=16, spontaneous=0, steps=400))
    page = write_report([view(path)], tmp_path / "page.html")
    told = [note for section in page.sections for note in section.notes]
    assert any("0 steps were recorded before the stimulus" in note for note in told)
    # with one image errors come from chains and draws; only counts and diagnostics stand without
    bare = [
        name for section in page.sections[1:] for table in section.tables for name, cells in table.rows
        for cell in cells if isinstance(cell, Number) and cell.error is None
    ]  # fmt: skip
    assert set(bare) <= {"worst split R-hat", "fewest effective draws", "median integrated time of the units"}
    assert not re.search(r"\bnan\b", read(tmp_path / "page.html").text)


def test_the_page_is_written_whole_or_not_at_all(
    langevin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "report.html"
    target.write_text("earlier")

    def fails(page: Page) -> str:
        raise RuntimeError("no template")

    monkeypatch.setattr(write, "SECTIONS", {"What was run?": SECTIONS["What was run?"]})
    with monkeypatch.context() as broken:
        broken.setattr(write, "render", fails)
        with pytest.raises(RuntimeError):
            write_report([view(langevin)], target)
    assert target.read_text() == "earlier"
    write_report([view(langevin)], target)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    assert target.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_a_report_needs_runs(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="at least one run"):
        write_report([], tmp_path / "page.html")


def test_the_same_runs_give_the_same_page(
    langevin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn_by_chance = (
        "What does the start do, and what is left to the chain?",
        "What does the path look like?",
    )
    monkeypatch.setattr(
        write, "SECTIONS", {name: SECTIONS[name] for name in ("What was run?", *drawn_by_chance)}
    )
    pages = [tmp_path / name for name in ("one.html", "two.html")]
    for target in pages:
        write_report([view(langevin)], target)
    assert pages[0].read_bytes() == pages[1].read_bytes()


@pytest.mark.parametrize(
    ("value", "error", "shown"),
    [
        (-91.234, 1.96, "−91.2 ± 2.0"),
        (0.0012345, 0.000067, "0.001234 ± 0.000067"),
        (1893.2, 801.0, "1893 ± 801"),
        (12345678.0, None, "12345678"),
        (1.3491, None, "1.349"),
    ],
)  # fmt: skip
def test_digits_follow_the_error(value: float, error: float | None, shown: str) -> None:
    assert with_error(value, error) == shown


def test_a_number_that_is_none_is_not_shown_as_nan() -> None:
    page = Page("t", (), (Section("q", Number(float("nan"), None).shown),))
    assert "not defined" in render(page)
