"""How good a trained circuit is: log-likelihood estimates, bounds, reconstructions, pictures."""

from collections.abc import Callable
from typing import Any

from pcsim.evaluation.ais import Annealing, LogLikelihood, annealed_log_likelihood
from pcsim.evaluation.bidirectional import Bidirectional, bidirectional
from pcsim.evaluation.bounds import Elbo, Iwae, elbo, iwae
from pcsim.evaluation.reconstruction import Chain, Reconstruction, grey_levels, reconstruct, sample_images

LOG_LIKELIHOODS: dict[str, Callable[..., Any]] = {
    "ais": annealed_log_likelihood,
    "elbo": elbo,
    "iwae": iwae,
}
"""Estimates of log p(x) by the name that a study gives: f(program, params, values, rng, …, masks=…)."""

__all__ = [
    "LOG_LIKELIHOODS",
    "annealed_log_likelihood",
    "Annealing",
    "LogLikelihood",
    "elbo",
    "Elbo",
    "iwae",
    "Iwae",
    "bidirectional",
    "Bidirectional",
    "reconstruct",
    "Chain",
    "Reconstruction",
    "sample_images",
    "grey_levels",
]
