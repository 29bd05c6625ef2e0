"""pcsim: predictive-coding circuits as sampling machines.

    circuit = pcsim.load("circuits/mnist.yaml")
    trained = pcsim.train(circuit, images, kernel=pcsim.langevin(0.1), steps=50, updates=400)
    trace = pcsim.sample(circuit, images[:4], kernel=pcsim.langevin(0.1), steps=300, weights=trained)

Names are imported when they are first used, so that `pcsim --help` does not wait for torch.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "load": "pcsim.api",
    "sample": "pcsim.api",
    "train": "pcsim.api",
    "open": "pcsim.api",
    "run": "pcsim.study.launch",
    "Circuit": "pcsim.circuit.graph",
    "Kernel": "pcsim.inference.types",
    "Draws": "pcsim.learning.draws",
    "Map": "pcsim.engines.torch.starts",
    "Probe": "pcsim.api",
    "langevin": "pcsim.inference.kernels",
    "mala": "pcsim.inference.kernels",
    "momentum": "pcsim.inference.kernels",
    "adam": "pcsim.inference.kernels",
    "preconditioners": "pcsim.inference",
    "distributions": "pcsim.circuit",
    "datasets": "pcsim",
}
MODULES = ("preconditioners", "distributions", "datasets")

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'pcsim' has no attribute {name!r}")
    if name in MODULES:
        return import_module(f"{_HOME[name]}.{name}")
    return getattr(import_module(_HOME[name]), name)
