"""Write docs/reference.md from the registries and the schema: every name that a YAML file may use, with its arguments.

python docs/make_reference.py
"""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from pcsim.circuit.distributions import DISTRIBUTIONS
from pcsim.circuit.layers import LAYERS, REFUSED
from pcsim.circuit.read import CIRCUIT_KEYS, EDGE_KEYS, ENCODER_KEYS, NODE_KEYS, PAST_KEYS, RESERVED
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
    ("stimulus[]", schema.PhaseSpec), ("stimulus[].transform", schema.Transform),
    ("stimulus[], several times", schema.Repeat), ("noise", schema.NoiseOptions), ("noise.shot", schema.Shot),
    ("evaluation", schema.Evaluation), ("evaluation.log_likelihood", schema.LogLikelihood),
    ("evaluation.reconstruction", schema.Reconstruction), ("evaluation.elbo", schema.Elbo),
)  # fmt: skip
HELD = (
    "- `device`: `auto`, `cpu`, `cuda`, `cuda:1` and so on",
    "- `clamp.NODE`: `image`, `label` (one-hot), a number, or values of the node's shape",
    "- `mask.NODE` (1 = held at data, 0 = free): `top`, `bottom`, `left`, `right` (the half that is held), "
    "`{box: [y0, x0, y1, x1]}` (the box that is held), or 0/1 values of the node's shape",
    "- `stimulus[].show`: `image` (each row's own), `blank` (the stimulus is released: spontaneous activity), "
    "`omission` (held at 0), `mask` (its pixels shuffled), `{image: k}` (the k-th recorded image in all rows), "
    "`{next: k}` (the image k places on), `{NODE: value}`, `{series: file.csv}` or `{series: {NODE: frames}}` (one "
    "phase per frame; columns `NODE` or `NODE.0`, `NODE.1`, …), `{simulate: n}` (n frames drawn from the circuit, the "
    "latents beside the trace as `NODE/truth`; with `series`, its inputs)",
    "- `stimulus[].onset`: `replace` (chains start anew at the encoder's draws), `drive` (q(z given x) is one more "
    "factor while the phase lasts; `{drive: n}`: for n steps), `none` (states go on from where they stand)",
)
"""What `pcsim.study.stimuli` (`clamping_of`, `mask_of`) and `pcsim.study.phases` read."""


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


def allowed() -> list[str]:
    """`key: word, word` for each key of a study that takes one of a few words."""
    lines = []
    for section, model in SECTIONS:
        for name, field in model.model_fields.items():
            words = _words(field.annotation)
            if words:
                key = name if section == "study" else f"{section}.{name}"
                lines.append(f"- `{key}`: {', '.join(words)}")
    return lines


def _words(annotation: Any) -> list[str]:
    """The words of the Literals in an annotation; those of a mapping's keys as `{word: …}`."""
    if get_origin(annotation) is Literal:
        return [f"`{word}`" for word in get_args(annotation)]
    inner = [_words(part) for part in get_args(annotation)]
    if get_origin(annotation) is dict:
        return [f"`{{{word.strip('`')}: …}}`" for word in inner[0]]
    found = [word for part in inner for word in part]
    return [*found, "a number"] if found and get_origin(annotation) is list else found


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
        f"an encoder edge {_names(ENCODER_KEYS)}; a node that holds another one's value of the frame before "
        f"{_names(PAST_KEYS)}.",
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
        "", "Keys that take one of a few words:", "",
        *allowed(),
        f"- `inference.start`: {_names(STARTS)}",
        f"- `learning.encoder.objective`: {_names(OBJECTIVES)}",
        *HELD,
        "",
    ]  # fmt: skip
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
