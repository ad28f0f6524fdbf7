"""What all figures share.

Colours are those of Okabe & Ito 2008, which colour-blind readers tell apart.
"""

from typing import Any

import numpy as np

BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, YELLOW, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#7F7F7F",
)  # fmt: skip
COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, YELLOW, GREY)

ACTIVATIONS = {
    "sigmoid": VERMILION, "tanh": ORANGE, "relu": BLUE, "leaky_relu": GREEN, "elu": PURPLE,
}  # fmt: skip
"""The colour of an activation, the same in every figure that tells them apart by colour."""

WRITTEN = {
    "relu": "ReLU", "leaky_relu": "leaky ReLU", "prelu": "PReLU", "elu": "ELU", "selu": "SELU",
    "gelu": "GELU", "silu": "SiLU", "squared_relu": "squared ReLU",
}  # fmt: skip


def written(activation: str) -> str:
    """Return the name of an activation as figures write it: `leaky_relu:0.1` is leaky ReLU 0.1."""
    name, *arguments = activation.split(":")
    return " ".join([WRITTEN.get(name, name), *arguments])


def new_axes(ax: Any = None, **figure: Any):
    """Return `ax`, or the axes of a new figure."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(layout="constrained", **figure)[1]


def bare(ax):
    """Take the frame away above and on the right, and lay a faint grid."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25, lw=0.5)
    return ax


def median_band(ax, x, values, *, color, **line):
    """Draw the median of `values` `(repetitions, len(x))`, in a band from smallest to largest."""
    values = np.asarray(values)
    ax.plot(x, np.median(values, axis=0), color=color, **line)
    ax.fill_between(x, values.min(axis=0), values.max(axis=0), color=color, alpha=0.15, lw=0)


def written_map(ax, cells, *, form, is_dark, fontsize, norm, cmap):
    """Draw `{(row, column): number}` as colours with the numbers written in, in `form`.

    What is infinite has the colour of the largest number, what is missing that of 0. Writing is
    white where `is_dark(number)`.
    """
    rows, columns = (list(dict.fromkeys(key[side] for key in cells)) for side in (0, 1))
    values = np.full((len(rows), len(columns)), np.nan)
    for (row, column), value in cells.items():
        values[rows.index(row), columns.index(column)] = value
    colours = np.nan_to_num(values, posinf=norm.vmax, neginf=norm.vmin)
    image = ax.imshow(colours, cmap=cmap, norm=norm, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        ax.text(j, i, f"{value:{form}}", ha="center", va="center", fontsize=fontsize,
                color="white" if is_dark(value) else "black")  # fmt: skip
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(rows)), rows)
    return image
