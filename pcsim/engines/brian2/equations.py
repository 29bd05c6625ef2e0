"""The Brian2 text of one value group, one error group, one hidden layer and one set of synapses.

Pure functions of text. Every option of the circuit that changes the dynamics changes them here, in one of
`value_lines`, `error_lines`, `layer_lines` and `synapse_lines`; nothing here knows of arrays or of Brian2.

Names inside the groups (p a parent, c a child of the node):

    value_<n>   z, eps (linked), back_<c> the message of c, rate_<c> = φ(z) where the edge starts with φ,
                noise (a standard normal draw per step), held (1 = clamped entry); with delays past_<k> (z, k steps
                ago), arriving_<c> the message as it sets out, came_<c>_<k> the same k steps ago
    error_<n>   z (linked), mu_<p> the share of p, bias_<p>, eta, eps, delta_<p> what goes back to p, held;
                whole, positive, negative with split populations, a with adaptation; noise; where the precision
                learns, sigma = 1/precision, and interneuron = sigma eps where errors are leaky
    layer_…     drive, bias, rate = φ(drive + bias), slope = φ'(drive + bias), back
"""

import re
from collections.abc import Collection
from typing import NamedTuple

from pcsim.circuit.distributions.base import LocalText
from pcsim.engines.brian2.unroll import Rate

STORED = "(constant over dt)"


class Outgoing(NamedTuple):
    """One edge as its parent sees it."""

    child: str
    rate: Rate
    """In `z`."""
    delay: int = 0
    """Steps, for the prediction and for the message."""

    @property
    def source(self) -> str:
        """What the prediction is made of, before φ."""
        return f"past_{self.delay}" if self.delay else "z"


class Incoming(NamedTuple):
    """One edge as its child sees it."""

    parent: str
    rate: Rate
    """In `(mu_<parent> + bias_<parent>)`, or in `mu_<parent>` without a bias."""
    bias: bool
    returns: bool
    """Whether somebody reads the error in front of φ: a parent that moves, or a synapse that learns."""


class Value(NamedTuple):
    """One value node's part in the dynamics."""

    outgoing: tuple[Outgoing, ...]
    own: str | None
    """∂E/∂z in `eps`; None where the node never moves."""
    noisy: bool
    switched: bool
    """Whether entries are held and released while the network exists."""
    driven: bool = False
    """Whether something outside the circuit may pull it, with force pull (pulled_to − z)."""


def value_lines(node: Value) -> list[str]:
    """tau dz/dt = −∂E/∂z + Σ_c φ'(z) back_c + sqrt(2 T tau) ξ, the noise piecewise constant over dt."""
    lines = [f"past_{k} : 1" for k in range(1, _longest(node) + 1)]
    for edge in node.outgoing:
        if not edge.rate.linear:
            lines.append(f"rate_{edge.child} = {_of(edge.rate.value, edge.source)} : 1 {STORED}")
    if node.own is None:
        return ["z : 1", *lines]
    terms = [f"-{node.own}"]
    for edge in node.outgoing:
        back = f"came_{edge.child}_{edge.delay}" if edge.delay else f"back_{edge.child}"
        terms.append(back if edge.rate.linear else f"({edge.rate.slope})*{back}")
        lines.append(f"{'arriving' if edge.delay else 'back'}_{edge.child} : 1")
        lines += [f"came_{edge.child}_{k} : 1" for k in range(1, edge.delay + 1)]
    if node.driven:
        terms.append("pull*(pulled_to - z)")
        lines += ["pull : 1", "pulled_to : 1"]
    motion = f"({' + '.join(terms)})/tau"
    if node.noisy:
        motion += " + sqrt(2*temperature/(tau*dt))*noise"
    if node.switched:
        motion = f"(1 - held)*({motion})"
        lines.append("held : 1")
    return [f"dz/dt = {motion} : 1", "eps : 1 (linked)", *lines]


def _of(text: str, source: str) -> str:
    return re.sub(r"\bz\b", source, text)


def _longest(node: Value) -> int:
    return max((edge.delay for edge in node.outgoing), default=0)


def shift_lines(node: Value) -> list[str]:
    """What is under way, one step on: the oldest first, so that nothing is overwritten before it is read."""
    lines = [f"past_{k} = {f'past_{k - 1}' if k > 1 else 'z'}" for k in range(_longest(node), 0, -1)]
    for edge in node.outgoing if node.own is not None else ():
        came = f"came_{edge.child}_"
        lines += [
            f"{came}{k} = {f'{came}{k - 1}' if k > 1 else f'arriving_{edge.child}'}"
            for k in range(edge.delay, 0, -1)
        ]
    return lines


class Error(NamedTuple):
    """One error node's part in the dynamics."""

    text: LocalText
    incoming: tuple[Incoming, ...]
    slow: bool
    """Whether the error has a time constant of its own."""
    switched: bool
    """Whether entries of a discrete node may drop out."""
    split: bool = False
    """Positive and negative error populations, with gains and a baseline."""
    adapting: bool = False
    """Whether the precision tires."""
    noisy: bool = False
    learns: bool = False
    """Whether the precision learns."""


def error_lines(node: Error) -> list[str]:
    """ε = the distribution's error at once, or tau_ε dε/dt = (z − η) − Σ ε (Bogacz, 2017).

    Noise goes into a leaky error as Σ sqrt(2 T tau) ξ: with that one Gaussian node is an underdamped Langevin
    equation, whose law is exact at any tau_ε. Where Σ learns, an interneuron carries it: tau_ε dε/dt = (z − η) − e,
    tau_ε de/dt = Σ ε − e.
    """
    shares = [edge.rate.value for edge in node.incoming]
    lines = ["z : 1 (linked)", f"eta = {' + '.join(shares) or 'mean'} : 1"]
    if not shares:
        lines.append("mean : 1")
    if node.text.lateral is not None:
        lines.append("lateral : 1")
    error, leak = node.text.error, node.text.covariance
    if node.adapting:
        error, leak = f"({error})/(1 + a)", f"{leak}*(1 + a)"
        lines.append("da/dt = (-a + strength*(0.5*(eta + abs(eta)))**2)/adaptation_tau : 1")
    whole = "whole" if node.split else "eps"  # `signed` would be a keyword of C++
    if node.learns:
        lines += ["sigma : 1", "precision = 1/sigma : 1"]
    if node.slow:
        inhibition = "interneuron" if node.learns else f"{leak}*{whole}"
        kick = f" + {leak}*sqrt(2*temperature*tau/dt)*noise" if node.noisy else ""
        lines += [
            f"gap = z - eta : 1 {STORED}",
            f"d{whole}/dt = (gap - {inhibition}{kick})/error_tau : 1",
            *(["noise : 1"] if node.noisy else []),
            *([f"dinterneuron/dt = ({leak}*{whole} - interneuron)/error_tau : 1"] if node.learns else []),
        ]
    else:
        lines.append(f"{whole} = {f'held*({error})' if node.switched else error} : 1 {STORED}")
    lines += _split_lines() if node.split else []
    if node.switched:
        lines.append("held : 1")
    for edge in node.incoming:
        lines.append(f"mu_{edge.parent} : 1")
        if edge.bias:
            lines.append(f"bias_{edge.parent} : 1")
        if edge.returns and not edge.rate.linear:
            lines.append(f"delta_{edge.parent} = eps*{edge.rate.slope} : 1 {STORED}")
    return lines


def _split_lines() -> list[str]:
    """Rectified rates [baseline ± ε]₊, and what the circuit reads of them as its error."""
    rates = {"positive": "(baseline + whole)", "negative": "(baseline - whole)"}
    lines = [f"{name} = 0.5*({x} + abs({x})) : 1 {STORED}" for name, x in rates.items()]
    read = "gain_positive*(positive - baseline) - gain_negative*(negative - baseline)"
    return [*lines, f"eps = {read} : 1 {STORED}"]


GATE = "*int((t_in_timesteps + 1) % every == 0)"
"""1 in the last of every `every` steps: what is shown then changes only after it."""


def error_learning(node: Error, biases: Collection[str], mean: bool) -> list[str]:
    """Biases of these parents (error × 1), a root's mean, and Σ += α (ε e − 1), e = Σ ε (Bogacz, 2017)."""
    lines = [
        f"bias_{e.parent} += learning_step*eps*{e.rate.slope}{GATE}"
        for e in node.incoming
        if e.parent in biases
    ]
    if mean:
        lines.append(f"mean += learning_step*eps{GATE}")
    if node.learns:
        inhibition = "interneuron" if node.slow else "sigma*eps"
        lines.append(f"sigma += precision_step*(eps*{inhibition} - 1){GATE}")
    return lines


def weight_learning(s: "Sum", error: str) -> list[str]:
    """Error × presynaptic activity (Hebbian)."""
    return [f"w += learning_step*{error}*{s.source}_pre{GATE}"]


BIAS_LEARNING = f"bias += learning_step*back*slope{GATE}"
"""Of a hidden layer."""


def layer_lines(rate: Rate, bias: bool, returns: bool) -> list[str]:
    """A hidden layer of an edge: rate = φ(drive + bias), and its slope for the way back."""
    lines = ["drive : 1", f"rate = {rate.value} : 1 {STORED}"]
    if bias:
        lines.append("bias : 1")
    if returns:
        lines += ["back : 1", f"slope = {rate.slope} : 1 {STORED}"]
    return lines


class Sum(NamedTuple):
    """One set of synapses: a prediction forward, and the message back where something below moves."""

    source: str
    """The presynaptic variable that is carried forward."""
    target: str
    """The postsynaptic variable that is summed into."""
    weighted: bool
    message: str | None
    """What is carried back, in variables that end in `_post`; None for a one-way edge."""
    back: str
    """The presynaptic variable that the messages are summed into."""
    feedback: bool
    """Whether the way back has weights of its own."""


def synapse_lines(s: Sum) -> list[str]:
    """target = Σ w · source, and back = Σ w · message (or Σ b · message with weights of its own)."""
    lines = ["w : 1"] if s.weighted else []
    lines.append(f"{s.target}_post = {'w*' if s.weighted else ''}{s.source}_pre : 1 (summed)")
    if s.message is not None:
        weight = "b*" if s.feedback else "w*" if s.weighted else ""
        lines += ["b : 1"] * s.feedback
        lines.append(f"{s.back}_pre = {weight}{s.message} : 1 (summed)")
    return lines


def lateral_lines(text: LocalText) -> list[str]:
    """Synapses among the units of one error node, for a full precision or a sum over classes."""
    weighted = ["w : 1"] if "w*" in (text.lateral or "") else []
    return [*weighted, f"lateral_post = {text.lateral} : 1 (summed)"]
