"""Prediction and measurement on the same axes: theory as a line, networks as points."""

import numpy as np

from jaxmlp.plotting.style import bare, new_axes
from jaxmlp.plotting.theory import prediction_band


def against_prediction(prediction, measured, ax=None, *, color=None, label=None):
    """Draw a predicted band, and the measured mean of several networks as points.

    Args:
      prediction: what `jaxmlp.meanfield.predict` returns, with a width.
      measured: `(L,)`, log10 of the dZ norm over that at the output.
    """
    ax = prediction_band(prediction, ax, color=color, label=label)
    _points(ax, measured, ax.lines[-1].get_color())
    ax.set(ylabel="log10 of |dz| over output's")
    return ax


def correlations(prediction, measured, ax=None, *, color=None):
    """Draw the predicted cosine between two inputs' z as a line, the measured one as points."""
    ax = new_axes(ax)
    layer = np.arange(1, len(prediction.correlation) + 1)
    (line,) = ax.plot(layer, prediction.correlation, "--", color=color)
    _points(ax, measured, line.get_color())
    ax.set(xlabel="layer", ylabel="cosine of two z", ylim=(-1.05, 1.05))
    return bare(ax)


def measured_factors(sigma_w2, sigma_b2, chi, ax):
    """Draw measured networks as dots on a `phase_diagram`, in its colours."""
    plane = ax.collections[0]
    ax.scatter(
        sigma_w2, sigma_b2, c=np.clip(chi, plane.norm.vmin, plane.norm.vmax), norm=plane.norm,
        cmap=plane.cmap, edgecolors="black", linewidths=0.8, s=60, zorder=3,
    )  # fmt: skip
    return ax


def _points(ax, values, color):
    """Some twenty of the points."""
    layer = np.arange(1, len(values) + 1)
    some = slice(None, None, max(1, len(values) // 20))
    ax.plot(layer[some], np.asarray(values)[some], ".", ms=5, color=color)
