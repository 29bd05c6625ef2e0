"""Where a run computes."""

import re

import torch

from pcsim.errors import StudyError, nearest


def device_of(name: str) -> torch.device:
    """`auto` is cuda where there is one; a device that is not there is an error, never a fallback.

    Convolutions and products are set to full float32 and to algorithms that give the same bits every time:
    the ten bits of TF32 would be seen by a likelihood whose σ is near 1/255.
    """
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise StudyError(f"no device {name!r}; {nearest(name, ('auto', 'cpu', 'cuda', 'cuda:1'))}")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as failure:
        raise StudyError(f"device {name!r} cannot be used here: {str(failure).splitlines()[0]}") from failure
    return device
