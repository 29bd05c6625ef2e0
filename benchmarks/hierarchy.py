"""(b) 300 steps of the 40-256-256-784 tanh hierarchy against a hand-written torch loop.

The loop is what a careful user writes for this one net: local messages in closed form, out of place, no
autograd. Both end in the same state (asserted). pcsim runs twice, as bare steps and with the divergence guard
of `run_chain`; Langevin adds the noise.
"""

import torch
from common import arguments, interleave, ratio, report, shown
from torch import Tensor

from pcsim.inference.chain import run_chain
from pcsim.inference.kernels import langevin
from pcsim.inference.rng import seed_stream
from pcsim.study.bench import Case, hierarchy

STEPS, STEP_SIZE = 300, 0.05


@torch.no_grad()
def by_hand(case: Case, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The competitor."""
    w1, b1, w2, b2, w3, b3 = (
        case.params[f"{edge}.1.{name}"]
        for edge in ("z0->z1", "z1->z2", "z2->x")
        for name in ("weight", "bias")
    )
    z0, z1, z2 = case.start["z0"], case.start["z1"], case.start["z2"]
    for _ in range(STEPS):
        a0, a1, a2 = torch.tanh(z0), torch.tanh(z1), torch.tanh(z2)
        e1 = z1 - torch.addmm(b1, a0, w1.t())
        e2 = z2 - torch.addmm(b2, a1, w2.t())
        ex = x - torch.addmm(b3, a2, w3.t())
        z0 = z0 - STEP_SIZE * (z0 - (1 - a0 * a0) * (e1 @ w1))
        z1 = z1 - STEP_SIZE * (e1 - (1 - a1 * a1) * (e2 @ w2))
        z2 = z2 - STEP_SIZE * (e2 - (1 - a2 * a2) * (ex @ w3))
    return z0, z1, z2


@torch.no_grad()
def bare(case: Case) -> dict[str, Tensor]:
    """pcsim: the kernel's own steps, energy never asked for."""
    rng = seed_stream(0, "bench")
    state = case.kernel.init(case.target, rng, case.start)
    for _ in range(STEPS):
        state, _ = case.kernel.step(case.target, rng, state)
    return state.position


def guarded(case: Case) -> dict[str, Tensor]:
    """pcsim: `run_chain`, which checks for divergence every 25 steps."""
    return run_chain(case.kernel, case.target, seed_stream(0, "bench"), case.start, STEPS).position


def main() -> None:
    """Times the competitors, interleaved, and reports ratios of medians."""
    given = arguments(__doc__.splitlines()[0], repetitions=25)
    vanilla = hierarchy("cpu", 0.0)
    noisy = vanilla._replace(kernel=langevin(STEP_SIZE))
    x = vanilla.target.held["x"]
    for mine, other in zip(bare(vanilla).values(), by_hand(vanilla, x), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-4)  # rounding of 300 float32 steps
    race = interleave(
        {
            "by hand": lambda: by_hand(vanilla, x),
            "vanilla": lambda: bare(vanilla),
            "vanilla, guarded": lambda: guarded(vanilla),
            "langevin": lambda: bare(noisy),
            "langevin, guarded": lambda: guarded(noisy),
        },
        given.repetitions,
        STEPS,
        given.patience,
    )
    times = race.times
    rows = {"repetitions": race.conditions}
    rows |= {f"{name}, ms per step": f"{timing.milliseconds():.3f}" for name, timing in times.items()}
    compared = {
        "vanilla / by hand": (ratio(times["vanilla"], times["by hand"]), 1.1),
        "vanilla, guarded / by hand": (ratio(times["vanilla, guarded"], times["by hand"]), 1.1),
        "langevin / vanilla": (ratio(times["langevin"], times["vanilla"]), 1.3),
        "langevin, guarded / vanilla, guarded": (
            ratio(times["langevin, guarded"], times["vanilla, guarded"]),
            1.3,
        ),
    }
    rows |= {name: shown(value, target) for name, (value, target) in compared.items()}
    report("hierarchy", rows, given, seconds={name: t.seconds for name, t in times.items()})


if __name__ == "__main__":
    main()
