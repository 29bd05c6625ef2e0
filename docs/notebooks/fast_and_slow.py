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
# # The fast sweep and the slow chain
#
# Inference begins with one pass of an encoder, the sweep at step 0, and goes on as a chain. What does each of
# the two do? The model is that of the other notebooks: 8×8 digits, eight latents, an encoder trained from the
# chain (Jeffreys). It recorded 200 held-out images, 16 chains each, with 200 steps before the image and 500
# after it.

# %%
# %load_ext pcsim.figures.notebook
import numpy as np
import pandas as pd
import xarray as xr

import pcsim
from pcsim.analysis import convergence, decoding, divergence, equilibrium, fast_slow, progress, trajectories
from pcsim.analysis.readout import Readout
from pcsim.figures import decoding as decoding_figures
from pcsim.figures import fast_slow as fast_slow_figures
from pcsim.figures import recurrence, trajectory_nulls

GAMMA, LATE = 0.05, 250
run = pcsim.run("../../studies/notebook_digits.yaml")
trace = run.trace
value, label = trace["z"]["value"].load(), trace["label"].load()
evoked = value.sel(step=slice(0, None))

# %% [markdown]
# ## Are the chains long enough to ask?

# %%
found = convergence.diagnostics(value.sel(step=slice(LATE, None)))
print(f"split R-hat: median {float(found['rhat'].median()):.3f}, worst {float(found['rhat'].max()):.3f}")
print(
    f"integrated time: median {float(found['integrated_time'].median()):.0f} steps,",
    f"longest {float(found['integrated_time'].max()):.0f}",
)

# %% [markdown]
# A unit forgets its past in some tens of steps. Chains of a few hundred steps are then a dozen or so
# independent draws, too few for each of them to have the mean of all (R-hat 1.01 wants hundreds). Averages
# over chains and images are sound; what is said of single units and images is not, and the figures repeat
# that in red.
#
# ## How far is the sweep from where the chains end?
#
# Gaussian divergences between the law of $z_t$ over chains and the law of the last steps, taken from the
# *other* half of the chains. A law of 8 latents is not fitted with 8 chains, so 12 images are inferred again
# with 200 chains. Beside them the same images with their lower half covered in black, which the encoder has
# never seen.


# %%
def inferred(images, **options):
    """Chains on pictures of one's own, with the weights that the study learnt."""
    probes = (pcsim.Probe(("value",), ("z",)), pcsim.Probe(("energy",)))
    kernel = pcsim.langevin(GAMMA)
    weights = run.directory.path
    return pcsim.sample(run.plan.circuit, images, kernel, weights=weights, probes=probes, seed=1, **options)


whole = trace["x"]["observed"].to_numpy()
covered = whole.copy()
covered[:, :, 4:] = 0
over_steps = {}
for name, pictures in {"whole image": whole[:12], "lower half covered": covered[:12]}.items():
    z = inferred(pictures, steps=600, chains=200, start="encoder")["z"]["value"]
    over_steps[name] = divergence.split_divergence(z, after=200)
fast_slow_figures.divergences({name: found.sel(step=slice(0, 150)) for name, found in over_steps.items()})

# %%
sweep = pd.DataFrame(
    {
        name: {
            f"KL({pair}), nats, {when}": float(found[kind].sel(step=steps).mean())
            for kind, pair in (("reverse", "q‖p"), ("forward", "p‖q"))
            for when, steps in (("at the sweep", slice(0, 0)), ("after 100 steps", slice(100, 150)))
        }
        for name, found in over_steps.items()
    }
)
sweep.style.format(precision=2)

# %% [markdown]
# On whole images the sweep's factorised guess is about a nat off; on covered ones, which it never learnt,
# more than twice as much. The chain, which knows the model and not the habit, brings both down to nothing
# that these many chains could tell from zero.

# %%
start, end = (sweep.loc[f"KL(q‖p), nats, {when}"] for when in ("at the sweep", "after 100 steps"))
assert start["lower half covered"] > 2 * start["whole image"]
assert (end < 0.1 * start).all()

# %% [markdown]
# ## What the chain gains in log-probability, and against which noise

# %%
line = progress.long_run_line(trace["energy"].load(), after=LATE)
change = progress.log_joint_change(trace["energy"], line)
fast_slow_figures.log_joint({"LPC": change})

# %%
squared = progress.squared_gradient(trace["z"]["drift"].sel(step=slice(0, None)))
ratio = progress.drift_to_noise(squared, GAMMA, dimension=8, after=LATE)
print(
    f"drift-to-noise ratio at the sweep {float(ratio['ratio'].sel(step=0).mean()):.2f},",
    f"stationary {float(ratio['stationary'].mean()):.3f}",
)
fast_slow_figures.drift_to_noise({"LPC": ratio.sel(step=slice(0, 150))})

# %% [markdown]
# A ratio below 1 means that a single step is mostly noise; only many of them move the chain anywhere.
#
# ## The Fast-Slow Index
#
# How much of the way from the prior to where the chain ends has the sweep already gone? The measure is minus
# half the squared Mahalanobis distance to the law at which the other half of the chains ends: it grows also
# where log-probability must fall.


# %%
def nearness(tested, law):
    """−½ (z − μ)ᵀ Σ⁻¹ (z − μ) for every draw."""
    inverse = xr.apply_ufunc(
        np.linalg.inv,
        law["covariance"],
        input_core_dims=[["unit", "unit_2"]],
        output_core_dims=[["unit", "unit_2"]],
    )
    away = tested.drop_vars("unit").astype(float) - law["mean"].drop_vars("unit", errors="ignore")
    inverse = inverse.drop_vars(["unit", "unit_2"], errors="ignore")
    return -0.5 * xr.dot(away, xr.dot(inverse, away.rename(unit="unit_2"), dim="unit_2"), dim="unit")


def index_of(z):
    """The index of half of the chains, by where the other half ends."""
    law = divergence.stationary_moments(z.isel(chain=slice(1, None, 2)), after=LATE)
    measure = nearness(z.isel(chain=slice(0, None, 2)), law)
    return fast_slow.fast_slow_index(fast_slow.stages(measure, slice(-100, -1), LATE), resamples=200, seed=0)


other = inferred(covered, steps=500, chains=16, spontaneous=200, start="encoder")["z"]["value"]
index = {"whole image": index_of(value), "lower half covered": index_of(other)}
for name, found in index.items():
    low, high = float(found["overall_low"]), float(found["overall_high"])
    print(f"{name}: {float(found['overall_index']):.3f}, 95 % interval [{low:.3f}, {high:.3f}]")
recurrence.fast_slow_index(index)

# %% [markdown]
# The sweep does nearly all of the work here: the images are small, and the encoder has learnt from the very
# chains that follow it. Where it is out of its depth the chain's share grows.
#
# ## What can be read out, and when?
#
# A linear readout of the digit's class, trained and tested on different images, from single draws, from their
# running mean, and from the encoder's mean. Open dots: labels shuffled among the images, which must stay at
# chance.

# %%
readout, steps = Readout(seed=0), [0, 2, 5, 10, 20, 50, 100, 200, 500]
few = evoked.isel(chain=slice(0, 4))
encoder = trace["encoder/z"]["mean"].load()
decoded = {
    "single draw": decoding.decodability(few, label, readout, at=steps),
    "running mean": decoding.decodability(decoding.running_mean(few), label, readout, at=steps),
    "encoder's mean": decoding.decodability(encoder, label, readout),
}
decoding_figures.decodability(decoded)

# %% [markdown]
# Single draws stay noisy for ever, by design: at $T = 1$ the accuracy of one draw may *fall* from the sweep
# to the posterior. The running mean takes that noise out. With 200 images of ten classes the standard errors
# are about three points of accuracy.
#
# ## Do difficult images take longer?
#
# From the sweep, whole images are within the band of their stationary energy at once. So the chains are
# started from the prior: how long until the energy is where it stays, and is that longer for some images?

# %%
cold = inferred(whole[:100], steps=500, chains=64)["energy"]
stationary = progress.long_run_line(cold.isel(chain=slice(1, None, 2)), after=LATE)
time = equilibrium.equilibrium_time(cold.isel(chain=slice(0, None, 2)), stationary, window=40)
difficulty = xr.Dataset(
    {
        "energy_at_the_start": cold.sel(step=0).mean("chain"),
        "energy_at_the_end": -stationary["mean"],
        "white_pixels": trace["x"]["observed"].isel(image=slice(0, 100)).sum(("channel", "y", "x")),
    }
)
correlation = equilibrium.difficulty_correlation(time, difficulty)
recurrence.equilibrium_times(time, difficulty, correlation)

# %% [markdown]
# A null result: nearly all images arrive at once, as seen through a window of 40 steps (its half, 20, is the
# earliest time it can tell), and their times are not related to any of these measures of difficulty. Small
# digits are not hard enough.

# %% [markdown]
# ## Pictures of trajectories, and what chance draws
#
# One chain in the plane of its first two principal components, beside a random walk and noise of the same
# autocorrelation in *their* planes. A smooth arc is what high-dimensional noise looks like, so read the share
# of variance, not the shape.

# %%
one = value.isel(image=0)
plane = trajectories.trajectory_plane(one)
nulls = trajectories.explained_with_nulls(one, plane, settled=LATE, paths=50, seed=0)
trajectory_nulls.trajectory_nulls(nulls)
