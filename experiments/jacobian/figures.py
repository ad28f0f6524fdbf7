"""The figures: spectra in decades a layer, and the exponents from layer to layer."""

import itertools

import matplotlib.pyplot as plt
import numpy as np

from experiments.jacobian import measured
from experiments.jacobian.options import Config
from jaxmlp.plotting.style import BLUE, COLOURS, GREEN, VERMILION, bare, written

WEIGHTS = "gaussian", "orthogonal"


def spectra(config: Config, found: list):
    """Draw log10 of the singular values over the depth, by rank; theory as lines."""
    acts, n = config.activations, config.width
    figure, axes = plt.subplots(
        2, len(acts), figsize=(3.2 * len(acts) + 0.6, 6), sharex=True, sharey=True,
        squeeze=False, layout="constrained",
    )  # fmt: skip
    place = (np.arange(n) + 0.5) / n
    for m in found:
        ax = axes[WEIGHTS.index(m.weights), acts.index(m.activation)]
        colour = COLOURS[config.depths.index(m.depth) % len(COLOURS)]
        values = np.where(np.isfinite(m.log10_s), m.log10_s, np.nan) / m.depth
        known = np.isfinite(values).any(axis=0)
        mean = np.nanmean(values[:, known], axis=0)
        dots = 0.4 * plt.rcParams["font.size"]
        ax.plot(place[known], mean, ".", ms=dots, color=colour, label=f"{m.depth:,} layers")
        if m.predicted.log10_largest is not None and m.depth < n:
            edge = m.predicted.log10_largest / 2 / m.depth
            ax.plot([0], [edge], ">", color=colour, clip_on=False)
        ax.set_title(f"{written(m.activation)}, {m.weights.replace('gauss', 'Gauss')}")
    for (weights, act), ax in zip(itertools.product(WEIGHTS, acts), axes.flat, strict=True):
        known = measured.theory(config, act, weights)
        if known is not None:
            exponents, cut = known
            ax.plot(place, np.where(cut < 0.5, exponents, np.nan), "k-", lw=1, label="exponents")
        bare(ax)
        ax.label_outer()
    axes[0, 0].legend()
    for ax in axes[:, 0]:
        ax.set_ylabel("log10 s over depth")
    for ax in axes[1]:
        ax.set_xlabel("rank / width")
    depth = max(m.depth for m in found)
    spans = [span(m) for m in found if (m.activation, m.depth) == (acts[0], depth)]
    figure.suptitle(
        f"{depth:,} {written(acts[0])} layers spread the Jacobian over {spans[0]:,.0f} decades "
        f"with Gaussian weights, over {spans[1]:,.0f} with orthogonal ones.\n"
        "Lines: exponents in theory; triangles: the largest value in theory",
    )
    return figure


def span(m) -> float:
    """Decades from the smallest open singular value to the largest, mean over the networks."""
    open_ = np.where(np.isfinite(m.log10_s), m.log10_s, np.nan)
    return float(np.mean(np.nanmax(open_, axis=1) - np.nanmin(open_, axis=1)))


def by_layer(config: Config, found: list):
    """Draw the growth of directions from layer to layer in the deepest networks, as means."""
    own = [m for m in found if m.exponents is not None]
    figure, axes = plt.subplots(
        1, len(own), figsize=(3.2 * len(own) + 0.6, 3.4), squeeze=False, layout="constrained"
    )
    quarter, half = config.width // 4, config.width // 2
    directions = {"first direction": 0, "a quarter on": quarter, "half-way": half}
    for m, ax in zip(own, axes[0], strict=True):
        known = measured.theory(config, m.activation, m.weights)
        for (name, i), colour in zip(directions.items(), (BLUE, GREEN, VERMILION), strict=True):
            with np.errstate(invalid="ignore"):
                values = m.exponents[:, :, i].mean(axis=0)
            piece = max(1, len(values) // 40)
            blocks = values[: len(values) // piece * piece].reshape(-1, piece).mean(axis=1)
            ax.plot((np.arange(len(blocks)) + 0.5) * piece, blocks, ".", color=colour)
            if ax is axes[0, 0] and np.isfinite(blocks).any():
                ax.annotate(name, (len(values) / 2, np.nanmax(blocks)), (0, 2), ha="center",
                            va="bottom", textcoords="offset points", color=colour)  # fmt: skip
            if known is not None:
                ax.axhline(known[0][i], color=colour, lw=1)
        ax.margins(y=0.12)  # room for the name of the first
        ax.set(title=written(m.activation), xlabel="layer")
        bare(ax)
    axes[0, 0].set_ylabel("decades a layer")
    figure.suptitle(
        "Every direction grows at its own rate, the same in every layer (lines: theory)"
    )
    return figure
