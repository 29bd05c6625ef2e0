"""Latent trajectories in the plane of their first two principal components, on the landscape of the energy."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pcsim.errors import RunError
from pcsim.figures.landscape import null_explained, plane, principal, random_walk
from pcsim.figures.run_view import RunView
from pcsim.figures.style import PAGE, REFERENCE, Look, looks, sheet
from pcsim.figures.trace_reading import latent
from pcsim.figures.trace_reading import trajectories as paths_of

Array = NDArray[np.float64]
CONTOURS = np.arange(0, 11) ** 2 / 2
"""Energies at 0, 1, 2 … standard deviations from the minimum of a quadratic energy, in nats."""

NOTE = "each plane: first two principal components of one chain; the other chains are projected onto it"


class View(NamedTuple):
    """One run's chains in its plane."""

    paths: Array
    """`[chain, step, 2]`, latent units."""
    explained: tuple[float, float]
    dimension: int
    landscape: xr.Dataset | None


def trajectories(runs: Sequence[RunView], node: str | None = None, image: int = 0, chains: int = 4) -> Figure:
    """Chains of one image from the sweep on, one panel per traced run, and a random walk of the same length.

    A plane comes from the first chain (thick); where the run has a landscape for the image, its energy is shown below.
    The last panel is the null: a random walk without any landscape also draws smooth arcs and puts 6/π² = 60.8 % of its
    variance on its first component (Antognini & Sohl-Dickstein 2018).
    """
    traced = [(run, look) for run, look in zip(runs, looks(runs), strict=True) if run.has_trace]
    if not traced:
        raise RunError(f"none of the runs has a trace: {', '.join(str(run.path) for run in runs)}")
    views = [_view(run, node, image) for run, _ in traced]
    count = len(views) + 1
    figure = sheet(PAGE if count > 2 else 5.0, 3.5 if count < 4 else 2.9)
    panels = list(figure.subplots(1, count, squeeze=False)[0])
    shade = None
    for (_, look), seen, axes in zip(traced, views, panels, strict=False):
        shade = _draw(axes, seen, look, chains) or shade
    _draw_null(panels[-1], views[0].paths.shape[1], views[0].dimension)
    for axes in panels:
        axes.set_box_aspect(1)
        axes.title.set_fontsize(7.5 if count < 4 else 6.5)
        if axes is not panels[0] and count >= 4 and axes is not panels[-1]:
            axes.set_ylabel("")
    if shade is not None:
        label = "energy above the plane's minimum (nats)"
        figure.colorbar(
            shade, ax=panels, label=label, location="bottom", shrink=0.5, aspect=40, ticks=CONTOURS[::2]
        )
    handles, names = panels[-1].get_legend_handles_labels()  # the null's: neutral in colour
    figure.legend(handles, names, loc="outside upper center", ncols=len(names))
    figure.supxlabel(NOTE, fontsize=6.5, color=REFERENCE)
    return figure


def _view(run: RunView, node: str | None, image: int) -> View:
    trace, where = run.trace(), str(run.path)
    node = node or latent(trace, run.study.get("clamp") or {}, where)
    paths, _ = paths_of(trace, node, image, where)
    found, landscape = plane(trace, node, image), run.landscape()
    origin, directions = found.origin, found.directions
    if landscape is not None and landscape.attrs.get("node") == node and image in landscape["image"]:
        landscape = landscape.sel(image=image)
        origin = landscape["origin"].to_numpy()
        directions = np.stack([landscape[f"direction_{i}"].to_numpy() for i in (1, 2)])
    else:
        landscape = None
    return View((paths - origin) @ directions.T, found.explained, paths.shape[-1], landscape)


def _draw(axes: Axes, seen: View, look: Look, chains: int) -> ContourSet | None:
    shade = None
    if seen.landscape is not None:
        height = seen.landscape["energy"].transpose("pc2", "pc1").to_numpy()
        pc1, pc2 = (seen.landscape[name].to_numpy() for name in ("pc1", "pc2"))
        height = height - height.min()
        shade = axes.contourf(pc1, pc2, height, levels=CONTOURS, cmap="Greys_r", extend="max", alpha=0.45)
        axes.contour(pc1, pc2, height, levels=CONTOURS[1:], colors="white", linewidths=0.4)
    for path in seen.paths[1:chains]:
        axes.plot(*path.T, color=look.color, linewidth=0.5, alpha=0.6)
    _path(axes, seen.paths[0], look.color)
    if shade is not None:
        axes.set(xlim=(pc1[0], pc1[-1]), ylim=(pc2[0], pc2[-1]))
    axes.set_title(f"{look.label}\n{_shares(seen.explained)}", color=look.color)
    axes.set(xlabel="PC1 (latent units)", ylabel="PC2 (latent units)")
    return shade


def _draw_null(axes: Axes, steps: int, dimension: int) -> None:
    walk = random_walk(steps, dimension)
    origin, directions, _ = principal(walk)
    _path(axes, (walk - origin) @ directions.T, REFERENCE)
    axes.plot([], [], color=REFERENCE, linewidth=0.5, alpha=0.6, label="other chains of the image, projected")
    shares = _shares(null_explained(steps, dimension))
    axes.set_title(f"null: a random walk\n{shares}", color=REFERENCE)
    axes.set(xlabel="PC1 (increments)", ylabel="PC2 (increments)")


def _shares(explained: tuple[float, float]) -> str:
    return f"PC1 {explained[0]:.0%}, PC2 {explained[1]:.0%} of variance"


def _path(axes: Axes, path: Array, color: object) -> None:
    """The line with its start (open) and end (filled); white below it keeps it apart from the landscape."""
    axes.plot(*path.T, color="white", linewidth=1.9)
    axes.plot(*path.T, color=color, linewidth=0.9, label="chain that defines the plane")
    for point, inside, edge, name in (
        (path[0], "white", "black", "start"),
        (path[-1], "black", "white", "end"),
    ):
        axes.plot(
            *point, marker="o", markersize=5, markerfacecolor=inside, markeredgecolor=edge, markeredgewidth=1.2,
            linestyle="none", zorder=5, label=name,
        )  # fmt: skip
