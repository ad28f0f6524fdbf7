"""Training: curves, a descent on the graph of a function, and what one neuron looks for."""

import numpy as np

from jaxmlp.plotting.style import COLOURS, GREY, bare, new_axes


def learning_curves(curves, ax=None, *, xlabel="epoch", ylabel="loss", **line):
    """Draw a line for each `label: (x, y)`, on a log y where every value is above 0.

    Args:
      curves: a dictionary; x and y are sequences of equal length.
      line: what `ax.plot` takes.
    """
    ax = new_axes(ax)
    for i, (label, (x, y)) in enumerate(curves.items()):
        ax.plot(x, y, color=COLOURS[i % len(COLOURS)], label=label, **line)
    positive = all(np.min(y) > 0 for _, y in curves.values())
    ax.set(xlabel=xlabel, ylabel=ylabel, yscale="log" if positive else "linear")
    ax.legend(frameon=False)
    return bare(ax)


def descents(fn, paths, ax=None, *, reach):
    """Draw `y = fn(x)` for |x| up to `reach`, and on it the points of each `label: xs`.

    Points beyond `reach` are left out.
    """
    ax = new_axes(ax)
    x = np.linspace(-reach, reach, 201)
    ax.plot(x, fn(x), color=GREY, lw=1)
    for i, (label, xs) in enumerate(paths.items()):
        inside = np.asarray(xs)[np.abs(xs) <= reach]
        ax.plot(inside, fn(inside), ".-", color=COLOURS[i % len(COLOURS)], label=label)
    ax.set(xlabel="x", ylabel="y")
    ax.legend(frameon=False)
    return bare(ax)


def weight_image(w, ax=None):
    """Draw the weights of one neuron that sees a square image: positive orange, negative purple.

    `w` has a square number of entries; white is 0.
    """
    ax = new_axes(ax)
    w = np.ravel(w)
    side, largest = round(len(w) ** 0.5), np.abs(w).max()
    ax.imshow(w.reshape(side, side), cmap="PuOr_r", vmin=-largest, vmax=largest)
    ax.set(xticks=[], yticks=[])
    return ax
