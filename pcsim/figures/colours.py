"""The colour of a label: fixed for methods, from a neutral cycle for everything else."""

from pcsim.figures.style import COLOURS

METHODS: dict[str, str] = {
    **{str(name): color for name, color in COLOURS.items()},
    "vanilla PC": COLOURS["PC"],
    "Langevin PC": COLOURS["LPC"],
}
NEUTRAL = ("#000000", "#CC79A7", "#56B4E9", "#8C6D1F")


def colour(label: str, place: int) -> str:
    """The method's colour where the label names one, else the `place`-th neutral colour, again from the first on.

    >>> colour("LPC", 3), colour("gratings", 0)
    ('#D55E00', '#000000')
    """
    return METHODS.get(label, NEUTRAL[place % len(NEUTRAL)])
