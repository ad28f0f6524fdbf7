"""The digits, and the networks with their parameters."""

import dataclasses
import functools
from typing import Any

import jax

from experiments import common
from experiments.vanishing.options import Config
from jaxmlp import MLP, Objective, stack

INITS = {"sigmoid": "lecun", "tanh": "lecun", "relu": "he", "leaky_relu": "he"}


@functools.cache
def digits(config: Config):
    """Return X and Y: standardised digits, without the pixels that never change."""
    X, Y = common.digits(config.num_samples)
    return X[:, X.std(axis=0) > 0].astype("float32"), Y


def network(X, depth: int, width: int, hidden: str, num_classes: int = 10):
    """Return the objective of a softmax classifier; it is stacked, so that it compiles fast."""
    sizes = (X.shape[1], *[width] * depth, num_classes)
    return Objective(MLP(sizes, hidden=hidden, stack_from=2), "cross_entropy")


def draw(J, init: Any, seed: int) -> Any:
    """Return parameters for J, drawn layer by layer, so that this compiles once for all."""
    mlp = dataclasses.replace(J.mlp, hidden="linear", stack_from=None)
    return stack(mlp.init(jax.random.key(seed), init, dtype="float32"), J.mlp)
