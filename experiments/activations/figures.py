"""The figures: each activation with its derivative, and under it the difference from autodiff."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from experiments.activations.measured import Curve
from experiments.activations.options import NOTES
from jaxmlp import plotting
from jaxmlp.plotting.style import GREY, bare


def groups(acts) -> dict[str, list]:
    """Return the figures by suffix: the lecture's activations, and the others."""
    found = {"": [], "_beyond": []}
    for act in acts:
        found["" if act.name.split(":")[0] in NOTES else "_beyond"].append(act)
    return {suffix: group for suffix, group in found.items() if group}


def gallery(curves: dict[Any, Curve], reach: float):
    """Draw small panels: each activation with its derivative, and below it the difference."""
    columns = min(4, len(curves))
    rows = -(-len(curves) // columns)
    figure, axes = plt.subplots(
        2 * rows, columns, figsize=(max(2 * columns, 5), 2.1 * rows + 1), squeeze=False,
        height_ratios=[3, 1] * rows, layout="constrained",
    )  # fmt: skip
    panels(curves, axes, reach)
    worst = max(float(found.difference.max()) for found in curves.values()) / 2**-52
    figure.suptitle(
        f"Derivatives by hand and by autodiff are at most {worst:.1f} units apart\n"
        "(grey; a unit is 2$^{-52}$ of the steepest slope)",
        fontsize=11,
    )
    return figure


def panels(curves: dict[Any, Curve], axes, reach: float):
    """Draw many activations small: `activation`, and `derivative_difference` in the row below.

    `axes` are `(2 * rows, columns)`; those not needed are hidden. The figure gets the legend.
    """
    columns, legend = axes.shape[1], {}
    top = max(1, *(int(np.ceil(max(c.difference) / 2**-52)) for c in curves.values()))
    for i, (act, found) in enumerate(curves.items()):
        upper, lower = axes[2 * (i // columns) : 2 * (i // columns) + 2, i % columns]
        plotting.activation(act, upper, reach=reach)
        upper.set_title(title(act), fontsize=10)
        upper.locator_params(nbins=4)
        upper.set(xlabel="", xticks=upper.get_xticks(), xticklabels=[], xlim=(-reach, reach))
        derivative_difference(found.z, found.difference, lower)
        lower.set(ylabel="", ylim=(0, top), yticks=(0, top), xticks=upper.get_xticks())
        lower.set_xlim(-reach, reach)
        if i + columns < len(curves):
            lower.set(xlabel="", xticklabels=[])
        legend |= {line.get_label(): line for line in upper.lines}
    for ax in axes.flat:
        ax.set_visible(ax.has_data())
    legend = {label: line for label, line in legend.items() if not label.startswith("_")}
    axes[0, 0].figure.legend(
        legend.values(), legend, loc="outside lower center", ncols=len(legend), frameon=False
    )
    return axes


def derivative_difference(z, difference, ax, *, bins: int = 80):
    """Draw the largest difference of two derivatives in each bin of z.

    In units of 2^-52, float64's last bit of 1.
    """
    edges = np.linspace(np.min(z), np.max(z), bins + 1)
    largest = np.zeros(bins)
    np.maximum.at(largest, np.clip(np.digitize(z, edges) - 1, 0, bins - 1), difference)
    ax.stairs(largest / 2**-52, edges, fill=True, color=GREY)
    ax.set(xlabel="z", ylabel="difference / 2$^{-52}$", xlim=(edges[0], edges[-1]))
    return bare(ax)


def title(act) -> str:
    """Return the name with the lecture's number."""
    name = act.name.split(":")[0]
    number = f"D{NOTES.index(name) + 1} " if name in NOTES else ""
    return f"{number}{act.name}{'(z, 0, 0)' * (name == 'softmax')}"
