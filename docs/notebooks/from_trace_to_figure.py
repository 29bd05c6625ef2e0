# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From a trace to a figure in ten lines
#
# A study trains a small generative model of 8×8 digits by Langevin predictive coding and then records chains
# on held-out images: 200 steps before the image appears, the encoder's sweep at step 0, and the steps of
# inference. It takes less than a minute, and a complete run is not recomputed.

# %%
# %load_ext pcsim.figures.notebook
import pcsim
from pcsim.analysis import temperature
from pcsim.figures import sampling

run = pcsim.run(
    "../../studies/notebook_digits.yaml", "record.images=4", "record.chains=32", "record.steps=5000"
)
late = run.trace["z"].to_dataset().sel(step=slice(500, None))
found = temperature.virial_temperature(late["value"], late["drift"], step_size=0.05)
sampling.virial_temperature({"LPC": found})

# %% [markdown]
# Each dot is one unit of one image. A chain whose noise samples the posterior at the set temperature of 1 has
# the virial temperature $1 + \tfrac{\gamma}{2}\langle g^2\rangle$, shown by the open marks: the excess over 1
# is what a step of this size adds. The chains have it, unit by unit, within ±2 standard errors.
#
# ## What is in a trace
#
# A trace is a zarr store with one group per node. It opens lazily, with or without pcsim
# (`xarray.open_datatree(".../trace.zarr")`), and every array has its dimensions by name.

# %%
run.trace["z"]["value"]

# %% [markdown]
# `phase` says what was shown: `spontaneous` steps come before the image, `sweep` is the encoder's draw,
# `evoked` the rest. With names instead of axes, the usual questions are one line each. How far do the chains
# of one image spread, before the image and after it?

# %%
spread = run.trace["z"]["value"].std("chain").mean(("image", "unit"))
before, after = spread.sel(step=slice(None, -1)).mean(), spread.sel(step=slice(500, None)).mean()
print(f"spontaneous {float(before):.2f}, evoked {float(after):.2f}")
assert after < before

# %% [markdown]
# ## A result says what it is
#
# Every analysis returns an xarray object that carries its definition, its estimator, its bias and its source,
# and in `cautions` the reasons not to read it. The list is empty when there are none; figures and the report
# print it.

# %%
for name in ("definition", "estimator", "bias", "source", "cautions"):
    print(f"{name:>10}: {found.attrs[name]}")

# %%
deviation = found["deviation"] / found["deviation_error"]
print(
    f"deviation from the exact law, in standard errors: largest {float(abs(deviation).max()):.1f}",
    f"of {deviation.size} units",
)
assert abs(deviation).max() < 4

# %% [markdown]
# Next: [vanilla PC against Langevin PC](pc_against_lpc), the same questions asked of both.
