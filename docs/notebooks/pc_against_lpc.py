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
# # Vanilla PC against Langevin PC
#
# The two methods differ in one number: the temperature of the chain, 0 or 1. On circuits whose answers are
# known in closed form this notebook measures what that number changes, in inference, in learning, without a
# stimulus, and between two percepts. The last cell is the table of all measurements beside what they should
# be.

# %%
# %load_ext pcsim.figures.notebook
import numpy as np
import pandas as pd
import xarray as xr
from scipy.optimize import brentq

import pcsim
from pcsim.analysis import averages, energy, modes, progress, quenching, rivalry, temperature
from pcsim.figures import fast_slow, multistability, sampling, variability

TEMPERATURE = {"vanilla PC": 0.0, "Langevin PC": 1.0}
table = {}


def note(what, method, measured, error, expected):
    """One entry of the table: measured ± standard error, what is expected, and their distance in standard errors."""
    table[what, method] = {"measured": round(measured, 9), "± s.e.": error, "expected": expected}
    if error > 0:
        assert abs(measured - expected) < 4 * error, (what, method)
    else:
        assert abs(measured - expected) < 1e-3 * max(1, abs(expected)), (what, method)


# %% [markdown]
# ## Inference
#
# Three linear-Gaussian levels, the lowest held at one value. The posterior of the two upper levels is
# Gaussian with precision $\Lambda$; all numbers below follow from its eigenvalues and the step size $\gamma$.
# 1,000 steps without a stimulus, then 4,000 with it.

# %%
GAMMA = 0.05
top, down = np.array([[1.0, 0.5], [-0.5, 1.0]]), np.array([[1.0, 0.0], [0.6, -0.8], [0.3, 1.2]])
middle = np.diag([2.0, 0.5])
leaf = np.array([[2.0, 0.5, 0.0], [0.5, 1.5, 0.3], [0.0, 0.3, 1.0]])
nothing = np.zeros((2, 3))
prior = np.block(
    [
        [np.eye(2) + top.T @ middle @ top, -top.T @ middle, nothing],
        [-middle @ top, middle + down.T @ leaf @ down, -down.T @ leaf],
        [nothing.T, -leaf @ down, leaf],
    ]
)  # precision of (z2, z1, x); its upper left block is that of the posterior
posterior = prior[:4, :4]


def stationary(precision):
    """Covariance of the chain at T = 1, with what its step size adds."""
    return np.linalg.inv(precision @ (np.eye(len(precision)) - GAMMA / 2 * precision))


probes = (pcsim.Probe(("value", "drift")), pcsim.Probe(("energy",)), pcsim.Probe(("gradient_norm",)))
traces = {
    method: pcsim.sample(
        "../../circuits/linear_gaussian_chain.yaml",
        {"x": [[1.0, -0.5, 0.5]]},
        pcsim.langevin(GAMMA, t),
        steps=4000,
        chains=64,
        spontaneous=1000,
        probes=probes,
    )
    for method, t in TEMPERATURE.items()
}


def both(method, name, steps):
    """The four latent units, z2 above z1, of that phase."""
    parts = [traces[method][node][name].sel(step=steps).drop_vars("unit") for node in ("z2", "z1")]
    return xr.concat(parts, "unit").squeeze("image")


late = slice(1000, None)

# %% [markdown]
# **Virial temperature.** $\langle (z-\bar z)\, g\rangle$ is 0 at rest and $T + \tfrac{\gamma}{2}\langle
# g^2\rangle$ for a sampler. The expected value below comes from the closed form, not from the trace. Where
# chains stand still, the analysis warns that they are no sample.

# %%
virial = {
    method: temperature.virial_temperature(both(method, "value", late), both(method, "drift", late), GAMMA, t)
    for method, t in TEMPERATURE.items()
}
exact = 1 + GAMMA / 2 * np.diag(posterior @ stationary(posterior) @ posterior)
for method, found in virial.items():
    error = float(np.sqrt((found["measured_error"] ** 2).sum()) / 4) if TEMPERATURE[method] else 0.0
    note("virial temperature", method, float(found["measured"].mean()), error, exact.mean() if error else 0.0)
sampling.virial_temperature(virial)

# %% [markdown]
# **Log-probability.** Vanilla PC ends at the maximum of $\log p(x, z)$. A sampler of $D = 4$ units stands
# about $D/2$ below it, exactly $\tfrac12\sum_i (1-\gamma\lambda_i/2)^{-1}$: the better value of vanilla PC
# says nothing about who samples.

# %%
eigenvalues = np.linalg.eigvalsh(posterior)
law = energy.langevin_energy(eigenvalues, GAMMA)
excess = {}
for method, t in TEMPERATURE.items():
    trace = traces[method]
    excess[method] = energy.energy_statistics(
        trace["energy"].sel(step=late), trace["energy_minimum"], free_units=4, temperature=t
    )
    error = float(excess[method]["excess_error"]) if t else 0.0
    note(
        "log p(x, z) above its maximum (nat)",
        method,
        -float(excess[method]["excess"]),
        error,
        -t * float(law["excess"]),
    )
sampling.energy({"Langevin PC": excess["Langevin PC"]})

# %% [markdown]
# **Gradient.** $|g|^2$ goes to 0, or to $\sum_i \lambda_i/(1-\gamma\lambda_i/2)$: a plateau above zero is the
# right sign of a sampler.

# %%
trace_of = {"vanilla PC": 0.0, "Langevin PC": float((eigenvalues / (1 - GAMMA * eigenvalues / 2)).sum())}
plateaus = {}
for method, t in TEMPERATURE.items():
    norm = traces[method]["gradient_norm"].sel(step=slice(0, None))
    plateaus[method] = progress.gradient_plateau(norm, after=1000, curvature_trace=trace_of[method])
    error = float(plateaus[method]["plateau_error"]) if t else 0.0
    note("|∂U/∂z|² (nat²)", method, float(plateaus[method]["plateau"]), error, trace_of[method])
fast_slow.gradient_plateau({m: found.sel(step=slice(0, 300)) for m, found in plateaus.items()})

# %% [markdown]
# **Variance across chains.** Before the stimulus Langevin PC draws from its prior, and after it from the
# posterior; chains of vanilla PC fall silent at the prior's mean and then all go to one point. Shown is the
# first unit of the middle level.

# %%
for method, t in TEMPERATURE.items():
    for phase, steps, precision in (("before", slice(-200, -1), prior), ("after", late, posterior)):
        value = both(method, "value", steps)
        chains = value.sizes["chain"]
        found = averages.moments_with_error((value - value.mean("chain")) * np.sqrt(chains / (chains - 1)))
        error = float(np.sqrt((found["variance_error"] ** 2).sum()) / 4) if t else 0.0
        expected = t * np.diag(stationary(precision))[:4].mean()
        note(
            f"variance across chains {phase} the stimulus",
            method,
            float(found["variance"].mean()),
            error,
            expected,
        )
courses = {
    m: quenching.across_chain_variance(
        traces[m]["z1"]["value"].isel(image=0, unit=0).sel(step=slice(-100, 100))
    )
    for m in TEMPERATURE
}
variability.quenching(courses)

# %% [markdown]
# ## Learning
#
# **A weight** (Oliviers, Bogacz and Meulemans 2024). One latent $z \sim \mathcal N(0, 1)$, one unit $y \sim
# \mathcal N(Wz, 1)$, data of second moment $s = 5$, plain gradient descent at rate $\eta = .05$. At $T = 1$
# the weight ends at 2 (at $\lambda = W^2+1 = s/(1+\gamma s/2)$ with a step of $\gamma = .02$, so at 1.940).
# Without noise it never stops: $\dot W = \eta s W/(1+W^2)^2$, which grows as $(4 s \eta t)^{1/4}$.

# %%
WEIGHT = "../../studies/mcpc_linear_1d_learning.yaml"


def weight(t, updates, seed=0):
    """The weight after so many updates at temperature t."""
    keys = (f"inference.kernel.temperature={t}", f"learning.updates={updates}", f"seed={seed}")
    return float(pcsim.run(WEIGHT, *keys, "record=null", "figures=[]").params["z->y.0.weight"])


def resting(updates, s=5.0, rate=0.05, start=1.5):
    """The weight of vanilla PC with its latent at rest at every update."""
    for _ in range(updates):
        start += rate * s * start / (1 + start**2) ** 2
    return start


ends = np.array([weight(1, 1000, seed) for seed in range(4)])
note("weight after 1,000 updates", "Langevin PC", ends.mean(), ends.std(ddof=1) / 2, np.sqrt(5 / 1.05 - 1))
growth = pd.DataFrame(
    [(n, weight(0, n), resting(n), (4 * 5 * 0.05 * n) ** 0.25) for n in (100, 1000, 4000)],
    columns=["updates", "measured", "latent at rest", "(4sηt)^¼"],
)
growth.style.hide(axis="index").format(precision=3)

# %% [markdown]
# The chain follows the moving minimum with a small lag, so that the weight of vanilla PC stays within a
# percent of the recursion; the power law is its limit.

# %%
assert (abs(growth["measured"] / growth["latent at rest"] - 1) < 0.02).all()
table["weight after 1,000 updates", "vanilla PC"] = {
    "measured": growth["measured"][1],
    "± s.e.": np.nan,
    "expected": growth["latent at rest"][1],
}

# %% [markdown]
# **A variance.** $z \sim \mathcal N(0, \Sigma)$, $x \sim \mathcal N(z, 1)$, and $\Sigma$ is learnt; the truth
# for $s = 5$ is 4. Without noise $\Sigma$ ends at $(s - 2 + \sqrt{s^2-4s})/2 = 2.618$, and at 0 as soon as $s
# < 4$.

# %%
VARIANCE = "../../studies/notebook_learnt_variance.yaml"


def learnt(t, s, updates, seed=0):
    """Σ after so many updates at temperature t, with data of second moment s."""
    keys = (
        f"inference.kernel.temperature={t}",
        f"clamp.x=[{s**0.5}]",
        f"learning.updates={updates}",
        f"seed={seed}",
    )
    run = pcsim.run(VARIANCE, *keys, "record.steps=1")
    return float(np.exp(-float(run.params["z.log_precision"])))


def fixed_point(variance, s=5.0, step_size=0.02):
    """Zero at the Σ where learning stops: E z² = Σ under the chain, with what its step size adds."""
    rate = 1 + 1 / variance
    return s / rate**2 + 1 / (rate * (1 - step_size * rate / 2)) - variance


ends = np.array([learnt(1, 5.0, 400, seed) for seed in range(4)])
note("learnt variance, s = 5", "Langevin PC", ends.mean(), ends.std(ddof=1) / 2, brentq(fixed_point, 1, 10))
note("learnt variance, s = 5", "vanilla PC", learnt(0, 5.0, 400), 0.0, (3 + 5**0.5) / 2)
fall = [learnt(0, 3.0, updates) for updates in (1, 50, 100, 150)]
print("s = 3, vanilla PC, after 1, 50, 100, 150 updates:", np.round(fall, 3))
assert fall[-1] < 0.03
table["learnt variance, s = 3", "vanilla PC"] = {"measured": fall[-1], "± s.e.": np.nan, "expected": 0.0}

# %% [markdown]
# ## Two percepts
#
# Two images compete; the energy has a minimum for each percept and a barrier of 1.5 between them. Vanilla PC
# stays where it started. Langevin PC switches, with a mean dominance of 0.88 units of time (by the chain's
# own transition matrix on a grid). The switch is close to memoryless: durations are near exponential (CV 1),
# unlike people's, whose CV is about one half.

# %%
dwells, switches = {}, {}
for method, t in TEMPERATURE.items():
    keys = (f"inference.kernel.temperature={t}", "record.probes=[{read: value, nodes: [v]}]", "figures=[]")
    run = pcsim.run("../../studies/rivalry_langevin.yaml", *keys)
    value = run.trace["v"]["value"].isel(image=0).sel(step=slice(0, None))
    state = modes.dominant_state(value.isel(unit=0) - value.isel(unit=1), low=-0.35, high=0.35)
    dwells[method] = modes.dwell_times(state, step_time=0.001)
    switches[method] = int((dwells[method]["censored"] == "").sum())
print("complete dominance durations:", switches)
note("rivalry: complete dominance durations", "vanilla PC", switches["vanilla PC"], 0.0, 0)

found = modes.mean_dwell(dwells["Langevin PC"])
mean, error = float(found["mean"].mean()), float(np.sqrt((found["standard_error"] ** 2).sum()) / 2)
note("rivalry: mean dominance (units of time)", "Langevin PC", mean, error, 0.88)
law = rivalry.rivalry_statistics(dwells["Langevin PC"])
print(
    f"CV {float(law['cv'].mean()):.2f},",
    f"serial correlation {float(law['serial_correlation']):+.3f} ± {float(law['serial_error']):.3f}",
)
multistability.dwell_survival(
    {"Langevin PC": modes.dwell_survival(dwells["Langevin PC"])}, {"theory": 0.88}, unit="unit of time"
)

# %% [markdown]
# ## The table
#
# Standard errors of averages over chains and steps count effective draws; those of learnt parameters are over four
# seeds. An entry without one has no noise in it (vanilla PC is deterministic but for its start). Every entry is
# checked in this notebook: within four standard errors, or to 0.1 % where there is no noise; the weight that grows to
# 2 %, and the variance that falls to 0 to be below 0.03 after 150 updates.

# %%
rows = {}
for (what, method), entry in table.items():
    error = "" if not entry["± s.e."] > 0 else f" ± {entry['± s.e.']:.3f}"
    rows.setdefault(what, {})[method, "measured"] = f"{entry['measured'] + 0.0:.3f}{error}"
    rows[what][method, "expected"] = f"{entry['expected'] + 0.0:.3f}"
columns = pd.MultiIndex.from_product([TEMPERATURE, ("measured", "expected")])
pd.DataFrame.from_dict(rows, orient="index").reindex(columns=columns).fillna("")
