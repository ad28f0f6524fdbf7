"""The options, and what they must be."""

import dataclasses
from typing import Literal

from experiments import common


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Options of the benchmark."""

    parts: tuple[
        Literal["gradient", "remedies", "compile", "fit", "many", "flow", "sweep", "per_sample"],
        ...,
    ] = ("gradient", "remedies", "compile", "fit", "many", "flow", "sweep", "per_sample")
    """what to measure"""
    depths: tuple[int, ...] = (2, 10, 50, 200, 1000)
    """numbers of hidden layers"""
    widths: tuple[int, ...] = (32, 128, 512)
    """units in every hidden layer"""
    rounds: int = 21
    """rounds of measurement, at least 15 for a table"""
    activation: str = "tanh"
    """hidden activation"""


def check(config: Config) -> None:
    """Refuse options that cannot be met."""
    from jaxmlp import activations

    activations.get(config.activation)
    common.check_integers(config, "depths", "widths", "rounds")
