"""A run as an object, its own images through it, and the figures and landscape that stand on its weights."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pcsim.errors import RunError
from pcsim.figures.run_view import view
from pcsim.record import open_trace
from pcsim.study import build, drawing, load, run, run_handle
from pcsim.study.directory import RunDirectory
from tests.study.cases import CIRCUIT, write_study
from tests.study.test_bad_files import go

FEW = ("learning.updates=4", "evaluation={}", "record.steps=6", "record.spontaneous=0")


class Spoken:
    """A reporter that keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.task = run_handle.Silent().task

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """One finished run that recorded, in a folder that is not named after its study."""
    folder = tmp_path_factory.mktemp("handle")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PCSIM_DATA", str(data))
        go(write_study(folder), folder / "elsewhere" / "out", *FEW)
    return folder / "elsewhere" / "out"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with two pictures."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("cat.png", "dog.png"):
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(folder / name)
    return folder


def test_infer_records_what_the_study_records(done: Path, pictures: Path, tmp_path: Path) -> None:
    """The probes, step size and temperature of the study; the pictures' names; never the clamped image at each step."""
    reporter = Spoken()
    names = run_handle.open_run(done).infer_folder(pictures, tmp_path / "a", steps=5, reporter=reporter)
    assert names == ["cat.png", "dog.png"]
    trace = open_trace(tmp_path / "a" / "trace.zarr")
    assert [*trace.coords["name"].values] == names
    assert set(trace["z"].data_vars) >= {"value", "error"}
    assert not {"value", "error"} & set(trace["x"].data_vars)
    assert trace["z/value"].shape == (2, 4, 6, 4)
    assert float(trace["step_size"]) == 0.05
    assert float(trace["temperature"]) == 1.0
    assert trace.attrs["study"] == "study"
    assert any(line.startswith("2 images, 4 chains each, 5 steps: ") for line in reporter.said)


def test_infer_without_a_record_section_watches_the_free_nodes(done: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(done, copy)
    go(write_study(tmp_path), tmp_path / "out", *FEW, "record=", "evaluation={samples: 1}")
    opened = run_handle.open_run(tmp_path / "out")
    assert [w.nodes for w in run_handle.probes_of(opened.plan)] == [("z",), None]
    trace = opened.infer(np.zeros((1, 1, 8, 8), np.uint8), steps=2, chains=1)
    assert {"value", "error"} <= set(trace["z"].data_vars)
    assert "value" not in trace["x"].data_vars
    assert "energy" in trace.data_vars


def test_a_second_infer_replaces_only_on_request(done: Path, pictures: Path, tmp_path: Path) -> None:
    opened, out = run_handle.open_run(done), tmp_path / "a"
    opened.infer_folder(pictures, out, steps=2)
    with pytest.raises(RunError, match=r"trace\.zarr: exists already; --fresh replaces it"):
        opened.infer_folder(pictures, out, steps=2)
    opened.infer_folder(pictures, out, steps=3, fresh=True)
    assert open_trace(out / "trace.zarr").sizes["step"] == 4
    (tmp_path / "b" / "trace.zarr").mkdir(parents=True)
    with pytest.raises(RunError, match="not a trace, so --fresh leaves it alone"):
        opened.infer_folder(pictures, tmp_path / "b", steps=2, fresh=True)


def test_infer_is_refused_where_the_disk_has_no_room(
    done: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
    with pytest.raises(RunError, match=r"the trace takes .* KiB and .* has 1000 B free; take fewer images"):
        run_handle.open_run(done).infer_folder(pictures, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_repr_is_short(done: Path) -> None:
    text = repr(run_handle.open_run(done))
    assert text.startswith(f"<run {done}: study study, nodes ")
    assert len(text) < len(str(done)) + 80


def prepared(folder: Path, out: Path, *words: str) -> tuple[build.Plan, RunDirectory]:
    """The plan of a small study, run into `out`."""
    file = write_study(folder)
    go(file, out, *FEW, *words)
    return build.build(load.load_study(file, (*FEW, *words))), RunDirectory(out)


def test_a_figure_without_its_data_does_not_stop_the_others(tmp_path: Path) -> None:
    words = ("evaluation={reconstruction: {images: 2}}", "figures=[samples, energy, trajectories]")
    plan, out = prepared(tmp_path, tmp_path / "out", *words)
    reporter = Spoken()
    assert drawing.missing_figures(plan, out) == ["samples", "energy", "trajectories"]
    drawing.draw_figures(plan, out, reporter, plan.study.figures)
    assert [line.split(":")[0] for line in reporter.said] == ["no figure samples"]
    assert drawing.missing_figures(plan, out) == ["samples"]
    assert view(out.path).landscape() is not None


def test_no_landscape_from_weights_that_made_no_trace(tmp_path: Path) -> None:
    """The last trace is of update 2, the weights on disk of update 4: their energy is another surface."""
    plan, out = prepared(tmp_path, tmp_path / "out", "record.at_updates=[0, 2]", "figures=[trajectories]")
    reporter = Spoken()
    drawing.draw_figures(plan, out, reporter, plan.study.figures)
    assert view(out.path).landscape() is None
    assert reporter.said[0].startswith("trajectories without their landscape: recorded at update 2, and the")
    assert (out.path / "figures" / "trajectories.png").is_file()


def test_fresh_removes_all_that_a_run_leaves(done: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(done, copy)
    for name in ("landscape.zarr", "inferred", "mine"):
        (copy / name).mkdir()
    run.fresh(RunDirectory(copy))
    assert sorted(p.name for p in copy.iterdir()) == [".lock", "mine"]


def test_the_resolved_study_keeps_the_order_of_the_schema(tmp_path: Path) -> None:
    plan = build.build(load.load_study(write_study(tmp_path)))
    text = run.resolved(plan).decode()
    keys = [line.partition(":")[0] for line in text.splitlines() if line[:1].isalpha()]
    assert keys[:4] == ["description", "seed", "engine", "circuit"]
    assert keys == [key for key in type(plan.study).model_fields if key in keys]
    (tmp_path / "again.yaml").write_text(text)
    again = build.build(load.load_study(tmp_path / "again.yaml"))
    assert load.identity(again.study, dict(again.circuit.spec), "", "") == load.identity(
        plan.study, dict(plan.circuit.spec), "", ""
    )
    assert CIRCUIT.index("z:") < CIRCUIT.index("x:")
    assert text.index("  z:") < text.index("  x:")
