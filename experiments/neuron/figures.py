"""The figures: how often to update, what to feed, a descent, and what one neuron looks for."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from experiments.neuron.learning import SLIP, Key, Run
from jaxmlp import plotting
from jaxmlp.plotting.style import BLUE, COLOURS, GREY, ORANGE, SKY, VERMILION, bare


def updates_figure(runs: dict[Key, Run]):
    """Loss against epoch and against the number of updates: vehicles above, digits below."""
    figure, axes = plt.subplots(2, 2, figsize=(8, 4.8), sharey="row", layout="constrained")
    names = {"3-4-2": "Vehicles", "3 or 8": "Digits"}
    for (left, right), (task, name) in zip(axes, names.items(), strict=True):
        by_epoch, by_update = {}, {}
        for (learns, updates), run in runs.items():
            if learns == task:
                epoch = np.arange(1, len(run.loss) + 1)
                by_epoch[updates] = epoch, run.loss
                by_update[updates] = run.updates * epoch, run.loss
        plotting.learning_curves(by_epoch, left)
        plotting.learning_curves(by_update, right, xlabel="updates", ylabel="")
        right.get_legend().remove()
        left.set_title(f"{name}: {leader(by_epoch)} leads by epoch")
        right.set_title(f"{name}: by update within {apart(by_update):.0%} of each other")
        for ax in (left, right):
            ax.set_xscale("log")
            ax.minorticks_off()
    return figure


def leader(curves: dict[str, tuple]) -> str:
    """Return the curve that is lowest where the shortest one ends."""
    end = min(x[-1] for x, _ in curves.values())
    return min(curves, key=lambda label: np.interp(end, *curves[label]))


def apart(curves: dict[str, tuple]) -> float:
    """By how much the curves differ where the shortest one ends, the slip left out."""
    own = [curve for label, curve in curves.items() if label != SLIP]
    end = min(x[-1] for x, _ in own)
    losses = [np.interp(end, *curve) for curve in own]
    return max(losses) / min(losses) - 1


def inputs_figure(inputs: dict[str, tuple]):
    """The loss of raw and of standardised inputs: one in red, one in blue, one neuron dashed."""
    figure, ax = plt.subplots(figsize=(8, 3.6), layout="constrained")
    plotting.learning_curves(inputs, ax).set_xscale("log")
    ax.minorticks_off()
    for line in ax.lines:
        network, kind = str(line.get_label()).split(", ")
        line.set_color({"raw": VERMILION, "standardised": BLUE}[kind])
        if network == "one neuron":  # over the other, which it covers where inputs are raw
            line.set(color={"raw": ORANGE, "standardised": SKY}[kind], ls="--", zorder=3)
    ax.legend()
    raw, scaled = (
        max(loss[-1] for name, (_, loss) in inputs.items() if name.endswith(kind))
        for kind in ("raw", "standardised")
    )
    ax.set_title(f"The same training ends at a loss of {raw:.2g} with raw inputs, of {scaled:.2g} "
                 "with standardised ones")  # fmt: skip
    return figure


def descent_figure(paths: dict[str, list[float]]):
    """The parabola, down and up."""
    figure, ax = plt.subplots(figsize=(8, 3.6), layout="constrained")
    shown = {name: paths[name] for name in ("x - 0.1 dy/dx", "x + 0.1 dy/dx")}
    descents(lambda x: x**2 - 10, shown, ax, reach=8)
    ax.set_title("Minus the gradient descends, plus climbs")
    return figure


def weights_figure(weights: dict[str, Any]):
    """What the units look for."""
    figure, axes = plt.subplots(1, len(weights), figsize=(8, 3.2), layout="constrained")
    for ax, (name, W) in zip(axes, weights.items(), strict=True):
        weight_image(W, ax).set_title(name)
    figure.suptitle("Weights of one neuron: orange pixels speak for an 8, purple for a 3")
    return figure


def descents(fn, paths, ax, *, reach):
    """Draw `y = fn(x)` for |x| up to `reach`, and on it the points of each `label: xs`.

    Points beyond `reach` are left out.
    """
    x = np.linspace(-reach, reach, 201)
    ax.plot(x, fn(x), color=GREY, lw=1)
    for i, (label, xs) in enumerate(paths.items()):
        inside = np.asarray(xs)[np.abs(xs) <= reach]
        ax.plot(inside, fn(inside), ".-", color=COLOURS[i % len(COLOURS)], label=label)
    ax.set(xlabel="x", ylabel="y")
    ax.legend(frameon=False)
    return bare(ax)


def weight_image(w, ax):
    """Draw the weights of one neuron that sees a square image: positive orange, negative purple.

    `w` has a square number of entries; white is 0.
    """
    w = np.ravel(w)
    side, largest = round(len(w) ** 0.5), np.abs(w).max()
    ax.imshow(w.reshape(side, side), cmap="PuOr_r", vmin=-largest, vmax=largest)
    ax.set(xticks=[], yticks=[])
    return ax
