"""The options, and what they must be."""

import dataclasses

from experiments import common

VARIANCES = {"linear": 1.0, "relu": 2.0, "tanh": 1.05}  # sigma_w2


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Options of the spectra."""

    activations: tuple[str, ...] = tuple(VARIANCES)
    """of these three"""
    depths: tuple[int, ...] = (10, 100, 1000)
    """numbers of layers"""
    width: int = 64
    """units in every layer, inputs and outputs included"""
    num_nets: int = 5
    """networks of each kind"""


def check(config: Config) -> None:
    """Refuse options that cannot be met."""
    from jaxmlp import checks

    for name in config.activations:
        if name not in VARIANCES:
            raise checks.unknown_name("activation", name, VARIANCES)
    common.check_integers(config, "num_nets")
    common.check_integers(config, "depths", "width", at_least=2)
