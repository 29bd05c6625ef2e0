"""A running network: start, clamp, steps with draws from an `Rng`, and what is read after each."""

from collections.abc import Callable, Mapping

import brian2
import numpy as np
import torch
from torch import Tensor

from pcsim.engines.brian2.build import assemble, code_target
from pcsim.engines.brian2.network import VISIT, Plan
from pcsim.engines.brian2.plasticity import learned_parameters
from pcsim.engines.brian2.targets import check_target
from pcsim.engines.brian2.unroll import Floats
from pcsim.engines.torch.target import Clamp
from pcsim.errors import Divergence, StudyError, pick
from pcsim.inference.chain import guard_due
from pcsim.inference.types import Rng

State = Mapping[str, Floats]
Visit = Callable[[int, State, State], None]
"""(step, values, errors), `[row, *shape]` each: views of what the network holds, to be copied by who keeps them."""

TARGETS = {"numpy": "numpy", "cython": "cython"}


class Simulation:
    """The network of one plan on the code targets `numpy` and `cython`; `standalone` has the compiled one.

    Draws are taken from the `Rng` step by step and node by node, as the torch engine's `langevin` takes
    them: the same stream, or a recorded one, gives the same trajectory to rounding. Nothing is kept between
    steps, so memory does not grow with them.
    """

    def __init__(self, plan: Plan, codegen: str = "numpy") -> None:
        self.plan = plan
        self.codegen = pick(TARGETS, codegen, "code target for a network that Python steps")
        check_target(codegen)
        with code_target(self.codegen):
            self.assembly = assemble(plan)
            self._operation = brian2.NetworkOperation(
                self._between, clock=self.assembly.clock, when="groups", order=VISIT, name="between"
            )
            self.assembly.network.add(self._operation)
        self._evaluation = self.assembly.evaluation()
        self._values = {n: self._view("value", n, "z") for n in plan.shapes}
        self._errors = {n: self._view("error", n, "eps") for n in plan.errors}
        driven = [g.name.removeprefix("value_") for g in plan.groups if "pull : 1" in g.lines]
        self._driven = {
            n: (self._view("value", n, "pulled_to"), self._view("value", n, "pull")) for n in driven
        }
        noisy = plan.drawing(Clamp({}, {}))
        self._noise = {n: torch.from_numpy(self._view(plan.noisy, n, "noise")) for n in noisy}
        self._rng: Rng | None = None
        self._visit: Visit | None = None
        self._step, self._steps = 0, 0
        self._stale, self._compiled, self._begun = True, False, False
        self.clamp(plan.clamp)

    @property
    def values(self) -> dict[str, Floats]:
        """The value of every node, `[row, *shape]`, as it stands (a view)."""
        return dict(self._values)

    @property
    def errors(self) -> dict[str, Floats]:
        """The error of every node at these values, `[row, *shape]` (a view)."""
        if self._stale:
            self.evaluate()
        return dict(self._errors)

    def clamp(self, clamp: Clamp) -> None:
        """Hold these values from now on; nodes of `plan.switched` that are absent are released.
        Every other absent node keeps its value (past nodes too).

        Released discrete nodes drop out of the errors. May be called from within a visit, so that a schedule
        of phases is one run (each `run` costs Brian2 some 0.3 s of preparation). Raises `StudyError` for a
        node that always moves.
        """
        for name, value in clamp.values.items():
            if name in self.plan.free and name not in self.plan.switched:
                raise StudyError(
                    f"clamp.{name}: this network was planned with {name} free; name it in `switched`"
                )
            held = clamp.masks.get(name)
            given = np.broadcast_to(_numpy(value), self._values[name].shape)
            if held is None:
                self._values[name][...] = given
            else:
                mask = np.broadcast_to(_numpy(held) > 0, given.shape)
                rest = self._values[name] if name in self.plan.free else 0.0
                self._values[name][...] = np.where(mask, given, rest)
        self._stale = True
        self._held = {n: self._holding(n, clamp) for n in self.plan.switched}
        self._moving, self._drawing = self.plan.moving(clamp), self.plan.drawing(clamp)
        self._begin()

    def _holding(self, name: str, clamp: Clamp) -> Floats:
        """Sets the entries of one switched node that are held."""
        mask: Floats | float = 0.0
        if name in clamp.values:
            mask = _numpy(clamp.masks[name]) if name in clamp.masks else 1.0
        where = "value" if name in self.plan.free else "error"
        held = self._view(where, name, "held")
        held[...] = mask
        return held

    def start(self, z: Mapping[str, Tensor]) -> None:
        """Put the free nodes at z, `[row, *shape]`; held entries keep their values. Works within a visit too."""
        for name in self._moving:
            given = np.broadcast_to(_numpy(z[name]), self._values[name].shape)
            held = self._held.get(name)
            self._values[name][...] = given if held is None else np.where(held > 0, self._values[name], given)
        self._stale = True
        self._begin()

    def _begin(self) -> None:
        """Until the first step, delayed predictions are of values that have always been what they are now."""
        if not self._begun:
            self.assembly.fill_past(self.plan)

    def learned(self, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """All parameters in torch's form, with what this network has learned; `params` are those it began with."""
        arrays = {place: self.assembly.parameter(place) for place in self.plan.learned}
        return learned_parameters(self.plan, arrays, params)

    def drive(self, pulls: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        """Pull these nodes towards `values` with `strength`, `[row, *shape]` each, from now on; the others no more.

        tau dz/dt gains strength · (value − z). Works within a visit too. Raises `StudyError` for a node that was
        not planned as `driven`.
        """
        for name in pulls:
            pick(self._driven, name, "node that was planned as driven")
        for name, (pulled_to, pull) in self._driven.items():
            value, strength = pulls.get(name, (torch.zeros(()), torch.zeros(())))
            pulled_to[...], pull[...] = _numpy(value), _numpy(strength)

    def evaluate(self) -> None:
        """Bring predictions and instantaneous errors up to date with the values; nothing moves."""
        if not self._compiled:
            self._network_run(0)
        for part in self._evaluation:
            part.run()
        self._stale = False

    def run(self, rng: Rng, steps: int, visit: Visit | None = None) -> None:
        """`steps` steps from here; `visit(step, values, errors)` for step 0 (now) to `steps`.

        Raises `Divergence` where a value is not finite.
        """
        self._rng, self._visit, self._step, self._steps = rng, visit, 0, steps
        self._network_run(steps)
        self.evaluate()
        self._after(steps)
        self._rng = self._visit = None

    def _network_run(self, steps: int) -> None:
        with code_target(self.codegen):
            self.assembly.network.run(steps * self.assembly.clock.dt, namespace={})
        self._compiled = True

    def _between(self) -> None:
        """In every step, once errors belong to the values: show what the last step led to, draw for the next."""
        self._compiled, self._stale = True, False  # this step has evaluated the errors itself
        self._after(self._step)
        if self._stale:  # the visitor changed values
            self.evaluate()
        self._step += 1
        self._begun = True
        if self._rng is not None:
            for name in self._drawing:
                noise = self._noise[name]
                noise.copy_(self._rng.normal(noise))

    def _after(self, step: int) -> None:
        if guard_due(step, self._steps):
            check_finite(step, self._values)
        if self._visit is not None:
            self._visit(step, self._values, self._errors)

    def _view(self, kind: str, node: str, variable: str) -> Floats:
        array = self.assembly.array(f"{kind}_{node}", variable)
        return array.reshape(self.plan.rows, *self.plan.shapes[node])


def check_finite(step: int, values: State) -> None:
    """Raise `Divergence` naming the first node that is not finite."""
    for name, value in values.items():
        if not np.isfinite(value).all():
            raise Divergence(
                step, name, float("nan"), "dt is too long for this circuit: a smaller dt, or a longer tau"
            )


def _numpy(value: Tensor) -> Floats:
    return value.detach().cpu().double().numpy()
