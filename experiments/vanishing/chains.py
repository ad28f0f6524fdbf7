"""H1, H2: the product of activation derivatives against the gradient itself."""

import math
from typing import Any, NamedTuple

import numpy as np

import jaxmlp
from experiments.vanishing.networks import digits, draw, network
from experiments.vanishing.options import Config
from jaxmlp import initializers


class Chain(NamedTuple):
    """Hold what is left k = 0..depth layers below the output, as log10 relative to the output.

    product: of the root mean square of act'(Z) in each layer. largest: of the largest act'(Z) in
    each layer, which no path can exceed. gradient: the root mean square norm of dZ.
    """

    product: Any
    largest: Any
    gradient: Any


def chain(config: Config, init: str) -> Chain:
    """Measure a sigmoid network."""
    X, Y = digits(config)
    J = network(X, config.depth, config.width, "sigmoid")
    params = draw(J, init, config.seed)
    outputs = [np.asarray(t.A, float) for t in reversed(jaxmlp.trace(J)(params, X, Y)[:-1])]
    slopes = [A * (1 - A) for A in outputs]
    rms, largest = [np.sqrt((s**2).mean()) for s in slopes], [s.max() for s in slopes]
    product, largest = (np.append(0, np.cumsum(np.log10(factors))) for factors in (rms, largest))
    return Chain(product, largest, relative_gradient(J, params, X, Y))


def gain_2(config: Config, hidden: str):
    """Return the gradient of `Chain` for weights of variance 4 / fan_in, a factor 2 a layer."""
    X, Y = digits(config)
    J = network(X, config.depth, config.width, hidden)
    return relative_gradient(J, draw(J, initializers.gaussian(4.0), config.seed), X, Y)


def relative_gradient(J, params, X, Y):
    delta = np.asarray(jaxmlp.gradient_flow(J, statistics=False)(params, X, Y).log10_delta, float)
    return (delta - delta[-1])[::-1]


def ceiling(depth: int) -> float:
    """Return log10 of 0.25^depth, the largest product of `depth` sigmoid derivatives."""
    return depth * math.log10(0.25)


def ends(c: Chain) -> dict[str, float]:
    return {name: values[-1] for name, values in zip(c._fields, c, strict=True)}
