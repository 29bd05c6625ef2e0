"""(a) One Langevin step with parameter gradient of the 64-pixel model against plain eager-autograd loops.

The competitors are what one writes first: `nn.Sequential`, the energy as a function, `energy.sum().backward()`
for the gradients of states and parameters at once (`.grad` sums over steps, as learning needs it), an update
with noise. `exact` has the discretised Gaussian through `log_ndtr`, in the lower tail on both sides, exact at
any distance; `clamped` has the usual difference of two `ndtr`, clamped at 1e-12, whose gradient vanishes in
the tails. All work on the same images, weights and start; energy and gradients agree (asserted).
"""

import argparse
import math
from collections.abc import Callable

import torch
from common import ROOT, Ratio, arguments, faces, interleave, ratio, report, shown
from torch import Tensor, nn
from torch.special import log_ndtr, ndtr

from pcsim.circuit.read import load_circuit
from pcsim.inference.kernels import langevin
from pcsim.inference.rng import seed_stream
from pcsim.learning.draws import Draws, expectation
from pcsim.study.bench import BATCH, Case, images_64

HALF_BIN = 1 / 255
STEP_SIZE = 1e-4
Likelihood = Callable[[Tensor, Tensor, Tensor], Tensor]


def exact(x: Tensor, mu: Tensor, sigma: Tensor) -> Tensor:
    """log P(x | μ) by log-difference of tails; P is even in d = x − μ, and the outer bins are open."""
    d = x - mu
    edge = x.abs() > 1 - HALF_BIN
    upper = log_ndtr((HALF_BIN - torch.where(edge, d * x, d.abs())) / sigma)
    lower = log_ndtr((-HALF_BIN - d.abs()) / sigma)
    inner = upper + torch.log(-torch.expm1(torch.where(edge, -1.0, lower - upper)))
    return torch.where(edge, upper, inner)


def clamped(x: Tensor, mu: Tensor, sigma: Tensor) -> Tensor:
    """log P(x | μ) by a clamped difference."""
    above, below = ndtr((x + HALF_BIN - mu) / sigma), ndtr((x - HALF_BIN - mu) / sigma)
    above = torch.where(x > 1 - HALF_BIN, 1.0, above)
    below = torch.where(x < HALF_BIN - 1, 0.0, below)
    return torch.log((above - below).clamp(min=1e-12))


class Loop:
    """A plain autograd loop on the weights, images and start of a `Case`."""

    def __init__(self, case: Case, likelihood: Likelihood) -> None:
        layers: list[nn.Module] = [nn.Linear(40, 256), nn.SiLU(), nn.Unflatten(1, (256, 1, 1))]
        layers += [nn.ConvTranspose2d(256, 64, 4)]
        for before, after in ((64, 64), (64, 32), (32, 32), (32, 3)):
            layers += [nn.SiLU(), nn.ConvTranspose2d(before, after, 4, 2, 1)]
        self.generator = nn.Sequential(*layers)
        named = self.generator.state_dict()
        self.generator.load_state_dict({name: case.params[f"z->x.{name}"] for name in named})
        self.log_scale = nn.Parameter(case.params["x.log_scale"].clone())
        self.x, self.z = case.target.held["x"], case.start["z"].clone()
        self.likelihood = likelihood
        self.noise = torch.Generator().manual_seed(0)

    def energy(self, z: Tensor) -> Tensor:
        """U per image."""
        sigma = HALF_BIN + self.log_scale.exp()
        log_likelihood = self.likelihood(self.x, self.generator(z), sigma).flatten(1).sum(1)
        return 0.5 * (z * z + math.log(2 * math.pi)).sum(1) - log_likelihood

    def steps(self, n: int) -> None:
        """n Langevin steps; parameter gradients add up in `.grad`."""
        for _ in range(n):
            z = self.z.requires_grad_()
            self.energy(z).sum().backward()
            with torch.no_grad():
                noise = torch.randn(z.shape, generator=self.noise)
                self.z = z - STEP_SIZE * z.grad + math.sqrt(2 * STEP_SIZE) * noise


class Package:
    """pcsim: the kernel's step on a learning target, gradients added up as the learner does."""

    def __init__(self, case: Case) -> None:
        self.target, self.rng = case.target.learning(True), seed_stream(0, "bench")
        self.kernel = langevin(STEP_SIZE)
        self.state = self.kernel.init(self.target, self.rng, case.start)
        self.sums = {name: g.clone() for name, g in self.state.point.aux.gradient.items()}

    @torch.no_grad()
    def steps(self, n: int) -> None:
        """n Langevin steps with the parameter gradient of each."""
        for _ in range(n):
            self.state, _ = self.kernel.step(self.target, self.rng, self.state)
            for name, value in self.state.point.aux.gradient.items():
                self.sums[name] += value


def check_agreement(case: Case, loop: Loop) -> None:
    """Energy, state gradient and parameter gradients of both, to rounding in float32."""
    point = case.target.learning(True).evaluate(case.start, True)
    z = case.start["z"].clone().requires_grad_()
    energy = loop.energy(z)
    energy.sum().backward()
    torch.testing.assert_close(point.energy, energy, rtol=1e-4, atol=0)
    pairs = [(point.grad["z"], z.grad), (point.aux.gradient["x.log_scale"], loop.log_scale.grad)]
    pairs += [(point.aux.gradient[f"z->x.{name}"], p.grad) for name, p in loop.generator.named_parameters()]
    for mine, other in pairs:
        assert (
            float((mine - other).norm() / other.norm()) < 2e-2
        )  # float32 loses digits in log(Φ − Φ), not in ours
    loop.generator.zero_grad()
    loop.log_scale.grad = None


def main() -> None:
    """Times the three at the initial scale .3 and at .1, where training takes it."""
    given = arguments(__doc__.splitlines()[0], repetitions=15, steps=3, learner_steps=20)
    pixels, source = faces(BATCH)
    rows = {"images": f"{source}; {float(((pixels == 0) | (pixels == 255)).float().mean()):.1%} at 0 or 255"}
    kept = {}
    for scale in (0.3, 0.1):
        case = images_64(pixels, load_circuit(ROOT / "circuits" / "lpc_conv_64.yaml"))
        case.params["x.log_scale"].fill_(math.log(scale - HALF_BIN))
        loops = {"exact": Loop(case, exact), "clamped": Loop(case, clamped), "pcsim": Package(case)}
        check_agreement(case, loops["exact"])
        works = {name: lambda loop=loop: loop.steps(given.steps) for name, loop in loops.items()}
        race = interleave(works, given.repetitions, given.steps, given.patience)
        times = race.times
        rows[f"σ = {scale}: repetitions"] = race.conditions
        rows |= {f"σ = {scale}: {name}, ms per step": f"{t.milliseconds():.1f}" for name, t in times.items()}
        rows[f"σ = {scale}: pcsim / exact"] = shown(ratio(times["pcsim"], times["exact"]), 0.65)
        rows[f"σ = {scale}: pcsim / clamped"] = shown(ratio(times["pcsim"], times["clamped"]))
        kept[f"seconds_{scale}"] = {name: t.seconds for name, t in times.items()}
    rows["σ = 0.1: learner, whole batch / exact"] = shown(_learner(case, given))
    report("image_step", rows, given, **kept)


def _learner(case: Case, given: argparse.Namespace) -> Ratio:
    """The learner's own call for a batch (first evaluation and guard included) against as many plain steps."""
    loop, n = Loop(case, exact), given.learner_steps
    kernel = langevin(STEP_SIZE)

    @torch.no_grad()
    def learn() -> None:
        expectation(kernel, case.target, seed_stream(0, "bench"), case.start, n, Draws(), moments=True)

    race = interleave(
        {"learn": learn, "loop": lambda: loop.steps(n)}, max(3, given.repetitions // 3), n, given.patience
    )
    return ratio(race.times["learn"], race.times["loop"])


if __name__ == "__main__":
    main()
