"""The command line: exit codes, words instead of tracebacks, and nothing heavier than a command needs."""

import json
import os
import resource
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from pcsim import datasets
from pcsim.cli import app
from tests.study.cases import STUDY, call, environment, write_study
from tests.study.test_bad_studies import LINEAR, LOOK

REPOSITORY = Path(__file__).parents[2]
Cli = Callable[..., Result]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the prepared digits."""
    root = tmp_path_factory.mktemp("data")
    datasets.load("digits", root=root)
    return root


@pytest.fixture
def pcsim(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """`pcsim …` in this process, in a working directory of its own."""
    monkeypatch.setenv("PCSIM_DATA", str(data))
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)

    def invoke(*words: str | Path) -> Result:
        return CliRunner().invoke(app, [str(word) for word in words])

    return invoke


def quiet(result: Result) -> str:
    """What a failed command said; never a traceback, never more than words."""
    assert isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "studdy.yaml"], "error: studdy.yaml: no such file; did you mean 'study.yaml' or"),
        (["run", "study.yaml", "inference.stepz=3"], "inference.stepz: unknown key; did you mean 'steps'?"),
        (["run", "study.yaml", "steps"], "override 'steps': expected key.path=value"),
        (["run", "study.yaml", "circuit=circiut.yaml"], "no such circuit file; did you mean 'circuit.yaml'?"),
        (["run", "study.yaml", "--device", "gpu"], "device: no device 'gpu'"),
        (
            ["run", "study.yaml", "--max-time", "soon"],
            "--max-time 'soon': expected a time such as 3600s, 50m or 2h30m",
        ),
        (
            ["run", "study.yaml", "figures=[sampels]"],
            "figures[0]: no figure 'sampels'; did you mean 'samples'?",
        ),
        (
            ["run", "study.yaml", "learning.batch_size=300"],
            "a batch of 300 is larger than the training set (200",
        ),
        (["run", "study.yaml", "--dry-run", "record.images=99"], "record.images: image 98 is asked for"),
        (["check", "study.yaml", "bad.yaml"], "bad.yaml:2: sede: unknown key; did you mean 'seed'?"),
        (["check", "nowhere.yaml"], "nowhere.yaml: no such file"),
        (["status", "nowhere"], "nowhere: no such folder; `pcsim run STUDY` makes one"),
        (["compare", "nowhere"], "nowhere"),
        (["figures", "nowhere"], "nowhere"),
        (["infer", "nowhere", "--images", "."], "nowhere: not a run directory"),
        (["infer", "nowhere", "--images", "none"], "--images none: no such folder"),
        (["data", "prepare", "clebea"], "no data set 'clebea'; did you mean 'celeba'?"),
        (["data", "prepare", "celeba", "--from", "nowhere.zip"], "nowhere.zip"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_end_in_words_and_code_2(pcsim: Cli, tmp_path: Path, words: list[str], said: str) -> None:
    write_study(tmp_path)
    (tmp_path / "bad.yaml").write_text(STUDY.replace("seed: 3", "sede: 3"))
    result = pcsim(*words)
    assert said in quiet(result)
    assert result.exit_code == 2
    assert not (tmp_path / "runs").exists()


def test_check_reports_every_file(pcsim: Cli, tmp_path: Path) -> None:
    write_study(tmp_path)
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text(STUDY.replace("seed: 3", "sede: 3"))
    result = pcsim("check", "one.yaml", "circuit.yaml", "two.yaml", "study.yaml")
    assert result.exit_code == 2
    words = quiet(result)
    assert "one.yaml:2: sede" in words
    assert "two.yaml:2: sede" in words
    assert "circuit.yaml: a circuit of 2 nodes and 1 edges, without mistakes" in words
    assert "study.yaml: a study of 2 nodes, without mistakes" in words


def test_divergence_is_code_3_with_advice(pcsim: Cli, tmp_path: Path) -> None:
    write_study(tmp_path, LOOK.replace("STEP", "0.4"), LINEAR)
    result = pcsim("run", "study.yaml", "--out", "out")
    words = quiet(result)
    assert result.exit_code == 3
    assert "warning: inference.kernel.step_size: 0.4 times the largest curvature 7 is 2.8 ≥ 2" in words
    assert "error: diverged at step 25: node 'z', energy" in words
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["status"] == "failed"
    assert (tmp_path / "out" / "trace.zarr").is_dir()


def test_run_status_and_again(pcsim: Cli, tmp_path: Path) -> None:
    write_study(tmp_path)
    first = pcsim("run", "study.yaml", "learning.updates=6", "record=")
    assert first.exit_code == 0, first.output
    assert "starting on" in first.output
    assert "complete" in first.output
    (run,) = (tmp_path / "runs" / "study").iterdir()
    again = pcsim("run", "study.yaml", "learning.updates=6", "record=")
    assert again.exit_code == 0
    assert "complete already; --fresh runs it again" in again.output
    fresh = pcsim("run", "study.yaml", "learning.updates=6", "record=", "--fresh")
    assert fresh.exit_code == 0
    assert "starting on" in fresh.output
    status = pcsim("status")
    assert status.exit_code == 0
    assert run.name in status.output
    assert "complete" in status.output
    (run / "metrics.jsonl").write_text("nothing\n" * 3)
    damaged = pcsim("status")
    assert damaged.exit_code == 0
    assert "damaged" in damaged.output


def test_dry_run_shows_the_plan_and_makes_nothing(pcsim: Cli, tmp_path: Path) -> None:
    write_study(tmp_path)
    result = pcsim("run", "study.yaml", "--dry-run")
    assert result.exit_code == 0, result.output
    parameters = (4 * 8 + 8) + (8 * 64 + 64)
    for words in (
        f"{parameters}",
        f"{64 * 8 + 8}",
        "trace on disk",
        "run directory",
        "held at image",
        "step_size",
    ):
        assert words in result.output
    assert not (tmp_path / "runs").exists()


def test_schema_doctor_version_and_list(pcsim: Cli) -> None:
    schema = json.loads(pcsim("schema").output)
    assert {"circuit", "inference", "learning", "record", "evaluation"} <= set(schema["properties"])
    assert "torch" in pcsim("doctor").output
    assert pcsim("version").output.strip().count(".") == 2
    listed = pcsim("data", "list").output
    assert "pcsim data prepare celeba --from img_align_celeba.zip" in " ".join(listed.split())
    assert "digits" in listed


def test_truncated_archive(pcsim: Cli, tmp_path: Path) -> None:
    archive = tmp_path / "img_align_celeba.zip"
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("img_align_celeba/000001.jpg", np.random.default_rng(0).bytes(5000))
    archive.write_bytes(archive.read_bytes()[:-200])
    result = pcsim("data", "prepare", "celeba", "--from", archive, "--root", tmp_path / "prepared")
    words = quiet(result)
    assert result.exit_code == 2
    assert "error: " in words
    assert "img_align_celeba.zip" in words


def test_missing_data_fail_within_a_second_of_user_time(data: Path, tmp_path: Path) -> None:
    """The command that would mend it is named, and torch is not imported on the way."""
    code = (
        "import sys\nfrom pcsim.cli import app\ntry: app()\n"
        "finally: print([m for m in ('torch', 'xarray', 'zarr', 'scipy') if m in sys.modules])"
    )
    study = REPOSITORY / "studies" / "celeba_lpc.yaml"
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime, time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, "run", str(study)],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
    )
    used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    assert done.returncode == 2
    assert "pcsim data prepare celeba --from img_align_celeba.zip" in done.stderr
    assert f"{study}:" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.strip() == "[]"
    assert used < 1.0, f"{used:.2f} s of user time, {time.monotonic() - begin:.2f} s by the clock"


def test_help_is_light(tmp_path: Path) -> None:
    """Under 0.7 s of user time, without the packages that take seconds to import."""
    code = (
        "import sys\nfrom pcsim.cli import app\ntry: app()\n"
        "finally: print([m for m in ('torch', 'xarray', 'zarr', 'numpy', 'pydantic') if m in sys.modules])"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    assert done.stdout.strip().endswith("[]")
    for name in ("run", "check", "compare", "figures", "status", "data", "doctor", "schema"):
        assert name in done.stdout
    assert used < 0.7


def test_quiet_when_not_a_terminal(data: Path, tmp_path: Path) -> None:
    """No bars, no escape codes: a line at the start, the result at the end."""
    file = write_study(tmp_path)
    done = call(
        data, "run", file, "learning.updates=4", "evaluation={elbo: {images: 4}}", "--out", tmp_path / "out"
    )
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert "\r" not in done.stdout + done.stderr
    assert done.stderr.splitlines() == [
        f"{tmp_path / 'out'}: starting on {'cuda' if torch.cuda.is_available() else 'cpu'}"
    ]
    assert "elbo" in done.stdout


def test_output_into_a_closed_pipe(data: Path, tmp_path: Path) -> None:
    """`pcsim schema | head -1` is no failure."""
    done = subprocess.run(
        f"{sys.executable} -c 'from pcsim.cli import app; app()' schema | head -1",
        shell=True, env=environment(data), capture_output=True, text=True,
    )  # fmt: skip
    assert "Traceback" not in done.stderr


def test_unwritable_place_is_told_in_words(pcsim: Cli, tmp_path: Path) -> None:
    write_study(tmp_path)
    (tmp_path / "file").write_text("")
    result = pcsim("run", "study.yaml", "--out", "file/below")
    assert result.exit_code == 2
    assert "file/below: cannot write there (Not a directory)" in quiet(result)
    assert os.listdir(tmp_path / "runs") == [] if (tmp_path / "runs").exists() else True
