"""`audit`: the locality of a circuit's dynamics and learning rules, as a table and a verdict."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pcsim.cli.terminal import out, table
from pcsim.study.load import LoadedStudy, read_file
from pcsim.study.schema import Study

if TYPE_CHECKING:
    from pcsim.circuit.graph import Circuit
    from pcsim.engines.audit import Row

ENCODER = (
    "The encoder of {nodes} is outside this audit: by construction its parameters learn by backpropagation within "
    "their edge, and reverse KL and Jeffreys take the drift at the sweep back through it."
)
OWN_STATE = (
    "{what} is outside this audit, which moves values and errors at one instant: a unit's own state, which reads "
    "nothing beyond the unit or the synapse that it belongs to."
)


def audit_command(file: Path, overrides: Sequence[str], seed: int) -> bool:
    """Prints the audit of a circuit, or of a study's circuit, clamp and kernel; True where all of it is local."""
    rows, circuit = _rows(file, overrides, seed)
    encoded = [edge.child for edge in circuit.encoder]
    table("", ["what", "reads", "the graph allows", "grain", "verdict", ""], [_cells(row) for row in rows])
    if encoded:
        out.print(f"\n{ENCODER.format(nodes=', '.join(encoded))}", markup=False)
    if states := _states(circuit):
        out.print(f"\n{OWN_STATE.format(what='; '.join(states))}", markup=False)
    wrong = [row.what for row in rows if not row.local]
    if wrong:
        out.print(f"\nNot local: {', '.join(wrong)}.", markup=False)
        return False
    coarse = sum(row.grain == "node" for row in rows)
    said = f"; {coarse} of {len(rows)} rows are local per node, not per synapse or unit" if coarse else ""
    out.print(f"\nLocal: each of {len(rows)} rows reads its neighbours only{said}.", markup=False)
    return True


def _states(circuit: "Circuit") -> list[str]:
    """What has a state of its own beside the values, and no torch engine steps: `adaptation of c`."""
    of_nodes = {"error_tau": "lag of the error of", "adaptation": "adaptation of", "errors": "populations of"}
    found = [
        f"{text} {name}"
        for key, text in of_nodes.items()
        for name, node in circuit.nodes.items()
        if getattr(node, key) is not None
    ]
    return [*found, *(f"delay of {edge.key}" for edge in circuit.edges if edge.delay is not None)]


def _rows(file: Path, overrides: Sequence[str], seed: int) -> tuple[tuple["Row", ...], "Circuit"]:
    """The audit, and its circuit."""
    from pcsim.circuit.read import load_circuit
    from pcsim.engines.audit import audit

    source = read_file(file)
    if "nodes" in source.data:
        circuit = load_circuit(file)
        return audit(circuit, seed=seed), circuit
    from pcsim.circuit.source import override, validate
    from pcsim.study.build import circuit_of, kernel_of

    source = override(source, overrides)
    study: Study = validate(source, (), Study, source.data)  # the images need not be there
    loaded = LoadedStudy(study, source, file.parent, file.stem)
    held = [name for name in loaded.study.clamp if name not in loaded.study.mask]
    circuit, kernel = circuit_of(loaded), kernel_of(loaded.source, loaded.study)
    return audit(circuit, clamped=held, kernel=kernel, seed=seed), circuit


def _cells(row: "Row") -> list[str]:
    verdict = "local" if row.local else "NOT LOCAL"
    return [row.what, ", ".join(row.reads) or "nothing", ", ".join(row.allowed), row.grain, verdict, row.note]
