"""Rows A (one neuron), B (many classes), F (losses), G (learning).

Each function computes the numbers of the row that has its name, by label.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp import activations, losses
from jaxmlp.backprop import trace, value_and_grad
from jaxmlp.layer import Layer
from jaxmlp.lecture.row import Row
from jaxmlp.mlp import MLP
from jaxmlp.objective import Objective
from jaxmlp.train import fit

SUMS = np.array([1.1, 2.2, 0.2, -1.7])  # z of B1
VEHICLES = np.array(  # G4: wheels, height and weight of the four vehicles for training
    [[4, 6, 500], [4, 5, 550], [2, 3, 200], [2, 4, 250]], np.float32
)
TRUCK = np.array([[1.0], [1.0], [0.0], [0.0]], np.float32)


def unit(x, w, b: float, y):
    """Return J and every intermediate of one sigmoid neuron on samples x, by `jaxmlp.trace`."""
    mlp = MLP((len(w), 1), output="sigmoid")
    J = Objective(mlp, "binary_cross_entropy")
    params = (Layer(jnp.asarray(w, jnp.float32)[:, None], jnp.asarray([b])),)
    x, y = np.atleast_2d(np.asarray(x, np.float32)), np.asarray(y, np.float32).reshape(-1, 1)
    (step,) = trace(J)(params, x, y)
    return float(J(params, x, y)), step


def at_output(loss: str, output: str, Z, Y):
    """Return J and dJ/dZ for given sums Z of the last layer."""
    Z, Y = np.atleast_2d(np.asarray(Z, np.float32)), np.atleast_2d(np.asarray(Y, np.float32))
    K = Z.shape[1]
    J = Objective(MLP((K, K), output=output, use_bias=False), loss)
    params = (Layer(jnp.eye(K)),)
    value, dZ = value_and_grad(J, argnums=1)(params, Z, Y)
    return float(value), np.asarray(dZ)


def standardised() -> np.ndarray:
    """Return the vehicles with mean 0 and standard deviation 1 in each column."""
    return (VEHICLES - VEHICLES.mean(axis=0)) / VEHICLES.std(axis=0)


# --- A --------------------------------------------------------------------------------------------

X1, W1, B1 = (1.0, 2.0), (0.5, -0.25), 0.1  # chosen: a point, weights and a bias


def a1():
    _, step = unit(X1, W1, B1, 1)
    z = step.Z[0, 0]
    acts = ("sigmoid", "linear", "step")
    found = {"z = w . x + b, x = (1, 2), w = (0.5, -0.25), b = 0.1": z}
    return found | {f"{name}(z)": activations.get(name).fn(z) for name in acts}


def a2():
    J, step = unit(X1, W1, B1, 1)
    return {"J, y = 1": J, "-log a": -math.log(step.A[0, 0]), "J, y = 0": unit(X1, W1, B1, 0)[0]}


def a3():
    _, step = unit(X1, W1, B1, 1)
    a = float(step.A[0, 0])
    factors = -1 / a, a * (1 - a), X1[0]
    return {
        "dJ/da . da/dz . dz/dw1, y = 1": factors,
        "their product": math.prod(factors),
        "(a - y) x1": (a - 1) * X1[0],
        "dJ/dw by jaxmlp.trace": step.dW.ravel(),
    }


def a4():
    X = standardised()
    _, step = unit(X, (0.5, -0.5, 0.25), B1, TRUCK)
    A = np.asarray(step.A)
    return {
        "X.T (A - Y) / m, four vehicles": (X.T @ (A - TRUCK) / len(X)).ravel(),
        "dW by jaxmlp.trace": step.dW.ravel(),
        "mean(A - Y)": np.mean(A - TRUCK),
        "db by jaxmlp.trace": step.db[0],
    }


def a5():
    path = [4.0]
    for _ in range(50):
        path.append(path[-1] - 0.1 * 2 * path[-1])
    return {
        "x after 0, 1, 2, 10, 50 steps of 0.1": [path[i] for i in (0, 1, 2, 10, 50)],
        "y = x^2 - 10 there": path[-1] ** 2 - 10,
    }


# --- B --------------------------------------------------------------------------------------------


def softmax(z) -> np.ndarray:
    return np.asarray(activations.get("softmax").fn(jnp.asarray(z)))


def b1():
    return {"softmax(1.1, 2.2, 0.2, -1.7)": softmax(SUMS)}


def b2():
    s = jnp.asarray(np.tile(softmax(SUMS), (4, 1)))
    return {"ds_i/dz_k for B1's z": np.asarray(activations.softmax_vjp(s, jnp.eye(4)))}


def b3():
    return {
        "softmax(1.1, 2.2), entry 1": softmax(SUMS[:2])[0],
        "1 / (1 + e^(2.2 - 1.1))": 1 / (1 + math.exp(2.2 - 1.1)),
    }


def b4():
    p, q = np.array([0.9, 0.1]), np.array([0.6, 0.4])
    bits = [at_output("cross_entropy", "softmax", np.log(b), a)[0] for a, b in ((p, q), (q, p))]
    return {
        "-sum p log2 q, p = (0.9, 0.1), q = (0.6, 0.4)": bits[0] / math.log(2),
        "-sum q log2 p, the notes' number": bits[1] / math.log(2),
    }


def b5():
    s, t = softmax(SUMS), np.array([0.0, 1.0, 0.0, 0.0])
    jacobian = np.diag(s) - np.outer(s, s)
    return {
        "dE/dy . dy/dz, t = (0, 1, 0, 0)": (-t / s) @ jacobian,
        "a - y": s - t,
        "dJ/dz by jaxmlp.grad": at_output("cross_entropy", "softmax", SUMS, t)[1][0],
    }


def b6():
    a, y, x = np.array([0.7, 0.2, 0.1]), np.array([1.0, 0.0, 0.0]), np.array([1.0, 2.0])
    return {
        "a - y": a - y,
        "rows: X^T (A - Y), x = (1, 2)": np.outer(x, a - y),
        "columns: (A - Y) X^T": np.outer(a - y, x),
    }


# --- F --------------------------------------------------------------------------------------------


def f1():
    t, y = np.array([-10.0, 12, -5, 6]), np.array([6.0, 30, 19, 0])
    value = lambda loss: at_output(loss, "linear", y[:, None], t[:, None])[0]  # noqa: E731
    return {
        "SSE of (-10, 6), (12, 30), (-5, 19), (6, 0)": value("sse"),
        "MSE": value("mse"),
        "1/2 MSE": value("half_squared_error"),
        "dMSE/dy = 2/n (y - t)": at_output("mse", "linear", y[:, None], t[:, None])[1].ravel(),
        "||y - t|| of the four as one sample": at_output("norm", "linear", y, t)[0],
    }


def f2():
    pairs = (0.9, 1), (0.1, 0), (0.6, 1), (0.4, 0)
    values = (at_output("mse", "linear", [a], [t])[0] for a, t in pairs)
    return {f"({a} - {t})^2": v for (a, t), v in zip(pairs, values, strict=True)}


def f3():
    z = SUMS[0] - SUMS[1]
    return {
        "two classes, a of B3, y = 1": at_output("binary_cross_entropy", "sigmoid", [z], [1])[0],
        "the same by softmax": at_output("cross_entropy", "softmax", SUMS[:2], [1, 0])[0],
        "four classes, y of B1, t = (0, 1, 0, 0)": at_output(
            "cross_entropy", "softmax", SUMS, [0, 1, 0, 0]
        )[0],
        "losses of the package": ", ".join(losses.names()),
    }


# --- G --------------------------------------------------------------------------------------------


def learned(batch_size: int | None, epochs: int):
    """Return J after each epoch on the vehicles: two sigmoid outputs, squared error."""
    mlp = MLP((3, 4, 2), hidden="sigmoid", output="sigmoid")
    J, Y = Objective(mlp, "mse"), np.hstack([TRUCK, 1 - TRUCK])
    params = mlp.init(jax.random.key(0), "glorot")
    key = None if batch_size is None else jax.random.key(1)
    _, history = fit(
        J, params, standardised(), Y, optimizer=0.5, epochs=epochs, batch_size=batch_size, key=key
    )
    return np.asarray(history.loss)


def g1():
    _, step = unit(X1, W1, B1, 1)
    w = np.array(W1)
    return {"w": w, "dJ/dw": step.dW.ravel(), "w - 0.5 dJ/dw": w - 0.5 * np.asarray(step.dW)[:, 0]}


def g2():
    loss = learned(None, 1000)
    return {
        "epochs of all samples until J <= 0.01": int(np.argmax(loss <= 0.01)) + 1,
        "J then": loss[np.argmax(loss <= 0.01)],
        "J after 1000": loss[-1],
    }


def g3():
    found = {}
    for name, size in (("one at a time", 1), ("mini-batches of 2", 2), ("all", None)):
        epochs = int(np.argmax(learned(size, 1000) <= 0.01)) + 1
        found[f"{name}: epochs, updates until J <= 0.01"] = (epochs, epochs * 4 // (size or 4))
    return found


def g4():
    raw = unit(VEHICLES, (0.5, -0.5, 0.25), B1, TRUCK)[1].A.ravel()
    good = unit(standardised(), (0.5, -0.5, 0.25), B1, TRUCK)[1].A.ravel()
    return {
        "a (1 - a) of raw inputs": raw * (1 - raw),
        "a (1 - a) of standardised inputs": good * (1 - good),
    }


ROWS = (
    Row("A1", "Weighted sum", "z = w . x + b, a = f(z)", a1, "neuron", "neuron_inputs"),
    Row("A2", "Binary cross-entropy", "J = -(y log a + (1 - y) log(1 - a))", a2, "neuron"),
    Row("A3", "The chain of one neuron", "dJ/dw = dJ/da . da/dz . dz/dw = (a - y) x", a3, "neuron"),
    Row("A4", "Many points", "W <- W - lr X.T (A - Y) / m", a4, "neuron"),
    Row("A5", "The minimum of a parabola", "dy/dx = 2x = 0", a5, "neuron", "neuron_inputs"),
    Row("B1", "Softmax", "s_i = e^z_i / sum_j e^z_j", b1, "chain_rule", "chain_rule_lecture"),
    Row("B2", "Its Jacobian", "s_i (1 - s_i) if i = k, else -s_i s_k", b2, "chain_rule"),
    Row("B3", "Two classes", "softmax = sigmoid of the difference", b3, "neuron"),
    Row("B4", "Cross-entropy, both orders", "-sum p log q", b4, "neuron"),
    Row("B5", "The collapse", "dE/dy = -t/y, dJ/dz = a - y", b5, "chain_rule"),
    Row("B6", "Columns and rows", "dW = (a - y) x^T, or X^T (A - Y)", b6, "chain_rule"),
    Row("F1", "Squared errors", "MSE = 1/n sum (y - t)^2", f1, "neuron"),
    Row("F2", "Errors of the toy example", "(y - t)^2", f2, "neuron"),
    Row("F3", "Cross-entropies", "-sum t log y", f3, "neuron"),
    Row("G1", "The update", "w <- w - lr dJ/dw", g1, "neuron", "neuron"),
    Row("G2", "When to stop", "E <= eps", g2, "neuron", "neuron"),
    Row("G3", "All samples, one, some", "an epoch: all samples once", g3, "neuron", "neuron"),
    Row("G4", "Raw inputs saturate", "a (1 - a) -> 0", g4, "neuron", "neuron_inputs"),
)
