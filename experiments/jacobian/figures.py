"""The figures: spectra in decades a layer, and the exponents from layer to layer."""

import matplotlib.pyplot as plt
import numpy as np

from experiments.jacobian import measured
from experiments.jacobian.options import Config
from jaxmlp.plotting.style import BLUE, COLOURS, GREEN, VERMILION, bare


def spectra(config: Config, found: list):
    """Draw log10 of the singular values over the depth, by rank; theory as lines."""
    acts, n = config.activations, config.width
    figure, axes = plt.subplots(
        2, len(acts), figsize=(3.2 * len(acts) + 0.6, 6), sharex=True, sharey=True,
        squeeze=False, layout="constrained",
    )  # fmt: skip
    place = (np.arange(n) + 0.5) / n
    for m in found:
        ax = axes[("gaussian", "orthogonal").index(m.weights), acts.index(m.activation)]
        colour = COLOURS[config.depths.index(m.depth) % len(COLOURS)]
        values = np.where(np.isfinite(m.log10_s), m.log10_s, np.nan) / m.depth
        known = np.isfinite(values).any(axis=0)
        mean = np.nanmean(values[:, known], axis=0)
        ax.plot(place[known], mean, ".", ms=4, color=colour, label=f"{m.depth} layers")
        if m.predicted.log10_largest is not None and m.depth < n:
            edge = m.predicted.log10_largest / 2 / m.depth
            ax.plot([0], [edge], ">", color=colour, ms=6, clip_on=False)
        ax.set_title(f"{m.activation}, {m.weights}")
    for ax in axes.flat:
        act, weights = ax.get_title().split(", ")
        known = measured.theory(config, act, weights)
        if known is not None:
            exponents, cut = known
            ax.plot(place, np.where(cut < 0.5, exponents, np.nan), "k-", lw=1, label="exponents")
        bare(ax)
        ax.label_outer()
    axes[0, 0].legend(frameon=False, fontsize="small")
    for ax in axes[:, 0]:
        ax.set_ylabel("log10 s over depth")
    for ax in axes[1]:
        ax.set_xlabel("rank / width")
    first = max((m for m in found if m.weights == "gaussian"), key=lambda m: m.depth)
    open_ = np.where(np.isfinite(first.log10_s), first.log10_s, np.nan)
    span = np.mean(np.nanmax(open_, axis=1) - np.nanmin(open_, axis=1))
    figure.suptitle(
        f"{first.depth:,} Gaussian {first.activation} layers spread the Jacobian over {span:,.0f} "
        "decades; orthogonal weights keep it together.\nLines: exponents in theory; triangles: the "
        "largest value in theory",
    )
    return figure


def by_layer(config: Config, found: list):
    """Draw the growth of directions from layer to layer in the deepest networks, as means."""
    own = [m for m in found if m.exponents is not None]
    figure, axes = plt.subplots(
        1, len(own), figsize=(3.2 * len(own) + 0.6, 3.4), squeeze=False, layout="constrained"
    )
    directions = {"first": 0, "a quarter on": config.width // 4, "half-way": config.width // 2}
    for m, ax in zip(own, axes[0], strict=True):
        known = measured.theory(config, m.activation, m.weights)
        for (name, i), colour in zip(directions.items(), (BLUE, GREEN, VERMILION), strict=True):
            with np.errstate(invalid="ignore"):
                values = m.exponents[:, :, i].mean(axis=0)
            piece = max(1, len(values) // 40)
            blocks = values[: len(values) // piece * piece].reshape(-1, piece).mean(axis=1)
            ax.plot((np.arange(len(blocks)) + 0.5) * piece, blocks, ".", color=colour, label=name)
            if known is not None:
                ax.axhline(known[0][i], color=colour, lw=1)
        ax.set(title=m.activation, xlabel="layer")
        bare(ax)
    axes[0, 0].set_ylabel("decades a layer")
    axes[0, 0].legend(frameon=False, fontsize="small", title="direction", loc=(0.55, 0.17))
    figure.suptitle(
        "Every direction grows at its own rate, the same in every layer (lines: theory)"
    )
    return figure
