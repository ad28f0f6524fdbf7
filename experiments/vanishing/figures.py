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
from jaxmlp.plotting.style import ACTIVATIONS, COLOURS, GREY, bare, written, written_map


def draw_products(m: Measured):
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(8, 4), width_ratios=(3, 2), layout="constrained"
    )
    lines = {f"{init}: gradient": c.gradient for init, c in m.chains.items()}
    points = {f"{init}: product": c.product for init, c in m.chains.items()}
    relative_to_output(lines, left, factor=0.25, points=points)
    relative_to_output(m.gains, right, factor=2)
    told = ", ".join(f"$10^{{{c.gradient[-1]:.1f}}}$ with {i}" for i, c in m.chains.items())
    top = ceiling(len(m.chains["he"].gradient) - 1)
    left.set_title(f"sigmoid: gradient {told}; product of derivatives at most $10^{{{top:.1f}}}$")
    told = ", ".join(f"$10^{{{line[-1]:.1f}}}$ with {act}" for act, line in m.gains.items())
    right.set_title(f"weights of gain 2: gradient {told}")
    right.set_ylabel("")
    figure.suptitle(
        "Derivatives of the activation do not decide alone: the weights multiply in too"
    )
    return figure


def draw_bits(rows: list[dict]):
    own = deepest(rows)
    figure, axes = plt.subplots(1, len(own), figsize=(8, 4.2), sharey=True, layout="constrained")
    unchanged_bits(rows, axes)
    for ax, (act, one) in zip(axes, own.items(), strict=True):
        stay, zero = (f"{unmoved(one)[name]:.0%}" for name in ("unchanged", "zero gradient"))
        ax.set_title(f"{written(act)}, {one[0]['init']}:\n{stay} unchanged,\ngradient 0 in {zero}")
    told, depth = unmoved(own["sigmoid"]), own["sigmoid"][0]["depth"]
    figure.suptitle(
        f"After one step of gradient descent {told['frozen']} of the {told['layers']} layers of a "
        f"sigmoid network with {depth} hidden layers did not change by one bit"
    )
    return figure


def draw_training(config: Config, m: Measured):
    figure, (loss, depth) = plt.subplots(1, 2, figsize=(8, 3.7), layout="constrained")
    curves = {act: m.curves[act] for act in RACERS}
    plotting.learning_curves(curves, loss)
    for line in loss.lines:
        act = str(line.get_label())
        line.set(color=ACTIVATIONS.get(act, GREY), label=written(act))
    loss.set_ylim(top=3 * max(max(y) for _, y in curves.values()))  # room for the legend
    loss.legend(ncols=2, loc="upper right")
    loss.axhline(TARGET, color="black", lw=0.8, ls="--")
    loss.set(xscale="log", ylabel=f"loss on digits, rate {config.race_rates[0]:g}")
    times = (said(row["activation"], f"{row['epochs']:.0f}") for row in m.races[: len(RACERS)])
    loss.set_title(f"Epochs to a loss of {TARGET:g}: {', '.join(times)}")
    accuracy_by_depth(m.grid, depth)
    reach = ", ".join(said(act, d) for act, d in deepest_learned(m.grid).items())
    rates = ", ".join(f"{rate:g}" for rate in config.train_rates)
    depth.set_title(f"Deepest with an accuracy of {LEARNED:g}, best of the rates {rates}: {reach}")
    return figure


def draw_activations(m: Measured):
    figure, ax = plt.subplots(figsize=(8, 3.8), layout="constrained")
    largest_activations(m.races, ax)
    largest = {
        act: max(r["largest_A"] for r in m.races if r["activation"] == act) for act in RACERS
    }
    told = [said(act, rounded(A) or "overflows") for act, A in largest.items()]
    ax.set_title(f"Largest |A| of two hidden layers while training: {', '.join(told)}")
    return figure


def draw_dead(m: Measured):
    figure, ax = plt.subplots(figsize=(8, 3.8), layout="constrained")
    largest_inputs(m.paths, ax)
    told = ", ".join(f"{(Z[-1] > 0).sum()} with {written(a)}" for a, (_, Z) in m.paths.items())
    ax.set_title(f"Of 4 dead units revive: {told}")
    return figure


def said(activation: str, number) -> str:
    """The name and its number, which a title does not part."""
    return f"{written(activation)} {number}".replace(" ", "\N{NO-BREAK SPACE}")


def rounded(size: float) -> str:
    """Two digits, large numbers with a comma; "" if it is not finite."""
    return f"{float(f'{size:.2g}'):,g}" if np.isfinite(size) else ""


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
        ax.plot(values, color=ACTIVATIONS.get(label, colour), label=label)
    for colour, (label, values) in zip(COLOURS, (points or {}).items(), strict=False):
        ax.plot(values, "o", color=colour, mfc="white", markevery=5, label=label)
    k = np.arange(max(map(len, lines.values())))
    ax.plot(k, k * np.log10(factor), "--", color="black", label=f"${factor:g}^k$")
    ax.set(xlabel="k, layers below the output", ylabel="log10, relative to the output")
    ax.legend()
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
        ax.set(xlabel="hidden layers", ylabel="layer", title=written(activation))
        ax.spines[["top", "right"]].set_visible(False)
        ax.label_outer()
    bar = axes[0].figure.colorbar(image, ax=list(axes), pad=0.02)
    bar.set_label("share of weights unchanged")
    return axes


def largest_inputs(paths, ax):
    """Draw the largest z of each unit against the step, for each `activation: (x, Z)`.

    `Z (len(x), units)`. A unit is active on some sample where its line is above 0. One colour an
    activation; of one with several slopes all but the last are dotted.
    """
    names = [label.split(":")[0] for label in paths]
    for i, (label, (x, Z)) in enumerate(paths.items()):
        dash = ":" if names[i] in names[i + 1 :] else "-"
        first, *_ = ax.plot(x, Z, dash, color=ACTIVATIONS.get(names[i], GREY))
        first.set_label(written(label))
    ax.axhline(0, color="black", lw=0.8, ls="--")
    ax.set(xlabel="step", ylabel="largest z over the samples", yscale="symlog")
    ax.set_ylim(top=40 * max(1, *(np.max(Z) for _, Z in paths.values())))
    ax.legend(loc="upper left")
    return bare(ax)


def largest_activations(rows, ax):
    """Draw the largest |A| as bars, log y, grouped by problem and rate; infinity is an arrow.

    `rows` are dictionaries of problem, rate, activation and largest_A, every activation in every
    group.
    """
    groups = list(dict.fromkeys(f"{row['problem']}\nrate {row['rate']:g}" for row in rows))
    activations = _distinct(rows, "activation")
    finite = [row["largest_A"] for row in rows if np.isfinite(row["largest_A"])]
    top, width = 4 * max(finite, default=1), 0.8 / len(activations)
    ax.set_yscale("log")
    for i, activation in enumerate(activations):
        sizes = np.array([row["largest_A"] for row in rows if row["activation"] == activation])
        at = np.arange(len(groups)) + (i + 0.5) * width - 0.4
        colour = ACTIVATIONS.get(activation, GREY)
        bars = ax.bar(at, np.minimum(sizes, top), width, color=colour, label=written(activation))
        ax.bar_label(bars, [rounded(size) for size in sizes], fontsize="small", padding=1)
        for x in at[~np.isfinite(sizes)]:
            ax.annotate("", (x, 5 * top), (x, top), arrowprops={"arrowstyle": "->", "lw": 2,
                        "color": colour})  # fmt: skip
    ax.set_xticks(range(len(groups)), groups)
    ax.set(ylabel="largest |A| while training")
    ax.set_ylim(top=1000 * top)  # room for the legend
    ax.legend(ncols=len(activations), loc="upper left", title="an arrow: it overflows")
    return bare(ax)


def accuracy_by_depth(rows, ax):
    """Draw accuracies as a map, activation by depth, with the numbers written in.

    `rows` are dictionaries of activation, depth and accuracy.
    """
    cells = {(written(row["activation"]), row["depth"]): row["accuracy"] for row in rows}
    written_map(
        ax, cells, form=".2f", fontsize="small", norm=Normalize(0, 1), cmap="cividis",
        is_dark=lambda accuracy: not accuracy > 0.5,
    )  # fmt: skip
    ax.set_xlabel("hidden layers")
    return ax


def _distinct(rows, name: str) -> list:
    return list(dict.fromkeys(row[name] for row in rows))
