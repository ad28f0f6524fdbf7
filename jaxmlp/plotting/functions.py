"""Functions: an activation with its derivative, and the regions that a classifier decides on."""

import itertools

import numpy as np

from jaxmlp.plotting.style import BLUE, COLOURS, GREEN, GREY, ORANGE, bare, new_axes

MARKERS = "o^sDvPX*"


def activation(act, ax=None, *, reach: float = 4.0):
    """Draw a jaxmlp.Activation and its hand-written derivative for |z| up to `reach`.

    Lines break at its kinks, where dots mark the values taken; PReLU has its derivative in the
    slope too, `min(z, 0)` (D9).
    """
    ax = new_axes(ax)
    kinks = np.array([kink for kink in act.kinks if abs(kink) < reach], np.float32)
    aside = 1e-5 * reach
    for low, high in itertools.pairwise([-reach, *kinks, reach]):
        z = np.linspace(low + aside, high - aside, 201, dtype=np.float32)
        A = act.fn(z)
        ax.plot(z, A, color=BLUE, label="function")
        ax.plot(z, act.derivative(z, A), color=ORANGE, ls="--", label="derivative")
        if act.slope is not None:
            ax.plot(z, np.minimum(z, 0), color=GREEN, ls=":", label="derivative in the slope")
    if kinks.size:
        A = act.fn(kinks)
        ax.plot(kinks, A, ".", color=BLUE)
        ax.plot(kinks, act.derivative(kinks, A), ".", color=ORANGE)
    ax.set(xlabel="z", xlim=(-reach, reach))
    return bare(ax)


def derivative_difference(z, difference, ax=None, *, bins: int = 80):
    """Draw how far two derivatives are apart, the largest difference in each bin of z.

    In units of 2^-52, float64's last bit of 1.
    """
    ax = new_axes(ax)
    edges = np.linspace(np.min(z), np.max(z), bins + 1)
    largest = np.zeros(bins)
    np.maximum.at(largest, np.clip(np.digitize(z, edges) - 1, 0, bins - 1), difference)
    ax.stairs(largest / 2**-52, edges, fill=True, color=GREY)
    ax.set(xlabel="z", ylabel="difference / 2$^{-52}$", xlim=(edges[0], edges[-1]))
    return bare(ax)


def activation_panels(panels, axes, *, reach: float = 4.0):
    """Draw many activations small: `activation`, and `derivative_difference` in the row below.

    Args:
      panels: `(title, act, z, difference)` for each.
      axes: `(2 * rows, columns)`; those left over are hidden. Their figure gets the legend.
    """
    columns, legend = axes.shape[1], {}
    top = max(1, *(int(np.ceil(max(difference) / 2**-52)) for *_, difference in panels))
    for i, (title, act, z, difference) in enumerate(panels):
        upper, lower = axes[2 * (i // columns) : 2 * (i // columns) + 2, i % columns]
        activation(act, upper, reach=reach)
        upper.set_title(title, fontsize=10)
        upper.locator_params(nbins=4)
        upper.set(xlabel="", xticks=upper.get_xticks(), xticklabels=[], xlim=(-reach, reach))
        derivative_difference(z, difference, lower)
        lower.set(ylabel="", ylim=(0, top), yticks=(0, top), xticks=upper.get_xticks())
        lower.set_xlim(-reach, reach)
        if i + columns < len(panels):
            lower.set(xlabel="", xticklabels=[])
        legend |= {line.get_label(): line for line in upper.lines}
    for ax in axes.flat:
        ax.set_visible(ax.has_data())
    legend = {label: line for label, line in legend.items() if not label.startswith("_")}
    axes[0, 0].figure.legend(
        legend.values(), legend, loc="outside lower center", ncols=len(legend), frameon=False
    )
    return axes


def decision_regions(classify, X, Y, ax=None, *, num_points: int = 300):
    """Draw which class a classifier gives to every point of the plane, and the samples on it.

    Args:
      classify: `classify(points)` -> class numbers `(n,)` for points `(n, 2)`.
      X, Y: samples `(m, 2)` and their class numbers `(m,)`.
      num_points: the plane is asked on a grid of so many points a side.
    """
    from matplotlib.colors import ListedColormap

    ax = new_axes(ax)
    X, Y = np.asarray(X), np.asarray(Y)
    low, high = X.min(axis=0), X.max(axis=0)
    low, high = low - 0.08 * (high - low), high + 0.08 * (high - low)
    x, y = (np.linspace(*ends, num_points) for ends in zip(low, high, strict=True))
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    regions = np.asarray(classify(points)).reshape(num_points, num_points)
    num_classes = int(max(regions.max(), Y.max())) + 1
    colours = [COLOURS[k % len(COLOURS)] for k in range(num_classes)]
    extent = (low[0], high[0], low[1], high[1])
    ax.imshow(
        regions, cmap=ListedColormap(colours), vmin=-0.5, vmax=num_classes - 0.5, alpha=0.25,
        extent=extent, origin="lower", interpolation="nearest", aspect="auto",
    )  # fmt: skip
    for k, colour in enumerate(colours):
        marker = MARKERS[k % len(MARKERS)]
        ax.plot(*X[k == Y].T, marker, color=colour, ms=3.5, mec="black", mew=0.3)
    ax.set(xlabel="x", ylabel="y")
    return ax
