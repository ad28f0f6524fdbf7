"""The shapes of the lecture (E1) and its claims (C1-C3), beside measurements."""

from typing import Any

import jax
import numpy as np

import jaxmlp
from experiments.spiral.networks import Trained, one_regression

NOTES_SHAPES = {
    "A0 = X": (300, 2), "W1": (2, 4), "b1": (1, 4), "Z1": (300, 4), "A1": (300, 4),
    "W2": (4, 3), "b2": (1, 3), "Z2": (300, 3), "A2": (300, 3),
}  # fmt: skip


def shapes(data, seed: int) -> tuple[list[dict], list[str]]:
    """Return E1: every shape beside the notes', and two slips beside the right ones."""
    mlp = jaxmlp.MLP((2, 4, 3), hidden="relu", output="softmax")
    J, params = jaxmlp.Objective(mlp, "cross_entropy"), mlp.init(jax.random.key(seed), "he")
    arrays = jaxmlp.as_dict(params) | {"A0 = X": data.X}
    for l, step in enumerate(jaxmlp.trace(J)(params, data.X, data.Y), start=1):
        arrays |= {f"Z{l}": step.Z, f"A{l}": step.A}
    rows = [
        {"array": name, "notes": str(notes), "here": str(arrays[name].shape)}
        for name, notes in NOTES_SHAPES.items()
    ]
    dZ2 = np.asarray(arrays["A2"]) - np.eye(3)[data.Y]  # of each sample; db2 is their mean
    over_samples, over_classes = dZ2.mean(axis=0), dZ2.mean(axis=1)
    error = np.abs(over_samples - jax.grad(J)(params, data.X, data.Y)[1].b).max()
    lines = [
        f"{mlp.num_parameters} parameters = (2x4 + 4) + (4x3 + 3). The notes keep b as a row, we "
        "as a vector: the same numbers.",
        f"slip (600, 4) for (300, 4): X W1 has the {len(data.X)} rows of X, "
        f"{arrays['Z1'].size} numbers and not 2400; 600 counts the numbers in X ({data.X.size}).",
        f"slip mean(axis=1) for db2: (A2 - Y).mean(axis=0) has shape {over_samples.shape} and is "
        f"jax.grad's db2 but for {error:.0e};\n  mean(axis=1) has shape {over_classes.shape} and "
        f"is 0 (at most {np.abs(over_classes).max():.0e}), as rows of A2 and of Y both sum to 1.",
    ]
    return rows, lines


def summary(network: Trained, data) -> dict[str, Any]:
    """Return the network's line in the table."""
    return {
        "network": network.name,
        "parameters": network.J.mlp.num_parameters,
        "loss": float(network.J(network.params, data.X, data.Y)),
        "loss with L2": f"{network.loss[-1]:.6f}",
        "right": f"{network.right} of {len(data.Y)}",
        "accuracy": f"{network.right / len(data.Y):.1%}",
    }


def statements(networks: list[Trained], data) -> list[str]:
    """Return C1-C3 as numbers, beside the published ones."""
    regression, linear, bent = networks
    X, mlp = data.X, regression.J.mlp
    one = one_regression(linear.params)
    error = abs(linear.J.mlp.apply(linear.params, X) - mlp.apply(one, X)).max()
    after_190 = f"{regression.loss[19]:.6f}" if len(regression.loss) > 19 else "not reached"
    return [
        f"\nC1  softmax regression: {regression.right} of {len(X)} right. The notes' 148 of 300 is "
        f"{148 / 300:.1%}, not the 52% they say.",
        f"    Loss with L2 after 190 steps: {after_190}; published for the set of seed 0: "
        "0.786302.",
        f"C2  the linear hidden layer's {linear.J.mlp.num_parameters} parameters are one softmax "
        f"regression of {mlp.num_parameters}:\n    W1 W2 = {_rounded(one[0].W)}, "
        f"b1 W2 + b2 = {_rounded(one[0].b)};\n    its outputs differ by {error:.0e}.",
        f"C3  {bent.name}: loss with L2 {bent.loss[-1]:.3f}, accuracy "
        f"{bent.right / len(X):.3f}; published for 100 ReLU units\n    on the set of seed 0: 0.245 "
        "and 0.98.",
    ]


def _rounded(values) -> str:
    return str(values.round(3).tolist())
