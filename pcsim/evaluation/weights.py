"""Means of importance weights on the log scale, along the last axis."""

import math

import torch
from torch import Tensor


def log_mean_exp(log_weight: Tensor) -> Tensor:
    """log (1/n) Σ exp(log_weight), stable."""
    return torch.logsumexp(log_weight, -1) - math.log(log_weight.shape[-1])


def effective_sample_size(log_weight: Tensor) -> Tensor:
    """(Σw)²/Σw², between 1 and n (Kong 1992)."""
    return torch.exp(2 * torch.logsumexp(log_weight, -1) - torch.logsumexp(2 * log_weight, -1))


def standard_error(log_weight: Tensor) -> Tensor:
    """Standard error of `log_mean_exp` by the delta method, sqrt((n/ESS − 1)/(n − 1)); infinite for n = 1.

    It is estimated from the same weights, so it is too small where one weight dominates.
    """
    return relative_error(effective_sample_size(log_weight), log_weight.shape[-1])


def relative_error(effective: Tensor, n: int) -> Tensor:
    """The standard error of a mean of n weights over that mean, from their effective sample size."""
    if n == 1:
        return torch.full_like(effective, math.inf)
    return ((n / effective - 1).clamp(min=0) / (n - 1)).sqrt()
