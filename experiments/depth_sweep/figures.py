"""The figures: theory beside measurement, the sweep, and Glorot's histograms."""

import jax
import matplotlib.pyplot as plt
import numpy as np

import jaxmlp
from experiments import common
from experiments.depth_sweep.options import Config
from experiments.depth_sweep.theory import Compared
from jaxmlp import plotting
from jaxmlp.plotting.style import BLUE, COLOURS, GREY, bare


def beside_theory(config: Config, compared: list[Compared]):
    """Draw predictions as lines with bands, measurements as points; below, correlations."""
    acts = list(dict.fromkeys(c.activation for c in compared))
    figure, axes = plt.subplots(
        2, len(acts), figsize=(2.3 * len(acts) + 0.8, 4.6), sharex=True, sharey="row",
        squeeze=False, layout="constrained",
    )  # fmt: skip
    for act, (above, below) in zip(acts, axes.T, strict=True):
        own = [c for c in compared if c.activation == act]
        for c, colour in zip(own, COLOURS, strict=False):
            measured = c.measured.mean(axis=0)
            against_prediction(c.predicted, measured, above, color=colour, label=c.init)
            correlations(c.predicted, c.correlation, below, color=colour)
        above.set_title(act, fontsize=10)
        for ax in (above, below):
            ax.label_outer()
    axes[0, 0].legend(frameon=False, fontsize=8)
    worst = max(abs(z) for c in compared for z in c.z)
    figure.suptitle(
        f"Mean field (lines, band of 3 standard errors) and {config.theory_nets} networks (dots): "
        f"|z| at most {worst:.1f}", fontsize=11,
    )  # fmt: skip
    return figure


def lines(table, rows: list[dict]):
    """Draw a panel for each activation: log10 of the dZ norm against the layer."""
    columns = table.columns()
    acts, deepest = list(dict.fromkeys(columns["activation"])), columns["depth"].max()
    n = len(acts)
    figure, axes = plt.subplots(
        1, n, figsize=(2.5 * n + 0.6, 3.4), sharey=True, squeeze=False, layout="constrained"
    )
    panels(table, axes[0])
    for ax, activation in zip(axes[0], acts, strict=True):
        found = [r for r in rows if (r["activation"], r["depth"]) == (activation, deepest)]
        verdicts = ", ".join(f"{row['init']} {row['verdict']}" for row in found)
        ax.set_title(f"{activation}\n{verdicts}", fontsize=9)
    figure.suptitle(f"Through {deepest:,} hidden layers: where gradients vanish, and where not")
    return figure


def decades(config: Config, table):
    """Draw the decades that each network loses on the way back, against depth."""
    nets = len(config.activations) * len(config.inits)
    figure, ax = plt.subplots(figsize=(7, 0.32 * nets + 1.4), layout="constrained")
    plotting.decades_lost(table, ax)
    return figure


def histograms(config: Config):
    """Draw the distribution of dZ in five tanh layers, as Glorot & Bengio 2010, figure 7."""
    # their "standard" initialisation: U(-1/sqrt(fan_in), 1/sqrt(fan_in)), of variance 1/(3 fan_in)
    standard = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
    (X, Y), depth = common.digits(config.num_samples), 5
    mlp = jaxmlp.MLP((X.shape[1], *[config.width] * depth, 10), hidden="tanh")
    J = jaxmlp.Objective(mlp, "cross_entropy")
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True, layout="constrained")
    for ax, name, init in zip(axes, ("standard", "glorot"), (standard, "glorot"), strict=True):
        params = mlp.init(jax.random.key(config.seed), init)
        derivative_histograms(jaxmlp.trace(J)(params, X, Y), ax)
        ax.set_title(f"{name} initialisation", fontsize=10)
    axes[1].set_ylabel("")
    axes[0].get_legend().remove()
    figure.suptitle("Five tanh layers: dZ narrows downwards, unless the variance is right")
    return figure


def against_prediction(prediction, measured, ax, *, color=None, label=None):
    """Draw a predicted band, and the means of several measured networks as points.

    Args:
      prediction: what `jaxmlp.meanfield.predict` returns, with a width.
      measured: `(L,)`, log10 of the dZ norm over that at the output.
    """
    plotting.prediction_band(prediction, ax, color=color, label=label)
    _points(ax, measured, ax.lines[-1].get_color())
    ax.set(ylabel="log10 of |dz| over output's")
    return ax


def correlations(prediction, measured, ax, *, color=None):
    """Draw the cosine between z of two inputs: predicted as a line, measured as points."""
    layer = np.arange(1, len(prediction.correlation) + 1)
    (line,) = ax.plot(layer, prediction.correlation, "--", color=color)
    _points(ax, measured, line.get_color())
    ax.set(xlabel="layer", ylabel="cosine of two z", ylim=(-1.05, 1.05))
    return bare(ax)


def _points(ax, values, color):
    """Return about twenty of the points."""
    layer = np.arange(1, len(values) + 1)
    some = slice(None, None, max(1, len(values) // 20))
    ax.plot(layer[some], np.asarray(values)[some], ".", ms=5, color=color)


def panels(table, axes):
    """Draw `depth_sweep` once for each activation of the table, on axes that share their y."""
    columns = table.columns()
    acts = list(dict.fromkeys(columns["activation"]))
    for ax, act in zip(axes, acts, strict=True):
        plotting.depth_sweep(table.select(activation=act), ax)
        ax.label_outer()
    lowest = [columns["log10_delta"][columns["activation"] == act].min() for act in acts]
    for i, ax in enumerate(axes):
        roomiest = i == int(np.argmax(lowest))
        float32_limits(ax, int(columns["width"][0]), label=roomiest)
    axes[0].legend(frameon=False, title="initialisation")
    return axes


def float32_limits(ax, width: int, *, label: bool):
    """Shade where the plain float32 norm of `width` entries is 0; mark where the entries are 0.

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


def derivative_histograms(traces, ax, *, bins=61):
    """Draw the distribution of each sample's own dZ entries, a curve for each hidden layer.

    As Glorot & Bengio 2010, "Understanding the difficulty of training deep feedforward neural
    networks", figure 7. `traces` is what `jaxmlp.trace` returns.
    """
    hidden = [np.asarray(t.dZ).ravel() for t in traces[:-1]]
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
