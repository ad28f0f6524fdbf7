"""The options, and what they must be."""

import dataclasses

from experiments import common


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Options of the ten thousand layers."""

    depth: int = 10_000
    """hidden layers"""
    width: int = 64
    """units in every hidden layer"""
    sigma_w2: float = 1.05
    """variance of the weights, times the width; its root scales the orthogonal ones"""
    sigma_b2: float = 2.01e-5
    """variance of the biases: with 1.05 the edge of chaos"""
    epochs: int = 10
    """passes over the digits"""
    num_samples: int = 960
    """digits: 15 whole batches, so that ten epochs are 150 updates"""
    batch_size: int = 64
    """samples of an update"""
    learning_rate: float = 3e-5
    """of plain gradient descent"""
    save_all: bool = False
    """keep the activations of all layers; else of about sqrt(depth), and the others are computed
    again on the way back"""


def check(config: Config) -> None:
    """Refuse options that cannot be met."""
    common.check_integers(config, "depth", "width", "epochs", "batch_size")
    common.check_positive(config, "sigma_w2", "sigma_b2", "learning_rate")
    common.digits(config.num_samples)
