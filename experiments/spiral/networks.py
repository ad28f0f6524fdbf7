"""The three networks, and their training."""

import itertools
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

import jaxmlp
from experiments import common
from experiments.spiral.options import EVERY, Config
from jaxmlp import datasets


class Trained(NamedTuple):
    """Hold a network after training: loss (with L2) and accuracy at `steps`, points right."""

    name: str
    J: Any
    params: Any
    steps: Any
    loss: Any
    accuracy: Any
    right: int


def samples(config: Config):
    """Return the published spiral for seed 0, else one drawn from the seed."""
    return datasets.spiral(None if config.seed == 0 else jax.random.key(config.seed))


def starts(config: Config) -> list[tuple[str, Any, Any]]:
    """Return name, objective and first parameters of each: 0.01 x standard normal, biases 0.

    The two networks with a hidden layer start from the same weights.
    """
    sizes, act = (2, config.width, 3), config.activation
    alone, linear, bent = (
        jaxmlp.MLP((2, 3)), jaxmlp.MLP(sizes, hidden="linear"), jaxmlp.MLP(sizes, hidden=act)
    )  # fmt: skip
    random = np.random.RandomState(config.seed)
    random.standard_normal(300)  # what the notes' program has drawn by now, for its data

    def draw(mlp):
        return [0.01 * random.standard_normal(shape) for shape in itertools.pairwise(mlp.sizes)]

    def start(name, mlp, weights):
        zero = mlp.init(jax.random.key(0), jax.nn.initializers.zeros)
        params = tuple(layer._replace(W=W) for layer, W in zip(zero, weights, strict=True))
        return name, jaxmlp.Objective(mlp, "cross_entropy"), params

    regression, shared = start("softmax regression", alone, draw(alone)), draw(bent)
    return [
        regression,
        start("linear hidden layer", linear, shared),
        start(f"{act} hidden layer", bent, shared),
    ]


def train(config: Config, data) -> list[Trained]:
    """Train every network for the same number of steps."""
    networks, n = starts(config), config.num_steps
    with common.progress("steps") as report:
        return [
            train_one(config, data, *start, lambda done, i=i: report(i * n + done, 3 * n))
            for i, start in enumerate(networks)
        ]


def train_one(config: Config, data, name: str, J, params, report) -> Trained:
    """Train one network by the notes' gradient descent."""

    @jax.jit
    def total(params, X, Y):
        return J(params, X, Y) + config.decay / 2 * sum((W**2).sum() for W, *_ in params)

    optimizer = optax.chain(
        optax.add_decayed_weights(config.decay, mask=jaxmlp.weight_mask),
        optax.sgd(config.learning_rate),
    )
    first = total(params, data.X, data.Y)
    params, history = jaxmlp.fit(
        J, params, data.X, data.Y, optimizer=optimizer, epochs=config.num_steps,
        record=total, every=EVERY, progress=lambda done, _: report(done),
    )  # fmt: skip
    right = int((classes(J.mlp, params, data.X) == data.Y).sum())
    steps = np.arange(0, config.num_steps + 1, EVERY)
    accuracy = np.append(history.accuracy, right / len(data.Y))[steps]
    return Trained(name, J, params, steps, np.append(first, history.record), accuracy, right)


def classes(mlp, params, X):
    """Return the class of each point, that of the largest output."""
    return np.asarray(mlp.apply(params, X)).argmax(axis=1)


def one_regression(params):
    """Return C2: the layers of a linear network as one, W1 W2 and b1 W2 + b2."""
    p = jaxmlp.as_dict(params)
    return (jaxmlp.Layer(p["W1"] @ p["W2"], p["b1"] @ p["W2"] + p["b2"]),)
