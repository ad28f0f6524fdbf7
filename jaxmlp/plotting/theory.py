"""Mean-field theory: the plane of variances, and predictions with their band."""

import numpy as np

from jaxmlp.plotting.flow import LABELS
from jaxmlp.plotting.style import GREY, bare, new_axes


def phase_diagram(diagram, ax=None, *, scale="xi_c", levels=(3, 10, 30, 100)):
    """Draw chi_1 as colour over the plane of variances, chi_1 = 1 as a line, and depth scales.

    Args:
      diagram: what `jaxmlp.meanfield.phase_diagram` returns.
      scale: the depth scale drawn as thin lines, "xi_c", "xi_q" or "xi_grad"; None for none.
      levels: the numbers of layers at which they are drawn.
    """
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import NullLocator

    ax = new_axes(ax)
    chi = np.clip(diagram.chi_1, 1e-6, 1e6)
    # the corner without weights, where chi_1 tends to 0, would take up all colours
    reach = max(1.01, np.exp(np.quantile(np.abs(np.log(chi)), 0.9)))
    plane, norm = (diagram.sigma_w2, diagram.sigma_b2), LogNorm(1 / reach, reach)
    image = ax.pcolormesh(*plane, chi, cmap="PuOr_r", norm=norm, shading="gouraud", rasterized=True)
    beside = [x for x in (1.2, 1.5, 2, 3, 5, 10, 100) if x <= reach]
    ticks = [*(1 / x for x in beside[::-1]), 1, *beside]
    bar = ax.figure.colorbar(image, ax=ax, label="chi_1", ticks=ticks)
    bar.ax.set_yticklabels([f"{tick:.2g}" for tick in ticks])
    bar.ax.yaxis.set_minor_locator(NullLocator())
    title = f"{diagram.activation}: gradients {'explode' if chi.min() > 1 else 'vanish'} everywhere"
    if chi.min() < 1 < chi.max():
        ax.contour(*plane, chi, levels=[1], colors="black", linewidths=2)
        _phases(diagram, chi, ax)
        title = f"{diagram.activation}: gradients vanish left of chi_1 = 1, explode right of it"
    if scale is not None:
        _depth_scales(diagram, ax, scale, np.array(levels))
        title += f"\ngrey: {scale} in layers"
    ax.set(xlabel="sigma_w2, weights", ylabel="sigma_b2, biases")
    ax.set_title(title)
    return ax


def _phases(diagram, chi, ax):
    """Write "ordered" and "chaotic" where chi_1 is below and above 1, in the middle of each."""
    points = np.stack(np.meshgrid(diagram.sigma_w2, diagram.sigma_b2), axis=-1)
    for name, inside in (("ordered", chi < 1), ("chaotic", chi > 1)):
        x, y = np.median(points[inside], axis=0)
        ax.text(x, y, name, ha="center", va="center", fontsize="large", style="italic", zorder=4)


def _depth_scales(diagram, ax, scale, levels):
    """Draw lines of equal depth, as rates with a sign: smooth where depths are infinite."""
    depth = np.ma.masked_invalid(getattr(diagram, scale))
    rate = 1 / np.ma.masked_equal(depth, 0)
    if scale == "xi_c":
        rate = rate * np.sign(1 - diagram.chi_1)
    rates = np.unique([-1 / levels, 1 / levels])
    plane = diagram.sigma_w2, diagram.sigma_b2
    lines = ax.contour(*plane, rate, levels=rates, colors=GREY, linewidths=0.8, linestyles="-")
    ax.clabel(lines, fmt=lambda level: f"{abs(1 / level):.3g}", fontsize="small")


def prediction_band(
    prediction, ax=None, *, x="layer", at_output=0.0, color=None, label: str | None = "mean field"
):
    """Draw the predicted log10 of the per-sample dS norm as a line, with its band over layers.

    The line is the mean at finite width, or that of infinite width where no width was given.

    Args:
      prediction: what `jaxmlp.meanfield.predict` returns.
      x: "layer", or "distance", the layers below the output.
      at_output: log10 of the measured norm at the output layer; predictions are relative to it.
    """
    ax = new_axes(ax)
    L = len(prediction.log10_delta)
    at = np.arange(1, L + 1) if x == "layer" else np.arange(L)[::-1]
    line = prediction.log10_stream if prediction.mean is None else prediction.mean
    (drawn,) = ax.plot(at, at_output + line, "--", color=color, label=label)
    if prediction.low is not None:
        low, high = at_output + prediction.low, at_output + prediction.high
        ax.fill_between(at, low, high, color=drawn.get_color(), alpha=0.2, lw=0)
    ax.set(xlabel=LABELS[x], ylabel=LABELS["log10_delta"])
    return bare(ax)
