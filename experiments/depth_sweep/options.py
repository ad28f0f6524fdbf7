"""The options, and what they must be."""

import dataclasses
import math

from experiments import common


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Options of the depth sweep."""

    activations: tuple[str, ...] = ("sigmoid", "tanh", "relu", "leaky_relu")
    """hidden activations; with arguments as leaky_relu:0.1"""
    inits: tuple[str, ...] = ("lecun", "he")
    """initialisations: lecun, glorot, he, orthogonal"""
    depths: tuple[int, ...] = (2, 10, 50, 200, 1000)
    """numbers of hidden layers"""
    num_seeds: int = 3
    """networks drawn for each cell, from seeds seed, seed + 1, ..."""
    width: int = 128
    """units in every hidden layer"""
    num_samples: int = 128
    """digits that the networks are shown"""
    vanishing: float = 1e-3
    """verdict: vanishing when the norm changes by less than this factor"""
    exploding: float = 1e3
    """verdict: exploding when it changes by more than this factor"""
    theory_depth: int = 50
    """hidden layers of the networks that are compared with mean-field theory"""
    theory_nets: int = 20
    """networks drawn for each of these comparisons"""


def check(config: Config) -> None:
    """Refuse options that cannot be met."""
    from jaxmlp import activations, initializers

    for name in config.activations:
        activations.get(name)
    for name in config.inits:
        initializers.get(name)
    common.check_integers(config, "depths", "num_seeds", "width", "theory_depth")
    common.check_integers(config, "theory_nets", at_least=2)  # for a standard deviation
    if not 0 < config.vanishing < config.exploding < math.inf:
        raise ValueError(
            f"expected 0 < vanishing < exploding, got {config.vanishing} and {config.exploding}"
        )
    common.digits(config.num_samples)
