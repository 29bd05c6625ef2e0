"""Sampling: kernels, preconditioners, draws and chains, for any `Target`. No graph, data or study in here."""
