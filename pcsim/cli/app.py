"""The commands, in the order in which a newcomer meets them."""

from pathlib import Path
from typing import Annotated

import typer

from pcsim.cli import data
from pcsim.cli.terminal import err, friendly, out, table

app = typer.Typer(
    help="Predictive-coding circuits as sampling machines.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data.app, name="data")

StudyFile = Annotated[Path, typer.Argument(help="A study file, for example studies/mnist_lpc.yaml.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="Overrides such as inference.steps=50.")]
Runs = Annotated[list[Path], typer.Argument(help="Run directories, for example runs/mnist_pc/1a2b3c4d.")]


@app.command()
@friendly
def run(
    study: StudyFile,
    overrides: Overrides = None,
    out_dir: Annotated[
        Path | None, typer.Option("--out", help="Run directory; default runs/STUDY/HASH.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget an earlier run of this study.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would run, and stop.")] = False,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:1.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    max_time: Annotated[
        str | None, typer.Option(help="Stop, ready to go on, after this time, for example 3600s, 50m or 2h.")
    ] = None,
) -> None:
    """Train, evaluate and record a study; the same command goes on where it stopped."""
    from pcsim.cli.running import run_command

    more = [f"--device={device}"] if device else []
    more += [f"--threads={threads}"] if threads else []
    run_command(study, [*(overrides or []), *more], out_dir, fresh=fresh, dry_run=dry_run, max_time=max_time)


@app.command()
@friendly
def check(
    files: Annotated[list[Path], typer.Argument(help="Study or circuit files.")],
) -> None:
    """Read studies and circuits and report every mistake, without running anything."""
    from pcsim.cli.checking import check_command

    found = False
    for file in files:
        verdict, mistakes = check_command(file)
        if verdict:
            out.print(f"{file}: {verdict}", markup=False)
        for mistake in mistakes:
            err.print(f"error: {mistake}", style="red", markup=False)
        found = found or bool(mistakes)
    if found:
        raise SystemExit(2)


@app.command()
@friendly
def infer(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory with trained weights.")],
    images: Annotated[Path, typer.Option(help="A folder of images.")],
    out_dir: Annotated[Path | None, typer.Option("--out", help="Default: RUN/inferred/FOLDER.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps; default as the study records.")] = None,
    chains: Annotated[int, typer.Option(min=1, help="Chains per image.")] = 4,
    fresh: Annotated[bool, typer.Option("--fresh", help="Replace an earlier trace there.")] = False,
) -> None:
    """Let a trained run infer one's own images, and leave a trace of what the study records."""
    from pcsim.cli.running import infer_command

    infer_command(run_dir, images, out_dir, steps=steps, chains=chains, fresh=fresh)


@app.command()
@friendly
def compare(
    runs: Runs,
    out_dir: Annotated[
        Path | None,
        typer.Option("--out", help="Where tables and figures go; default runs/comparisons/RUNS."),
    ] = None,
) -> None:
    """Compare runs at equal updates, gradient evaluations and seconds, image by image."""
    from pcsim.cli.comparing import compare_command

    compare_command(runs, out_dir)


@app.command()
@friendly
def figures(
    runs: Runs,
    names: Annotated[list[str] | None, typer.Option("--figure", help="Which; default: the study's.")] = None,
) -> None:
    """Draw the figures of one run into its folder."""
    from pcsim.cli.comparing import figures_command

    for path in runs:
        figures_command(path, names)


@app.command()
@friendly
def draw(
    file: Annotated[Path, typer.Argument(help="A circuit file, or a study, whose clamps are then marked.")],
    out_file: Annotated[
        Path | None, typer.Option("--out", help="Picture (pdf, png or svg); default NAME.pdf, here.")
    ] = None,
    clamp: Annotated[list[str] | None, typer.Option(help="Mark this node as held; may be repeated.")] = None,
) -> None:
    """Draw a circuit: value and error nodes, predictions and errors, precisions, what is held."""
    from pcsim.cli.drawing import draw_command

    out.print(str(draw_command(file, out_file, clamp or [])), markup=False)


@app.command()
@friendly
def report(
    runs: Runs,
    out_file: Annotated[
        Path | None,
        typer.Option("--out", help="The page; default RUN/report.html, or report.html for several runs."),
    ] = None,
) -> None:
    """Write what was run and what was found as one page that needs no network."""
    from pcsim.cli.reporting import report_command

    report_command(runs, out_file)


@app.command()
@friendly
def status(
    folder: Annotated[Path, typer.Argument(help="A run, a study's runs, or all.")] = Path("runs"),
) -> None:
    """List runs: how far they are, when they started, how to go on."""
    from pcsim.cli.listing import status_rows

    table("", ["run", "status", "update", "seconds", "started", "reason"], status_rows(folder))


@app.command()
@friendly
def audit(
    file: Annotated[
        Path, typer.Argument(help="A circuit file, or a study (then with its clamp and kernel).")
    ],
    overrides: Overrides = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the random points.")] = 0,
) -> None:
    """Certify locality: move every unit, see what each update and learning rule reads; exit 1 if not local."""
    from pcsim.cli.auditing import audit_command

    if not audit_command(file, overrides or [], seed):
        raise SystemExit(1)


@app.command()
@friendly
def bench(
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:1.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    out_file: Annotated[Path | None, typer.Option("--out", help="Also write the table as JSON.")] = None,
) -> None:
    """Measure this machine: milliseconds per inference step of a conv model and of a small hierarchy."""
    from pcsim.cli.benching import bench_command

    bench_command(device, threads, out_file)


@app.command()
@friendly
def doctor() -> None:
    """Say what this machine offers: versions, device, threads, where data and runs can be written."""
    from pcsim.cli.listing import doctor_rows

    table("", ["what", "found"], doctor_rows())


@app.command()
@friendly
def schema() -> None:
    """Print the JSON schema of study files, for editors that complete and check YAML."""
    import json

    from pcsim.study.schema import Study

    print(json.dumps(Study.model_json_schema(), indent=2))


@app.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as installed

    print(installed("pcsim"))
