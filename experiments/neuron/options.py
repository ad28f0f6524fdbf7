"""The options, and what they must be."""

import dataclasses

from experiments import common


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Options of the one neuron."""

    learning_rate: float = 0.5
    """of gradient descent and of the perceptron's rule; (0, 1] in the lecture"""
    linear_rate: float = 0.1
    """of the linear unit on the digits, which diverges at 0.5"""
    epochs: int = 1000
    """passes over the training samples, 1 or more"""
    eps: float = 0.01
    """the loss, or the error of a sample, that is acceptable"""
    rounds: int = 5
    """timed runs of each training, 1 or more, after one that compiles; the fastest counts"""


def check(config: Config) -> None:
    """Refuse options that cannot be met."""
    common.check_integers(config, "epochs", "rounds")
    common.check_positive(config, "learning_rate", "linear_rate", "eps")
