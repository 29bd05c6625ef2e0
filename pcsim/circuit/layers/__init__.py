"""Layers: the differentiable maps inside an edge, by their YAML names."""

from typing import Any

from pcsim.circuit.layers.activations import ACTIVATIONS
from pcsim.circuit.layers.convolution import Conv, ConvTranspose
from pcsim.circuit.layers.gain import Gain
from pcsim.circuit.layers.linear import Linear
from pcsim.circuit.layers.reshape import Reshape

LAYERS: dict[str, type[Any]] = {
    "linear": Linear,
    "conv": Conv,
    "conv_transpose": ConvTranspose,
    "reshape": Reshape,
    "gain": Gain,
    **ACTIVATIONS,
}

_MIXES = (
    "it computes its statistics over the rows of a batch, so the energy of one chain would depend on the "
    "other chains and images; rows must stay independent"
)
_RANDOM = "it draws noise of its own, so the energy would not be a function of the state"

REFUSED: dict[str, str] = {
    "batch_norm": _MIXES,
    "batchnorm": _MIXES,
    "batch_norm_1d": _MIXES,
    "batch_norm_2d": _MIXES,
    "dropout": _RANDOM,
}
"""Layers that people look for and that cannot be had, with the reason."""

__all__ = ["LAYERS", "REFUSED"]
