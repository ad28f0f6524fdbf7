"""`fit` against a NumPy loop of the same steps."""

import jax
import numpy as np

import jaxmlp
from experiments.benchmark.options import Config
from experiments.benchmark.shared import in_turns, ratio


def fit_ratio(config: Config) -> dict[str, float]:
    """`fit` of (2, 4, 3) on the spiral, full batch, 10,000 steps, over a NumPy loop of the same."""
    steps = 200 if config.smoke else 10_000
    data = jaxmlp.datasets.spiral()
    J = jaxmlp.Objective(jaxmlp.MLP((2, 4, 3)), "cross_entropy")
    params = J.mlp.init(jax.random.key(config.seed))
    arrays = {name: np.array(leaf) for name, leaf in jaxmlp.as_dict(params).items()}
    X, Y = data.X.astype(np.float32), np.eye(3, dtype=np.float32)[data.Y]
    loop = lambda: numpy_loop(arrays, X, Y, 0.1, steps)  # noqa: E731
    ours = lambda: jaxmlp.fit(J, params, data.X, data.Y, optimizer=0.1, epochs=steps)  # noqa: E731
    ours_seconds, numpy_seconds = in_turns([ours, loop], 5)
    return {"fit of (2, 4, 3), 10,000 steps / NumPy": ratio(ours_seconds, numpy_seconds)}


def numpy_loop(arrays: dict, X, Y, learning_rate: float, steps: int):
    """Gradient descent of E2 and E3 in NumPy, with the loss of every step."""
    W1, b1, W2, b2 = (arrays[name].copy() for name in ("W1", "b1", "W2", "b2"))
    m, history = len(X), np.empty(steps)
    for step in range(steps):
        A1 = np.maximum(X @ W1 + b1, 0)
        E = np.exp(A1 @ W2 + b2)
        A2 = E / E.sum(axis=1, keepdims=True)
        history[step] = -(Y * np.log(A2)).sum() / m
        dZ2 = (A2 - Y) / m
        dZ1 = (dZ2 @ W2.T) * (A1 > 0)
        W2 -= learning_rate * (A1.T @ dZ2)
        b2 -= learning_rate * dZ2.sum(axis=0)
        W1 -= learning_rate * (X.T @ dZ1)
        b1 -= learning_rate * dZ1.sum(axis=0)
    return history
