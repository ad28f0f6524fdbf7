"""The options, the digits, and how a network is made and drawn."""

import dataclasses
import functools
from typing import Any

from experiments import common

INITS = {"sigmoid": "lecun", "tanh": "lecun", "relu": "he", "leaky_relu": "he"}


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Options of the experiment on vanishing gradients."""

    depth: int = 50
    """hidden layers where products and gradients are compared"""
    width: int = 64
    """units in every hidden layer"""
    num_samples: int = 500
    """digits that the networks are shown"""
    learning_rate: float = 0.1
    """of the one step, of the dead units and of the networks of growing depth"""
    step_depths: tuple[int, ...] = (5, 10, 20, 30, 50)
    """hidden layers of the networks that take one step"""
    num_steps: int = 1000
    """full-batch steps that dead units are given"""
    race_rates: tuple[float, ...] = (0.1, 1.0)
    """learning rates of the race to a loss of 0.1"""
    race_epochs: tuple[int, int] = (200, 1500)
    """epochs to give up after, on digits and on the spiral"""
    train_depths: tuple[int, ...] = (1, 2, 5, 10, 20, 50)
    """hidden layers of the networks that are trained"""
    train_epochs: int = 30
    """epochs that they are trained for"""
    num_seeds: int = 3
    """networks for each cell of the last two, from seeds seed, seed + 1, ..."""


def check(config: Config) -> None:
    """Refuse sizes below 1, and learning rates that are not positive."""
    from jaxmlp import checks

    for name in ("depth", "width", "num_samples", "num_steps", "train_epochs", "num_seeds"):
        checks.integer(name, getattr(config, name), at_least=1)
    for epochs in config.race_epochs:
        checks.integer("race_epochs", epochs, at_least=1)
    for rate in (config.learning_rate, *config.race_rates):
        checks.positive_number("a learning rate", rate)


@functools.cache
def digits(config: Config):
    """X and Y: standardised digits, without the pixels that never change."""
    from jaxmlp import datasets

    (data,) = datasets.standardize(datasets.digits())
    X, Y = data.X[: config.num_samples], data.Y[: config.num_samples]
    return X[:, X.std(axis=0) > 0].astype("float32"), Y


def network(X, depth: int, width: int, hidden: str, num_classes: int = 10):
    """The objective of a softmax classifier; stacked early, so that deep ones compile fast."""
    from jaxmlp import MLP, Objective

    sizes = (X.shape[1], *[width] * depth, num_classes)
    return Objective(MLP(sizes, hidden=hidden, stack_from=2), "cross_entropy")


def draw(J, init: Any, seed: int) -> Any:
    """Parameters for J; drawn layer by layer, so that this compiles once for all networks."""
    import jax

    from jaxmlp import stack

    mlp = dataclasses.replace(J.mlp, hidden="linear", stack_from=None)
    return stack(mlp.init(jax.random.key(seed), init, dtype="float32"), J.mlp)
