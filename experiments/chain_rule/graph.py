"""Drawing a network: the numbers of nodes and edges on both ways, and one path lit."""

import itertools

import numpy as np
from matplotlib import rcParams
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.transforms import blended_transform_factory

from jaxmlp.plotting.style import BLUE, VERMILION, YELLOW

MOST_UNITS, MOST_LAYERS = 8, 4
INK, PALE, CLOSED = "#333333", "#C4C4C4", "#E6E6E6"
NODE = 5.2  # diameter in letters


def network(activations, deltas, weights, gradients, ax, *, path=(), factors=(), headings=()):
    """Draw the network: a over dZ in the nodes, W as width and style of the edges, dW as colour.

    Args:
      activations: L + 1 rows of numbers, the inputs first.
      deltas: the derivative in each node, in the same shape: dX, then dZ of layers 1..L.
      weights, gradients: L matrices `(d_in, d_out)` each.
      path: the nodes `(layer, unit)` of the path to light, from left to right; inputs are layer 0.
      factors: `(name, number)` along the path, by turns on an edge and above the node it leads to;
        the last one stands beside the last node.
      headings: a text above each column.

    Raises:
      ValueError: for a network too large to read: more than 8 units in a layer, or 4 layers.
    """
    sizes = tuple(len(row) for row in activations)
    if max(sizes) > MOST_UNITS or len(weights) > MOST_LAYERS:
        raise ValueError(
            f"a network {sizes} is too large to read as a drawing: at most {MOST_UNITS} units in "
            f"a layer and {MOST_LAYERS} layers"
        )
    at = {(l, k): (l, (d - 1) / 2 - k) for l, d in enumerate(sizes) for k in range(d)}
    _edges(ax, at, weights, gradients, set(itertools.pairwise(path)))
    _nodes(ax, at, activations, deltas, set(path))
    _factors(ax, [at[node] for node in path], factors)
    top = max(sizes) / 2
    for l, text in enumerate(headings):
        ax.text(l, top + 0.2, text, ha="center", va="bottom", fontsize="small", color=INK,
                in_layout=False)  # fmt: skip
    key = (
        "edge: width |W|, dashed where W < 0, colour dW\n"
        "node: a over dZ (inputs: x over dX), grey where a = 0"
    )
    ax.text(len(weights) / 2, -top - 0.12, key, ha="center", va="top", fontsize="small", color=INK,
            in_layout=False)  # fmt: skip
    ax.set(xlim=(-0.1 * len(weights), 1.2 * len(weights)), ylim=(-top - 0.5, top + 0.6))
    ax.axis("off")
    return ax


def _edges(ax, at, weights, gradients, lit) -> None:
    # grey in the middle, because an edge with dW = 0 is still an edge
    colours = LinearSegmentedColormap.from_list("dW", [BLUE, PALE, VERMILION])
    reach = max(float(np.abs(dW).max()) for dW in gradients) or 1.0
    widest = max(float(np.abs(W).max()) for W in weights) or 1.0
    scale = ScalarMappable(Normalize(-reach, reach), colours)
    for l, (W, dW) in enumerate(zip(weights, gradients, strict=True)):
        for (i, j), w in np.ndenumerate(W):
            ends = (l, i), (l + 1, j)
            xs, ys = zip(*(at[end] for end in ends), strict=True)
            width = 0.8 + 4.2 * abs(w) / widest
            if ends in lit:
                ax.plot(xs, ys, color=YELLOW, lw=width + 9, zorder=1)
            dashes = "-" if w >= 0 else (0, (2.2, 1.1))
            ax.plot(xs, ys, color=scale.to_rgba(dW[i, j]), lw=width, ls=dashes, zorder=2)
    bar = ax.figure.colorbar(scale, ax=ax, shrink=0.7, pad=0.01, aspect=25)
    bar.set_label("dW", fontsize="small")
    bar.ax.tick_params(labelsize="small")


def _letters(number: float) -> float:
    """So many letters in points."""
    return number * rcParams["font.size"]


def _nodes(ax, at, activations, deltas, lit) -> None:
    size = _letters(NODE)
    for (l, k), where in at.items():
        a, delta = activations[l][k], deltas[l][k]
        if (l, k) in lit:
            ax.scatter(*where, s=(size + 9) ** 2, color=YELLOW, lw=0, zorder=3, clip_on=False)
        face = "white" if a != 0 else CLOSED
        ax.scatter(
            *where, s=size**2, facecolor=face, edgecolor=INK, lw=1.2, zorder=4, clip_on=False
        )
        for value, dy, weight in ((a, _letters(0.7), "bold"), (delta, -_letters(0.7), "normal")):
            ax.annotate(
                number(value), where, (0, dy), textcoords="offset points", ha="center",
                va="center", fontsize="small", fontweight=weight, zorder=5,
            )  # fmt: skip


def _factors(ax, nodes, factors) -> None:
    """Yield boxes in the order of the chain: on an edge, above its node, ..., at the last node."""
    places = []
    for (x0, y0), (x1, y1) in itertools.pairwise(nodes):
        places += [("\n", (x0 + x1) / 2, (y0 + y1) / 2, 0), (" = ", x1, y1, _letters(NODE / 2) + 9)]
    box = {"boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": "#B8A800", "lw": 1}
    style = {"fontsize": "small", "va": "center", "bbox": box, "zorder": 6}
    style |= {"textcoords": "offset points", "in_layout": False}
    for (name, value), (link, x, y, dy) in zip(factors[:-1], places, strict=False):
        ax.annotate(f"{name}{link}{number(value)}", (x, y), (0, dy), ha="center", **style)
    for name, value in factors[-1:]:
        ax.annotate(f"{name}\n{number(value)}", nodes[-1], (_letters(NODE / 2) + 9, 0), **style)


def number(value: float) -> str:
    """Return a number with three digits and a true minus sign."""
    return f"{value:.3g}".replace("-", "\N{MINUS SIGN}")


def path_sum(paths, totals, ax, *, names=(), lit=0, most=8):
    """Write the product of each path below one another, then the totals; path `lit` on yellow.

    Args:
      paths: `(units, values, product)` each: the units passed, the factors (as many as `names`, or
        none), and what stands behind the equals sign.
      totals: `(name, number)` each, written to 12 digits.
      most: how many paths are written out.
    """
    shown = sorted({lit, *range(min(len(paths), most - (lit >= most)))})
    lines = [*_products([paths[n] for n in shown], names)]
    if left := len(paths) - len(shown):
        lines.append(f"and {left:,} more")
    lines += [f"{name}{value:20.12g}" for name, value in totals]
    longest = max(map(len, lines))
    size = min(_letters(0.85), 0.96 * 72 * ax.figure.get_figwidth() / (0.602 * longest))
    ax.set(xlim=(0, 1), ylim=(len(lines) - 0.4, -0.6))
    middle = blended_transform_factory(ax.figure.transFigure, ax.transData)
    for row, line in enumerate(lines):
        on = YELLOW if row == 1 + shown.index(lit) else "none"
        ax.text(
            0.5, row, line.rjust(longest).replace("-", "\N{MINUS SIGN}"), fontsize=size,
            family="monospace", ha="center", va="center", transform=middle,
            bbox={"facecolor": on, "edgecolor": "none", "pad": 1.5}, in_layout=False,
        )  # fmt: skip
    ax.axis("off")
    return ax


def _products(paths, names):
    """Yield a head and a line for each path, all of one length."""
    arrow = "\N{RIGHTWARDS ARROW}"
    wide = max(len(arrow.join(map(str, units))) for units, _, _ in paths)
    yield "   ".join([" " * wide, *(f"{name:>9}" for name in names), f"{'product':>14}"])
    for units, values, product in paths:
        factors = " \N{MULTIPLICATION SIGN} ".join(f"{value:9.4g}" for value in values)
        equals = " = " if values else ""
        yield f"{arrow.join(map(str, units)):{wide}}   {factors}{equals}{product:14.7g}"
