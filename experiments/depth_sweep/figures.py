"""The figures: page one, decades lost by depth, theory beside measurement, Glorot's histograms."""

import dataclasses
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np

import jaxmlp
from experiments import common
from experiments.depth_sweep.options import Config
from experiments.depth_sweep.theory import Compared, lost_by_depth
from jaxmlp import plotting
from jaxmlp.plotting.style import ACTIVATIONS, BLUE, COLOURS, GREY, SKY, bare, written

HERO = ("sigmoid", "lecun"), ("tanh", "lecun"), ("relu", "he"), ("relu", "lecun")
COLOUR = {kind: SKY if kind == ("relu", "lecun") else ACTIVATIONS[kind[0]] for kind in HERO}


def called(activation: str, init: str) -> str:
    return f"{written(activation)}, {init}"


def shown(kinds: list) -> dict[tuple[str, str], Any]:
    """Those of page one with their colours; of another grid the first eight kinds."""
    if own := [kind for kind in HERO if kind in kinds]:
        return {kind: COLOUR[kind] for kind in own}
    return dict(zip(kinds, COLOURS, strict=False))


def hero(config: Config, compared: list[Compared]):
    """One panel: what is left of a derivative so many layers below the output."""
    by_kind = {(c.activation, c.init): c for c in compared}
    chosen = {kind: by_kind[kind] for kind in shown(list(by_kind))}
    figure, ax = plt.subplots(figsize=(8, 4.4), layout="constrained")
    for (kind, c), colour in zip(chosen.items(), shown(list(by_kind)).values(), strict=True):
        left_below_the_output(c, ax, color=colour, label=called(*kind))
    ax.margins(y=0.09)  # the highest line has its name above it
    float32_floor(ax, config.width)
    least, most = (f(chosen.values(), key=lambda c: c.factor) for f in (min, max))
    ax.set_title(
        f"{config.theory_depth} layers below the output {_power(least)} of a derivative is left "
        f"({called(least.activation, least.init)}), or {_power(most)} "
        f"({called(most.activation, most.init)})"
    )
    ax.text(
        0.01, 0.02, f"points: mean of {config.theory_nets} networks, width {config.width}\n"
        "lines: mean-field theory", transform=ax.transAxes, va="bottom", fontsize="small",
    )  # fmt: skip
    return figure


def _power(c: Compared) -> str:
    log10 = c.measured[:, 0].mean()
    return f"$10^{{{log10:.1f}}}$" if log10 > -10 else f"$10^{{{log10:.0f}}}$"


def left_below_the_output(c: Compared, ax, *, color, label):
    """Draw theory as a line and the measured mean as points, with its factor a layer beside it."""
    log10, k = c.measured.mean(axis=0)[::-1], np.arange(c.measured.shape[1])
    ax.plot(k, c.predicted.mean[::-1], color=color)
    some = slice(None, None, max(1, len(k) // 20))
    ax.plot(k[some], log10[some], "o", ms=0.45 * plt.rcParams["font.size"], color=color)
    # Beside the line: above it if it is flat or steep, else below, where it has just passed
    fall, half = -log10[-1] / len(k), plt.rcParams["font.size"] / 2
    if fall < 0.009 or fall > 0.2:
        place = {"ha": "left", "va": "bottom", "xytext": (half, half)}
    else:
        place = {"ha": "right" if fall > 0.05 else "left", "va": "top", "xytext": (-half, -half)}
    at = int((0.4 if fall > 0.2 else 0.62) * len(k))
    ax.annotate(f"{label}: {c.factor:.2f} a layer", (at, log10[at]), textcoords="offset points",
                color=color, **place)  # fmt: skip
    ax.set(xlabel="layers below the output", ylabel="log10 of what is left of dZ")
    return bare(ax)


def float32_floor(ax, width: int):
    """Mark where the entries of a dZ that is 1 at the output leave float32."""
    tiny = float(np.log10(np.finfo(np.float32).tiny)) + np.log10(width) / 2
    if ax.get_ylim()[0] < tiny:
        ax.axhline(tiny, color=GREY, ls="--", lw=0.1 * plt.rcParams["font.size"])
        ax.annotate("below this line float32 reads 0", (0.01, tiny), (0, 3),
                    xycoords=("axes fraction", "data"), textcoords="offset points", ha="left",
                    va="bottom", color=GREY)  # fmt: skip
    return ax


def lost(config: Config, table, theory: dict):
    """Decades lost against depth: each network as a point, mean field with its band."""
    rows = [row for row in table.summary() if row["depth"] > 1]
    plain = [row for row in rows if row["residual"] is None and row["norm"] is None]
    rows, theory = (plain, theory) if plain else (rows, {})  # it knows no remedies
    kinds = shown(list(dict.fromkeys((row["activation"], row["init"]) for row in rows)))
    figure, ax = plt.subplots(figsize=(8, 4.4), layout="constrained")
    for kind, colour in kinds.items():
        own = [row for row in rows if (row["activation"], row["init"]) == kind]
        decades_against_depth(own, theory.get(kind), ax, color=colour, label=called(*kind))
    ax.set_title(finding(config, theory))
    ax.legend(title=f"width {config.width}: networks as points,\nmean field with 3 sd as bands")
    return figure


def finding(config: Config, theory: dict) -> str:
    """What finite width takes from ReLU with he weights, or what the figure shows."""
    of, depth = theory.get(("relu", "he")), max(config.depths)
    if of is None:
        return "What is lost from the last hidden layer to the first"
    wide = lost_by_depth(dataclasses.replace(config, activations=("relu",), inits=("he",)), 2048)
    return (
        f"ReLU with he weights loses {of.mean[-1]:.1f} $\\pm$ {of.sd[-1]:.1f} decades in {depth:,} "
        f"layers of width {config.width}, {wide['relu', 'he'].mean[-1]:.2f} of width 2,048"
    )


def decades_against_depth(rows: list[dict], theory, ax, *, color, label):
    """Draw log10_change of each network, sign turned, and mean field with 3 standard deviations."""
    depths = np.array([row["depth"] for row in rows])
    ax.plot(depths, [-row["log10_change"] for row in rows], "o", color=color, label=label,
            ms=0.5 * plt.rcParams["font.size"])  # fmt: skip
    if theory is not None:
        d = np.unique(np.geomspace(2, len(theory.mean), 100).round().astype(int))
        mean, sd = theory.mean[d - 1], theory.sd[d - 1]
        ax.plot(d, mean, color=color)
        ax.fill_between(d, mean - 3 * sd, mean + 3 * sd, color=color, alpha=0.2, lw=0)
    ax.set_xscale("log")
    ax.set_yscale("asinh", linear_width=1)  # a logarithm with a sign, smooth at 0
    ax.set_xticks(sorted(set(depths.tolist())), [f"{d:,}" for d in sorted(set(depths.tolist()))])
    ax.set_xticks([], minor=True)
    ax.set_yticks([], minor=True)
    ticks = [t for t in (-10, -1, 0, 1, 10, 100, 1000) if ax.get_ylim()[0] <= t <= ax.get_ylim()[1]]
    ax.set_yticks(ticks, [f"{t:,}".replace("-", "\N{MINUS SIGN}") for t in ticks])
    ax.set(xlabel="hidden layers", ylabel="decades lost from the last to the first")
    return bare(ax)


def beside_theory(config: Config, compared: list[Compared]):
    """Above, how far measurement is from theory in standard errors; below, the correlations."""
    acts = list(dict.fromkeys(c.activation for c in compared))
    figure, axes = plt.subplots(
        2, len(acts), figsize=(8, 4.8), sharex=True, sharey="row", squeeze=False,
        layout="constrained",
    )  # fmt: skip
    inits = list(dict.fromkeys(c.init for c in compared))
    for act, (above, below) in zip(acts, axes.T, strict=True):
        for c in (c for c in compared if c.activation == act):
            colour = COLOURS[inits.index(c.init)]
            residuals(c.z, above, color=colour, label=c.init)
            correlations(c.predicted, c.correlation, below, color=colour)
        above.set(title=written(act), xlabel="")
        for ax in (above, below):
            ax.label_outer()
    axes[0, 0].set_ylabel("standard errors\nfrom theory")
    beside = 2 if plt.rcParams["font.size"] < 13 else 1  # large letters need room
    axes[0, 0].legend(title="weights", loc="lower left", ncols=beside)
    worst = max(abs(z) for c in compared for z in c.z)
    apart = [c.correlation.mean(axis=0) - c.predicted.correlation for c in compared]
    figure.suptitle(
        f"Mean field (lines) and {config.theory_nets} networks of width {config.width}: norms at "
        f"most {worst:.1f} standard errors apart, correlations {np.nanmax(np.abs(apart)):.2f}"
    )
    return figure


def residuals(z, ax, *, color, label):
    """Draw measurement minus theory in standard errors, on a band of three of them."""
    layer = np.arange(1, len(z) + 1)
    if not ax.lines:
        ax.axhspan(-3, 3, color=GREY, alpha=0.15, lw=0)
    ax.plot(layer, z, color=color, label=label)
    ax.set(xlabel="layer", ylim=(-5, 5))
    return bare(ax)


def correlations(prediction, measured, ax, *, color=None):
    """Draw the predicted cosine of two inputs' z as a line; measured ones with standard errors.

    measured: `(networks, L)`.
    """
    layer = np.arange(1, len(prediction.correlation) + 1)
    (line,) = ax.plot(layer, prediction.correlation, color=color)
    error = measured.std(axis=0, ddof=1) / np.sqrt(len(measured))
    some = slice(None, None, max(1, len(layer) // 10))
    ax.errorbar(layer[some], measured.mean(axis=0)[some], error[some], fmt=".", capsize=2,
                color=line.get_color())  # fmt: skip
    ax.set(xlabel="layer", ylabel="cosine of two z", ylim=(-1.05, 1.05))
    return bare(ax)


def decades(config: Config, table):
    """Draw the decades that each network loses on the way back, against depth."""
    nets = len(config.activations) * len(config.inits)
    figure, ax = plt.subplots(figsize=(8, 0.32 * nets + 1.4), layout="constrained")
    plotting.decades_lost(table, ax)
    depth = max(config.depths)
    deepest = [row for row in table.summary(over_seeds=True) if row["depth"] == depth]
    most = min(deepest, key=lambda row: row["log10_change"])
    least = min(deepest, key=lambda row: abs(row["log10_change"]))
    told = (f"{called(row['activation'], row['init'])} loses {-row['log10_change']:z,.1f}"
            for row in (most, least))  # fmt: skip
    ax.set_title(f"Decades lost on the way back through {depth:,} layers: {'; '.join(told)}")
    return figure


def histograms(config: Config):
    """Draw the distribution of dZ in five tanh layers, as Glorot & Bengio 2010, figure 7."""
    # their "standard" initialisation: U(-1/sqrt(fan_in), 1/sqrt(fan_in)), of variance 1/(3 fan_in)
    standard = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
    (X, Y), depth = common.digits(config.num_samples), 5
    mlp = jaxmlp.MLP((X.shape[1], *[config.width] * depth, 10), hidden="tanh")
    J = jaxmlp.Objective(mlp, "cross_entropy")
    figure, axes = plt.subplots(
        1, 2, figsize=(8, 3.2), sharex=True, sharey=True, layout="constrained"
    )
    narrower = []
    for ax, name, init in zip(axes, ("standard", "glorot"), (standard, "glorot"), strict=True):
        traces = jaxmlp.trace(J)(mlp.init(jax.random.key(config.seed), init), X, Y)
        derivative_histograms(traces, ax)
        narrower.append(float(np.std(traces[depth - 1].dZ) / np.std(traces[0].dZ)))
        ax.set_title(f"{name} initialisation: {narrower[-1]:.0f}-fold")
    axes[1].set_ylabel("")
    axes[0].get_legend().remove()
    figure.suptitle(
        f"From the last of five tanh layers to the first dZ narrows {narrower[0]:.0f}-fold with "
        f"the standard variance, {narrower[1]:.0f}-fold with glorot's"
    )
    return figure


def derivative_histograms(traces, ax, *, bins=61):
    """Draw the distribution of each sample's own dZ entries, a curve for each hidden layer.

    As Glorot & Bengio 2010, "Understanding the difficulty of training deep feedforward neural
    networks", figure 7. `traces` is what `jaxmlp.trace` returns.
    """
    hidden = [np.asarray(t.dZ).ravel() for t in traces[:-1]]
    reach = 3 * max(values.std() for values in hidden)
    edges = np.linspace(-reach, reach, bins + 1)
    shades = np.linspace(1, 0.25, len(hidden))  # the first is the darkest
    for number, (values, shade) in enumerate(zip(hidden, shades, strict=True), start=1):
        density, _ = np.histogram(values, edges, density=True)
        middle = (edges[1:] + edges[:-1]) / 2
        ax.plot(middle, density, color=BLUE, alpha=shade, label=f"layer {number}")
    ax.set(xlabel="dZ", ylabel="density", yscale="log")
    ax.legend()
    return bare(ax)
