"""`draw`: a circuit file, or the circuit of a study with what the study holds, as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pcsim.circuit.graph import Circuit


def draw_command(file: Path, out_file: Path | None, clamp: Sequence[str]) -> Path:
    """Draws a circuit or study file; the path of the picture, by default NAME.pdf in the current folder.

    Raises `CircuitError` or `StudyError` for a file that cannot be read, a node that is not there, and a format
    that cannot be written; the format is asked for first.
    """
    from pcsim.circuit.drawing import drawing
    from pcsim.figures import circuit as picture
    from pcsim.figures.style import house_style

    path = out_file or Path(f"{file.stem}.pdf")
    picture.check_format(path)
    circuit, held = _read(file)
    held = {**held, **{name: held.get(name, "clamped") for name in clamp}}
    with house_style():
        figure = picture.circuit(drawing(circuit, held), file.stem, circuit.description)
        picture.write(figure, path)
    return path


def _read(file: Path) -> "tuple[Circuit, dict[str, str]]":
    """The circuit, and in words what the study holds of it; a circuit file holds nothing."""
    from pcsim.circuit.read import load_circuit
    from pcsim.circuit.source import validate
    from pcsim.study.load import LoadedStudy, read_file
    from pcsim.study.schema import Study

    source = read_file(file)
    if "nodes" in source.data:
        return load_circuit(file), {}
    from pcsim.study.build import circuit_of

    study: Study = validate(source, (), Study, source.data)
    circuit = circuit_of(LoadedStudy(study, source, file.parent, file.stem))
    return circuit, _held(study.clamp, study.mask)


def _held(clamp: Mapping[str, Any], mask: Mapping[str, Any]) -> dict[str, str]:
    held = {}
    for name, value in clamp.items():
        at = (
            f" at {value:g}"
            if isinstance(value, int | float)
            else f" at {value}"
            if isinstance(value, str)
            else ""
        )
        held[name] = ("partly clamped" if name in mask else "clamped") + at
    return held
