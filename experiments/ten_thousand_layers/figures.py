"""The figures: the gradient at birth with the learning curve, and the panel."""

import matplotlib.pyplot as plt
import numpy as np

from experiments.ten_thousand_layers.options import Config
from jaxmlp import plotting
from jaxmlp.plotting.style import BLUE, VERMILION, bare


def birth_and_learning(config: Config, flows: dict, history, per_epoch: int):
    """log10 of dZ against the layer for both weights; accuracy against the step."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    for (name, log10), colour in zip(flows.items(), (VERMILION, BLUE), strict=True):
        relative = log10[:-1] - log10[-2]
        left.plot(np.arange(1, len(relative) + 1), relative, color=colour, label=name.capitalize())
    left.set(xlabel="layer", ylabel="log10 of |dZ| over the last's")
    left.legend()
    lost = {name: log10[-2] - log10[0] for name, log10 in flows.items()}
    left.set_title(
        f"{config.depth:,} tanh layers: Gaussian weights lose\n{lost['gaussian']:.0f} decades, "
        f"orthogonal ones {lost['orthogonal']:.1f}",
    )  # fmt: skip
    bare(left)
    step = per_epoch * (np.arange(len(history.accuracy)) + 0.5)
    right.plot(step, history.accuracy, "o-", color=BLUE)
    right.set_xlim(0, per_epoch * len(history.accuracy))
    right.axhline(0.1, color="0.5", ls="--", lw=1)
    right.text(step[-1], 0.09, "guessing", ha="right", va="top", fontsize="small", color="0.35")
    right.set(xlabel="step", ylabel="training accuracy", ylim=(0, 1))
    right.set_title(
        f"Orthogonal: {history.accuracy[-1]:.0%} of the digits right\nafter "
        f"{per_epoch * len(history.accuracy)} steps of SGD",
    )  # fmt: skip
    bare(right)
    return figure


def panel(history):
    """Six maps, layers by steps."""
    axes = plotting.panel(history)
    figure = axes[0, 0].figure
    figure.suptitle("What the panel recorded: the gradient keeps its size in every layer")
    return figure
