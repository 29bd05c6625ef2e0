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
# # Variability: quenching and spontaneous activity
#
# If neural variability is sampling, then chains of one image are trials, their spread is the width of a
# posterior, and what they do without a stimulus are draws of the prior. Three consequences are measured here,
# each first where the answer is known: the spread falls when a stimulus appears, the spread and its
# correlations fall with contrast, and spontaneous activity looks like the average evoked activity exactly
# when the model fits its world.

# %%
# %load_ext pcsim.figures.notebook
import numpy as np
import pandas as pd
import xarray as xr

import pcsim
from pcsim.analysis import correlations, quenching, spontaneous
from pcsim.analysis.shuffling import shuffled_units
from pcsim.figures import variability

# %% [markdown]
# ## The law of quenching
#
# One latent and one observed unit, linear and Gaussian: $z \sim \mathcal N(0.2, 1)$, $y \sim \mathcal N(2z,
# 1)$. When $y = 1$ appears, the mean of $z$ over trials relaxes to the posterior's as $e^{-\lambda t}$ with
# $\lambda = 5$, and its variance from 1 to 1/5 as $e^{-2\lambda t}$: quenching is twice as fast as the
# response. In steps of $\gamma$ the rates are $-\ln(1-\gamma\lambda)$ and twice that. At $T = 0$ all trials
# agree, before and after.

# %%
GAMMA = 0.02
traces = {
    name: pcsim.sample(
        "../../circuits/mcpc_linear_1d.yaml",
        {"y": [[3.0]]},
        pcsim.langevin(GAMMA, t),
        steps=150,
        chains=4000,
        spontaneous=1500,
        probes=(pcsim.Probe(("value",), nodes=("z",)),),
    )
    for name, t in (("vanilla PC", 0.0), ("Langevin PC", 1.0))
}
values = {
    name: trace["z"]["value"].isel(image=0).sel(step=slice(-50, None)) for name, trace in traces.items()
}
fit = quenching.quenching(values["Langevin PC"])
expected = quenching.discrete_rate(GAMMA, 5.0)
for what, exact in (("mean_rate", expected), ("variance_rate", 2 * expected), ("ratio", 2.0)):
    found, error = float(fit[what].squeeze()), float(fit[f"{what}_error"].squeeze())
    print(f"{what:>13}: {found:.4f} ± {error:.4f}, expected {exact:.4f}")
    assert abs(found - exact) < 4 * error
courses = {name: quenching.across_chain_variance(value) for name, value in values.items()}
variability.quenching(courses, {"Langevin PC": fit})

# %% [markdown]
# The law depends on where the trials start: a chain that had not reached its prior before the stimulus, or
# that only relaxes ($T = 0$), also ends narrower than it began.
#
# ## Contrast
#
# In a linear circuit the posterior's width does not depend on the stimulus at all. A Gaussian scale mixture
# $x = c\,y + n$ has a contrast $c$ that multiplies two filters with prior correlation .6; with the contrast
# known, variance and noise correlation fall as it grows (Orbán, Berkes, Fiser and Lengyel 2016).

# %%
CONTRASTS = (0.0, 0.5, 1.0, 2.0, 4.0)
PRIOR = np.array([[1.0, 0.6], [0.6, 1.0]])
rows = []
for contrast in CONTRASTS:
    scale = (2 * contrast / 4) ** 0.5  # c = ½ Σ s² of four equal s
    keys = (f"clamp.z={[scale] * 4 + [0.0, 0.0]}", "record.chains=1000", "record.steps=1000")
    run = pcsim.run("../../studies/gsm_patch_contrast.yaml", *keys)
    z = run.trace["z"]["value"].isel(image=0, unit=slice(4, 6)).sel(step=slice(200, None))
    draws = spontaneous.thinned(z).stack(draw=("chain", "step"), create_index=False)
    n = draws.sizes["draw"]
    r = float(np.corrcoef(draws.transpose("unit", "draw"))[0, 1])
    v = float(draws.var("draw").mean())
    rows.append((v, v * np.sqrt(2 / n), r, (1 - r**2) / np.sqrt(n)))
names = ("variance", "variance_error", "correlation", "correlation_error")
measured = xr.Dataset(
    {name: ("contrast", column) for name, column in zip(names, np.array(rows).T, strict=True)},
    coords={"contrast": list(CONTRASTS)},
)
law = correlations.gsm_posterior(np.linspace(0, 4, 41), PRIOR, np.eye(2), 1.0)
variability.contrast(law, measured)


# %%
def stepped(contrast, step_size=0.02):
    """The chain's covariance, with what its step size adds: [Λ − γΛ²/2]⁻¹."""
    precision = np.linalg.inv(PRIOR) + contrast**2 * np.eye(2)
    return np.linalg.inv(precision - step_size / 2 * precision @ precision)


chain = np.array([stepped(c) for c in CONTRASTS])
exact = {"variance": chain[:, 0, 0], "correlation": chain[:, 0, 1] / chain[:, 0, 0]}
for name, must in exact.items():
    assert (abs(measured[name] - must) < 4 * measured[f"{name}_error"]).all()
table = {
    (name, c): column
    for name, must in exact.items()
    for c, column in (
        ("measured", measured[name]),
        ("± s.e.", measured[f"{name}_error"]),
        ("of this step", must),
    )
}
pd.DataFrame(table, index=pd.Index([f"{c:g}" for c in CONTRASTS], name="contrast")).style.format(precision=3)

# %% [markdown]
# The dots lie above the lines at high contrast by what a step of $\gamma = .02$ adds there; the table has
# that included.
#
# ## Spontaneous and average evoked activity
#
# $\langle p(z \mid x)\rangle_x = p(z)$ holds if the stimuli are distributed as the model believes. The linear
# circuit believes in $y$ of variance 5. Shown stimuli of variance $s$, the divergence of average evoked from
# spontaneous activity is $\tfrac12(\bar v - 1 - \ln\bar v)$ with $\bar v = \tfrac15 + \tfrac4{25}s$.
# Estimates stand beside their *floor* (two halves of the spontaneous draws) and beside what the estimator
# says of a case whose answer is known.

# %%
rng = np.random.default_rng(0)
results, rows = {}, {}
for s in (1.0, 5.0, 20.0):
    stimuli = 0.4 + np.sqrt(s) * rng.standard_normal((1000, 1))
    stimuli = 0.4 + (stimuli - stimuli.mean()) * np.sqrt(s) / stimuli.std()
    trace = pcsim.sample(
        "../../circuits/mcpc_linear_1d.yaml",
        {"y": stimuli},
        pcsim.langevin(GAMMA),
        steps=100,
        chains=4,
        spontaneous=300,
        probes=(pcsim.Probe(("value",), nodes=("z",), every=50),),
        seed=int(s),
    )
    z = trace["z"]["value"]
    ends = {"evoked": z.isel(step=-1), "spontaneous": z.sel(step=slice(-100, -1)).isel(step=-1)}
    name = f"stimuli of variance {s:g}"
    results[name] = spontaneous.spontaneous_divergence(ends["evoked"], ends["spontaneous"])
    rows[name] = {
        "divergence (nats)": float(results[name]["divergence"]),
        "floor": float(results[name]["floor"]),
        "must be": spontaneous.linear_model_divergence(2.0, 1.0, s).divergence,
    }
variability.spontaneous_evoked(results)

# %%
pd.DataFrame(rows).T.style.format(precision=4)

# %% [markdown]
# ## Digits
#
# The trained model of 8×8 digits, on held-out images. Nothing is known in closed form here, so the controls
# carry the argument.

# %%
DIGITS = "../../studies/notebook_digits.yaml"
COLD = (
    "inference.kernel.temperature=0",
    "inference.start=prior",
    "learning.draws=final",
    "learning.encoder.objective=none",
)
runs = {"Langevin PC": pcsim.run(DIGITS), "vanilla PC": pcsim.run(DIGITS, *COLD)}
digits = {name: run.trace["z"]["value"].load() for name, run in runs.items()}
for name, value in digits.items():
    spread = value.astype(float).var("chain").mean(("image", "unit"))
    print(
        f"{name}: variance {float(spread.sel(step=slice(-50, -1)).mean()):.3f} before,",
        f"{float(spread.sel(step=slice(250, None)).mean()):.3f} after",
    )
one = {
    name: quenching.across_chain_variance(value.isel(image=0, unit=0).sel(step=slice(-100, 150)))
    for name, value in digits.items()
}
variability.quenching(one)

# %% [markdown]
# Langevin PC: the spread before the image is the prior's, variance 1, and about a third of it is left in the
# posterior. Vanilla PC: all trials fall to the prior's mode without a stimulus, so that all of them take the
# same path with it.
#
# ### Correlations
#
# Noise correlations are those among trials of one image, signal correlations those of the units' mean
# responses over images.

# %%
late = digits["Langevin PC"].sel(step=slice(250, None))
noise = correlations.noise_correlation(late)
signal = correlations.signal_correlation(late)
agreement = correlations.correlation_agreement(signal["correlation"], noise["correlation"], seed=0)
print(
    f"slope of noise on signal correlations {float(agreement['slope']):+.2f},",
    f"permutation p = {float(agreement['p']):.3f}",
)
variability.correlation_agreement({"Langevin PC": agreement})

# %% [markdown]
# Units of a latent Gaussian code have no tuning of their own: the prior is the same in every direction.
# Whether noise follows signal is then a property of the learnt decoder; explaining away pulls the sign to the
# negative side.
#
# ### Spontaneous against evoked
#
# All held-out digits are one stimulus ensemble, that which the model was trained on; pixel noise of the same
# number of white pixels is another, that it was not. After training the first should be closer to spontaneous
# activity. Draws are the last steps of 16 chains for each of 200 images, 400 steps after the change.

# %%
run = runs["Langevin PC"]
pixels = run.trace["x"]["observed"].to_numpy()
scrambled = np.random.default_rng(1).permuted(pixels.reshape(len(pixels), -1), axis=1).reshape(pixels.shape)
probes = (pcsim.Probe(("value",), ("z",), every=100),)
last, prior = {}, None
for name, weights in (("trained", run.directory.path), ("untrained", None)):
    for shown, images in (("digits", pixels), ("scrambled digits", scrambled)):
        trace = pcsim.sample(
            run.plan.circuit,
            images,
            pcsim.langevin(0.05),
            steps=400,
            chains=16,
            spontaneous=400,
            weights=weights,
            probes=probes,
        )
        z = trace["z"]["value"]
        last[name, shown] = z.isel(step=-1), z.sel(step=slice(-100, -1)).isel(step=-1)

rows, results = {}, {}
for (name, shown), (evoked, silent) in last.items():
    found = {e: spontaneous.spontaneous_divergence(evoked, silent, e) for e in ("gaussian", "classifier")}
    results[f"{name}, {shown}"] = found["classifier"]
    rows[f"{name}, {shown}"] = {e: float(f["divergence"]) for e, f in found.items()} | {
        "floor (gaussian)": float(found["gaussian"]["floor"]),
        "gaussian, units shuffled": float(
            spontaneous.spontaneous_divergence(shuffled_units(evoked, 0), silent)["divergence"]
        ),
    }
variability.spontaneous_evoked(results)

# %%
pd.DataFrame(rows).T.style.format(precision=3)

# %% [markdown]
# After training, average evoked activity is near the spontaneous one for digits and far from it for scrambled
# ones; before training there is no such preference. It is not at the floor: the model, after 300 updates,
# does not have its world exactly. Shuffling the units' trials raises the divergence of digits a little: part
# of the match lies in how units vary together.

# %%
divergence = {name: row["gaussian"] for name, row in rows.items()}
assert divergence["trained, digits"] < 0.1 * divergence["trained, scrambled digits"]
assert divergence["trained, digits"] < rows["trained, digits"]["gaussian, units shuffled"]
