"""The sweep, and what the lecture says of deep networks (H1-H3), measured."""

import jaxmlp
from experiments import common
from experiments.depth_sweep.options import Config
from jaxmlp import initializers


def measure(config: Config):
    """The sweep."""
    X, Y = common.digits(config.num_samples)
    with common.progress("networks") as report:
        return jaxmlp.depth_sweep(
            activations=config.activations,
            inits=config.inits,
            depths=config.depths,
            seeds=common.seeds(config, config.num_seeds),
            width=config.width,
            X=X,
            Y=Y,
            progress=report,
        )


def statements(config: Config) -> list[str]:
    """H1-H3 of the lecture, measured through 50 hidden layers."""
    X, Y = common.digits(config.num_samples)

    def factor(activation: str, init) -> tuple[float, float]:
        table = jaxmlp.depth_sweep(
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
