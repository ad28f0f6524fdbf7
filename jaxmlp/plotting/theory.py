"""Mean-field theory: the plane of variances, and predictions with their band."""

import numpy as np

from jaxmlp.plotting.flow import LABELS
from jaxmlp.plotting.style import GREY, bare, new_axes

SCALES = {
    "xi_q": "layers in which the length settles",
    "xi_c": "layers in which the correlation settles",
    "xi_grad": "layers in which squared gradients fall by e",
}


def phase_diagram(diagram, ax=None, *, scale="xi_c", levels=(3, 10, 30, 100)):
    """Draw chi_1 as colour over the plane of variances, chi_1 = 1 as a line, and depth scales.

    Args:
      diagram: what `jaxmlp.meanfield.phase_diagram` returns.
      scale: the depth scale drawn as thin lines, "xi_c", "xi_q" or "xi_grad"; None for none.
      levels: the numbers of layers at which they are drawn.
    """
    from matplotlib.colors import LogNorm

    ax = new_axes(ax)
    chi = np.ma.masked_where(~((diagram.chi_1 > 0) & (diagram.chi_1 < np.inf)), diagram.chi_1)
    reach = max(1.01, chi.max(), 1 / chi.min()) if chi.count() else 1.01
    plane, norm = (diagram.sigma_w2, diagram.sigma_b2), LogNorm(1 / reach, reach)
    image = ax.pcolormesh(*plane, chi, cmap="PuOr_r", norm=norm, shading="nearest", rasterized=True)
    ax.figure.colorbar(image, ax=ax, label="chi_1: squared gradient, layer by layer back")
    if chi.count() and chi.min() < 1 < chi.max():
        ax.contour(*plane, chi, levels=[1], colors="black", linewidths=2)
    ax.set(xlabel="sigma_w2, variance of the weights x fan_in", ylabel="sigma_b2, of the biases")
    if scale is not None:
        depth = np.minimum(np.ma.masked_invalid(np.abs(getattr(diagram, scale))), 1e6)
        lines = ax.contour(*plane, depth, levels=levels, colors=GREY, linewidths=0.8)
        ax.clabel(lines, fmt="%g", fontsize=8)
    name = "" if scale is None else f"; grey: {SCALES[scale]}"
    ax.set_title(f"{diagram.activation}: edge of chaos in black{name}", fontsize=10)
    return ax


def prediction_band(
    prediction, ax=None, *, x="layer", at_output=0.0, color=None, label="mean field"
):
    """Draw the predicted log10 of the per-sample dZ norm as a line, with its band over layers.

    The line is the mean at finite width, or that of infinite width where no width was given.

    Args:
      prediction: what `jaxmlp.meanfield.predict` returns.
      x: "layer", or "distance", the layers below the output.
      at_output: log10 of the measured norm at the output layer; predictions are relative to it.
    """
    ax = new_axes(ax)
    L = len(prediction.log10_delta)
    at = np.arange(1, L + 1) if x == "layer" else np.arange(L)[::-1]
    line = prediction.log10_delta if prediction.mean is None else prediction.mean
    (drawn,) = ax.plot(at, at_output + line, "--", color=color, label=label)
    if prediction.low is not None:
        low, high = at_output + prediction.low, at_output + prediction.high
        ax.fill_between(at, low, high, color=drawn.get_color(), alpha=0.2, lw=0)
    ax.set(xlabel=LABELS[x], ylabel=LABELS["log10_delta"])
    return bare(ax)
