"""The figure: accuracy over depth and variance, a map for each kind of network."""

import itertools

import matplotlib.pyplot as plt
import numpy as np

from experiments import common
from experiments.trainability.measured import xi_c
from experiments.trainability.options import Config
from jaxmlp.plotting.style import VERMILION

TITLES = {
    "tanh": "tanh, sigma_b2 = 0.05",
    "relu": "ReLU, no biases (he: 2)",
    "residual": "ReLU, residual, alpha = 1/sqrt(depth)",
}


def draw(config: Config, rows: common.Rows, title: str):
    """One map beside the other, with six xi_c as a line."""
    kinds = list(dict.fromkeys(row["map"] for row in rows))
    figure, axes = plt.subplots(
        1, len(kinds), figsize=(max(7.0, 1.2 + 3.1 * len(kinds)), 3.9), sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for ax, kind in zip(axes[0], kinds, strict=True):
        image = accuracy_map(config, [row for row in rows if row["map"] == kind], ax)
        theory(config, kind, ax)
        ax.set_title(TITLES[kind])
        ax.set_xlabel("sigma_w2")
    axes[0, 0].set_ylabel("hidden layers")
    figure.colorbar(image, ax=axes[0], label="training accuracy")
    data = "digits" if config.mnist is None else "MNIST"
    figure.suptitle(
        f"{title}.\nWidth {config.width}, batch {config.batch_size}, {config.num_steps} steps of "
        f"SGD {config.learning_rate:g}, {config.num_samples:,} {data}, median of "
        f"{config.num_seeds} seed{'s' * (config.num_seeds > 1)}; grey: deeper than what stayed at "
        "chance"
    )  # fmt: skip
    return figure


def accuracy_map(config: Config, rows: common.Rows, ax):
    """Accuracy as colour; what was not trained, deeper than two cells at chance, is grey."""
    w2s, depths = config.sigma_w2s, config.depths
    values = np.full((len(depths), len(w2s)), np.nan)
    for row in rows:
        values[depths.index(row["depth"]), w2s.index(row["sigma_w2"])] = row["accuracy"]
    ax.set_facecolor("0.9")
    return ax.pcolormesh(edges(w2s), edges(depths), values, cmap="viridis", vmin=0, vmax=1)


def edges(centres) -> np.ndarray:
    """Borders half-way between the centres, and as far beyond the first and the last."""
    centres = np.asarray(centres, float)
    if len(centres) == 1:
        return centres[0] + np.array([-0.5, 0.5])
    middle = [(a + b) / 2 for a, b in itertools.pairwise(centres)]
    return np.array([2 * centres[0] - middle[0], *middle, 2 * centres[-1] - middle[-1]])


def theory(config: Config, kind: str, ax) -> None:
    """Six xi_c, which are infinite at the edge of chaos."""
    low, high = ax.get_xlim()
    w2 = np.linspace(low, high, 400)
    xi = 6 * np.array([xi_c(kind, w) for w in w2])
    limits = ax.get_ylim()
    if np.isfinite(xi).any():
        beyond = np.where(np.isfinite(xi), np.minimum(xi, 10 * limits[1]), 10 * limits[1])
        ax.plot(w2, np.where(np.isnan(xi), np.nan, beyond), color="white", lw=3)
        ax.plot(w2, np.where(np.isnan(xi), np.nan, beyond), color=VERMILION, lw=1.6, label="6 xi_c")
        ax.legend(frameon=True, fontsize="small", loc="upper right")
    ax.set_ylim(limits)
