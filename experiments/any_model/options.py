"""The options, and what they must be."""

import dataclasses

from experiments import common


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Options of the models that know nothing of jaxmlp."""

    flipped: float = 0.05
    """share of the training labels that are flipped to another class"""
    epochs: int = 10
    """epochs of training before samples are scored"""
    num_networks: int = 5
    """repetitions, each with its own flipped labels and networks"""
    width: int = 128
    """units in each hidden layer, and of a token"""
    batch_size: int = 256
    """samples of the batch whose cost is measured"""
    rounds: int = 31
    """rounds in which the rivals take turns"""
    max_norm: float = 1.0
    """largest norm that clipping leaves as it is"""


def check(config: Config) -> None:
    """Refuse options that cannot be met."""
    common.check_integers(config, "epochs", "num_networks", "width", "rounds")
    common.check_integers(config, "batch_size", at_least=2)
    common.check_positive(config, "max_norm")
    if config.width % 4:
        raise ValueError(f"width must be a multiple of 4, the heads of attention: {config.width}")
    if not 0 < config.flipped < 1:
        raise ValueError(f"flipped must lie between 0 and 1, got {config.flipped}")
    if config.batch_size > 1797:
        raise ValueError(f"batch_size must be at most 1797, the digits: {config.batch_size}")
