"""What a study asks for against what its circuit and its images offer: refused before anything is computed."""

from collections.abc import Mapping, Sequence

from pcsim.circuit.graph import Circuit
from pcsim.circuit.source import Path_, Source
from pcsim.datasets import Images, Split
from pcsim.errors import nearest
from pcsim.record.probes import PROBES
from pcsim.study.schema import Elbo, Probe, Study


def check_clamp(circuit: Circuit, source: Source, study: Study) -> None:
    """Names of clamped and masked nodes, what the encoder reads, and discrete values that would have to move."""
    for key, names in (("clamp", study.clamp), ("mask", study.mask)):
        for name in names:
            if name not in circuit.nodes:
                source.fail((key, name), f"no node {name!r}; {nearest(name, circuit.nodes)}")
            if name in circuit.past:
                source.fail(
                    (key, name), f"node {name} holds what node {circuit.past[name]} was in the frame before; "
                    "state its mean for the first frame"
                )  # fmt: skip
    for name in study.mask:
        if name not in study.clamp:
            source.fail(("mask", name), f"node {name} has a mask but no clamp")
    for edge in circuit.encoder:
        reads = study.learning or study.inference.start.name == "encoder"
        if edge.parent not in study.clamp and reads:
            source.fail(("clamp",), f"the encoder reads node {edge.parent}, which is not clamped")
        if edge.child in study.clamp and reads:
            source.fail(
                ("clamp", edge.child), f"node {edge.child} is given by the encoder, so it cannot be clamped"
            )
    _check_past(circuit, source, study)
    held = [n for n in circuit.nodes if n in circuit.past or (n in study.clamp and n not in study.mask)]
    if len(held) == len(circuit.nodes) and study.stimulus is None:
        source.fail(("clamp",), "every node is held; nothing is left to infer")
    _check_discrete(circuit, source, study)


def _check_past(circuit: Circuit, source: Source, study: Study) -> None:
    """Training and held-out images are no sequence: nothing in them was the frame before."""
    for name, of in circuit.past.items():
        if study.learning is not None:
            source.fail(
                ("learning",), f"node {name} holds what node {of} was in the frame before, and training images "
                "come in random order; state the weights, or give weights: RUN"
            )  # fmt: skip
        wanted = study.evaluation
        for key in ("log_likelihood", "reconstruction", "elbo"):
            if getattr(wanted, key) is not None:
                source.fail(
                    ("evaluation", key), f"node {name} holds what node {of} was in the frame before, and held-out "
                    "images are measured one by one"
                )  # fmt: skip


def _check_discrete(circuit: Circuit, source: Source, study: Study) -> None:
    """A discrete node with children is held wholly in every phase: no gradient reaches discrete values."""
    for edge in circuit.edges:
        name = edge.parent
        if not circuit.nodes[name].distribution.discrete:
            continue
        what = f"node {name} is discrete and has a child ({edge.child})"
        if name not in study.clamp:
            source.fail(("clamp",), f"{what}; clamp it, gradients do not reach discrete values")
        if name in study.mask:
            source.fail(("mask", name), f"{what}; clamp it wholly, gradients do not reach discrete values")
        if study.clamp[name] == "image" and study.record and study.record.spontaneous:
            source.fail(("record", "spontaneous"), f"{what}; it cannot be released before the stimulus")


def check_record(circuit: Circuit, source: Source, study: Study) -> None:
    """Names of probes, nodes and units."""
    if study.stimulus is not None and study.record is None:
        source.fail(("stimulus",), "it is the schedule of a recording, and this study has no record section")
    if study.record is None:
        return
    for word in ("steps", "spontaneous"):
        stated = word in study.record.model_fields_set
        if getattr(study.record, word) and study.stimulus is not None:
            source.fail(("record", word), "stimulus says what is shown for how long; leave it out here")
        if word == "steps" and not stated and study.stimulus is None:
            source.fail(("record", word), "missing; this key is needed where there is no stimulus")
    if isinstance(study.record.images, list) and not study.record.images:
        source.fail(("record", "images"), "expected a number of images or at least one of them, found []")
    seen: set[tuple[str, str]] = set()
    for index, probe in enumerate(study.record.probes):
        path: Path_ = ("record", "probes", index)
        for name in probe.read:
            if name not in PROBES:
                source.fail((*path, "read"), f"no probe {name!r}; {nearest(name, PROBES)}")
        for name in probe.nodes or ():
            if name not in circuit.nodes:
                source.fail((*path, "nodes"), f"no node {name!r}; {nearest(name, circuit.nodes)}")
        _check_units(circuit, source, path, probe)
        given = [n for n in probe.nodes or () if n in circuit.past]
        if given and set(probe.read) != {"value"}:
            source.fail((*path, "nodes"), f"node {given[0]} is given by the frame before: it has a value, no error and "
                        "no drift")  # fmt: skip
        for key in _arrays(circuit, probe):
            if key in seen:
                what = f"{key[0]} of node {key[1]}" if key[1] else key[0]
                source.fail((*path, "read"), f"{what} is recorded twice")
            seen.add(key)
    _check_together(circuit, source, study.record.probes)


def _check_together(circuit: Circuit, source: Source, probes: Sequence[Probe]) -> None:
    """Arrays of a node lie in one group of the trace, whose dims are the same units; steps are those of the finest."""
    finest = min((probe.every for probe in probes), default=1)
    chosen: dict[str, list[int] | None] = {}
    for index, probe in enumerate(probes):
        path: Path_ = ("record", "probes", index)
        if probe.every % finest:
            what = f"expected a multiple of the finest probe's every, {finest}"
            source.fail((*path, "every"), f"{what}; found {probe.every}")
        if not any(PROBES[name].per_unit for name in probe.read):
            continue
        for node in probe.nodes or circuit.nodes:
            if chosen.setdefault(node, probe.units) != probe.units:
                other = "all of them" if chosen[node] is None else chosen[node]
                source.fail((*path, "units"), f"expected the same units in all probes of node {node}; another reads "
                            f"{other}")  # fmt: skip


def _check_units(circuit: Circuit, source: Source, path: Path_, probe: Probe) -> None:
    if probe.units is None:
        return
    if not probe.units:
        source.fail((*path, "units"), "expected at least one unit, found []")
    for name in probe.nodes or circuit.nodes:
        shape = circuit.nodes[name].shape
        if max(probe.units) >= shape[0]:
            source.fail(
                (*path, "units"), f"node {name} has units 0 to {shape[0] - 1}, found {max(probe.units)}"
            )


def _arrays(circuit: Circuit, probe: Probe) -> list[tuple[str, str]]:
    """(name, node) of every array that a probe makes; no node at the root."""
    found = []
    for name in probe.read:
        if PROBES[name].root and not probe.nodes:
            found.append((name, ""))
        if PROBES[name].node:
            found += [(name, node) for node in probe.nodes or circuit.nodes]
    return found


def check_evaluation(circuit: Circuit, source: Source, study: Study) -> None:
    """Measures that need an encoder, or a clamped node that somebody predicts."""
    wanted = study.evaluation
    needs: Mapping[str, bool] = {
        "elbo": wanted.elbo is not None,
        "log_likelihood": wanted.log_likelihood is not None and wanted.log_likelihood.method == "iwae",
    }
    for name, needed in needs.items():
        if needed and not circuit.encoder:
            source.fail(("evaluation", name), "it needs an encoder, and the circuit has none; log_likelihood has "
                        "method: ais")  # fmt: skip
    if wanted.reconstruction is not None and not any(circuit.parents(name) for name in study.clamp):
        source.fail(("evaluation", "reconstruction"), "no clamped node has parents that could predict it")
    if wanted.log_likelihood is not None and not study.clamp:
        source.fail(("evaluation", "log_likelihood"), "no node is clamped: there is no data to be likely")


def check_images(source: Source, study: Study, circuit: Circuit, images: Images, split: Split) -> None:
    """As many images as are asked for, and labels that their node can hold."""
    if study.learning and study.learning.batch_size > len(split.train):
        source.fail(
            ("learning", "batch_size"),
            f"a batch of {study.learning.batch_size} is larger than the training set ({len(split.train)} images)",
        )
    if study.record is not None:
        asked = study.record.images
        last = asked - 1 if isinstance(asked, int) else max(asked)
        if last >= len(split.test):
            source.fail(
                ("record", "images"),
                f"image {last} is asked for, but the test set has {len(split.test)}, from 0",
            )
    part = split.validation if study.evaluation.on == "validation" else split.test
    for name in ("log_likelihood", "reconstruction", "elbo"):
        measure: Elbo | None = getattr(study.evaluation, name)
        if measure is not None and measure.images > len(part):
            source.fail(
                ("evaluation", name, "images"),
                f"{measure.images} images are asked for, but the {study.evaluation.on} set has {len(part)}",
            )
    for name, what in study.clamp.items():
        if what == "label":
            _check_labels(source, name, circuit.nodes[name].shape[0], images)


def _check_labels(source: Source, name: str, size: int, images: Images) -> None:
    path = ("clamp", name)
    if images.train_label is None or (images.test is not None and images.test_label is None):
        source.fail(path, f"the images of {images.name} have no labels")
    largest = max(int(part.max()) for part in (images.train_label, images.test_label) if part is not None)
    if largest >= size:
        source.fail(path, f"the labels go up to {largest}, but node {name} has {size} units")
