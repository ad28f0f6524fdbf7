"""The options, and what they must be."""

import dataclasses
from pathlib import Path

from experiments import common


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Options of the search for flipped labels."""

    mnist: Path | None = None
    """folder with the IDX files of MNIST, to use it instead of scikit-learn's digits"""
    num_train: int | None = None
    """training samples to use, drawn at random; None for all (of MNIST, hours)"""
    flipped: float = 0.05
    """share of the training labels that are flipped to another class"""
    num_networks: int = 10
    """networks that a score is averaged over"""
    score_epoch: int = 10
    """epochs of training after which samples are scored; once more at epoch 0"""
    epochs: int = 50
    """epochs of training on all samples; on fewer samples there are as many steps"""
    shares: tuple[float, ...] = (0.25, 0.5, 0.75, 0.95)
    """shares of the training samples to keep"""
    num_seeds: int = 5
    """repetitions, each with its own flipped labels, networks and (digits) test set"""
    width: int = 64
    """units in each of the two hidden layers"""
    batch_size: int = 128
    """samples for each step"""
    learning_rate: float = 0.05
    """of gradient descent with momentum 0.9"""


def check(config: Config) -> None:
    """Refuse options that cannot be met."""
    common.check_integers(config, "num_networks", "score_epoch", "num_seeds", "width", "batch_size")
    common.check_integers(config, "epochs", at_least=config.score_epoch)
    common.check_positive(config, "learning_rate")
    for name, share in [("flipped", config.flipped), *(("shares", s) for s in config.shares)]:
        if not 0 < share < 1:
            raise ValueError(f"{name} must lie between 0 and 1, got {share}")
