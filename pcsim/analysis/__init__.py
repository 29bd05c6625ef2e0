"""What traces say: plain functions from xarray to xarray, without torch."""
