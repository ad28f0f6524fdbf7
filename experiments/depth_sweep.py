"""In which networks do gradients vanish, and in which do they survive?

Networks of 2 to 1,000 hidden layers meet the same handwritten digits; at every layer the norm of
each sample's own derivative dZ is measured, and that of the weight gradient, also far below the
numbers that float32 can hold.
"""

import dataclasses
import math
from typing import Any, NamedTuple

from experiments import common


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Options of the depth sweep."""

    activations: tuple[str, ...] = ("sigmoid", "tanh", "relu", "leaky_relu")
    """hidden activations; with arguments as leaky_relu:0.1"""
    inits: tuple[str, ...] = ("lecun", "he")
    """initialisations: lecun, glorot, he, orthogonal"""
    depths: tuple[int, ...] = (2, 10, 50, 200, 1000)
    """numbers of hidden layers"""
    num_seeds: int = 3
    """networks drawn for each cell, from seeds seed, seed + 1, ..."""
    width: int = 128
    """units in every hidden layer"""
    num_samples: int = 128
    """digits that the networks are shown"""
    vanishing: float = 1e-3
    """verdict: vanishing when the norm changes by less than this factor"""
    exploding: float = 1e3
    """verdict: exploding when it changes by more than this factor"""
    theory_depth: int = 50
    """hidden layers of the networks that are compared with mean-field theory"""
    theory_nets: int = 20
    """networks drawn for each of these comparisons"""


def main(config: Config) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from jaxmlp import plotting

    table = measure(config)
    rows = table.summary(config.vanishing, config.exploding, over_seeds=True)
    shown = [{name: row[name] for name in row if name != "width"} for row in rows]
    common.table("Per-sample dZ norm from the last hidden layer to the first", shown)
    print(
        "\nverdict: by 10^log10_change, the norm at the first hidden layer over that at the last; "
        f"vanishing below {config.vanishing:g}, exploding above {config.exploding:g}.\n"
        f"Medians over {config.num_seeds} seeds, width {config.width}, "
        f"{config.num_samples} digits.\n"
    )
    print(*statements(config), sep="\n")
    compared = against_theory(config)
    common.table("\nMean field against measurement", [theory_row(c) for c in compared])
    print(
        "\npredicted, measured: log10 of the norm of dZ at the first layer over that at the\n"
        f"output, mean of {config.theory_nets} networks of width {config.width} with one output "
        "and one digit;\nz: their difference in standard errors, and the largest |z| of all layers."
    )

    results = common.Results("depth_sweep", config)
    table.to_csv(results.path(".csv"))
    results.csv([row for c in compared for row in theory_layers(c)], "_theory")
    results.figure(theory_figure(config, compared, plt, plotting), "_theory")
    results.figure(lines(table, rows, plt, plotting))
    nets = len(config.activations) * len(config.inits)
    figure, ax = plt.subplots(figsize=(7, 0.32 * nets + 1.4), layout="constrained")
    plotting.decades_lost(table, ax)
    results.figure(figure, "_decades")
    results.figure(histograms(config, plt, plotting), "_histograms")
    results.close()


def samples(config: Config):
    """X and Y: digits, standardised."""
    from jaxmlp import datasets

    (digits,) = datasets.standardize(datasets.digits())
    return digits.X[: config.num_samples], digits.Y[: config.num_samples]


def measure(config: Config):
    """The sweep."""
    import jaxmlp

    X, Y = samples(config)
    with common.progress("networks") as report:
        return jaxmlp.depth_sweep(
            activations=config.activations,
            inits=config.inits,
            depths=config.depths,
            seeds=range(config.seed, config.seed + config.num_seeds),
            width=config.width,
            X=X,
            Y=Y,
            progress=report,
        )


def statements(config: Config) -> list[str]:
    """H1-H3 of the lecture, measured through 50 hidden layers."""
    from jaxmlp import initializers
    from jaxmlp.sweep import depth_sweep

    X, Y = samples(config)

    def factor(activation: str, init) -> tuple[float, float]:
        table = depth_sweep(
            activations=(activation,), inits=(init,), depths=(50,), seeds=(config.seed,),
            width=config.width, X=X, Y=Y,
        )  # fmt: skip
        (row,) = table.summary()
        return row["factor_per_layer"], row["log10_first"]

    lecun, he = factor("sigmoid", "lecun"), factor("sigmoid", "he")
    gain_2 = factor("linear", initializers.gaussian(4.0))
    tanh, tanh_2 = factor("tanh", "lecun"), factor("tanh", initializers.gaussian(4.0))
    relu, leaky = factor("relu", "lecun"), factor("leaky_relu", "lecun")
    return [
        "H1  sigmoid: the product of 50 derivatives is at most 0.25^50 = 8e-31. The weights come\n"
        f"    in as well: the first layer's dZ is 10^{lecun[1]:.1f} with lecun weights, but "
        f"10^{he[1]:.1f} with he.",
        f"H2  tanh: a factor {tanh[0]:.3f} a layer with lecun weights; {tanh_2[0]:.3f} with twice "
        "the weights.\n"
        f"    A linear layer of gain 2: {gain_2[0]:.3f} a layer, 10^{gain_2[1]:.1f} at the first.",
        f"H3  ReLU closes half its gates: {relu[0]:.3f} a layer with lecun weights, "
        f"near sqrt(1/2); leaky ReLU {leaky[0]:.3f}.",
    ]


class Compared(NamedTuple):
    """Networks of one activation and initialisation: what is predicted, and what was measured.

    measured `(nets, L)`: log10 of |dz[l]| over |dz[L]|; correlation `(L,)`: mean over the networks.
    """

    activation: str
    init: str
    predicted: Any
    measured: Any
    correlation: Any

    @property
    def z(self):
        """Mean of the networks minus prediction, in standard errors of the prediction."""
        error = self.predicted.sd / math.sqrt(len(self.measured))
        off = self.measured.mean(axis=0) - self.predicted.mean
        return [float(d / e) if e > 0 else 0.0 for d, e in zip(off, error, strict=True)]


def against_theory(config: Config) -> list[Compared]:
    """Every activation with every initialisation that the theory knows, on one digit.

    One input, since an rms over a batch has another mean; one output, so that the direction of the
    last dz is not that of the weights. Correlations are those of two digits of the same length.
    """
    import numpy as np

    import jaxmlp
    from jaxmlp import initializers, meanfield

    X = np.array(samples(config)[0][:2])
    X[1] *= np.linalg.norm(X[0]) / np.linalg.norm(X[1])
    q0, c0 = float((X[0] ** 2).mean()), float(X[0] @ X[1] / (X[0] @ X[0]))
    sizes = (X.shape[1], *[config.width] * config.theory_depth, 1)
    grid: dict = {
        "depths": config.theory_depth, "width": config.width, "loss": "half_squared_error",
        "seeds": range(config.seed, config.seed + config.theory_nets),
    }  # fmt: skip
    known = [init for init in config.inits if init in ("lecun", "he", "glorot")]
    found = []
    for act in config.activations:
        of_one, of_two = (
            jaxmlp.depth_sweep(activations=act, inits=known, X=X[:m], Y=np.zeros((m, 1)), **grid)
            for m in (1, 2)
        )
        for init in known:
            predicted = meanfield.predict(
                act, *meanfield.variances(init, sizes), config.theory_depth, q0, c0=c0,
                width=config.width, num_nets=config.theory_nets,
            )  # fmt: skip
            name = initializers.get(init).name
            delta, correlation = (
                table.select(init=name).columns()[field].reshape(config.theory_nets, -1)
                for table, field in ((of_one, "log10_delta"), (of_two, "correlation"))
            )
            relative = delta - delta[:, -1:]
            correlation[:, -1] = np.nan  # of one output the cosine is a sign
            found.append(Compared(act, name, predicted, relative, correlation.mean(axis=0)))
    return found


def theory_row(c: Compared) -> dict:
    """The first layer, and the largest |z|."""
    return {
        "activation": c.activation,
        "init": c.init,
        "predicted": float(c.predicted.mean[0]),
        "measured": float(c.measured[:, 0].mean()),
        "sd predicted": float(c.predicted.sd[0]),
        "sd measured": float(c.measured[:, 0].std(ddof=1)),
        "z": c.z[0],
        "largest |z|": max(map(abs, c.z)),
    }


def theory_layers(c: Compared) -> list[dict]:
    """One row for each layer."""
    columns = {
        "infinite_width": c.predicted.log10_delta, "predicted": c.predicted.mean,
        "sd_predicted": c.predicted.sd, "measured": c.measured.mean(axis=0),
        "sd_measured": c.measured.std(axis=0, ddof=1), "z": c.z,
        "correlation_predicted": c.predicted.correlation, "correlation_measured": c.correlation,
    }  # fmt: skip
    return [
        {"activation": c.activation, "init": c.init, "layer": l}
        | dict(zip(columns, row, strict=True))
        for l, row in enumerate(zip(*columns.values(), strict=True), start=1)
    ]


def theory_figure(config: Config, compared: list[Compared], plt, plotting):
    """Prediction as a line with its band, measurement as points; below, the correlations."""
    acts = list(dict.fromkeys(c.activation for c in compared))
    figure, axes = plt.subplots(
        2, len(acts), figsize=(2.3 * len(acts) + 0.8, 4.6), sharex=True, sharey="row",
        squeeze=False, layout="constrained",
    )  # fmt: skip
    for act, (above, below) in zip(acts, axes.T, strict=True):
        own = [c for c in compared if c.activation == act]
        for c, colour in zip(own, plotting.COLOURS, strict=False):
            measured = c.measured.mean(axis=0)
            plotting.against_prediction(c.predicted, measured, above, color=colour, label=c.init)
            plotting.correlations(c.predicted, c.correlation, below, color=colour)
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


def lines(table, rows: list[dict], plt, plotting):
    """A panel for each activation: log10 of the dZ norm against the layer."""
    columns = table.columns()
    acts, deepest = list(dict.fromkeys(columns["activation"])), columns["depth"].max()
    n = len(acts)
    figure, axes = plt.subplots(
        1, n, figsize=(2.5 * n + 0.6, 3.4), sharey=True, squeeze=False, layout="constrained"
    )
    plotting.depth_sweep_panels(table, axes[0])
    for ax, activation in zip(axes[0], acts, strict=True):
        found = [r for r in rows if (r["activation"], r["depth"]) == (activation, deepest)]
        verdicts = ", ".join(f"{row['init']} {row['verdict']}" for row in found)
        ax.set_title(f"{activation}\n{verdicts}", fontsize=9)
    figure.suptitle(f"Through {deepest:,} hidden layers: where gradients vanish, and where not")
    return figure


def histograms(config: Config, plt, plotting):
    """The distribution of dZ in five tanh layers, as Glorot & Bengio 2010, figure 7."""
    import jax

    import jaxmlp

    # their "standard" initialisation: U(-1/sqrt(fan_in), 1/sqrt(fan_in)), of variance 1/(3 fan_in)
    standard = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
    (X, Y), depth = samples(config), 5
    mlp = jaxmlp.MLP((X.shape[1], *[config.width] * depth, 10), hidden="tanh")
    J = jaxmlp.Objective(mlp, "cross_entropy")
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True, layout="constrained")
    for ax, name, init in zip(axes, ("standard", "glorot"), (standard, "glorot"), strict=True):
        params = mlp.init(jax.random.key(config.seed), init)
        plotting.derivative_histograms(jaxmlp.trace(J)(params, X, Y), ax, bins=61)
        ax.set_title(f"{name} initialisation", fontsize=10)
    axes[1].set_ylabel("")
    axes[0].get_legend().remove()
    figure.suptitle("Five tanh layers: dZ narrows downwards, unless the variance is right")
    return figure


if __name__ == "__main__":
    config = common.parse(Config, __doc__)
    if config.smoke:
        config = dataclasses.replace(
            config,
            depths=(2, 5),
            num_seeds=1,
            width=16,
            num_samples=32,
            theory_depth=5,
            theory_nets=3,
        )
    common.run(main, config)
