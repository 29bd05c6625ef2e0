"""Write docs/reference.md from the registries and the schema: every name that a YAML file may use, with its arguments.

python docs/make_reference.py
"""

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping
from itertools import pairwise
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
    ("plasticity", schema.PlasticityOptions),
    ("evaluation", schema.Evaluation), ("evaluation.log_likelihood", schema.LogLikelihood),
    ("evaluation.reconstruction", schema.Reconstruction), ("evaluation.elbo", schema.Elbo),
)  # fmt: skip
HELD = (
    "- `device`: `auto`, `cpu`, `cuda`, `cuda:1` and so on",
    "- times (`dt`, `tau`, `delay`, `stimulus[].time` …): a number with `s`, `ms` or `us`; rates: `Hz` or `kHz`",
    "- `weights`: the folder of a run, seen from the study's own; a circuit of the same shape goes on with its weights",
    "- `clamp.NODE`: `image`, `label` (one-hot), a number, or values of the node's shape",
    "- `mask.NODE` (1 = held at data, 0 = free): `top`, `bottom`, `left`, `right` (the half that is held), "
    "`{box: [y0, x0, y1, x1]}` (the box that is held), or 0/1 values of the node's shape",
    "- `stimulus[].show`: `image` (each row's own), `blank` (the stimulus is released: spontaneous activity), "
    "`omission` (held at 0: black where pixels are 0 to 1, mid-grey where they are −1 to 1), `mask` (its pixels "
    "shuffled), `{image: k}` (the k-th recorded image in all rows), `{next: k}` (the image k places on), "
    "`{NODE: value}`, `{series: file.csv}` or `{series: {NODE: frames}}` (one phase per frame; columns `NODE` or "
    "`NODE.0`, `NODE.1`, …), `{simulate: n}` (n frames drawn from the circuit, the latents beside the trace as "
    "`NODE/truth`; with `series`, its inputs). The stimulus is the nodes clamped to `image` and those that a phase "
    "names; without any, all clamped nodes",
    "- `stimulus[].onset`: `replace` (chains start anew at the encoder's draws), `drive` (q(z given x) is one more "
    "factor while the phase lasts; `{drive: n}`: for n steps), `none` (states go on from where they stand, in the "
    "first phase from a draw of the prior)",
    "- `stimulus[].transform.occlude`: the part that is covered with black, in the words of `mask`",
)
"""What `pcsim.study.stimuli` (`clamping_of`, `mask_of`) and `pcsim.study.phases` read."""
CIRCUIT_WORDS = {
    "shape": "`[units]`, or `[channel, y, x]` of an image",
    "distribution": "a name, or `{name: {arguments}}`: p(z given η), η the sum of what the parents predict",
    "mean": "η of a node without parents: a number, or values of its shape; of a past node, what it holds at first",
    "learn": "which of `mean` and the distribution's parameters learn, for example `[precision]`",
    "tau": "time constant of the values, `20 ms`: step size dt/τ; needs the study's `dt` on torch",
    "error_tau": "time constant of the errors, τ dε/dt = (z − η) − Σ ε (Bogacz, 2017); Gaussian nodes, brian2",
    "errors": "`{split: true, gain: [g₊, g₋], baseline: b}`: positive and negative errors as rectified populations; "
    "Gaussian nodes, brian2",
    "adaptation": "`{tau: 5 s, strength: α}`: precision π₀/(1 + a), τ da/dt = −a + α [η]₊²; Gaussian nodes, brian2",
    "past": "`NODE_before: {past: NODE}` holds what `NODE` was at the end of the phase before; edges leave it as they "
    "leave any node, none ends in it",
    "from": "the parent, which predicts",
    "to": "the child, which is predicted; several edges add up",
    "layers": "from the parent's value to the child's η, in order; of an encoder, to mean and raw variance, twice the "
    "child's first axis",
    "delay": "`2 ms`, a whole number of dt: prediction and error arrive that much later; brian2",
    "feedback": "`{weight: B}`, B [in, out], of an edge that is one `linear`: the error comes back by B, not by Wᵀ",
    "softplus_beta": "sharpness β of variance = log(1 + e^(β raw))/β",
}
"""What `pcsim.circuit.read` and `read_nodes` read."""
STIMULI = """\
# quenching: variability before, during and after a picture
stimulus:
  - {show: blank, steps: 200}
  - {show: image, steps: 300}
  - {show: blank, steps: 200, name: after}
---
# oddball: standards, a deviant, an omission
stimulus:
  - {repeat: 5, phases: [{show: {image: 0}, steps: 50, name: standard}, {show: blank, steps: 20}]}
  - {show: {image: 1}, steps: 50, name: deviant}
  - {show: blank, steps: 20}
  - {show: omission, steps: 50}
---
# rapid serial presentation with masks; onset: none leaves the encoder out
stimulus:
  - {show: {next: 0}, steps: 25, onset: replace}
  - {show: mask, steps: 25, onset: replace}
  - {show: {next: 1}, steps: 25, onset: replace}
  - {show: mask, steps: 25, onset: replace}
---
# backward masking of a blurred picture with its right half covered
stimulus:
  - {show: image, steps: 20, name: target, transform: {blur: 1.0, contrast: 0.5, occlude: right}}
  - {show: mask, steps: 20, onset: {drive: 5}}
  - {show: blank, steps: 100}
"""
"""Protocols in a few lines; a study has one `stimulus`."""
ENGINES = (
    "`engine: brian2` runs the recording of the same study with `kernel: langevin` and `preconditioner: none`, on the "
    "CPU, in float64; dt is 1 ms unless stated, and a node without `tau` has dt/step_size. `codegen` is `numpy`, or "
    "`cython` or `cpp_standalone` with a compiler (`pcsim doctor`); `cpp_standalone` records one phase. Learning by "
    "batches is torch's (brian2 takes the result, `weights: RUN`, or learns while it runs, `plasticity`). On brian2 "
    "alone: `error_tau`, `errors`, `adaptation`, `delay`, `noise.on: errors`, `plasticity`. Not on brian2: other "
    "kernels, and layers or distributions that have no equations of single units; `pcsim check` names them.",
)


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


def described(model: type[BaseModel]) -> dict[str, str]:
    """`{field: the sentence below it in the schema}`."""
    body = ast.parse(textwrap.dedent(inspect.getsource(model))).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, text in pairwise(body.body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
        ):
            found[field.target.id] = " ".join(ast.literal_eval(text.value).split()).replace("|", "\\|")
    return found


def explained() -> list[str]:
    """`key: sentence` for each key of a study that has one."""
    return [
        f"- `{name if section == 'study' else f'{section}.{name}'}`: {text}"
        for section, model in SECTIONS
        for name, text in described(model).items()
    ]


def circuit_keys() -> list[str]:
    """A row for each key of a node or an edge."""
    owners = {"node": (*NODE_KEYS,), "edge": (*EDGE_KEYS,), "encoder edge": (*ENCODER_KEYS,)}
    rows = ["| key | of | what it is |", "|---|---|---|"]
    for key in dict.fromkeys(key for keys in owners.values() for key in keys):
        of = ", ".join(owner for owner, keys in owners.items() if key in keys)
        rows.append(f"| `{key}` | {of} | {CIRCUIT_WORDS[key]} |")
    return [*rows, ""]


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
        *circuit_keys(),
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
        "", "### Keys in a sentence", "",
        *explained(),
        "", "### Stimuli", "",
        "Protocols, as lines of a study that clamps `x: image`:", "",
        "```yaml", STIMULI.rstrip(), "```",
        "", "### The two engines", "",
        *ENGINES,
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
