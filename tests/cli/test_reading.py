"""What the commands say of files: every mistake of a check, the option or override at fault, runs and their ends."""

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pcsim.circuit.source import override, parse_override
from pcsim.cli import app
from pcsim.cli.checking import check_command
from pcsim.cli.comparing import name_of
from pcsim.cli.listing import run_folders, status_rows
from pcsim.cli.results import mean_and_error, results, warnings
from pcsim.errors import StudyError
from pcsim.figures.run_view import RunView
from pcsim.study import build, load
from tests.study.cases import CIRCUIT, STUDY, write_study

NOWHERE = STUDY.replace("binarise: 127", "binarise: 127, root: nowhere").replace(
    "name: digits", "name: celeba"
)


def test_check_reports_mistakes_of_every_part_and_missing_data_last(tmp_path: Path) -> None:
    text = NOWHERE.replace("read: energy", "read: enregy").replace("temperature: 1.0", "temprature: 1.0")
    text = text.replace("{x: image}", "{x: imgae}").replace("figures: []", "figures: [sampels, enregy]")
    praise, mistakes = check_command(write_study(tmp_path, text))
    assert praise == ""
    for word in (
        "record.probes[1].read",
        "inference.kernel.temprature",
        "clamp.x",
        "figures[0]",
        "figures[1]",
    ):
        assert sum(f": {word}: " in line for line in mistakes) == 1, word
    assert "pcsim data prepare celeba" in mistakes[-1]
    assert len(mistakes) == 6


def test_check_reads_the_circuit_of_a_study_with_mistakes(tmp_path: Path) -> None:
    file = write_study(
        tmp_path, STUDY.replace("seed: 3", "sede: 3"), CIRCUIT.replace("bernoulli", "bernouli")
    )
    _, mistakes = check_command(file)
    assert "study.yaml:2: sede" in mistakes[0]
    assert any("circuit.yaml:3" in line for line in mistakes[1:])


def test_check_names_only_the_data_where_only_they_are_missing(tmp_path: Path) -> None:
    text = NOWHERE.replace("train: 200", "size: 32, train: 200")
    _, mistakes = check_command(write_study(tmp_path, text))
    assert ["pcsim data prepare celeba" in line for line in mistakes] == [True]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("inferense.steps=3", "override 'inferense.steps=3': inferense: unknown key; did you mean 'inference'?"),
        ("inference={stepz: 3}", "override 'inference={stepz: 3}': inference.stepz: unknown key"),
        ("record.probes.0.nodes=[y]", "override 'record.probes.0.nodes=[y]': record.probes[0].nodes: no node 'y'"),
        ("record.probes.7.nodes=[z]", "record.probes has items 0 to 2, not 7; write record.probes=[…]"),
        ("record.probes.nodes=[z]", "record.probes is a list; write record.probes.0 for its first item"),
        ("inference.0=3", "inference has keys, not the number 0"),
        ("engine=nest", "engine: input should be 'torch' or 'brian2' (found 'nest')"),
        ("--device=cuda:99", "--device cuda:99: device: device 'cuda:99' cannot be used here"),
        ("--threads=0", "--threads 0: threads: input should be greater than 0"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_of_the_override_that_made_it(tmp_path: Path, word: str, message: str) -> None:
    with pytest.raises(StudyError) as caught:
        build.build(load.LoadedStudy(*_loaded(write_study(tmp_path), word)))
    assert message in str(caught.value)


def _loaded(file: Path, word: str) -> tuple[object, ...]:
    source = override(load.read_file(file), [word])
    study = load.validate(source, (), load.Study, source.data)
    return study, source, file.parent, file.stem


def test_an_override_reaches_into_a_list_and_leaves_the_source_alone(tmp_path: Path) -> None:
    before = load.read_file(write_study(tmp_path))
    after = override(before, ["record.probes.0.every=3"])
    assert after.data["record"]["probes"][0]["every"] == 3
    assert "every" not in before.data["record"]["probes"][0]
    assert parse_override("record.probes.0.every=3") == (("record", "probes", 0, "every"), 3)


def test_hidden_files_are_no_study(tmp_path: Path) -> None:
    write_study(tmp_path)
    (tmp_path / ".pre-commit-config.yaml").write_text("")
    with pytest.raises(StudyError) as caught:
        load.load_study(tmp_path / "zzz")
    assert "valid names: circuit.yaml, study.yaml" in str(caught.value)


def test_status_says_why_and_walks_into_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = {
        "a": ("failed", "diverged at step 25"),
        "b": ("stopped", "max-time"),
        "c": ("complete", "max-time"),
    }
    for name, (status, reason) in ends.items():
        (tmp_path / name / "trace.zarr" / "z").mkdir(parents=True)
        content = {"status": status, "reason": reason, "start": f"2026-01-0{ord(name) - 96}"}
        (tmp_path / name / "manifest.json").write_text(json.dumps(content))
        (tmp_path / name / "trace.zarr" / "manifest.json").write_text("{}")
    (tmp_path / "lone.zarr").mkdir()
    assert [path.name for path in run_folders(tmp_path)] == ["a", "b", "c"]
    assert [(row[1], row[-1]) for row in status_rows(tmp_path)] == [
        ("complete", ""), ("stopped", "max-time"), ("failed", "diverged at step 25"),
    ]  # fmt: skip
    seen: list[str] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: seen.append(str(path)) or scandir(path))
    assert list(run_folders(tmp_path / "a"))
    assert not [path for path in seen if ".zarr" in path]


def test_comparisons_have_folders_of_their_own(tmp_path: Path) -> None:
    def one(name: str, identity: str) -> RunView:
        return RunView(tmp_path / "out", name, {}, {"identity": identity}, ())

    assert name_of([one("pc", "11"), one("lpc", "22")]) == "pc-11+lpc-22"
    many = [one("s" * 20, f"{i:08d}") for i in range(20)]
    assert name_of(many) != name_of([*many[:-1], one("t", "1")])
    assert len(name_of(many)) < 255


def test_results_have_errors_units_and_a_warning(tmp_path: Path) -> None:
    study = load.load_study(write_study(tmp_path), ["data=", "clamp={x: 0.0}"]).study
    row = {"log_likelihood": -117.248, "log_likelihood_standard_error": 2.256, "effective_sample_size": 1.4,
           "reconstruction_error": 0.03337731, "reconstruction_error_standard_error": 0.00089458}  # fmt: skip
    assert results(row, study) == [
        ["log likelihood", "-117.2 ± 2.3", "nats per image"],
        ["reconstruction error", "0.03338 ± 0.00089", "squared error per pixel"],
        ["effective sample size", "1.4", "of 3 particles"],
    ]
    (line,) = warnings(row, study)
    assert line.startswith("effective sample size 1.4 of 3 particles: the log-likelihood is likely too low")
    assert warnings({"effective_sample_size": 2.5}, study) == []
    assert mean_and_error(1.5, float("nan")) == "1.5"


def test_infer_promises_what_it_leaves() -> None:
    told = " ".join(CliRunner().invoke(app, ["infer", "--help"]).output.split())
    assert "--fresh" in told
    assert "and a picture" not in told
