"""Gradient flow: magnitudes against the layer, and what is lost on the way back."""

import numpy as np

from jaxmlp.plotting.style import BLUE, COLOURS, GREY, ORANGE, bare, new_axes

LABELS = {
    "log10_delta": "log10 of the per-sample dZ norm",
    "log10_grad_W": "log10 of the dW norm",
    "log10_grad_b": "log10 of the db norm",
    "log10_activation": "log10 of the activation norm",
    "layer": "layer",
    "distance": "layers below the output",
}


def gradient_flow(flow, ax=None, **line):
    """Draw log10 of the per-sample dZ norm and of the dW norm against the layer."""
    ax = new_axes(ax)
    layer = np.arange(1, len(flow.log10_delta) + 1)
    for field, colour in (("log10_delta", BLUE), ("log10_grad_W", ORANGE)):
        name = LABELS[field].removeprefix("log10 of the ")
        ax.plot(layer, getattr(flow, field), ".-", color=colour, label=name, **line)
    ax.set(xlabel="layer", ylabel="log10")
    ax.legend(frameon=False)
    return bare(ax)


def depth_sweep(table, ax=None, *, y="log10_delta", x="layer"):
    """Draw one line for each initialisation and depth, the median over seeds with their range.

    One colour an initialisation; deeper networks are drawn darker. The table's activations are not
    told apart: give it one (`table.select(activation=...)`) or use `depth_sweep_panels`.
    """
    ax = new_axes(ax)
    columns = table.columns()
    inits, depths = list(dict.fromkeys(columns["init"])), sorted(set(columns["depth"].tolist()))
    for colour, init in zip(COLOURS, inits, strict=False):
        for rank, depth in enumerate(depths):
            own = table.select(init=init, depth=depth).columns()
            over_seeds = own[y].reshape(-1, depth + 1)
            at, alpha = own[x][: depth + 1], 0.35 + 0.65 * (rank + 1) / len(depths)
            label = init if depth == depths[-1] else None
            ax.plot(at, np.median(over_seeds, axis=0), color=colour, alpha=alpha, label=label)
            low, high = over_seeds.min(axis=0), over_seeds.max(axis=0)
            ax.fill_between(at, low, high, color=colour, alpha=0.15, lw=0)
    ax.set(xlabel=LABELS[x], ylabel=LABELS[y])
    return bare(ax)


def float32_limits(ax, width: int, *, label: bool = True):
    """Shade where a float32 norm of `width` entries reads 0, and mark where the entries are 0.

    Squares underflow at half the depth at which the numbers themselves do.
    """
    tiny, spread = np.log10(np.finfo(np.float32).tiny), np.log10(width) / 2
    squared, entries, bottom = tiny / 2 + spread, tiny + spread, ax.get_ylim()[0]
    if bottom < squared:
        ax.axhspan(bottom, squared, color=GREY, alpha=0.18, lw=0, zorder=0)
        ax.axhline(entries, color=GREY, ls=":", lw=1)
        ax.set_ylim(bottom=bottom)
        if label:
            text = "grey: a float32 norm reads 0,\nbelow the dots its entries too"
            ax.text(0.97, 0.04, text, transform=ax.transAxes, ha="right", fontsize=8)
    return ax


def depth_sweep_panels(table, axes, *, y="log10_delta", x="layer"):
    """Draw `depth_sweep` once for each activation of the table, on axes that share their y."""
    columns = table.columns()
    acts = list(dict.fromkeys(columns["activation"]))
    for ax, act in zip(axes, acts, strict=True):
        depth_sweep(table.select(activation=act), ax, y=y, x=x)
        ax.set_title(act)
        ax.label_outer()
    if y == "log10_delta":
        lowest = [columns[y][columns["activation"] == act].min() for act in acts]
        for i, ax in enumerate(axes):
            roomiest = i == int(np.argmax(lowest))
            float32_limits(ax, int(columns["width"][0]), label=roomiest)
    axes[0].legend(frameon=False, title="initialisation")
    return axes


def decades_lost(table, ax=None):
    """Draw how many decades the dZ norm loses from last to first hidden layer, net by depth.

    Negative numbers are decades gained: the gradient explodes.
    """
    ax = new_axes(ax)
    rows = [row for row in table.summary(over_seeds=True) if row["depth"] > 1]
    nets = list(dict.fromkeys((row["activation"], row["init"]) for row in rows))
    depths = sorted({row["depth"] for row in rows})
    lost = np.full((len(nets), len(depths)), np.nan)
    for row in rows:
        at = nets.index((row["activation"], row["init"])), depths.index(row["depth"])
        lost[at] = -row["log10_change"]
    from matplotlib.colors import SymLogNorm

    largest = max(1.0, np.abs(lost[np.isfinite(lost)]).max(initial=1.0))
    norm = SymLogNorm(1.0, vmin=-largest, vmax=largest)
    image = ax.imshow(np.nan_to_num(lost, posinf=largest), cmap="PuOr_r", norm=norm, aspect="auto")
    for (i, j), value in np.ndenumerate(lost):
        dark = abs(norm(value) - 0.5) > 0.3
        ax.text(j, i, f"{value:.3g}", ha="center", va="center", fontsize=8,
                color="white" if dark else "black")  # fmt: skip
    ax.set_xticks(range(len(depths)), depths)
    ax.set_yticks(range(len(nets)), [f"{act}, {init}" for act, init in nets])
    ax.set(xlabel="hidden layers", title="Decades lost on the way back")
    ax.figure.colorbar(image, ax=ax, label="decades lost (negative: gained)")
    return ax


def derivative_histograms(traces, ax=None, *, bins=101):
    """Draw the distribution of each sample's own dZ entries, a curve for each hidden layer.

    As Glorot & Bengio 2010, "Understanding the difficulty of training deep feedforward neural
    networks", figure 7. `traces` is what `jaxmlp.trace` returns.
    """
    ax = new_axes(ax)
    hidden = [np.asarray(t.dZ).ravel() * len(t.dZ) for t in traces[:-1]]
    reach = 3 * max(values.std() for values in hidden)
    edges = np.linspace(-reach, reach, bins + 1)
    shades = np.linspace(0.25, 1, len(hidden))
    for number, (values, shade) in enumerate(zip(hidden, shades, strict=True), start=1):
        density, _ = np.histogram(values, edges, density=True)
        middle = (edges[1:] + edges[:-1]) / 2
        ax.plot(middle, density, color=BLUE, alpha=shade, label=f"layer {number}")
    ax.set(xlabel="dZ", ylabel="density", yscale="log")
    ax.legend(frameon=False)
    return bare(ax)
