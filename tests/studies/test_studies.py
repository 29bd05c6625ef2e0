"""Every file in studies/ and circuits/ is sound, and every image study runs in short form by overrides alone."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from PIL import Image
from typer.testing import CliRunner

from pcsim.circuit.read import load_circuit
from pcsim.circuit.source import read_yaml
from pcsim.cli import app
from pcsim.study.build import build
from pcsim.study.drawing import check_figures
from pcsim.study.load import read_study
from pcsim.study.milestones import milestones_of
from tests.datasets.layouts import celeba_zip, cifar_batches, cifar_folder, sample, svhn_folder

ROOT = Path(__file__).parents[2]
STUDIES = sorted((ROOT / "studies").glob("*.yaml"))
CIRCUITS = sorted((ROOT / "circuits").glob("*.yaml"))
N_TRAIN, N_TEST = 40, 12
"""Images of each set that the short forms lay out: five CIFAR-10 batches of eight."""

SHORT = (
    "learning.updates=3", "learning.batch_size=8", "inference.steps=3", "threads=1",
    "record.images=2", "record.chains=2", "record.steps=3", "record.spontaneous=2", "record.at_updates=[2, last]",
    "evaluation.samples=4", "evaluation.at_updates=[2, last]",
    "evaluation.log_likelihood={images: 2, particles: 2, temperatures: 5}",
    "evaluation.reconstruction={images: 2, chains: 2}",
    "figures=[samples]",
)  # fmt: skip


def name_of(path: Path) -> str:
    return path.stem


# ------------------------------------------------------------------------------- the files themselves


@pytest.mark.parametrize("path", CIRCUITS, ids=name_of)
def test_circuit_is_sound(path):
    result = CliRunner().invoke(app, ["check", str(path)])
    assert result.exit_code == 0, result.output
    assert len(load_circuit(path).nodes) == len(read_yaml(path).data["nodes"])


@pytest.mark.parametrize("path", STUDIES, ids=name_of)
def test_study_is_sound(path, monkeypatch):
    """As `pcsim check`, without asking whether the images are there."""
    monkeypatch.setattr("pcsim.study.load.check_data", lambda loaded: None)
    plan = build(read_study(read_yaml(path), path.parent, path.stem))
    milestones_of(plan)
    check_figures(plan)
    assert plan.study.description


@pytest.mark.parametrize("path", STUDIES, ids=name_of)
def test_check_asks_only_for_data(path, monkeypatch, tmp_path):
    """`pcsim check` without prepared data: sound, or the one complaint with the command that prepares them."""
    monkeypatch.setenv("PCSIM_DATA", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "500")
    result = CliRunner().invoke(app, ["check", str(path)])
    if result.exit_code:
        assert result.exit_code == 2
        assert "pcsim data prepare" in result.output


@pytest.mark.parametrize("name", ["mnist", "celeba", "cifar10", "svhn"])
def test_three_methods_can_be_compared(name):
    """Vanilla PC, Langevin PC and VAE have one circuit, one data set, one seed and one way of being measured."""
    pc, lpc, vae = (
        read_yaml(ROOT / "studies" / f"{name}_{method}.yaml").data for method in ("pc", "lpc", "vae")
    )
    for key in ("seed", "circuit", "data", "clamp", "figures"):
        assert pc[key] == lpc[key] == vae[key], key
    for other in (pc, vae):
        for key in ("log_likelihood", "reconstruction", "samples"):
            assert other["evaluation"][key] == lpc["evaluation"][key], key
    assert lpc["evaluation"]["elbo"] == vae["evaluation"]["elbo"]
    assert "elbo" not in pc["evaluation"]  # its encoder learns nothing
    assert pc["learning"]["updates"] == lpc["learning"]["updates"]
    assert lpc["learning"]["batch_size"] == pc["learning"]["batch_size"] == vae["learning"]["batch_size"]
    assert pc["evaluation"]["at_updates"] == lpc["evaluation"]["at_updates"]
    last = lpc["learning"]["updates"]
    measured = {last if u == "last" else u for u in lpc["evaluation"]["at_updates"]}
    shared = measured & set(vae["evaluation"]["at_updates"])
    assert last in shared  # so that all three can be compared at equal updates
    assert len(shared) >= 2


EPOCHS = {"celeba": 162_770, "cifar10": 50_000, "svhn": 73_257}


@pytest.mark.parametrize("name", EPOCHS)
def test_paper_studies_have_the_epochs_of_the_paper(name):
    """15 epochs for PC and LPC, 50 for the VAE (Zahid, Guo, Fountas 2024, Table 1), in whole batches of 64."""
    for method, epochs in (("pc", 15), ("lpc", 15), ("vae", 50)):
        learning = read_yaml(ROOT / "studies" / f"{name}_{method}.yaml").data["learning"]
        assert (
            0 <= learning["updates"] * learning["batch_size"] - epochs * EPOCHS[name] < learning["batch_size"]
        )


# --------------------------------------------------------------------- short forms on real images


def sheet(name: str, n: int) -> np.ndarray:
    """The first images of a sheet of 32x32 pictures, `[n, y, x, channel]`."""
    return np.asarray(Image.open(sample(name))).reshape(-1, 32, 32, 3)[:n]


def labels(n: int) -> np.ndarray:
    return np.arange(n) % 10


def official_cifar10(folder: Path) -> Path:
    train, test = sheet("cifar10_train4000.png", N_TRAIN), sheet("cifar10_test1000.png", N_TEST)
    return cifar_folder(folder, cifar_batches((train, labels(N_TRAIN)), (test, labels(N_TEST))))


def official_svhn(folder: Path) -> Path:
    train, test = np.split(sheet("svhn_train1083.png", N_TRAIN + N_TEST), [N_TRAIN])
    return svhn_folder(folder, (train, labels(N_TRAIN)), (test, labels(N_TEST)))


def official_celeba(folder: Path) -> Path:
    folder.mkdir(parents=True)
    with zipfile.ZipFile(sample("celeba_half89x109_jpeg.zip")) as archive:
        names = sorted(n for n in archive.namelist() if n.endswith(".jpg"))[: N_TRAIN + N_TEST]
        pictures = {Path(name).name: archive.read(name) for name in names}
    return celeba_zip(folder / "img_align_celeba.zip", pictures)


OFFICIAL = {"celeba": official_celeba, "cifar10": official_cifar10, "svhn": official_svhn}


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """A function: the root under which a data set lies, laid out officially and prepared by the command line."""
    roots: dict[str, Path] = {}

    def root_of(name: str) -> Path:
        if name not in roots:
            folder = tmp_path_factory.mktemp(name)
            source = OFFICIAL[name](folder / "official")
            arguments = [
                "data",
                "prepare",
                name,
                "--from",
                str(source),
                "--root",
                str(folder),
                "--workers",
                "1",
            ]
            result = CliRunner().invoke(app, arguments)
            assert result.exit_code == 0, result.output
            roots[name] = folder
        return roots[name]

    return root_of


def short_run(study: str, out: Path, overrides: tuple[str, ...]) -> list[dict]:
    """Run a study by the command line; its metrics. Everything that a run leaves is there."""
    path = ROOT / "studies" / f"{study}.yaml"
    result = CliRunner().invoke(app, ["run", str(path), "--out", str(out), *overrides])
    assert result.exit_code == 0, result.output
    assert json.loads((out / "manifest.json").read_text())["status"] == "complete"
    assert (out / "figures" / "samples.png").stat().st_size > 0
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("method", ["pc", "lpc", "vae"])
@pytest.mark.parametrize("name", OFFICIAL)
def test_image_study_runs_in_short_form(name, method, prepared, tmp_path):
    more = [f"data.root={prepared(name)}", f"data.train={N_TRAIN}", f"data.test={N_TEST}"]
    more += [] if method == "pc" else ["evaluation.elbo={images: 2, samples: 2}"]
    rows = short_run(f"{name}_{method}", tmp_path / "run", (*SHORT, *more))
    evaluated = [row for row in rows if row["kind"] == "evaluation"]
    assert [row["update"] for row in evaluated] == [2, 3]
    measures = {"log_likelihood", "reconstruction_error"} | ({"elbo"} if method != "pc" else set())
    assert all(np.isfinite(row[m]) for row in evaluated for m in measures)
    assert all(np.isfinite(row["energy"]) for row in rows if row["kind"] == "train")
    with xr.open_datatree(tmp_path / "run" / "trace.zarr", engine="zarr") as trace:
        assert trace["z"]["value"].sizes == {"update": 2, "image": 2, "chain": 2, "step": 6, "unit": 40}
        assert np.isfinite(trace["z"]["value"]).all()
        assert trace["x"]["observed"].shape[-3:] == ((3, 64, 64) if name == "celeba" else (3, 32, 32))
