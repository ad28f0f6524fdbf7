"""Gradient flow: magnitudes against the layer, and what is lost on the way back."""

import itertools

import numpy as np

from jaxmlp.plotting.style import (
    BLUE,
    COLOURS,
    ORANGE,
    bare,
    median_band,
    new_axes,
    written,
    written_map,
)

LABELS = {
    "log10_delta": "log10 of the per-sample dZ norm",
    "log10_stream": "log10 of the per-sample dS norm",
    "log10_grad_W": "log10 of the dW norm",
    "log10_grad_b": "log10 of the db norm",
    "log10_activation": "log10 of the activation norm",
    "layer": "layer",
    "distance": "layers below the output",
}


def gradient_flow(flow, ax=None, **line):
    """Draw log10 of the per-sample norm and of the dW norm against the layer.

    The per-sample norm is that of dS, the stream's derivative: dZ itself without a residual.
    """
    ax = new_axes(ax)
    layer = np.arange(1, len(flow.log10_delta) + 1)
    plain = np.array_equal(flow.log10_stream, flow.log10_delta, equal_nan=True)
    for field, colour in (
        ("log10_delta" if plain else "log10_stream", BLUE),
        ("log10_grad_W", ORANGE),
    ):
        name = LABELS[field].removeprefix("log10 of the ")
        ax.plot(layer, getattr(flow, field), ".-", color=colour, label=name, **line)
    ax.set(xlabel="layer", ylabel="log10")
    ax.legend()
    return bare(ax)


def depth_sweep(table, ax=None, *, y=None, x="layer"):
    """Draw one line for each initialisation, remedy and depth, the median over seeds, their range.

    One colour an initialisation with its residual and norm; deeper networks are drawn darker. The
    table's activations are not told apart: give it one, `table.select(activation=...)`. y is the
    norm of dS, the stream's derivative, unless another column is asked for.
    """
    ax = new_axes(ax)
    columns = table.columns()
    if y is None:
        y = "log10_delta" if set(columns["residual"]) == {None} else "log10_stream"
    kinds = dict.fromkeys(zip(*(columns[name] for name in _KIND), strict=True))
    depths = sorted(set(columns["depth"].tolist()))
    for colour, kind in zip(itertools.cycle(COLOURS), kinds, strict=False):
        init = with_remedies(*kind)
        for rank, depth in enumerate(depths):
            own = table.select(depth=depth, **dict(zip(_KIND, kind, strict=True))).columns()
            over_seeds = own[y].reshape(-1, depth + 1)
            alpha = 0.35 + 0.65 * (rank + 1) / len(depths)
            label = init if depth == depths[-1] else None
            at = own[x][: depth + 1]
            median_band(ax, at, over_seeds, color=colour, alpha=alpha, label=label)
    ax.set(xlabel=LABELS[x], ylabel=LABELS[y])
    return bare(ax)


_KIND = ("init", "residual", "norm")


def with_remedies(init, residual, norm) -> str:
    """Name an initialisation with the residual and the norm of its networks."""
    parts = [init]
    parts += [] if residual is None else [f"residual {residual}"]
    parts += [] if norm is None else [f"{norm} norm"]
    return ", ".join(parts)


def decades_lost(table, ax=None):
    """Draw how many decades the norm of dS loses from the last to the first hidden layer.

    dS is dZ in networks without a residual.

    Negative numbers are decades gained: the gradient explodes.
    """
    from matplotlib.colors import SymLogNorm

    ax = new_axes(ax)
    rows = sorted(table.summary(over_seeds=True), key=lambda row: row["depth"])
    lost = {
        (
            f"{written(row['activation'])}, {with_remedies(*(row[name] for name in _KIND))}",
            row["depth"],
        ): -row["log10_change"]
        for row in rows
        if row["depth"] > 1
    }
    largest = max([1.0, *(abs(value) for value in lost.values() if np.isfinite(value))])
    norm = SymLogNorm(1.0, vmin=-largest, vmax=largest)
    image = written_map(
        ax, lost, form="z.1f", fontsize="small", norm=norm, cmap="PuOr_r",
        is_dark=lambda value: abs(norm(value) - 0.5) > 0.3,
    )  # fmt: skip
    ax.set(xlabel="hidden layers", title="Decades lost on the way back")
    ax.figure.colorbar(image, ax=ax, label="decades lost (negative: gained)")
    return ax
