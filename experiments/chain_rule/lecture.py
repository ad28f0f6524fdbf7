"""The numbers of the lecture: its network (E4), its chains (E6), rows and columns (B6), softmax."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import logit

import jaxmlp
from experiments.chain_rule.networks import Problem, walked
from experiments.chain_rule.paths import Chain, chain
from experiments.chain_rule.report import Math, Section, numbers_of, plural, power, relative
from jaxmlp import activations

# E4. The notes leave out the fourth hidden unit, chosen here as 0.3, and the layer g below (E6).
INPUT, G, HIDDEN = (1.0, 0.0, 1.0), (0.4, 0.7, 0.55), (0.668, 0.912, 0.471, 0.3)
OUTPUT, TARGET = (0.812, 0.151), (1.0, 0.0)

# E6, in the notes' letters: b, a, z are the layers' sums, g, h, y the sigmoids of these.
TOP = ("dy1/dz1 = y1 (1 - y1)", "dE/dy1 = 2 (y1 - t1)")
MIDDLE = ("dh1/da1 = h1 (1 - h1)", "dz1/dh1 = V11", *TOP)
FACTORS = {
    "V11": ("dz1/dV11 = h1", *TOP),
    "W11": ("da1/dW11 = x1", *MIDDLE),
    "U11": ("db1/dU11 = x1", "dg1/db1 = g1 (1 - g1)", "da1/dg1 = W11", *MIDDLE),
}


def network(*values: tuple[float, ...]) -> Problem:
    """Return E4: the bias-free sigmoid network whose layers have these values on one sample.

    The notes print no weights. These are the smallest that solve `a_prev W = logit(a)`.
    """
    rows = [np.asarray([row]) for row in values]
    W = [np.linalg.pinv(a) @ logit(out) for a, out in itertools.pairwise(rows)]
    params = jaxmlp.from_dict({f"W{l}": w for l, w in enumerate(W, start=1)})
    sizes = tuple(map(len, values))
    mlp = jaxmlp.MLP(sizes, hidden="sigmoid", output="sigmoid", use_bias=False)
    return walked(jaxmlp.Objective(mlp, "sse"), params, rows[0], np.asarray([TARGET]))


def chain_of(name: str) -> Chain:
    """Return the paths from the notes' V11, W11 or U11; U11 needs a third layer."""
    return chain(network(INPUT, *[G] * (name == "U11"), HIDDEN, OUTPUT), name)


def values(p: Problem) -> list[str]:
    """Return E4's numbers as the network gives them."""
    hidden, output = (numbers_of(t.A[0]) for t in p.steps)
    return [
        f"h = ({hidden}), of which the last is ours; y = ({output}). The notes give no weights:\n"
        "W and V are the smallest that lead to these."
    ]


def chains() -> Section:
    """Return E6: the factors along the units 1, their products, and the effect of slips."""
    rows, remarks, first = [], [], {}
    for name, symbols in FACTORS.items():
        c = chain_of(name)
        first[name] = [float(value[0]) for value in c.paths[0].factors.values()]
        for symbol, value in zip(symbols, first[name], strict=True):
            factor, formula = map(Math, symbol.split(" = "))
            row = {"of": Math(f"dE/d{name}"), "factor": factor, "is": formula}
            rows.append({**row, "value": Math(f"{value:.6g}")})
        remarks.append(
            f"dE/d{name}: product of {len(symbols)} factors {c.paths[0].product:.6g}; "
            f"sum over {plural(len(c.paths), 'path')} {c.total:.12g}, jax.grad {c.auto:.12g}"
        )
    title = "E6: one weight of each layer, its factors along the units 1; U with a layer g of ours"
    return Section(title, rows, remarks + chain_slips(first))


def chain_slips(first: dict[str, list[float]]) -> list[str]:
    """Return what the notes' slips in E6 change."""
    seven, h_slope = math.prod(first["U11"]), first["U11"][3]
    each = [2 * (y - t) for y, t in zip(OUTPUT, TARGET, strict=True)]
    return [
        "The notes: dE/dV11 = 0.668 x 0.812 x 0.188 x 2 (0.812 - 1) = -0.03834; here "
        f"{math.prod(first['V11']):.7f}",
        f"Slip: dh1/da1 twice in dE/dU11: eight factors, {seven * h_slope:.6g}, not {seven:.6g}",
        f"Slip: W11 written for the sum a1: dh1/dW11 = g1 h1 (1 - h1) = {G[0] * h_slope:.6g}, "
        f"not dh1/da1 = {h_slope:.6g}",
        f"Slip: the sum of the loss kept in dE/dy1: {sum(each):.6g}, not {each[0]:.6g}",
    ]


def row_and_column() -> tuple[Any, Any, Any]:
    """Return B6: dW by rows from `jaxmlp`, by columns from `jax.grad` of `Z = W x`; a - y."""
    x, y = np.array([[1.0, 2.0]]), np.array([[1.0, 0.0, 0.0]])
    W = np.linalg.pinv(x) @ np.log([[0.7, 0.2, 0.1]])  # so that softmax(x W) is the notes' a
    J = jaxmlp.Objective(jaxmlp.MLP((2, 3), use_bias=False), "cross_entropy")
    (step,) = jaxmlp.trace(J)((jaxmlp.Layer(jnp.asarray(W)),), x, y)

    def of_columns(W):
        return -jnp.sum(y.T * jax.nn.log_softmax(W @ x.T, axis=0))

    columns = jax.jit(jax.grad(of_columns))(W.T)
    return np.asarray(step.dW), np.asarray(columns), np.asarray(step.dZ[0])


def conventions() -> Section:
    """Return B6: rows and columns side by side."""
    rows, columns, dZ = row_and_column()
    left = [*map(numbers_of, rows), ""]
    return Section(
        "B6: dW of one sample x = (1, 2), with samples as rows and as columns",
        [
            {Math("X^T (A - Y)"): row, Math("(A - Y) X^T"): numbers_of(column)}
            for row, column in zip(left, columns, strict=True)
        ],
        [
            f"a - y = (0.7, 0.2, 0.1) - (1, 0, 0) = ({numbers_of(dZ)})",
            f"The two are transposes of each other, to {power(relative(rows, columns.T))}.",
        ],
    )


def softmax_jacobian() -> Section:
    """Return B2 by hand for z of B1, beside `jax.jacobian`; and B5, its product with -t/y."""
    z, y = np.array([1.1, 2.2, 0.2, -1.7]), np.array([0.0, 1.0, 0.0, 0.0])
    s = np.exp(z) / np.sum(np.exp(z))
    hand = np.asarray(jax.jit(activations.softmax_vjp)(np.tile(s, (4, 1)), np.eye(4)))
    auto = np.asarray(jax.jit(jax.jacobian(jax.nn.softmax))(z))
    return Section(
        "B2: the softmax Jacobian of B1's z: s_i (1 - s_i) if i = k, else -s_i s_k",
        [
            {"z": Math(z[i]), "s": Math(f"{s[i]:.4f}"), Math("ds/dz"): numbers_of(hand[i])}
            for i in range(4)
        ],
        [
            f"off jax.jacobian by {power(relative(hand, auto))}",
            "Slip: the notes cut the last s, 0.0136, to 0.013.",
            f"B5: -y/s for y = (0, 1, 0, 0) times the Jacobian is ({numbers_of(-y / s @ hand)}),",
            f"    which is s - y, to {power(relative(-y / s @ hand, s - y))}",
        ],
    )
