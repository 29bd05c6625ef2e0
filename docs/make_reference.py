"""Write docs/reference.md from the registries and the schema: every name that a YAML file may use, with its arguments.

python docs/make_reference.py
"""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from pcsim.circuit.distributions import DISTRIBUTIONS
from pcsim.circuit.layers import LAYERS, REFUSED
from pcsim.circuit.read import CIRCUIT_KEYS, EDGE_KEYS, ENCODER_KEYS, NODE_KEYS, RESERVED
from pcsim.datasets import DATASETS
from pcsim.figures.registry import FIGURES
from pcsim.inference.kernels import KERNELS
from pcsim.inference.preconditioners import PRECONDITIONERS
from pcsim.learning.learner import OBJECTIVES
from pcsim.learning.optimizers import OPTIMIZERS
from pcsim.record.probes import PROBES
from pcsim.study import schema
from pcsim.study.build import STARTS

TARGET = Path(__file__).with_name("reference.md")
SECTIONS = (
    ("study", schema.Study), ("data", schema.Data), ("inference", schema.Inference), ("learning", schema.Learning),
    ("learning.encoder", schema.EncoderLearning), ("record", schema.Record), ("record.probes[]", schema.Probe),
    ("evaluation", schema.Evaluation), ("evaluation.log_likelihood", schema.LogLikelihood),
    ("evaluation.reconstruction", schema.Reconstruction), ("evaluation.elbo", schema.Elbo),
)  # fmt: skip


def first_line(thing: Any) -> str:
    """The first sentence of a docstring."""
    text = " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())
    return text.replace("|", "\\|")


def arguments(function: Callable[..., Any]) -> str:
    """`name=default` for each argument that a YAML file may give."""
    skip = ("preconditioner", "params")
    parts = [
        name if p.default is p.empty else f"{name}={p.default}"
        for name, p in inspect.signature(function).parameters.items()
        if name not in skip
    ]
    return ", ".join(f"`{p}`" for p in parts)


def fields(model: type[BaseModel]) -> str:
    """`name=default` for each field of a model."""
    parts = []
    for name, field in model.model_fields.items():
        if name == "learn":
            continue
        default = "" if field.is_required() else f"={_plain(field.get_default(call_default_factory=True))}"
        parts.append(f"`{name}{default}`")
    return ", ".join(parts)


def _plain(value: Any) -> Any:
    if isinstance(value, schema.Named):
        return value.name
    return "…" if isinstance(value, BaseModel) else value


def table(
    title: str, rows: Mapping[str, Any], described: Callable[[Any], str], given: Callable[[Any], str]
) -> list[str]:
    """A heading and a table of one registry."""
    lines = [f"## {title}", "", "| name | arguments | what it is |", "|---|---|---|"]
    lines += [f"| `{name}` | {given(value)} | {described(value)} |" for name, value in rows.items()]
    return [*lines, ""]


def reference() -> str:
    """The whole page."""
    lines = [
        "# Reference: what circuits and studies may say", "",
        "Made by `python docs/make_reference.py` from the code.",
        "`pcsim schema` prints the same for editors; `pcsim check FILE` reads a file.", "",
        "## Circuit files", "",
        f"A circuit has {_names(CIRCUIT_KEYS)}; a node {_names(NODE_KEYS)}; an edge {_names(EDGE_KEYS)};",
        f"an encoder edge {_names(ENCODER_KEYS)}.",
        f"Names taken by the trace: {_names(sorted(RESERVED))}.", "",
    ]  # fmt: skip
    lines += table("Distributions", DISTRIBUTIONS, first_line, fields)
    lines += table("Layers", LAYERS, first_line, fields)
    lines += [
        "Refused: " + "; ".join(f"`{name}` ({why.split(',')[0]})" for name, why in REFUSED.items()) + ".",
        "",
    ]
    lines += ["## Study files", "", "| section | keys |", "|---|---|"]
    lines += [f"| {name} | {fields(model)} |" for name, model in SECTIONS]
    lines += [
        "",
        f"`inference.start` is one of {_names(STARTS)}; `learning.encoder.objective` one of {_names(OBJECTIVES)}.",
        "",
    ]
    lines += table("Kernels (`inference.kernel`)", KERNELS, first_line, arguments)
    lines += table("Preconditioners (`inference.preconditioner`)", PRECONDITIONERS, first_line, arguments)
    lines += table("Optimisers (`learning.optimizer`)", OPTIMIZERS, first_line, arguments)
    lines += table(
        "Probes (`record.probes[].read`)",
        PROBES,
        lambda p: p.long_name,
        lambda p: "per unit" if p.per_unit else "per chain",
    )
    lines += table(
        "Data sets (`data.name`)",
        DATASETS,
        lambda d: d.title,
        lambda d: f"size {', '.join(map(str, d.sizes)) or 'any'}",
    )
    lines += table("Figures (`figures`)", FIGURES, first_line, lambda _: "")
    return "\n".join(lines).rstrip() + "\n"


def _names(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    TARGET.write_text(reference())
    print(f"wrote {TARGET}")
