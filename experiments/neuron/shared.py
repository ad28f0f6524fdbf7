"""What the parts share: options, the data, one neuron, and passes that stop by themselves."""

import dataclasses
import functools
from typing import Any

from experiments import common

Rows = list[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Options of the one neuron."""

    learning_rate: float = 0.5
    """of gradient descent and of the perceptron's rule; (0, 1] in the lecture"""
    linear_rate: float = 0.1
    """of the linear unit on the digits, which diverges at 0.5"""
    epochs: int = 1000
    """passes over the training samples, 1 or more"""
    eps: float = 0.01
    """the loss, or the error of a sample, that is acceptable"""
    rounds: int = 5
    """timed runs of each training, 1 or more, after one that compiles; the fastest counts"""


# A1: output activation and loss
UNITS = {
    "logistic": ("sigmoid", "binary_cross_entropy"),
    "linear": ("linear", "half_squared_error"),
    "perceptron": ("step", "half_squared_error"),
}


def one_neuron(name: str, num_inputs: int) -> tuple[Any, Any]:
    """The objective of one neuron, and parameters of zero."""
    import jax.numpy as jnp

    import jaxmlp

    output, loss = UNITS[name]
    zero = jaxmlp.Layer(jnp.zeros((num_inputs, 1)), jnp.zeros(1))
    return jaxmlp.Objective(jaxmlp.MLP((num_inputs, 1), output=output), loss), (zero,)


def vehicles(inputs: str) -> tuple[Any, ...]:
    """The vehicles that train and those held out, "raw" or "standardised" (G4)."""
    from jaxmlp import datasets

    split = datasets.vehicles_split()
    return split if inputs == "raw" else datasets.standardize(*split)


@functools.cache
def digits(seed: int) -> tuple[Any, Any]:
    """Handwritten 3s (label 0) and 8s (label 1): 250 that train, 107 held out."""
    import jax
    import numpy as np

    from jaxmlp import datasets

    data = datasets.digits()
    rows = np.isin(data.Y, (3, 8))
    pair = data._replace(X=data.X[rows], Y=np.int32(data.Y[rows] == 8), class_names=("3", "8"))
    return datasets.train_test_split(pair, test_fraction=0.3, key=jax.random.key(seed))


def pass_until(meet, params, X, Y, epochs: int) -> tuple[Any, int, int]:
    """Take `meet(params, x, y) -> (params, updated)` to every sample, until a pass updates none.

    Return the parameters, the passes (at most `epochs`) and the number of updates.
    """
    import jax
    import numpy as np

    samples, passes, count, updates = (np.float32(X), np.float32(Y)), 0, 0, 1
    one_pass = jax.jit(lambda p: jax.lax.scan(lambda p, sample: meet(p, *sample), p, samples))
    while passes < epochs and updates:
        params, updated = one_pass(params)
        updates = int(np.sum(updated))
        passes, count = passes + 1, count + updates
    return params, passes, count
