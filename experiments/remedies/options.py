"""The options, and what they must be."""

import dataclasses

from experiments import common

CURES = {  # name: residual, norm
    "none": (None, None),
    "residual 1": (1.0, None),
    "residual 1/sqrt(depth)": ("1/sqrt(depth)", None),
    "rezero": ("rezero", None),
    "layer norm": (None, "layer"),
    "RMS norm": (None, "rms"),
    "layer norm, residual 1": (1.0, "layer"),
    "RMS norm, residual 1": (1.0, "rms"),
}


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Options of the cures."""

    activations: tuple[str, ...] = ("sigmoid", "tanh", "relu")
    """hidden activations; with arguments as leaky_relu:0.1"""
    cures: tuple[str, ...] = ()
    """only these of the table's cures, as "layer norm"; all by default"""
    depth: int = 100
    """number of hidden layers"""
    width: int = 32
    """units in every hidden layer"""
    num_nets: int = 20
    """networks whose gradients are measured at birth, of each kind"""
    learning_rates: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1)
    """of gradient descent; the best of them is shown"""
    num_seeds: int = 3
    """networks trained with each learning rate, of each kind; 0: gradients at birth only"""
    num_samples: int = 512
    """digits that they learn"""
    batch_size: int = 32
    """digits in a step"""
    epochs: int = 16
    """passes over the digits"""


def check(config: Config) -> None:
    """Refuse options that cannot be met."""
    from jaxmlp import activations, checks

    for name in config.activations:
        activations.get(name)
    for name in config.cures:
        if name not in CURES:
            raise checks.unknown_name("cure", name, CURES)
    common.check_integers(config, "depth", "batch_size", "epochs")
    common.check_integers(config, "num_seeds", at_least=0)
    common.check_integers(config, "width", at_least=3)  # a norm over fewer lets nothing through
    common.check_integers(config, "num_nets", at_least=2)  # for a standard deviation
    common.check_positive(config, "learning_rates")
