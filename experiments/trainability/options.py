"""The options, and what they must be."""

import dataclasses
from pathlib import Path
from typing import Literal

from experiments import common


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Options of the trainability maps."""

    maps: tuple[Literal["tanh", "relu", "residual"], ...] = ("tanh", "relu", "residual")
    """tanh with biases of variance 0.05; ReLU and the residual ReLU network without biases"""
    depths: tuple[int, ...] = (5, 10, 15, 20, 25, 30, 40, 50, 60, 75, 90, 110, 130)
    """numbers of hidden layers, ascending"""
    sigma_w2s: tuple[float, ...] = (1.0, 1.25, 1.5, 1.76, 2.0, 2.5, 3.0, 3.5, 4.0)
    """variances of the weights, times the width; ascending"""
    num_seeds: int = 3
    """networks drawn for each cell, from seeds seed, seed + 1, ..."""
    width: int = 64
    """units in every hidden layer"""
    num_steps: int = 300
    """updates"""
    batch_size: int = 64
    """samples of an update"""
    learning_rate: float = 0.01
    """of plain gradient descent"""
    num_samples: int = 1792
    """digits that the networks learn; whole batches, because a last batch of a few samples at the
    full rate makes the edge a lottery"""
    html: bool = False
    """write a page to choose networks on and look at, too"""
    mnist: Path | None = None
    """folder with the IDX files of MNIST, to learn its first digits instead"""


def check(config: Config) -> None:
    """Refuse options that cannot be met."""
    for name in ("depths", "sigma_w2s"):
        values = getattr(config, name)
        if list(values) != sorted(set(values)):
            raise ValueError(f"{name} must ascend, got {', '.join(map(str, values))}")
    common.check_integers(config, "depths", "num_seeds", "width", "num_steps", "batch_size")
    common.check_integers(config, "num_samples", at_least=2)
    common.check_positive(config, "sigma_w2s", "learning_rate")
