"""Samples told apart: scores and what they find, norms by layer, the samples themselves."""

import numpy as np

from jaxmlp.plotting.style import BLUE, COLOURS, VERMILION, bare, new_axes


def precision_recall(curves, ax=None, *, colours=COLOURS):
    """Draw precision against recall, one thin line for each repetition.

    Args:
      curves: name -> list of `(precision, recall)`, in scikit-learn's order.
    """
    ax = new_axes(ax)
    for colour, (name, repetitions) in zip(colours, curves.items(), strict=False):
        for i, (precision, recall) in enumerate(repetitions):
            ax.plot(recall, precision, color=colour, lw=1, alpha=0.7, label=None if i else name)
    ax.set(xlabel="recall", ylabel="precision", ylim=(-0.02, 1.04))
    legend = ax.legend(frameon=False)
    for line in legend.get_lines():
        line.set(lw=2, alpha=1)
    return bare(ax)


def bands(x, groups, ax=None, *, colours=COLOURS, **line):
    """Draw each group's median against x, in a band from its smallest to its largest.

    Args:
      groups: name -> array `(repetitions, len(x))`.
    """
    ax = new_axes(ax)
    for colour, (name, values) in zip(colours, groups.items(), strict=False):
        values = np.asarray(values)
        ax.plot(x, np.median(values, axis=0), color=colour, label=name, **line)
        ax.fill_between(x, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.15, lw=0)
    ax.legend(frameon=False)
    return bare(ax)


def through_epochs(groups, ax=None, *, colours=COLOURS):
    """Draw `bands` against the epochs 0, 1, ..., the first ones wide apart."""
    ax, last = new_axes(ax), len(next(iter(groups.values()))[0]) - 1
    bands(range(last + 1), groups, ax, colours=colours)
    ticks = [t for t in (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if t <= last]
    ax.set_xscale("symlog", linthresh=1, linscale=0.4)
    ax.set_xticks(ticks, [str(t) for t in ticks])
    ax.set_xticks([], minor=True)
    ax.set(xlabel="epoch", xlim=(-0.1, last * 1.1))
    return ax


def norms_by_layer(stages, marked, ax=None, *, names=("true label", "flipped label")):
    """Draw quantiles of per-sample norms: a dot at the median, bars from 25 to 75% and 5 to 95%.

    Args:
      stages: name -> `(m, L)`, drawn side by side.
      marked: bool `(m,)`, drawn apart from the rest. names: of the rest, of the marked.
    """
    ax = new_axes(ax)
    ticks, labels, ratios, left = [], [], [], 0
    for stage, norms in stages.items():
        norms = np.asarray(norms)
        at = left + np.arange(norms.shape[1])
        for rows, shift, colour in ((~marked, -0.15, BLUE), (marked, 0.15, VERMILION)):
            q = np.quantile(norms[rows], (0.05, 0.25, 0.5, 0.75, 0.95), axis=0)
            name = names[colour == VERMILION] if left == 0 else None
            ax.vlines(at + shift, q[0], q[4], color=colour, lw=1)
            ax.vlines(at + shift, q[1], q[3], color=colour, lw=4, alpha=0.6)
            ax.plot(at + shift, q[2], "o", color=colour, ms=3, label=name)
        middle = (len(at) - 1) // 2
        labels += [f"{i + 1}\n{stage if i == middle else ' '}" for i in range(len(at))]
        ticks += at.tolist()
        rest, apart = (np.median(np.hypot.reduce(norms[r], axis=1)) for r in (~marked, marked))
        ratios.append(f"{apart / rest:.2g}")
        left = at[-1] + 2
    ax.set_xticks(ticks, labels)
    ax.set(xlabel="layer", ylabel="norm of a sample's gradient", yscale="log")
    times = f"{names[1]} {', '.join(ratios)} times {names[0]}"
    ax.set_title(f"Median norm over all layers:\n{times}")
    ax.legend(frameon=False)
    return bare(ax)


def images(pictures, axes, captions, framed):
    """Show a picture on each of the axes, with its caption; frame those to be framed.

    Args:
      pictures: `(n, rows, columns)`, white paper at 0. framed: bool `(n,)`.
    """
    for ax, picture, caption, frame in zip(axes, pictures, captions, framed, strict=True):
        ax.imshow(picture, cmap="gray_r")
        ax.set_title(caption, fontsize=8, color=VERMILION if frame else "black", pad=3)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set(visible=bool(frame), color=VERMILION, linewidth=2.5)
    return axes
