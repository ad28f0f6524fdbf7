"""What the parts share: data, one neuron, and passes until nothing changes."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxmlp
from jaxmlp import datasets

# A1: output activation and loss
UNITS = {
    "logistic": ("sigmoid", "binary_cross_entropy"),
    "linear": ("linear", "half_squared_error"),
    "perceptron": ("step", "half_squared_error"),
}


def one_neuron(name: str, num_inputs: int) -> tuple[Any, Any]:
    """Return the objective of one neuron, and parameters of zero."""
    output, loss = UNITS[name]
    zero = jaxmlp.Layer(jnp.zeros((num_inputs, 1)), jnp.zeros(1))
    return jaxmlp.Objective(jaxmlp.MLP((num_inputs, 1), output=output), loss), (zero,)


def vehicles(inputs: str) -> tuple[Any, ...]:
    """Return the vehicles for training and those held out, "raw" or "standardised" (G4)."""
    split = datasets.vehicles_split()
    return split if inputs == "raw" else datasets.standardize(*split)


@functools.cache
def digits(seed: int) -> tuple[Any, Any]:
    """Return handwritten 3s (label 0) and 8s (label 1): 250 for training, 107 held out."""
    data = datasets.digits()
    rows = np.isin(data.Y, (3, 8))
    pair = data._replace(X=data.X[rows], Y=np.int32(data.Y[rows] == 8), class_names=("3", "8"))
    return datasets.train_test_split(pair, test_fraction=0.3, key=jax.random.key(seed))


def pass_until(meet, params, X, Y, epochs: int) -> tuple[Any, int, int]:
    """Call `meet(params, x, y) -> (params, updated)` for all samples, until a pass updates none.

    Return the parameters, the passes (at most `epochs`) and the number of updates.
    """
    samples, passes, count, updates = (np.float32(X), np.float32(Y)), 0, 0, 1
    one_pass = jax.jit(lambda p: jax.lax.scan(lambda p, sample: meet(p, *sample), p, samples))
    while passes < epochs and updates:
        params, updated = one_pass(params)
        updates = int(np.sum(updated))
        passes, count = passes + 1, count + updates
    return params, passes, count
