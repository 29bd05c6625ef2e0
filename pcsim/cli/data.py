"""`pcsim data`: prepare image sets once, and list them."""

from pathlib import Path
from typing import Annotated

import typer

from pcsim.cli.terminal import Bars, err, friendly, out, table

app = typer.Typer(help="Prepare and list image sets.", no_args_is_help=True)


@app.command()
@friendly
def prepare(
    name: Annotated[str, typer.Argument(help="celeba, cifar10, svhn, mnist, fashion_mnist or folder.")],
    source: Annotated[
        Path | None, typer.Option("--from", help="Archive or folder; default: download.")
    ] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Pixels along a side.")] = None,
    crop: Annotated[int | None, typer.Option(min=1, help="Centre crop in official pixels (celeba).")] = None,
    root: Annotated[Path | None, typer.Option(help="Where prepared sets live.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: one per core.")] = None,
) -> None:
    """Pack a data set into uint8 arrays, once; a stopped preparation goes on where it was."""
    from pcsim import datasets

    with Bars().meter(f"preparing {name}") as show:
        done = datasets.prepare(name, source, root=root, size=size, crop=crop, workers=workers, progress=show)
    out.print(f"{done.images} images in {done.folder} (preparation {done.fingerprint})", markup=False)
    for what, names in (("broken", [n for n, _ in done.broken]), ("missing", list(done.missing))):
        if names:
            shown = ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
            err.print(f"{len(names)} {what} images left out: {shown}", markup=False)


@app.command("list")
@friendly
def list_sets(root: Annotated[Path | None, typer.Option(help="Where prepared sets live.")] = None) -> None:
    """List the image sets: what is ready, and the command for what is not."""
    from pcsim import datasets

    rows = []
    for row in datasets.available(root):
        shape = "x".join(map(str, row.shape)) if row.shape else ""
        rows.append(
            [row.name, row.state, shape, row.images or "", row.crop or "", row.fingerprint, row.command]
        )
    table("", ["name", "state", "shape", "images", "crop", "preparation", "to make it ready"], rows)
