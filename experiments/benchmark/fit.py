"""`fit` against a NumPy loop of the same steps; `fit_many` against loops of `fit` and PyTorch."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

import jaxmlp
from experiments.benchmark.options import Config
from experiments.benchmark.shared import CLASSES, FEATURES, in_turns, ratio


def fit_ratio(config: Config) -> dict[str, float]:
    """Return the time of 10,000 full-batch steps of `fit` over that of a NumPy loop."""
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
    """Run gradient descent of E2 and E3 in NumPy; return the loss of every step."""
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


def many_ratio(config: Config) -> dict[str, float]:
    """Return the time of `fit_many` for 16 networks, over a loop of `fit` and over PyTorch."""
    n, depth, steps = (2, 3, 5) if config.smoke else (16, 20, 100)
    J = jaxmlp.Objective(jaxmlp.MLP((FEATURES, *[64] * depth, CLASSES), hidden="tanh"),
                         "cross_entropy")  # fmt: skip
    keys = jnp.stack([jax.random.key(config.seed + k) for k in range(n)])
    networks = jax.tree.map(np.asarray, jax.vmap(J.mlp.init)(keys))
    rng = np.random.default_rng(config.seed)
    X = rng.standard_normal((1792, FEATURES), np.float32)
    Y = rng.integers(0, CLASSES, len(X))
    way = {"optimizer": 0.01, "num_steps": steps, "batch_size": 64}

    def one_by_one():
        alone = (jax.tree.map(lambda leaf: leaf[k], networks) for k in range(n))  # noqa: B023
        return [jaxmlp.fit(J, params, X, Y, **way)[0] for params in alone]

    runs = [lambda: jaxmlp.fit_many(J, networks, X, Y, **way)[0], one_by_one]
    names = [f"fit_many of {n} networks, {depth} x 64 / a loop of fit"]
    torch_loop = torch_training(networks, X, Y, steps)
    if torch_loop is not None:
        runs.append(torch_loop)
        names.append(f"fit_many of {n} networks, {depth} x 64 / a loop in PyTorch")
    ours, *theirs = in_turns(runs, 2 if config.smoke else 5)
    return {name: ratio(ours, times) for name, times in zip(names, theirs, strict=True)}


def torch_training(networks, X, Y, steps: int):
    """Return the same training in PyTorch, one network after another; None without PyTorch."""
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        return None
    torch.set_flush_denormal(True)
    inputs, targets = torch.tensor(X), torch.tensor(Y).long()
    batches = [slice(i, i + 64) for i in range(0, len(X), 64)]

    def train() -> float:
        for k in range(len(networks[0].W)):
            arrays = [(layer.W[k], layer.b[k]) for layer in networks]
            layers = [[torch.tensor(x).requires_grad_() for x in pair] for pair in arrays]
            descent = torch.optim.SGD([p for layer in layers for p in layer], lr=0.01)
            for rows in itertools.islice(itertools.cycle(batches), steps):
                A = inputs[rows]
                for W, b in layers[:-1]:
                    A = torch.tanh(A @ W + b)
                W, b = layers[-1]
                loss = torch.nn.functional.cross_entropy(A @ W + b, targets[rows])
                descent.zero_grad()
                loss.backward()
                descent.step()
        return loss.item()

    return train
