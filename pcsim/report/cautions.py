"""Many cautions in few lines: what must not be read, of which run, and in which sections it matters."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

MOST = 8
"""Lines of warnings at the top of a page."""
PHASES = ("spontaneous: ", "evoked: ")
COUNTED = re.compile(r" in (\d+) of (\d+)\b")


class Caution(NamedTuple):
    """One sentence of an analysis about one run; `run` is empty where the page is about one run."""

    run: str
    text: str

    @property
    def bare(self) -> str:
        """The sentence without the phase of the chain that it is about."""
        return next((self.text.removeprefix(p) for p in PHASES if self.text.startswith(p)), self.text)

    @property
    def kind(self) -> str:
        """What must not be read: the sentence up to its reason, without its numbers.

        >>> Caution("LPC", "evoked: must not be read as precise: fewer than 400 draws in 3 of 20 series").kind
        'must not be read as precise'
        """
        return re.sub(r"\d+", "#", COUNTED.split(self.bare)[0].split(": ")[0])

    @property
    def weight(self) -> tuple[bool, int]:
        """Whether it is about the response (before the stimulus chains are shorter), and how many series it counts."""
        found = COUNTED.search(self.text)
        return not self.text.startswith(PHASES[0]), int(found[1]) if found else 0


class Warned(NamedTuple):
    """All cautions of one kind as one line: its strongest sentence, and the numbers of the sections it concerns."""

    kind: str
    line: str
    sentences: int
    """How many sentences the line holds."""
    sections: tuple[int, ...] = ()


def condensed(cautions: Iterable[Caution]) -> tuple[Warned, ...]:
    """One line per kind: of every run the sentence that concerns the most series."""
    worst: dict[str, dict[str, Caution]] = {}
    for caution in cautions:
        runs = worst.setdefault(caution.kind, {})
        if caution.run not in runs or caution.weight > runs[caution.run].weight:
            runs[caution.run] = caution
    return tuple(Warned(kind, _line(tuple(runs.values())), len(runs)) for kind, runs in worst.items())


def at_the_top(sections: Sequence[Sequence[Caution]]) -> tuple[Warned, ...]:
    """The kinds of all sections, the most important first, at most `MOST` lines; the last says how many are left.

    First runs that are not complete, then what must not be read, then what concerns the most sections.
    """
    lines = condensed(caution for part in sections for caution in part)
    where: dict[str, list[int]] = {warned.kind: [] for warned in lines}
    for number, part in enumerate(sections, 1):
        for kind in dict.fromkeys(caution.kind for caution in part):
            where[kind].append(number)
    found = [warned._replace(sections=tuple(where[warned.kind])) for warned in lines]
    found.sort(key=_rank)
    if len(found) <= MOST:
        return tuple(found)
    rest = tuple(sorted({n for warned in found[MOST - 1 :] for n in warned.sections}))
    more = Warned("more", f"{len(found) - MOST + 1} more stand in their sections", 1, rest)
    return (*found[: MOST - 1], more)


def _rank(warned: Warned) -> tuple[int, int]:
    order = (
        "not complete",
        "must not be read as stationary",
        "must not be read as precise",
        "must not be read",
    )
    place = next((i for i, words in enumerate(order) if words in warned.kind), len(order))
    return place, -len(warned.sections)


def _line(cautions: Sequence[Caution]) -> str:
    """The sentences with their runs; runs that earn the same sentence share it."""
    runs: dict[str, list[str]] = {}
    for caution in cautions:
        runs.setdefault(caution.text, []).append(caution.run)
    return "; ".join(f"{', '.join(names)}: {text}" if any(names) else text for text, names in runs.items())
