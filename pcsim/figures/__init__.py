"""Figures of runs: xarray and numpy in, matplotlib figures out. The registry is `pcsim.figures.registry`."""
