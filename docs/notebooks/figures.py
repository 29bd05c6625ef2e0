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
# # Every figure once
#
# All figures of `pcsim.figures` that show an analysis, each with the call that draws it, from short runs: a
# look-up table, not a study. A figure takes results, never a run; where a result must not be read, the figure
# says so in red. Many of the runs here are too short on purpose.

# %% tags=["hide-input"]
# %load_ext pcsim.figures.notebook
import numpy as np
import xarray as xr

import pcsim
from pcsim.analysis import (
    attention,
    convergence,
    correlations,
    counts,
    covariance,
    decoding,
    deviance,
    divergence,
    energy,
    equilibrium,
    fast_slow,
    fluctuation,
    gaps,
    irreversibility,
    latency,
    masking,
    modes,
    progress,
    quenching,
    rivalry,
    solution_times,
    spectra,
    spontaneous,
    temperature,
    timescales,
    trajectories,
    warm_up,
)
from pcsim.analysis.readout import Readout
from pcsim.figures import decoding as decoding_figures
from pcsim.figures import deviance as deviance_figures
from pcsim.figures import fast_slow as fast_slow_figures
from pcsim.figures import multistability, recurrence, registry, sampling, trajectory_nulls, variability
from pcsim.figures import timescales as timescale_figures
from pcsim.figures.run_view import view

# %% [markdown]
# ## The runs
#
# `digits`: the study of the other notebooks, at $T = 1$ and $T = 0$. `chain`: three linear-Gaussian levels.
# `sweep`: two correlated latents with an untrained encoder, whose posterior is known.

# %%
DIGITS = "../../studies/notebook_digits.yaml"
COLD = (
    "inference.kernel.temperature=0",
    "inference.start=prior",
    "learning.draws=final",
    "learning.encoder.objective=none",
)
EVALUATED = (
    "evaluation={reconstruction: {images: 20}, samples: 64, at_updates: [100, 200, last], "
    "log_likelihood: {images: 20, particles: 4, temperatures: 50}}"
)
SMALL = ("record.images=20", EVALUATED)
runs = {"LPC": pcsim.run(DIGITS, *SMALL), "PC": pcsim.run(DIGITS, *COLD, *SMALL)}
views = [view(run.directory.path) for run in runs.values()]
trace = {name: run.trace for name, run in runs.items()}
late = trace["LPC"]["z"].to_dataset().sel(step=slice(250, None)).load()

PROBES = (pcsim.Probe(("value", "drift", "error")), pcsim.Probe(("energy",)), pcsim.Probe(("gradient_norm",)))
GAMMA = 0.05
CHAIN = "../../circuits/linear_gaussian_chain.yaml"


def linear(t, steps=1500):
    """The middle level of three, at temperature t."""
    x = {"x": [[1.0, -0.5, 0.5]]}
    return pcsim.sample(CHAIN, x, pcsim.langevin(GAMMA, t), steps, chains=64, spontaneous=1500, probes=PROBES)


chain = {t: linear(t) for t in (0.0, 0.5, 1.0)}
z1 = {t: one["z1"].to_dataset().isel(image=0).sel(step=slice(200, None)) for t, one in chain.items()}

PRECISION = np.array([[10.0, -9.0], [-9.0, 10.0]])
pictures = np.linspace(-6, 6, 12)[:, None]
sweep = pcsim.sample(
    "../../circuits/lingauss_amortised.yaml",
    pictures,
    pcsim.langevin(0.03),
    300,
    chains=64,
    spontaneous=100,
    start="encoder",
    probes=PROBES,
)
posterior = xr.Dataset(
    {
        "mean": (("image", "unit"), pictures * np.array([3.0, -3.0]) / 19),
        "covariance": (("unit", "unit_2"), np.linalg.inv(PRECISION)),
    },
    coords={"image": np.arange(12)},
)
z = sweep["z"]["value"]
mean, scale = sweep["encoder/z"]["mean"], sweep["encoder/z"]["scale"]

# %% [markdown]
# ## Is the noise sampling?

# %%
found = {t: temperature.virial_temperature(one["value"], one["drift"], GAMMA, t) for t, one in z1.items()}
sampling.virial_temperature({"vanilla PC": found[0.0], "Langevin PC": found[1.0]})

# %%
evoked = chain[1.0]["energy"].sel(step=slice(200, None))
sampling.energy({"LPC": energy.energy_statistics(evoked, chain[1.0]["energy_minimum"], free_units=4)})

# %%
sampling.covariance(
    covariance.covariance_against(z.isel(image=0).sel(step=slice(100, None)), np.linalg.inv(PRECISION))
)

# %%
values, drifts = ({t: one[name] for t, one in z1.items()} for name in ("value", "drift"))
sampling.temperature_ablation(temperature.temperature_ablation(values, drifts, GAMMA))

# %%
sampling.irreversibility(irreversibility.irreversibility(z1[1.0]["value"]))

# %% [markdown]
# ## How chains move in time

# %%
value = z1[1.0]["value"]
rho = convergence.autocorrelation(value, lags=100)
timescale_figures.autocorrelation({"LPC": rho}, {"LPC": convergence.effective_sample_size(value)})

# %%
lone = pcsim.sample(
    "../../circuits/mcpc_linear_1d.yaml",
    {"y": [[1.0]]},
    pcsim.langevin(0.02),
    6000,
    chains=32,
    probes=PROBES[:1],
)["z"]["value"].isel(image=0)
found = spectra.power_spectrum(lone.sel(step=slice(200, None)), interval=0.02)
references = {
    "OU, rate λ = 5": spectra.ou_spectrum(found["frequency"], 5.0),
    "its Langevin step": spectra.langevin_spectrum(found["frequency"], 5.0, 0.02),
}
timescale_figures.spectrum({"LPC": found}, references, per="unit of time")

# %%
phase = chain[1.0]["phase"]
both = {name: chain[1.0][name]["value"].isel(image=0).assign_coords(phase=phase) for name in ("z1", "z2")}
levels = {name: timescales.timescales_by_phase(one, lags=200) for name, one in both.items()}
timescale_figures.timescales(levels)

# %%
timescale_figures.murray_fit(
    timescales.intrinsic_timescale(timescales.trial_autocorrelation(value, lags=100))
)

# %%
# the same draws twice, once with another stimulus from step 0 on: a push of W · 0.5 = 1 on z
held = {"show": {"y": [1.0]}, "steps": 300, "onset": "none"}
answers = [
    pcsim.sample(
        "../../circuits/mcpc_linear_1d.yaml",
        {"y": [[1.0]]},
        pcsim.langevin(0.02),
        chains=64,
        probes=PROBES[:1],
        stimulus=[held, {"show": {"y": [y]}, "steps": 60, "onset": "none"}],
    )["z"]["value"].isel(image=0)
    for y in (1.0, 1.5)
]
moved = (answers[1] - answers[0]).mean("chain").isel(step=slice(-61, None))
predicted = fluctuation.response(lone, 1.0, 0.02, lags=61)
measured = moved.rename(step="lag").assign_coords(lag=predicted["lag"].to_numpy())
timescale_figures.effective_temperature(
    fluctuation.effective_temperature(predicted, measured), 1.0, time="unit of time"
)

# %% [markdown]
# ## Variability

# %%
onset = {
    name: chain[t]["z1"]["value"].isel(image=0, unit=0).sel(step=slice(-60, 100))
    for name, t in (("vanilla PC", 0.0), ("Langevin PC", 1.0))
}
courses = {name: quenching.across_chain_variance(one) for name, one in onset.items()}
variability.quenching(courses, {"Langevin PC": quenching.quenching(onset["Langevin PC"])})

# %%
rate = counts.softplus_rate(trace["LPC"]["z"]["value"], gain=20.0)
spikes = counts.poisson_counts(rate, window=50, step_time=0.002, seed=0)
variability.fano({"LPC": counts.mean_matched_fano(spikes, seed=0)})

# %%
noise, signal = correlations.noise_correlation(late["value"]), correlations.signal_correlation(late["value"])
variability.correlation_matrix(noise)

# %%
variability.correlation_agreement(
    {"LPC": correlations.correlation_agreement(signal["correlation"], noise["correlation"], seed=0)}
)

# %%
variability.contrast(
    correlations.gsm_posterior(np.linspace(0, 4, 41), np.array([[1, 0.6], [0.6, 1]]), np.eye(2), 1.0)
)

# %%
silent = trace["LPC"]["z"]["value"].sel(step=slice(None, -1))
thin = [spontaneous.thinned(part) for part in (late["value"], silent)]
variability.spontaneous_evoked(
    {e: spontaneous.spontaneous_divergence(*thin, e) for e in ("gaussian", "words", "classifier")}
)

# %% [markdown]
# ## Modes and switching

# %%
bistable = pcsim.run("../../studies/square_bimodal.yaml", "figures=[]").trace["z"]["value"].isel(image=0)
label = modes.nearest_mode(bistable, [[-1.3229], [1.3229]])
multistability.occupancy({"LPC": modes.mode_occupancy(label, [0.5, 0.5])}, ["−1.32", "1.32"])

# %%
state = modes.dominant_state(bistable.isel(unit=0), -1.0, 1.0)
survival = modes.dwell_survival(modes.dwell_times(state, step_time=0.05))
multistability.dwell_survival({"LPC": survival}, {"theory": 15.57}, unit="unit of time")

# %%
dwells = {}
for contrast in (0.8, 1.0, 1.2):
    keys = (f"clamp.c=[{contrast}, {contrast}]", "figures=[]", "record.probes=[{read: value, nodes: [v]}]")
    v = (
        pcsim.run("../../studies/rivalry_langevin.yaml", *keys)
        .trace["v"]["value"]
        .isel(image=0)
        .sel(step=slice(0, None))
    )
    dwells[contrast] = modes.dwell_times(
        modes.dominant_state(v.isel(unit=0) - v.isel(unit=1), -0.35, 0.35), step_time=0.001
    )
multistability.rivalry(
    {"LPC": dwells[1.0]}, {"LPC": rivalry.rivalry_statistics(dwells[1.0])}, unit="unit of time"
)

# %%
multistability.levelt(rivalry.levelt(dwells), ("right eye", "left eye"))

# %% [markdown]
# ## Error units and attention

# %%
odd = pcsim.run("../../studies/oddball_omission.yaml", "figures=[]").trace
error = odd["x"]["error"].isel(image=0, unit=0)
onsets = np.arange(0, error.sizes["step"] - 1, 100)
deviance_figures.populations(
    deviance.error_populations(error.isel(chain=0)), onsets, omitted=[int(onsets[-1])]
)

# %%
amplitude = deviance.response_amplitude(error, onsets, (50, 100))
decay = deviance.standard_decay(amplitude.isel(onset=slice(0, 10)))
deviance_figures.standard_decay({"vanilla PC": decay})

# %%
rng = np.random.default_rng(0)  # noise on the responses, for errors to show
noisy = amplitude.isel(chain=0, drop=True).drop_vars("onset").expand_dims(chain=40)
noisy = noisy + 0.1 * xr.DataArray(rng.standard_normal(noisy.shape), dims=noisy.dims)
deviance_figures.mismatch(
    {
        "deviant against first standard": deviance.mismatch_index(noisy.isel(onset=10), noisy.isel(onset=0)),
        "standard against standard": deviance.mismatch_index(noisy.isel(onset=8), noisy.isel(onset=9)),
    }
)

# %%
cued = pcsim.run("../../studies/posner_precision.yaml", "figures=[]").trace["v"]["value"].isel(image=0)
nodes = {
    name: attention.LinearNode(p, 1.0) for name, p in (("valid", 4.0), ("neutral", 2.0), ("invalid", 1.0))
}
time = {"step": cued["step"] * 0.01}
courses = {name: cued.isel(unit=i).mean("chain").assign_coords(time) for i, name in enumerate(nodes)}
times = {name: attention.response_time(course, 0.4) for name, course in courses.items()}
theory = {name: node.response_time(1.0, 0.4) for name, node in nodes.items()}
deviance_figures.response_times(courses, times, 0.4, theory, xlabel="unit of time")

# %%
stimuli = np.array([[0.0], [1.0], [2.0]]) * np.ones(3)
rest = pcsim.sample(
    "../../circuits/posner_precision.yaml",
    {"x": stimuli},
    pcsim.langevin(0.01),
    600,
    chains=400,
    probes=PROBES,
)
x = xr.DataArray(stimuli[:, 0], dims="image")
late_mean = rest["v"]["value"].sel(step=slice(300, None)).mean(("chain", "step"))
means = {name: late_mean.isel(unit=i, drop=True) for i, name in enumerate(nodes)}
deviance_figures.gain({name: attention.gain(one, x) for name, one in means.items()}, means, x)

# %% [markdown]
# ## The sweep and the chain

# %%
over_steps = divergence.divergence_over_steps(
    z.isel(image=[8]).sel(step=slice(0, 200)), posterior.isel(image=[8])
)
fast_slow_figures.divergences({"LPC": over_steps})

# %%
eigenvalues = np.linalg.eigvalsh(PRECISION)
line = progress.quadratic_line(sweep["energy_minimum"], 2, step_curvature=0.03 * eigenvalues)
fast_slow_figures.log_joint({"LPC": progress.log_joint_change(sweep["energy"], line)})

# %%
squared = progress.squared_gradient(sweep["z"]["drift"].sel(step=slice(0, None)))
fast_slow_figures.drift_to_noise({"LPC": progress.drift_to_noise(squared, 0.03, 2, after=100)})

# %%
norm = sweep["gradient_norm"].sel(step=slice(0, None))
curvature = float((eigenvalues / (1 - 0.03 * eigenvalues / 2)).sum())
fast_slow_figures.gradient_plateau({"LPC": progress.gradient_plateau(norm, 100, curvature)})

# %%
arrival = equilibrium.equilibrium_time(sweep["energy"], line, window=40)
difficulty = xr.Dataset({"energy_at_the_sweep": sweep["energy"].sel(step=0).mean("chain")})
recurrence.equilibrium_times(arrival, difficulty, equilibrium.difficulty_correlation(arrival, difficulty))

# %%
recurrence.gaps({"untrained encoder": gaps.gaussian_gaps(mean, scale, posterior)})

# %%
one = z.isel(image=8, unit=0).sel(step=slice(0, 100))
reference = float(posterior["mean"].isel(image=8, unit=0))
recurrence.warm_up({"LPC": warm_up.warm_up(one, reference, [0, 10, 20, 40, 60, 80])})

# %%
distance = -(((z - posterior["mean"]) ** 2).sum("unit"))
recurrence.fast_slow_index(
    {"LPC": fast_slow.fast_slow_index(fast_slow.stages(distance, slice(-50, -1), 150), 200, seed=0)}
)

# %%
values = {name: chain[1.0][name]["value"].sel(step=slice(-100, 150)) for name in ("z1", "z2")}
recurrence.latencies(latency.layer_latencies(values, permutations=99, seed=0))

# %%
path = trace["LPC"]["z"]["value"].isel(image=0)
plane = trajectories.trajectory_plane(path)
trajectory_nulls.trajectory_nulls(
    trajectories.explained_with_nulls(path, plane, settled=250, paths=30, seed=0)
)

# %%
two = {
    name: chain[t]["z1"]["value"].isel(image=0).sel(step=slice(0, 150))
    for name, t in (("PC", 0.0), ("LPC", 1.0))
}
plane = trajectories.trajectory_plane(two["PC"], origin="end")
trajectory_nulls.common_plane(
    {name: trajectories.project(one, plane).isel(chain=slice(0, 2)) for name, one in two.items()}
)

# %% [markdown]
# ## Decoding

# %%
many = pcsim.run(DIGITS).trace
code, label, readout = (
    many["z"]["value"].isel(chain=slice(0, 8)).sel(step=slice(0, None)),
    many["label"].load(),
    Readout(seed=0),
)
few = [0, 2, 5, 10, 20, 50, 100]
decoding_figures.decodability(
    {
        "LPC": decoding.decodability(code, label, readout, at=few),
        "encoder's mean": decoding.decodability(many["encoder/z"]["mean"], label, readout),
    }
)

# %%
decoding_figures.temporal_generalisation(decoding.temporal_generalisation(code, label, readout, at=few))

# %%
named = decoding.predicted_classes(code, label, readout, at=[0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48])
correct = (named == label).astype(float)
selection, test = solution_times.split_chains(correct, seed=0)
criteria = solution_times.Criteria(late=4, persist=2)
decoding_figures.solution_times(
    {
        "other chains": solution_times.solution_time_difference(selection, test, criteria, seed=0),
        "the same chains": solution_times.solution_time_difference(selection, selection, criteria, seed=0),
    }
)

# %%
pair = {
    "nodes": {
        "z": {"shape": [2], "distribution": "gaussian"},
        "x": {"shape": [2], "distribution": "gaussian"},
    },
    "edges": [{"from": "z", "to": "x", "layers": ["identity"]}],
}


def shown(*phases):
    """Mean state under a sequence of (stimulus, steps)."""
    stimulus = [{"show": {"x": list(x)}, "steps": n, "onset": "none"} for x, n in phases]
    probes, seed = (pcsim.Probe(("value",), ("z",)),), phases[0][1]
    seen = pcsim.sample(
        pair,
        {"x": [[0.0, 0.0]]},
        pcsim.langevin(0.05),
        chains=20_000,
        stimulus=stimulus,
        probes=probes,
        seed=seed,
    )
    return seen["z"]["value"].isel(image=0)


TARGET, MASK = (1.0, 0.0), (0.0, 1.0)
steady = [shown((x, 200)).isel(step=-1).mean("chain") for x in (TARGET, MASK)]
templates = xr.concat(steady, xr.Variable("stimulus", ["target", "mask"]))
soas = [2, 5, 10, 20, 40]
seen = xr.concat([shown((TARGET, n), (MASK, 100 - n)) for n in soas], xr.Variable("soa", soas))
course = masking.components(seen, templates, xr.zeros_like(templates.isel(stimulus=0, drop=True))).sel(
    stimulus="target"
)
n = xr.DataArray(soas, dims="soa", coords={"soa": soas})
decoding_figures.masking(
    {"LPC": masking.masking_curve(course, 10)}, {"LPC": masking.target_theory(0.9, n, 10)}
)

# %%
decoding_figures.component_course(course, over="soa")

# %% [markdown]
# ## Of whole runs
#
# These are drawn by name, from run directories: `figures:` in a study, or `pcsim figures RUN`.

# %%
registry.draw("samples", views)

# %%
registry.draw("reconstructions", views)

# %%
registry.draw("energy", views)

# %%
registry.draw("gradient_norm", views)

# %%
registry.draw("trajectories", views)

# %%
registry.draw("learning_curve", views)
