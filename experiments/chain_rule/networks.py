"""The network of the options, and the results of its backward pass at every layer."""

from typing import Any, NamedTuple

import jax
import numpy as np

import jaxmlp
from experiments.chain_rule.options import Config
from experiments.chain_rule.report import plural
from jaxmlp import datasets
from jaxmlp.layer import slopes


class Problem(NamedTuple):
    """Hold a network, its samples and its trace; arrays of layer l have the index l - 1."""

    J: Any
    params: Any
    X: Any
    Y: Any
    steps: list[Any]
    W: list[Any]
    gates: list[Any]
    """act'(Z) of each layer; None for softmax"""

    @property
    def dX(self):
        """Return dX, which the trace leaves out."""
        return self.steps[0].dZ @ self.W[0].T / self.divisor

    @property
    def divisor(self) -> int:
        """Return what the sum over the samples is divided by."""
        return len(self.X) if self.J.loss.reduction == "mean" else 1

    def __str__(self):
        """`(2, 4, 3) relu softmax, cross_entropy, 1 sample`."""
        J, m = self.J, plural(len(self.X), "sample")
        names = " ".join(dict.fromkeys(act.name for act in J.mlp.activations))
        return f"{J.mlp.sizes} {names}, {J.loss.name}, {m}"


def problem(config: Config) -> Problem:
    """Return the network of the options, with one sample or all of them."""
    mlp = jaxmlp.MLP(
        config.sizes, hidden=config.hidden, output=config.output, use_bias=not config.bias_free
    )
    X, Y = samples(mlp.sizes[0], mlp.sizes[-1], config.seed)
    if config.sample != "mean":
        if not 0 <= config.sample < len(X):
            raise ValueError(f"sample must lie in 0..{len(X) - 1}, got {config.sample}")
        X, Y = X[[config.sample]], Y[[config.sample]]
    params = mlp.init(jax.random.key(config.seed), config.init)
    return walked(jaxmlp.Objective(mlp, config.loss), params, X, Y)


def samples(d: int, K: int, seed: int) -> tuple[Any, Any]:
    """Return the spiral if it fits, else 300 random samples; one output has targets 0 and 1."""
    random, classes = np.random.default_rng(seed), max(K, 2)
    X, labels = random.normal(size=(300, d)), random.integers(classes, size=300)
    if (d, K) == (2, 3):
        X, labels, *_ = datasets.spiral()
    return X, np.eye(classes)[labels][:, -K:]


def walked(J, params, X, Y) -> Problem:
    """Return the trace and what the tables need besides, in NumPy."""
    steps, layers = jaxmlp.trace(J)(params, X, Y), jaxmlp.layers(params)
    gates = [
        None if act.derivative is None else act.derivative(t.Z, t.A, *slopes(layer))
        for act, t, layer in zip(J.mlp.activations, steps, layers, strict=True)
    ]
    seen = steps, [layer.W for layer in layers], gates
    return Problem(J, params, X, Y, *jax.tree.map(np.asarray, seen))
