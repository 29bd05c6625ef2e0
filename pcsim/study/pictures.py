"""What a phase does to the values that it shows: literal values, series of frames, masks and transforms."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from pcsim.circuit.graph import Circuit, Node
from pcsim.circuit.source import Path_, Source
from pcsim.errors import nearest
from pcsim.inference.types import Rng
from pcsim.study.phases import Written, held_nodes, stimulus_nodes
from pcsim.study.schema import Transform
from pcsim.study.stimuli import mask_of


def value_of(source: Source, path: Path_, node: Node, value: Any, n_image: int) -> Tensor:
    """A stated value as float64 `[image, *shape]`: a number, values of the node's shape, or one per image."""
    given = _numbers(source, path, node, value)
    if given.shape == (n_image, *node.shape):
        return given
    if given.shape not in ((), node.shape):
        source.fail(
            path, f"expected a number or values of shape {list(node.shape)}, found {list(given.shape)}"
        )
    return given.expand(n_image, *node.shape)


def series_of(source: Source, path: Path_, circuit: Circuit, value: Any, n_image: int) -> dict[str, Tensor]:
    """Frames of one or several nodes, float64 `{node: [frame, image, *shape]}`.

    Stated as `{node: frames}`, each frame of the node's shape (or flat), or one per image.
    """
    if not isinstance(value, Mapping) or not value:
        source.fail(path, f"expected a CSV file or {{node: list of frames}}, found {value!r}")
    result = {}
    for name, frames in value.items():
        if name not in circuit.nodes or name in circuit.past:
            source.fail(path, f"no node {name!r} that can be shown; {nearest(name, circuit.nodes)}")
        result[name] = _frames(source, (*path, name), circuit.nodes[name], frames, n_image)
    lengths = {len(frames) for frames in result.values()}
    if len(lengths) > 1:
        source.fail(path, f"the nodes have different numbers of frames: {sorted(lengths)}")
    return result


def _frames(source: Source, path: Path_, node: Node, value: Any, n_image: int) -> Tensor:
    given = _numbers(source, path, node, value)
    size = math.prod(node.shape)
    if given.shape[1:] == (size,) or (given.dim() == 1 and size == 1):
        given = given.reshape(-1, *node.shape)
    if given.dim() and len(given) and given.shape[1:] == (n_image, *node.shape):
        return given
    if not given.dim() or not len(given) or given.shape[1:] != node.shape:
        source.fail(path, f"expected a list of frames of shape {list(node.shape)}, found {list(given.shape)}")
    return given[:, None].expand(len(given), n_image, *node.shape)


def _numbers(source: Source, path: Path_, node: Node, value: Any) -> Tensor:
    """Finite numbers in the node's range, float64."""
    try:
        given = torch.from_numpy(np.array(value, dtype=np.float64))
    except (TypeError, ValueError):
        source.fail(path, f"expected numbers, found {value!r}")
    if isinstance(value, bool) or not bool(given.isfinite().all()):
        source.fail(path, f"expected finite numbers, found {value!r}")
    low, high = node.distribution.data_range
    if node.distribution.discrete and not bool(((given >= low) & (given <= high)).all()):
        source.fail(path, f"the values of node {node.name} must lie in [{low:g}, {high:g}]")
    return given


def transformed(source: Source, path: Path_, node: Node, value: Tensor, transform: Transform) -> Tensor:
    """The pictures after blur, contrast and occlusion, `[image, *shape]`.

    Blur is a Gaussian filter over y and x with the border repeated; contrast scales the distance from the middle
    of the node's range; the occluded part becomes black, the low end of that range.
    """
    low, high = node.distribution.data_range
    if transform.blur is not None:
        if len(node.shape) < 2:
            source.fail(
                (*path, "blur"), f"node {node.name} has shape {list(node.shape)}, not that of an image"
            )
        blurred = value.cpu().double().numpy()
        for axis in (-2, -1):
            blurred = gaussian_filter1d(blurred, transform.blur, axis=axis, mode="nearest")
        value = torch.from_numpy(blurred).to(value)
    if transform.contrast is not None:
        middle = (low + high) / 2
        value = middle + transform.contrast * (value - middle)
        if node.distribution.discrete:
            value = value.clamp(low, high)
    if transform.occlude is not None:
        covered = mask_of(source, node, transform.occlude, value.dtype, (*path, "occlude"))
        value = torch.where(covered.to(value.device).bool(), low, value)
    return value


def shuffled(value: Tensor, rng: Rng) -> Tensor:
    """Every picture with its pixels in another order, the same for all its channels: a backward mask."""
    shape = value.shape
    planes = value.reshape(len(value), shape[1], -1) if len(shape) == 4 else value.reshape(len(value), 1, -1)
    order = rng.uniform(torch.empty(len(value), planes.shape[2], device=value.device)).argsort(1)
    return planes.gather(2, order[:, None].expand_as(planes)).reshape(shape)


def check_shown(
    circuit: Circuit, source: Source, clamp: Mapping[str, Any], phases: Sequence[Written], n_image: int
) -> None:
    """Refuse values, series and transforms that do not fit their nodes, before anything is computed."""
    stimulus = stimulus_nodes(circuit, clamp, phases)
    for phase in {phase.path: phase for phase in phases}.values():
        show, path = phase.spec.show, (*phase.path, "show")
        if isinstance(show, dict):
            for name in (n for n in show if n in circuit.nodes):
                value_of(source, (*path, name), circuit.nodes[name], show[name], n_image)
            if "series" in show:
                frames = series_of(source, (*path, "series"), circuit, show["series"], n_image)
                length = len(next(iter(frames.values())))
                if show.get("simulate", length) != length:
                    source.fail((*path, "series"), f"{length} frames for a simulation of {show['simulate']}")
            if show.get("image", 0) >= n_image:
                source.fail((*path, "image"), f"image {show['image']} of {n_image} recorded images, from 0")
        if phase.spec.transform != Transform():
            held = held_nodes(phase, clamp, stimulus)
            _check_transform(circuit, source, phase, [n for n in held if n in stimulus])


def _check_transform(circuit: Circuit, source: Source, phase: Written, shown: Sequence[str]) -> None:
    """Something must be shown that can change, and it must be a picture where that is needed."""
    path, show = (*phase.path, "transform"), phase.spec.show
    if show in ("blank", "omission") or (isinstance(show, dict) and "simulate" in show):
        source.fail(path, "this phase shows nothing that could be transformed")
    for name in shown:
        node = circuit.nodes[name]
        transformed(source, path, node, torch.zeros(1, *node.shape), phase.spec.transform)
