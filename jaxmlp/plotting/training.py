"""What training gives: learning curves, and the regions that a classifier decides on."""

import numpy as np

from jaxmlp.plotting.style import COLOURS, bare, new_axes

MARKERS = "o^sDvPX*"


def learning_curves(curves, ax=None, *, xlabel="epoch", ylabel="loss", **line):
    """Draw a line for each `label: (x, y)`, on a log y where every value is above 0.

    Args:
      curves: a dictionary; x and y are sequences of equal length.
      line: what `ax.plot` takes.
    """
    ax = new_axes(ax)
    for i, (label, (x, y)) in enumerate(curves.items()):
        ax.plot(x, y, color=COLOURS[i % len(COLOURS)], label=label, **line)
    positive = all(np.min(y) > 0 for _, y in curves.values())
    ax.set(xlabel=xlabel, ylabel=ylabel, yscale="log" if positive else "linear")
    ax.legend()
    return bare(ax)


PANEL = {
    "log10_delta": "per-sample dZ norm (log10)",
    "log10_gradient": "gradient norm (log10)",
    "log10_update": "update / weight norm (log10)",
    "noise_scale": "noise scale (log10 of samples)",
    "saturated": "saturated share",
    "dead": "dead share",
}


def panel(history, axes=None):
    """Draw what `jaxmlp.panel` recorded: six maps, layers by steps.

    Args:
      history: of `fit`, or its record.
      axes: an array of six; by default those of a new figure.
    """
    import matplotlib.pyplot as plt

    record = getattr(history, "record", history)
    if axes is None:
        wide, high = plt.rcParams["figure.figsize"]
        axes = plt.subplots(2, 3, figsize=(1.4 * wide, high), sharex=True, sharey=True,
                            layout="constrained")[1]  # fmt: skip
    layer = np.arange(1, record.log10_delta.shape[1] + 1)
    for ax, (name, title) in zip(np.ravel(axes), PANEL.items(), strict=True):
        values = np.asarray(getattr(record, name), float)
        if name == "noise_scale":
            with np.errstate(divide="ignore"):
                values = np.log10(values)
        limits = (0, 1) if title.endswith("share") else (None, None)
        image = ax.pcolormesh(
            record.step, layer, values.T, cmap="viridis", vmin=limits[0], vmax=limits[1],
            shading="nearest", rasterized=True,
        )  # fmt: skip
        ax.figure.colorbar(image, ax=ax)
        ax.set_title(title)
        ax.set_facecolor("0.85")  # where nothing is known
    if np.ndim(axes) == 2:
        for ax in axes[-1]:
            ax.set_xlabel("step")
        for ax in axes[:, 0]:
            ax.set_ylabel("layer")
    return axes


def decision_regions(classify, X, Y, ax=None, *, num_points: int = 300):
    """Draw which class a classifier gives to every point of the plane, and the samples on it.

    Args:
      classify: `classify(points)` -> class numbers `(n,)` for points `(n, 2)`.
      X, Y: samples `(m, 2)` and their class numbers `(m,)`.
      num_points: the plane is asked on a grid of so many points a side.
    """
    from matplotlib import rcParams
    from matplotlib.colors import ListedColormap

    ax, letter = new_axes(ax), rcParams["font.size"]
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
        ax.plot(
            *X[k == Y].T, marker, color=colour, ms=0.35 * letter, mec="black", mew=0.03 * letter
        )
    ax.set(xlabel="x", ylabel="y")
    return ax
