"""Vanishing: gradients against a bound, weights that a step leaves as they are, units that died."""

import numpy as np

from jaxmlp.plotting.style import COLOURS, bare, new_axes


def relative_to_output(lines, ax=None, *, factor, points=None):
    """Draw log10 of what is left k layers below the output, and `factor^k` as a dashed line.

    Args:
      lines: a dictionary, `label: values`, log10 relative to the output for k = 0, 1, ...
      factor: base of the dashed line.
      points: a second dictionary, drawn as circles in the colours of the first, one for each of
        its lines.
    """
    ax = new_axes(ax)
    for colour, (label, values) in zip(COLOURS, lines.items(), strict=False):
        ax.plot(values, color=colour, lw=2, label=label)
    for colour, (label, values) in zip(COLOURS, (points or {}).items(), strict=False):
        ax.plot(values, "o", color=colour, mfc="white", ms=5, markevery=5, label=label)
    k = np.arange(max(map(len, lines.values())))
    ax.plot(k, k * np.log10(factor), "--", color="black", lw=1.2, label=f"${factor:g}^k$")
    ax.set(xlabel="k, layers below the output", ylabel="log10, relative to the output")
    ax.legend(frameon=False, fontsize=8)
    return bare(ax)


def unchanged_bits(rows, axes):
    """Draw the share of unchanged weights, layer by depth, a panel for each activation.

    `rows` are dictionaries of activation, depth, layer (1..depth + 1) and unchanged. Where there is
    no layer the map is white. Returns the axes, which share one colourbar.
    """
    depths = _distinct(rows, "depth")
    for ax, activation in zip(axes, _distinct(rows, "activation"), strict=True):
        shares = np.full((max(depths) + 1, len(depths)), np.nan)
        for row in rows:
            if row["activation"] == activation:
                shares[row["layer"] - 1, depths.index(row["depth"])] = row["unchanged"]
        edges = np.arange(shares.shape[1] + 1) - 0.5, np.arange(shares.shape[0] + 1) + 0.5
        image = ax.pcolormesh(*edges, shares, cmap="cividis", vmin=0, vmax=1)
        ax.set_xticks(range(len(depths)), depths)
        ax.set(xlabel="hidden layers", ylabel="layer", title=activation)
        ax.spines[["top", "right"]].set_visible(False)
        ax.label_outer()
    bar = axes[0].figure.colorbar(image, ax=list(axes), pad=0.02)
    bar.set_label("share of weights whose bits do not change")
    return axes


def largest_inputs(paths, ax=None):
    """Draw the largest z of each unit against the step, one colour for each `label: (x, Z)`.

    `Z (len(x), units)`. A unit is active on some sample where its line is above 0.
    """
    ax = new_axes(ax)
    for colour, (label, (x, Z)) in zip(COLOURS, paths.items(), strict=False):
        first, *_ = ax.plot(x, Z, color=colour, lw=1.5)
        first.set_label(label)
    ax.axhline(0, color="black", lw=0.8, ls="--")
    ax.set(xlabel="step", ylabel="largest z over the samples", yscale="symlog")
    ax.set_ylim(top=40 * max(1, *(np.max(Z) for _, Z in paths.values())))
    ax.legend(frameon=False, fontsize=8, loc="upper left")
    return bare(ax)


def largest_activations(rows, ax=None):
    """Draw the largest |A| as bars, log y, grouped by problem and rate; what is infinite says so.

    `rows` are dictionaries of problem, rate, activation and largest_A, every activation in every
    group.
    """
    ax = new_axes(ax)
    groups = list(dict.fromkeys(f"{row['problem']}\nrate {row['rate']:g}" for row in rows))
    activations = _distinct(rows, "activation")
    finite = [row["largest_A"] for row in rows if np.isfinite(row["largest_A"])]
    top, width = 4 * max(finite, default=1), 0.8 / len(activations)
    for i, (activation, colour) in enumerate(zip(activations, COLOURS, strict=False)):
        sizes = np.array([row["largest_A"] for row in rows if row["activation"] == activation])
        at = np.arange(len(groups)) + (i + 0.5) * width - 0.4
        bars = ax.bar(at, np.minimum(sizes, top), width, color=colour, label=activation)
        ax.bar_label(bars, [f"{size:.2g}" for size in sizes], fontsize=7, padding=1)
    ax.set_xticks(range(len(groups)), groups)
    ax.set(ylabel="largest |A| while training", yscale="log")
    ax.set_ylim(top=100 * top)
    ax.legend(frameon=False, fontsize=8, ncols=2, loc="upper left")
    return bare(ax)


def accuracy_by_depth(rows, ax=None):
    """Draw accuracies as a map, activation by depth, with the numbers written in.

    `rows` are dictionaries of activation, depth and accuracy.
    """
    ax = new_axes(ax)
    activations, depths = _distinct(rows, "activation"), _distinct(rows, "depth")
    table = np.full((len(activations), len(depths)), np.nan)
    for row in rows:
        at = activations.index(row["activation"]), depths.index(row["depth"])
        table[at] = row["accuracy"]
    ax.imshow(table, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for (i, j), value in np.ndenumerate(table):
        ax.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=9,
                color="black" if value > 0.5 else "white")  # fmt: skip
    ax.set_xticks(range(len(depths)), depths)
    ax.set_yticks(range(len(activations)), activations)
    ax.set_xlabel("hidden layers")
    return ax


def _distinct(rows, name: str) -> list:
    return list(dict.fromkeys(row[name] for row in rows))
