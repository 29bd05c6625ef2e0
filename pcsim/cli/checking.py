"""`check`: every mistake of a file that can be found without running anything."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pcsim.circuit.source import Source, validate
from pcsim.errors import PcsimError
from pcsim.study.load import LoadedStudy, check_data, read_file
from pcsim.study.schema import Study

if TYPE_CHECKING:
    from pcsim.circuit.graph import Circuit

T = TypeVar("T")


class Mistakes(list[str]):
    """What was found wrong, in the order of the checks, each of them once."""

    def of(self, check: Callable[[], T]) -> T | None:
        """What the check returns; None where it found a mistake, which is kept."""
        try:
            return check()
        except PcsimError as failure:
            self += [line for line in str(failure).splitlines() if line not in self]
            return None


def check_command(path: Path) -> tuple[str, list[str]]:
    """(praise, mistakes), one of them empty; missing data come last, for they are not the file's mistake."""
    mistakes = Mistakes()
    source = mistakes.of(lambda: read_file(path))
    if source is None:
        return "", mistakes
    if "nodes" in source.data:
        return _circuit(path, mistakes), mistakes
    study = mistakes.of(lambda: validate(source, (), Study, source.data))
    if study is None:
        _circuit_of_bad_study(source, path.parent, mistakes)
        return "", mistakes
    n_node = _study(LoadedStudy(study, source, path.parent, path.stem), mistakes)
    return "" if mistakes else f"a study of {n_node} nodes, without mistakes", mistakes


def _circuit(path: Path, mistakes: Mistakes) -> str:
    from pcsim.circuit.read import load_circuit

    circuit = mistakes.of(lambda: load_circuit(path))
    if circuit is None:
        return ""
    return f"a circuit of {len(circuit.nodes)} nodes and {len(circuit.edges)} edges, without mistakes"


def _circuit_of_bad_study(source: Source, folder: Path, mistakes: Mistakes) -> None:
    """The circuit's file is read although the study that names it has mistakes of its own."""
    from pcsim.circuit.read import load_circuit

    named = source.data.get("circuit")
    if isinstance(named, str) and (folder / Path(named).expanduser()).is_file():
        mistakes.of(lambda: load_circuit(folder / Path(named).expanduser()))


def _study(loaded: LoadedStudy, mistakes: Mistakes) -> int:
    """Check all parts of a study that do not need each other; the number of its nodes."""
    from pcsim.study import build
    from pcsim.study.drawing import check_figure_names
    from pcsim.study.milestones import milestones_of

    study, source = loaded.study, loaded.source
    circuit = mistakes.of(lambda: build.circuit_of(loaded))
    if circuit is not None:
        _parts(loaded, circuit, mistakes)
    else:
        mistakes.of(lambda: build.kernel_of(source, study))
    mistakes.of(lambda: check_figure_names(loaded))
    if not mistakes:
        plan = mistakes.of(lambda: build.build(loaded))
        if plan is not None:
            mistakes.of(lambda: milestones_of(plan))
    if study.data is not None:
        mistakes.of(lambda: check_data(loaded))
    return len(circuit.nodes) if circuit else 0


def _parts(loaded: LoadedStudy, circuit: "Circuit", mistakes: Mistakes) -> None:
    """Clamps, masks, probes, measures, chain and learning against the circuit, one by one."""
    import torch

    from pcsim.study import build, checks
    from pcsim.study.stimuli import clamping_of

    study, source = loaded.study, loaded.source
    for check in (checks.check_clamp, checks.check_record, checks.check_evaluation):
        mistakes.of(partial(check, circuit, source, study))
    kernel = mistakes.of(lambda: build.kernel_of(source, study))
    start = mistakes.of(lambda: build.start_of(source, study, circuit))
    if kernel is not None and start is not None:
        mistakes.of(lambda: build.method_of(source, study, circuit, kernel, start))
    mistakes.of(lambda: build.phases_of(build.self_contained(loaded), circuit))
    if study.clamp.keys() | study.mask.keys() <= circuit.nodes.keys():
        cpu = torch.device("cpu")
        mistakes.of(lambda: clamping_of(study, source, circuit, cpu, build.dtype_of(study, circuit)))
