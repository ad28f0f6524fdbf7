"""The options, and what they must be."""

import dataclasses

from experiments import common


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
    """of the one step and of the dead units"""
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
    train_rates: tuple[float, ...] = (0.01, 0.03, 0.1)
    """learning rates that they are trained at, the best of which counts"""
    train_epochs: int = 30
    """epochs that they are trained for"""
    num_seeds: int = 3
    """networks for each cell of the last two, from seeds seed, seed + 1, ..."""


def check(config: Config) -> None:
    """Refuse sizes below 1, rates that are not positive, and more digits than there are."""
    common.check_integers(
        config, "depth", "width", "step_depths", "num_steps", "race_epochs", "train_depths",
        "train_epochs", "num_seeds",
    )  # fmt: skip
    common.check_positive(config, "learning_rate", "race_rates", "train_rates")
    common.digits(config.num_samples)
