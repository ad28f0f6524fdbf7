"""The network that the files are asked about, and a blank template for it."""

from pathlib import Path
from typing import Any

# NumPy's form of the activations that a template can write out
HIDDEN = {
    "relu": "np.maximum(Z, 0)",
    "sigmoid": "1 / (1 + np.exp(-Z))",
    "tanh": "np.tanh(Z)",
    "linear": "Z",
}
OUTPUTS = {
    "cross_entropy": ("softmax", "np.exp(Z) / np.exp(Z).sum(axis=1, keepdims=True)"),
    "binary_cross_entropy": ("sigmoid", "1 / (1 + np.exp(-Z))"),
}
LOSSES = {
    "cross_entropy": "J = -sum(Y log A) / m",
    "binary_cross_entropy": "J = -sum(Y log A + (1 - Y) log(1 - A)) / m",
    "mse": "J = sum((A - Y)^2) / m",
    "half_squared_error": "J = sum((A - Y)^2) / (2 m)",
    "sse": "J = sum((A - Y)^2)",
}


def problem(sizes: tuple[int, ...], hidden: str, loss: str, seed: int):
    """Return J, parameters, X and Y in float64. Biases are not 0, or a wrong step may pass."""
    import jax
    import numpy as np

    import jaxmlp

    output, _ = OUTPUTS.get(loss, ("linear", ""))
    mlp = jaxmlp.MLP(sizes, hidden=hidden, output=output, stack_from=None)
    params = mlp.init(jax.random.key(seed), jaxmlp.initializers.gaussian(2.0, 0.1))
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    rng, d, K = np.random.default_rng(seed), sizes[0], sizes[-1]
    # The lecture's spiral if it fits, else random samples of its number
    data = jaxmlp.datasets.spiral()
    X, classes = np.asarray(data.X, np.float64), np.asarray(data.Y)
    if d != 2:
        X = rng.standard_normal((len(X), d))
    if loss == "cross_entropy":
        Y = np.eye(K)[classes if K == 3 else rng.integers(0, K, len(X))]
    elif loss == "binary_cross_entropy":
        Y = rng.integers(0, 2, (len(X), K)).astype(np.float64)
    else:
        Y = rng.standard_normal((len(X), K))
    return jaxmlp.Objective(mlp, loss), params, X, Y


def save_task(path: Path, params: Any, X, Y) -> None:
    """Write what the child passes to `backward`, and nothing else."""
    import jax
    import numpy as np

    leaves = {f"p{i}": leaf for i, leaf in enumerate(jax.tree.leaves(params))}
    np.savez(path, X=X, Y=Y, **leaves)


def template(sizes: tuple[int, ...], hidden: str, loss: str) -> str:
    """Return a file to be filled in: forward pass and shapes, `...` for each step back."""
    L, (output, A_L) = len(sizes) - 1, OUTPUTS.get(loss, ("linear", "Z"))
    numbers = range(1, L + 1)
    names = ", ".join(f"W{l}, b{l}" for l in numbers)
    forward, back = [], []
    for l in numbers:
        A_prev, form = "X" if l == 1 else f"A{l - 1}", HIDDEN.get(hidden, "...") if l < L else A_L
        forward.append(f"Z{l} = {A_prev} @ W{l} + b{l}  # (m, {sizes[l]})")
        forward.append(f"A{l} = {form.replace('Z', f'Z{l}')}")
    for l in reversed(numbers):
        if l < L:
            back.append(f"dA{l} = ...  # (m, {sizes[l]})")
        back.append(f"dZ{l} = ...  # (m, {sizes[l]})")
        back.append(f"dW{l} = ...  # ({sizes[l - 1]}, {sizes[l]})")
        back.append(f"db{l} = ...  # ({sizes[l]},)")
    steps = [line.split(" = ")[0] for line in back]
    held = "".join(f'        "{name}": {name},\n' for name in steps)  # as ruff formats it
    body = "\n".join(f"    {line}".rstrip() for line in ("m = len(X)", "", *forward, "", *back))
    shape = ", ".join(map(str, sizes))
    return f'''"""The backward pass of the ({shape}) network, to be filled in.

Rows are samples. Hidden activation: {hidden}; output: {output}; the loss is
{LOSSES.get(loss, loss)}, m the number of samples.

    python -m experiments.student FILE{_options(sizes, hidden, loss)}
"""

import numpy as np


def backward(params, X, Y):
    """Return every derivative by its name. X (m, {sizes[0]}), Y (m, {sizes[-1]})."""
    {names} = params
{body}
    return {{
{held}    }}
'''


def _options(sizes: tuple[int, ...], hidden: str, loss: str) -> str:
    if (sizes, hidden, loss) == ((2, 4, 3), "relu", "cross_entropy"):
        return ""
    return f" --sizes {' '.join(map(str, sizes))} --hidden {hidden} --loss {loss}"
