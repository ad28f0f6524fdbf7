"""The figures: how often to update, what to feed, a descent, and what one neuron looks for."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from experiments.neuron.learning import Key, Run
from jaxmlp import plotting
from jaxmlp.plotting.style import COLOURS, GREY, bare


def updates_figure(runs: dict[Key, Run]):
    """Draw loss against epoch and against wall time: vehicles above, digits below."""
    figure, axes = plt.subplots(2, 2, figsize=(6.6, 4.8), sharey="row", layout="constrained")
    names = {"3-4-2": "Vehicles", "3 or 8": "Digits"}
    for (left, right), (task, name) in zip(axes, names.items(), strict=True):
        by_epoch, by_time = {}, {}
        for (learns, updates), run in runs.items():
            if learns == task:
                epoch = np.arange(1, len(run.loss) + 1)
                by_epoch[updates] = epoch, run.loss
                by_time[updates] = 1e3 * run.seconds * epoch, run.loss
        plotting.learning_curves(by_epoch, left)
        plotting.learning_curves(by_time, right, xlabel="wall time in ms", ylabel="")
        left.legend(frameon=False, fontsize=8)
        right.get_legend().remove()
        for ax, by, curves in ((left, "epoch", by_epoch), (right, "wall time", by_time)):
            ax.set_title(f"{name}: {leader(curves)} leads by {by}", fontsize=9)
            ax.set_xscale("log")
            ax.minorticks_off()
    return figure


def leader(curves: dict[str, tuple]) -> str:
    """Return the curve that is lowest where the shortest one ends."""
    end = min(x[-1] for x, _ in curves.values())
    return min(curves, key=lambda label: np.interp(end, *curves[label]))


def inputs_figure(inputs: dict[str, tuple], paths: dict[str, list[float]], weights: dict[str, Any]):
    """Draw raw against standardised inputs, the parabola, and the weights of three units."""
    figure = plt.figure(figsize=(8, 6), layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=(5, 4))
    above, below = halves
    left, right = above.subplots(1, 2)
    plotting.learning_curves(inputs, left).set_xscale("log")
    raw, scaled = (
        max(loss[-1] for name, (_, loss) in inputs.items() if name.endswith(kind))
        for kind in ("raw", "standardised")
    )
    left.set_title(f"Full batch: raw ends at {raw:.2g}, standardised at {scaled:.2g}", fontsize=10)
    shown = {name: paths[name] for name in ("x - 0.1 dy/dx", "x + 0.1 dy/dx")}
    descents(lambda x: x**2 - 10, shown, right, reach=8)
    right.set_title("Minus the gradient descends, plus climbs", fontsize=10)
    for ax, (name, W) in zip(below.subplots(1, len(weights)), weights.items(), strict=True):
        weight_image(W, ax).set_title(name, fontsize=10)
    below.suptitle("Weights of one neuron: orange pixels speak for an 8, purple for a 3")
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
