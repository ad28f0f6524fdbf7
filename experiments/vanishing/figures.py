"""The figures: which panel shows what, and titles made of the numbers."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import Normalize

from experiments.vanishing.chains import ceiling
from experiments.vanishing.measured import Measured
from experiments.vanishing.options import Config
from experiments.vanishing.steps import deepest, unmoved
from experiments.vanishing.training import LEARNED, RACERS, TARGET, deepest_learned
from jaxmlp import plotting
from jaxmlp.plotting.style import COLOURS, bare, written_map


def draw_products(m: Measured):
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(8, 3.8), width_ratios=(3, 2), layout="constrained"
    )
    lines = {f"{init}: gradient": c.gradient for init, c in m.chains.items()}
    points = {f"{init}: product": c.product for init, c in m.chains.items()}
    relative_to_output(lines, left, factor=0.25, points=points)
    relative_to_output(m.gains, right, factor=2)
    told = ", ".join(f"{i} $10^{{{c.gradient[-1]:.1f}}}$" for i, c in m.chains.items())
    top = ceiling(len(m.chains["he"].gradient) - 1)
    left.set_title(f"sigmoid: gradient {told},\nproduct at most $10^{{{top:.1f}}}$")
    told = ", ".join(f"{act} $10^{{{line[-1]:.1f}}}$" for act, line in m.gains.items())
    right.set_title(f"weights of gain 2:\n{told}")
    right.set_ylabel("")
    return figure


def draw_bits(rows: list[dict]):
    own = deepest(rows)
    figure, axes = plt.subplots(1, len(own), figsize=(8, 4.2), sharey=True, layout="constrained")
    unchanged_bits(rows, axes)
    for ax, (act, one) in zip(axes, own.items(), strict=True):
        stay, zero = (f"{unmoved(one)[name]:.0%}" for name in ("unchanged", "zero gradient"))
        title = f"{act}, {one[0]['init']}: {stay} stay,\n{zero} of gradients are 0"
        ax.set_title(title)
    told, depth = unmoved(own["sigmoid"]), own["sigmoid"][0]["depth"]
    same = f"keeps every bit of {told['frozen']} of {told['layers']} sigmoid layers"
    figure.suptitle(f"{depth} hidden layers: one step {same}")
    return figure


def draw_training(config: Config, m: Measured):
    figure, (loss, depth) = plt.subplots(1, 2, figsize=(8, 3.5), layout="constrained")
    plotting.learning_curves(m.curves, loss)
    loss.axhline(TARGET, color="black", lw=0.8, ls="--")
    loss.set(xscale="log", ylabel=f"loss on digits, rate {config.race_rates[0]:g}")
    times = ", ".join(f"{row['activation']} {row['epochs']:.0f}" for row in m.races[: len(RACERS)])
    loss.set_title(f"epochs to a loss of {TARGET:g}:\n{times}")
    accuracy_by_depth(m.grid, depth)
    reach = ", ".join(f"{act} {d}" for act, d in deepest_learned(m.grid).items())
    depth.set_title(f"deepest with an accuracy of {LEARNED:g}:\n{reach}")
    return figure


def draw_activations(m: Measured):
    figure, (size, dead) = plt.subplots(1, 2, figsize=(8, 3.5), layout="constrained")
    largest_activations(m.races, size)
    largest = {
        act: max(r["largest_A"] for r in m.races if r["activation"] == act) for act in RACERS
    }
    told = ", ".join(f"{act} {A:.2g}" for act, A in largest.items())
    size.set_title(f"largest |A| of two hidden layers:\n{told}")
    largest_inputs(m.paths, dead)
    told = ", ".join(f"{a} {(Z[-1] > 0).sum()}" for a, (_, Z) in m.paths.items())
    dead.set_title(f"of 4 dead units revive:\n{told}")
    return figure


# --- the panels -----------------------------------------------------------------------------------


def relative_to_output(lines, ax, *, factor, points=None):
    """Draw log10 of what is left k layers below the output, and `factor^k` as a dashed line.

    Args:
      lines: a dictionary, `label: values`, log10 relative to the output for k = 0, 1, ...
      factor: base of the dashed line.
      points: a second dictionary, drawn as circles in the colours of the first, one for each of
        its lines.
    """
    for colour, (label, values) in zip(COLOURS, lines.items(), strict=False):
        ax.plot(values, color=colour, lw=2, label=label)
    for colour, (label, values) in zip(COLOURS, (points or {}).items(), strict=False):
        ax.plot(values, "o", color=colour, mfc="white", ms=5, markevery=5, label=label)
    k = np.arange(max(map(len, lines.values())))
    ax.plot(k, k * np.log10(factor), "--", color="black", lw=1.2, label=f"${factor:g}^k$")
    ax.set(xlabel="k, layers below the output", ylabel="log10, relative to the output")
    ax.legend(frameon=False, fontsize="small")
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


def largest_inputs(paths, ax):
    """Draw the largest z of each unit against the step, one colour for each `label: (x, Z)`.

    `Z (len(x), units)`. A unit is active on some sample where its line is above 0.
    """
    for colour, (label, (x, Z)) in zip(COLOURS, paths.items(), strict=False):
        first, *_ = ax.plot(x, Z, color=colour, lw=1.5)
        first.set_label(label)
    ax.axhline(0, color="black", lw=0.8, ls="--")
    ax.set(xlabel="step", ylabel="largest z over the samples", yscale="symlog")
    ax.set_ylim(top=40 * max(1, *(np.max(Z) for _, Z in paths.values())))
    ax.legend(frameon=False, fontsize="small", loc="upper left")
    return bare(ax)


def largest_activations(rows, ax):
    """Draw the largest |A| as bars, log y, grouped by problem and rate; what is infinite says so.

    `rows` are dictionaries of problem, rate, activation and largest_A, every activation in every
    group.
    """
    groups = list(dict.fromkeys(f"{row['problem']}\nrate {row['rate']:g}" for row in rows))
    activations = _distinct(rows, "activation")
    finite = [row["largest_A"] for row in rows if np.isfinite(row["largest_A"])]
    top, width = 4 * max(finite, default=1), 0.8 / len(activations)
    for i, (activation, colour) in enumerate(zip(activations, COLOURS, strict=False)):
        sizes = np.array([row["largest_A"] for row in rows if row["activation"] == activation])
        at = np.arange(len(groups)) + (i + 0.5) * width - 0.4
        bars = ax.bar(at, np.minimum(sizes, top), width, color=colour, label=activation)
        ax.bar_label(bars, [f"{size:.2g}" for size in sizes], fontsize="x-small", padding=1)
    ax.set_xticks(range(len(groups)), groups)
    ax.set(ylabel="largest |A| while training", yscale="log")
    ax.set_ylim(top=100 * top)
    ax.legend(frameon=False, fontsize="small", ncols=2, loc="upper left")
    return bare(ax)


def accuracy_by_depth(rows, ax):
    """Draw accuracies as a map, activation by depth, with the numbers written in.

    `rows` are dictionaries of activation, depth and accuracy.
    """
    cells = {(row["activation"], row["depth"]): row["accuracy"] for row in rows}
    written_map(
        ax, cells, form=".2f", fontsize="small", norm=Normalize(0, 1), cmap="cividis",
        is_dark=lambda accuracy: not accuracy > 0.5,
    )  # fmt: skip
    ax.set_xlabel("hidden layers")
    return ax


def _distinct(rows, name: str) -> list:
    return list(dict.fromkeys(row[name] for row in rows))
