"""The numbers of the notes beside the computed ones, and descent on a parabola."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np

import jaxmlp
from experiments.common import Rows

# update of x: its learning rate; the last is the slip (I)
RATES = {"x - 0.1 dy/dx": 0.1, "x - 0.5 dy/dx": 0.5, "x - dy/dx": 1.0, "x + 0.1 dy/dx": -0.1}
SUMS = (1.1, 2.2, 0.2, -1.7)  # the z of B1


def numbers() -> Rows:
    """Return rows of the notes' number, the computed one, and the slips (row I)."""
    names = ("row", "formula", "notes", "right", "remark")
    lines = [*probabilities(), *squared_errors(), *cross_entropies()]
    return [dict(itertools.zip_longest(names, line, fillvalue="")) for line in lines]


def at_output(output: str, loss: str, Z, Y):
    """Return J and dJ/dZ of the package for given sums Z of the output layer (W = identity)."""
    K = len(Z[0])
    J = jaxmlp.Objective(jaxmlp.MLP((K, K), output=output, use_bias=False), loss)
    params = (jaxmlp.Layer(jnp.asarray(np.eye(K, dtype=np.float32))),)
    value, dZ = jaxmlp.value_and_grad(J, argnums=1)(params, np.float32(Z), np.float32(Y))
    return float(value), np.asarray(dZ, float)


def cross_entropy(z, t) -> float:
    """Return the cross-entropy of the distribution t and softmax(z), in nats."""
    return at_output("softmax", "cross_entropy", [z], [t])[0]


def probabilities() -> list[tuple]:
    """Return B1, B3, B4: softmax, the sigmoid as two classes, cross-entropy in both orders."""
    softmax = jax.jit(jax.nn.softmax)
    s, s2 = (np.asarray(softmax(np.array(z)), float) for z in (SUMS, SUMS[:2]))
    sigmoid = float(jax.nn.sigmoid(SUMS[0] - SUMS[1]))
    p, q, bit = np.array([0.9, 0.1]), np.array([0.6, 0.4]), math.log(2)
    return [
        ("B1", "softmax(1.1, 2.2, 0.2, -1.7), entry 1", "0.2236", s[0]),
        ("B1", "entry 2", "0.6718", s[1]),
        ("B1", "entry 3", "0.0909", s[2]),
        ("I", "entry 4", "0.013", s[3], "cut, not rounded"),
        ("B3", "softmax(1.1, 2.2), entry 1", "", s2[0]),
        ("B3", "1 / (1 + e^(2.2 - 1.1))", "", sigmoid, "the same"),
        ("B4", "-sum p log2 q", "0.795", cross_entropy(np.log(q), p) / bit, "bits; p = (0.9, 0.1)"),
        ("B4", "-sum q log2 p", "1.42", cross_entropy(np.log(p), q) / bit, "bits; q = (0.6, 0.4)"),
    ]


def squared_errors() -> list[tuple]:
    """Return F1: four pairs of target and prediction; F2: the toy example."""
    t, y = (-10.0, 12.0, -5.0, 6.0), (6.0, 30.0, 19.0, 0.0)
    mse, d_mse = at_output("linear", "mse", [[a] for a in y], t)
    half, sse, norm = (
        at_output("linear", loss, [y], [t])[0] for loss in ("half_squared_error", "sse", "norm")
    )

    def squared(a, t):
        return at_output("linear", "mse", [[a]], [[t]])[0]

    pairs = "(t, y): (-10, 6), (12, 30), (-5, 19), (6, 0)"
    return [
        ("F1", "SSE = sum (y - t)^2", "1192", sse, pairs),
        ("F1", "MSE = 1/4 sum (y - t)^2", "298", mse),
        ("F1", "L = 1/2 sum (y - t)^2", "", half),
        ("F1", "E = ||y - t||", "", norm),
        ("F1", "dMSE/dy1 = 2/4 (y1 - t1)", "", d_mse[0, 0]),
        ("I", "dMSE/dy1 = 2/4 sum (y - t)", f"{d_mse.sum():g}", d_mse[0, 0], "one entry, no sum"),
        ("F2", "(0.9 - 1)^2", "0.01", squared(0.9, 1)),
        ("F2", "(0.1 - 0)^2", "0.01", squared(0.1, 0)),
        ("F2", "(0.6 - 1)^2", "0.16", squared(0.6, 1)),
        ("F2", "(0.4 - 0)^2", "0.16", squared(0.4, 0)),
        ("I", "(0.4 - 0)^2", "0.36", squared(0.4, 0), f"(0.4 - 1)^2 = {squared(0.4, 1):.2g}"),
    ]


def cross_entropies() -> list[tuple]:
    """Return F3: two classes, the first is true; the four classes of B1, the second is true."""
    binary, dZ = at_output("sigmoid", "binary_cross_entropy", [[SUMS[0] - SUMS[1]]], [[1]])
    two, four = cross_entropy(SUMS[:2], (1, 0)), cross_entropy(SUMS, (0, 1, 0, 0))
    return [
        ("F3", "-(y log a + (1 - y) log(1 - a))", "", binary, "a of B3, y = 1"),
        ("F3", "its dJ/dz = a - y", "", dZ[0, 0]),
        ("F3", "-sum t log y, two classes", "", two, "the same"),
        ("F3", "-sum t log y, y of B1", "", four, "t = (0, 1, 0, 0)"),
    ]


def parabola(start: float = 4.0, steps: int = 50) -> dict[str, list[float]]:
    """Return A5: x after every step on y = x^2 - 10, for some rates and for the slip (I)."""
    slopes, lr = jax.vmap(jax.grad(lambda x: x**2 - 10)), np.array([*RATES.values()], np.float32)
    first = np.full(len(lr), start, np.float32)
    _, rest = jax.lax.scan(lambda x, _: (x - lr * slopes(x),) * 2, first, length=steps)
    return dict(zip(RATES, np.vstack([first, rest]).T.tolist(), strict=True))


def parabola_rows(paths: dict[str, list[float]]) -> Rows:
    """Return where the paths end, beside the minimum from dy/dx = 2x = 0."""
    ends = {label: (len(xs) - 1, xs[-1]) for label, xs in paths.items()} | {"2x = 0": ("", 0.0)}
    return [
        {"update": label, "steps": steps, "x": x, "y": x**2 - 10, "dy/dx": 2 * x}
        for label, (steps, x) in ends.items()
    ]
