"""What a study on Brian2 is refused for: by `pcsim run` and `pcsim check`, with file, line and exit code 2."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from pcsim.cli import app
from tests.engines.test_brian2_study import CIRCUIT, STUDY, write

PRECISIONS = "{gaussian: {precision: [1.0, 2.0, 1.5, 1.0, 0.5]}}"
ERROR_TAU = CIRCUIT.replace("tau: 25 ms}", "tau: 25 ms, error_tau: 2 ms}")
REFUSALS = {
    "learning": (
        "record:", "learning: {updates: 3}\nrecord:", CIRCUIT, "study.yaml:10: learning: batches are learned on torch"),
    "kernel": ("name: langevin, step_size: 0.05", "name: mala, step_size: 0.05", CIRCUIT,
               "study.yaml:6: inference.kernel: brian2 runs langevin"),
    "preconditioner": ("preconditioner: none", "preconditioner: frozen", CIRCUIT,
                       "study.yaml:7: inference.preconditioner: brian2 takes none"),
    "reconstruction": ("record:", "evaluation: {reconstruction: {images: 1}}\nrecord:", CIRCUIT,
                       "study.yaml:10: evaluation.reconstruction: it is made by chains of torch"),
    "evaluation before the lesson": (
        "record:", "plasticity: {step_size: 0.1}\nevaluation: {samples: 3}\nrecord:", CIRCUIT,
        "study.yaml:11: evaluation: it would measure the weights before"),
    "device": ("dt: 1 ms", "device: cuda", CIRCUIT, "study.yaml:4: device: brian2 runs on the CPU"),
    "unit of dt": ("dt: 1 ms", "dt: 1 mV", CIRCUIT, "study.yaml:4: dt: expected a positive time"),
    "unit of tau": ("", "", CIRCUIT.replace("25 ms", "25 Hz"),
                    "circuit.yaml:3: nodes.h.tau: expected a positive time with its unit"),
    "dt and tau": ("dt: 1 ms", "dt: 26 ms", CIRCUIT,
                   "study.yaml:4: dt: node h: dt of 26 ms is longer than its tau of 25 ms; Euler's step overshoots, "
                   "use at most 25 ms"),
    "dt and tau over precision": ("dt: 1 ms", "dt: 25 ms", CIRCUIT,
                   "study.yaml:4: dt: node h: dt of 25 ms is too long for units that relax in tau/precision = 12.5 ms; "
                   "use at most 12.5 ms"),
    "step_size": ("step_size: 0.05", "step_size: 2.5", CIRCUIT,
                  "node z: a step_size of 2.5 is too long for a precision of 1; use at most 1"),
    "dt and error_tau": ("dt: 1 ms", "dt: 4 ms", ERROR_TAU,
                         "study.yaml:4: dt: node h: dt of 4 ms is too long for error units that relax in "
                         "error_tau/Σ = 4 ms; use at most 2 ms"),
    "no local text": ("", "", CIRCUIT.replace(PRECISIONS, "discretised_gaussian"),
                      "engine=brian2': engine: node x: discretised_gaussian has no local text"),
    "reserved name": ("", "", CIRCUIT.replace("  z:", "  z_pre:").replace("from: z,", "from: z_pre,")
                      .replace("to: z,", "to: z_pre,"),
                      "node z_pre: a name that ends in _pre"),
    "synapses": ("chains: 3", "chains: 1000000", CIRCUIT, "study.yaml:10: record: "),
    "noise on errors": ("dt: 1 ms", "dt: 1 ms\nnoise: {on: errors}", CIRCUIT,
                        "node z: noise.on: errors needs error_tau at every node"),
    "onset in a compiled program": ("dt: 1 ms", "dt: 1 ms\ncodegen: cpp_standalone", CIRCUIT,
                                    "study.yaml:14: record.spontaneous: codegen: cpp_standalone runs without Python"),
    "compiled plasticity": ("dt: 1 ms", "dt: 1 ms\ncodegen: cpp_standalone\nplasticity: {step_size: 0.1}",
                            CIRCUIT, "study.yaml:6: plasticity: a compiled program does not hand back"),
    "plastic parameter": ("dt: 1 ms", "dt: 1 ms\nplasticity: {step_size: 0.1, parameters: [z->h.0.weigt]}",
                          CIRCUIT, "study.yaml:5: plasticity: plasticity.parameters: no 'z->h.0.weigt' to learn"),
    "code target": ("dt: 1 ms", "dt: 1 ms\ncodegen: cyton", CIRCUIT, "study.yaml:5: codegen: input should be 'numpy'"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSALS)
def test_refused_at_load_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """`pcsim run` and `pcsim check` name file, line and reason, and end with exit code 2."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    old, new, circuit, message = REFUSALS[what]
    study = STUDY.replace("[z, h, x]", "[z_pre, h, x]") if "z_pre" in circuit else STUDY
    assert old in study
    write(tmp_path, study.replace(old, new))
    (tmp_path / "circuit.yaml").write_text(circuit)
    done = CliRunner().invoke(app, ["run", "study.yaml", "engine=brian2"])
    assert done.exit_code == 2
    assert message in " ".join((done.stdout + done.stderr).split())
    assert not (tmp_path / "runs").exists()
    stated = study.replace(old, new).replace("seed: 5", "seed: 5\nengine: brian2")
    (tmp_path / "study.yaml").write_text(stated)
    checked = CliRunner().invoke(app, ["check", "study.yaml"])
    assert checked.exit_code == 2
    assert message.split(": ", 1)[-1].split(": ")[-1] in " ".join((checked.stdout + checked.stderr).split())


def test_the_same_study_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control of the refusals."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    assert CliRunner().invoke(app, ["run", "study.yaml", "engine=brian2", "--dry-run"]).exit_code == 0
    assert (
        CliRunner().invoke(app, ["run", "study.yaml", "engine=brian2", "dt=20 ms", "--dry-run"]).exit_code
        == 0
    )


@pytest.mark.parametrize("target", ["cython", "cpp_standalone"])
def test_no_compiler_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("COLUMNS", "400")
    write(
        tmp_path,
        STUDY.replace("spontaneous: 5", "spontaneous: 0").replace("seed: 5", f"seed: 5\ncodegen: {target}"),
    )
    done = CliRunner().invoke(app, ["run", "study.yaml", "engine=brian2"])
    assert done.exit_code == 2
    expected = f"study.yaml:2: codegen: codegen: {target} needs a C++ compiler"
    assert expected in " ".join((done.stdout + done.stderr).split())
    rows = CliRunner().invoke(app, ["doctor"]).stdout
    assert "needs a C++ compiler" in rows
    assert "codegen: numpy" in rows


def test_compiled_program_that_would_not_fit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """14 values, 14 errors and 7 draws of 6 rows in 3 copies of 8 bytes, for a million steps."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, STUDY.replace("spontaneous: 5", "spontaneous: 0"))
    words = ["engine=brian2", "codegen=cpp_standalone", "record.steps=1000000"]
    done = CliRunner().invoke(app, ["run", "study.yaml", *words], env={"COLUMNS": "400"})
    total = 8 * 3 * 6 * (14 + 14 + 7) * 1e6 / 1e9
    assert done.exit_code == 2
    assert f"1000000 steps of 6 rows take about {total:.1f} GB" in " ".join(
        (done.stdout + done.stderr).split()
    )
