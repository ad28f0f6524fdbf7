"""The figures: each activation, and under it its derivative."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from experiments.activations.measured import Curve
from experiments.activations.options import NOTES
from jaxmlp import plotting
from jaxmlp.plotting.style import ORANGE, bare

STEEP = (
    2.0  # the scale of slopes goes no further: one that grows without end would flatten the rest
)


def groups(acts) -> dict[str, list]:
    """Return the figures by suffix: the lecture's activations, and the others."""
    found = {"": [], "_beyond": []}
    for act in acts:
        found["" if act.name.split(":")[0] in NOTES else "_beyond"].append(act)
    return {suffix: group for suffix, group in found.items() if group}


def gallery(curves: dict[Any, Curve], reach: float):
    """Draw small panels: each activation, and below it its derivative, all on one scale."""
    most = 4 if plt.rcParams["font.size"] < 13 else 3  # large letters need room
    columns = min(most, len(curves))
    rows = -(-len(curves) // columns)
    figure, axes = plt.subplots(
        2 * rows, columns, figsize=(max(2 * columns, 5), 2.5 * rows + 0.9), squeeze=False,
        sharex=True, height_ratios=[3, 2] * rows, layout="constrained",
    )  # fmt: skip
    panels(curves, axes, reach)
    figure.suptitle(
        "Activations, and below each its derivative, all on one scale: dots mark the largest slopes"
    )
    return figure


def panels(curves: dict[Any, Curve], axes, reach: float):
    """Draw many activations small: the function, and the derivative in the row below.

    `axes` are `(2 * rows, columns)`; those left over are hidden. Slopes share one scale, and the
    largest one is marked.
    """
    columns = axes.shape[1]
    low = min(0.0, *(float(c.hand.min()) for c in curves.values()))
    high = min(STEEP, max(float(c.hand.max()) for c in curves.values()))
    for i, (act, found) in enumerate(curves.items()):
        upper, lower = axes[2 * (i // columns) : 2 * (i // columns) + 2, i % columns]
        plotting.activation(act, upper, reach=reach)
        for line in upper.lines[:]:
            if "derivative" in line.get_label() or line.get_color() == ORANGE:
                line.remove()
        upper.set_title(title(act))
        upper.set(xlabel="")
        upper.locator_params(nbins=4)
        derivative(act, found, lower, reach)
        lower.set(ylim=(low - 0.12 * (high - low), high + 0.3 * (high - low)))
        lower.locator_params(axis="y", nbins=4)
        last = i + columns >= len(curves)
        lower.set_xlabel("z" if last else "")
        lower.tick_params(labelbottom=last)
        if i % columns:
            lower.tick_params(labelleft=False)
    for ax in axes.flat:
        ax.set_visible(ax.has_data())
    return axes


def derivative(act, found: Curve, ax, reach: float):
    """Draw a derivative, broken at its kinks, with a dot and a number at its largest magnitude."""
    kinks = np.array([kink for kink in act.kinks if abs(kink) < reach])
    piece = np.searchsorted(kinks, found.z)
    for k in range(len(kinks) + 1):
        ax.plot(found.z[piece == k], found.hand[piece == k], color=ORANGE)
    size = np.abs(found.hand)
    ties = found.z[size >= size.max() * (1 - 1e-9)]
    z = ties[np.abs(ties).argmin()]  # of equal ones the nearest to 0
    value = float(found.hand[found.z == z][0])
    ax.plot(z, value, "o", color=ORANGE, ms=0.4 * plt.rcParams["font.size"])
    said = f"{value:.3g}".replace("-", "\N{MINUS SIGN}")
    if value > STEEP:
        said, value = f"to {said}", STEEP
    side = "left" if z <= 0 else "right"
    ax.annotate(said, (z, value), (0, 3), textcoords="offset points", fontsize="small",
                ha="center" if abs(z) < 0.6 * reach else side, va="bottom")  # fmt: skip
    ax.set(xlim=(-reach, reach))
    return bare(ax)


def title(act) -> str:
    """Return the name with the lecture's number."""
    name = act.name.split(":")[0]
    number = f"D{NOTES.index(name) + 1} " if name in NOTES else ""
    return f"{number}{act.name}{'(z, 0, 0)' * (name == 'softmax')}"
