"""The options, and what they must be."""

import dataclasses

from experiments import common


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Options of the phase diagram."""

    activation: str = "tanh"
    """hidden activation; with arguments as leaky_relu:0.1"""
    table: bool = False
    """print the critical points of every activation instead"""
    largest_w2: float = 4.0
    """the plane ends at this sigma_w2"""
    largest_b2: float = 0.3
    """and at this sigma_b2"""
    points: int = 60
    """points of theory along each side"""
    dots: int = 5
    """measured networks along each side"""
    depth: int = 30
    """hidden layers of a measured network"""
    width: int = 256
    """their width"""
    num_nets: int = 5
    """networks for each dot"""


def check(config: Config) -> None:
    """Refuse options that cannot be met."""
    from jaxmlp import activations

    activations.get(config.activation)
    common.check_positive(config, "largest_w2", "largest_b2")
    common.check_integers(config, "points", at_least=2)
    common.check_integers(config, "dots", "depth", "width", "num_nets")
