"""The options, and what they must be."""

import dataclasses
import math

from experiments import common

EVERY = 10  # steps between two points of a curve


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Options of the spiral."""

    activation: str = "relu"
    """of the third network's hidden layer; with arguments as leaky_relu:0.1"""
    width: int = 100
    """units in the hidden layers"""
    num_steps: int = 10_000
    """full-batch steps of each network"""
    learning_rate: float = 1.0
    """size of a step"""
    decay: float = 1e-3
    """L2 decay of the weights, not of the biases"""


def check(config: Config) -> None:
    """Refuse options that cannot be met."""
    from jaxmlp import activations

    activations.get(config.activation)
    common.check_integers(config, "width")
    common.check_integers(config, "num_steps", at_least=EVERY)
    common.check_positive(config, "learning_rate")
    if not 0 <= config.decay < math.inf:
        raise ValueError(f"decay must be finite and at least 0, got {config.decay}")
