"""The options, and the activations that the lecture numbers."""

import dataclasses

from experiments import common

NOTES = (  # D1-D12, in the order of the lecture
    "linear", "step", "sign", "piecewise_linear", "sigmoid", "tanh",
    "relu", "leaky_relu", "prelu", "elu", "softplus", "softmax",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Options of the activations."""

    activations: tuple[str, ...] = ()
    """which; with arguments as leaky_relu:0.1 (default: all)"""
    range: float = 4.0
    """draw and compare for |z| up to this"""
