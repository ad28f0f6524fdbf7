"""In which networks do gradients vanish, and in which do they survive?

Networks of many depths meet the same handwritten digits; at every layer the norm of each
sample's own derivative dZ is measured, and the norm of the weight gradient.
"""

import dataclasses

from experiments import common


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Options of the depth sweep."""

    activations: tuple[str, ...] = ("sigmoid", "tanh", "relu", "leaky_relu")
    """hidden activations; with arguments as leaky_relu:0.1"""
    inits: tuple[str, ...] = ("lecun", "he")
    """initialisations: lecun, glorot, he, orthogonal"""
    depths: tuple[int, ...] = (2, 5, 10, 20, 50)
    """numbers of hidden layers"""
    num_seeds: int = 3
    """networks drawn for each cell, from seeds seed, seed + 1, ..."""
    width: int = 128
    """units in every hidden layer"""
    num_samples: int = 256
    """digits that the networks are shown"""
    vanishing: float = 1e-3
    """verdict: vanishing when the norm changes by less than this factor"""
    exploding: float = 1e3
    """verdict: exploding when it changes by more than this factor"""


def main(config: Config) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from jaxmlp import plotting

    table = measure(config)
    rows = [
        {k: v for k, v in row.items() if k not in ("width", "seed")}
        for row in table.summary(config.vanishing, config.exploding, over_seeds=True)
    ]
    common.table("Per-sample dZ norm from the last hidden layer to the first", rows)
    print(
        f"\nverdict: by 10^log10_change, the norm at the first hidden layer over that at the last; "
        f"vanishing below {config.vanishing:g}, exploding above {config.exploding:g}.\n"
        f"Medians over {config.num_seeds} seeds, width {config.width}, "
        f"{config.num_samples} digits."
    )

    results = common.Results("depth_sweep", config)
    table.to_csv(results.path(".csv"))
    n = len(config.activations)
    figure, axes = plt.subplots(
        1, n, figsize=(2.6 * n + 0.6, 3.4), sharey=True, squeeze=False, layout="constrained"
    )
    plotting.depth_sweep_panels(table, axes[0])
    deepest = max(config.depths)
    for ax, activation in zip(axes[0], config.activations, strict=True):
        found = [r for r in rows if (r["activation"], r["depth"]) == (activation, deepest)]
        verdicts = ", ".join(f"{row['init']} {row['verdict']}" for row in found)
        ax.set_title(f"{activation}\n{verdicts}", fontsize=9)
    figure.suptitle(
        f"Through {deepest} hidden layers: where gradients vanish and where they do not"
    )
    results.figure(figure)
    results.close()


def measure(config: Config):
    """The sweep on digits, standardised."""
    import jaxmlp

    (digits,) = jaxmlp.datasets.standardize(jaxmlp.datasets.digits())
    with common.progress("networks") as report:
        return jaxmlp.depth_sweep(
            activations=config.activations,
            inits=config.inits,
            depths=config.depths,
            seeds=range(config.seed, config.seed + config.num_seeds),
            width=config.width,
            X=digits.X[: config.num_samples],
            Y=digits.Y[: config.num_samples],
            progress=report,
        )


if __name__ == "__main__":
    config = common.parse(Config, __doc__)
    if config.smoke:
        config = dataclasses.replace(config, depths=(2, 5), num_seeds=1, width=16, num_samples=32)
    main(config)
