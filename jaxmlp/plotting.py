"""Figures: functions that draw on the axes they are given, and return them.

Colours are those of Okabe & Ito 2008, which colour-blind readers tell apart.
"""

from typing import Any

import numpy as np

BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, YELLOW, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#7F7F7F",
)  # fmt: skip
COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, YELLOW, GREY)

LABELS = {
    "log10_delta": "log10 of the per-sample dZ norm",
    "log10_grad_W": "log10 of the dW norm",
    "log10_grad_b": "log10 of the db norm",
    "log10_activation": "log10 of the activation norm",
    "layer": "layer",
    "distance": "layers below the output",
}


def new_axes(ax: Any = None, **figure: Any):
    """Return `ax`, or the axes of a new figure."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(layout="constrained", **figure)[1]


def gradient_flow(flow, ax=None, **line):
    """Draw log10 of the per-sample dZ norm and of the dW norm against the layer."""
    ax = new_axes(ax)
    layer = np.arange(1, len(flow.log10_delta) + 1)
    for field, colour in (("log10_delta", BLUE), ("log10_grad_W", ORANGE)):
        name = LABELS[field].removeprefix("log10 of the ")
        ax.plot(layer, getattr(flow, field), ".-", color=colour, label=name, **line)
    ax.set(xlabel="layer", ylabel="log10")
    ax.legend(frameon=False)
    return _bare(ax)


def depth_sweep(table, ax=None, *, y="log10_delta", x="layer"):
    """Draw one line for each initialisation and depth, the median over seeds with their range.

    One colour an initialisation; deeper networks are drawn darker. The table's activations are not
    told apart: give it one (`select`) or use `depth_sweep_panels`.
    """
    ax = new_axes(ax)
    columns = table.columns()
    inits, depths = list(dict.fromkeys(columns["init"])), sorted(set(columns["depth"].tolist()))
    for colour, init in zip(COLOURS, inits, strict=False):
        for rank, depth in enumerate(depths):
            chosen = (columns["init"] == init) & (columns["depth"] == depth)
            at = np.unique(columns[x][chosen])
            over_seeds = np.stack([columns[y][chosen & (columns[x] == k)] for k in at])
            alpha = 0.35 + 0.65 * (rank + 1) / len(depths)
            label = init if depth == depths[-1] else None
            ax.plot(at, np.median(over_seeds, axis=1), color=colour, alpha=alpha, label=label)
            ax.fill_between(
                at, over_seeds.min(axis=1), over_seeds.max(axis=1), color=colour, alpha=0.15, lw=0
            )
    ax.set(xlabel=LABELS[x], ylabel=LABELS[y])
    return _bare(ax)


def depth_sweep_panels(table, axes, *, y="log10_delta", x="layer"):
    """Draw `depth_sweep` once for each activation of the table, on axes that share their y."""
    acts = list(dict.fromkeys(table.columns()["activation"]))
    for ax, act in zip(axes, acts, strict=True):
        depth_sweep(table.select(activation=act), ax, y=y, x=x)
        ax.set_title(act)
        ax.label_outer()
    axes[-1].legend(frameon=False, title="initialisation")
    return axes


def _bare(ax):
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25, lw=0.5)
    return ax
