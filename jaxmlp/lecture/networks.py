"""Rows C (a linear boundary), D (activations), E (N layers), H (vanishing), I (slips).

Each function computes the numbers of the row that has its name, by label. Sizes, step counts and
learning rates are chosen, unless the row says that they are the lecture's.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp import activations, datasets
from jaxmlp.backprop import grad, trace
from jaxmlp.flow import gradient_flow
from jaxmlp.lecture.row import Row
from jaxmlp.mlp import MLP
from jaxmlp.objective import Objective
from jaxmlp.train import fit

AT = np.array([-2.0, -0.5, 0.0, 0.5, 2.0], np.float32)

# --- C --------------------------------------------------------------------------------------------


@functools.cache
def spiral():
    return datasets.spiral()


def trained(sizes: tuple[int, ...], hidden: str, epochs: int) -> float:
    """Return the share of the 300 points that is classified right after gradient descent."""
    J = Objective(MLP(sizes, hidden=hidden), "cross_entropy")
    params = J.mlp.init(jax.random.key(0), "he")
    _, history = fit(J, params, *spiral()[:2], optimizer=0.5, epochs=epochs)
    return float(history.accuracy[-1])


def c1():
    share = trained((2, 3), "linear", 3000)
    return {"right, of 300": share * 300, "share": share}


def c2():
    rng = np.random.default_rng(0)
    W1, W2, b1, b2 = (rng.normal(size=s) for s in ((2, 100), (100, 3), 100, 3))
    X = np.asarray(spiral().X, np.float64)
    two, one = (X @ W1 + b1) @ W2 + b2, X @ (W1 @ W2) + (b1 @ W2 + b2)
    return {
        "largest relative difference of the two": np.abs(two - one).max() / np.abs(one).max(),
        "share right with a linear hidden layer": trained((2, 100, 3), "linear", 300),
    }


def c3():
    return {"share right with 100 ReLU units": trained((2, 100, 3), "relu", 3000)}


# --- D --------------------------------------------------------------------------------------------


def function_of(name: str):
    """Return the function for the values and derivatives of an activation at -2, -1/2, 0, ..."""

    def numbers():
        act = activations.get(name)
        slope = () if act.slope is None else (jnp.asarray(act.slope),)
        A = act.fn(jnp.asarray(AT), *slope)
        assert act.derivative is not None
        dA = act.derivative(jnp.asarray(AT), A, *slope)
        found = {"a at z = -2, -1/2, 0, 1/2, 2": A, "da/dz there": dA}
        return found | ({"da/dalpha there": np.minimum(AT, 0)} if slope else {})

    return numbers


def d12():
    z = jnp.asarray([1.1, 2.2, 0.2, -1.7])
    s = activations.get("softmax").fn(z)
    return {"s": s, "ds_1/dz": activations.softmax_vjp(s[None], jnp.eye(4)[:1])[0]}


def d13():
    names = "sigmoid", "tanh", "relu", "leaky_relu"
    Z, found = jnp.linspace(-5, 5, 1001), {}
    for name in names:
        act = activations.get(name)
        assert act.derivative is not None
        dA = act.derivative(Z, act.fn(Z))
        found[f"{name}: largest da/dz, share with da/dz < 0.01"] = (dA.max(), jnp.mean(dA < 0.01))
    outputs = "regression linear; two classes sigmoid; more softmax"
    return found | {"output unit": outputs}


def d14():
    return {"activations drawn": ", ".join(activations.names())}


# --- E --------------------------------------------------------------------------------------------


@functools.cache
def walked():
    """Return J, parameters and every intermediate of the (2, 4, 3) network on the spiral."""
    J = Objective(MLP((2, 4, 3), hidden="relu"), "cross_entropy")
    params = J.mlp.init(jax.random.key(0), "he")
    return J, params, trace(J)(params, *spiral()[:2])


def e1():
    J, params, steps = walked()
    shapes = {"A0 = X": steps[0].A_prev, "W1": params[0].W, "Z1, A1": steps[0].A}
    shapes |= {"W2": params[1].W, "Z2, A2": steps[1].A}
    found = {"parameters": J.mlp.num_parameters}
    return found | {name: str(tuple(x.shape)) for name, x in shapes.items()}


def e2():
    J, params, (one, two) = walked()
    X, Y, *_ = spiral()
    arrays = {"X": one.A_prev, "Z1": one.Z, "A1": one.A, "Z2": two.Z, "A2": two.A}
    i = 99  # the outermost point of the first arm
    found = {"J": J(params, X, Y)}
    return found | {f"{name} of sample {i}": x[i] for name, x in arrays.items()}


def e3():
    _, params, (one, two) = walked()
    steps = {"dZ2 = A2 - Y": two.dZ, "dA1 = dZ2 W2^T": one.dA, "dZ1 = dA1 * act'(Z1)": one.dZ}
    found = {f"{name}, sample 99": x[99] for name, x in steps.items()}
    found |= {"dW2 = A1^T dZ2 / m": two.dW, "db2 = mean dZ2": two.db}
    found |= {"dW1 = X^T dZ1 / m": one.dW, "db1 = mean dZ1": one.db}
    # The chain of one weight: dJ/dW1 of an active unit, of one sample
    j = int(np.argmax(one.Z[99]))
    chain = np.asarray(two.dZ[99]) @ np.asarray(params[1].W)[j] * np.asarray(one.A_prev[99])
    name = f"(A2 - Y) . W2 . x of its active unit {j + 1}"
    return found | {name: chain, "that column of x^T dZ1": one.A_prev[99] * one.dZ[99, j]}


def lecture_network():
    """Return every intermediate of E4's network for x = (1, 0, 1).

    The notes give h and y, and the weights are the smallest that lead to them. The notes' h has
    three numbers; the fourth, 0.3, is chosen.
    """
    x, h, y = (np.array([v]) for v in ((1.0, 0, 1), (0.668, 0.912, 0.471, 0.3), (0.812, 0.151)))
    logit = lambda a: np.log(a / (1 - a))  # noqa: E731
    W, V = np.linalg.pinv(x) @ logit(h), np.linalg.pinv(h) @ logit(y)
    mlp = MLP((3, 4, 2), hidden="sigmoid", output="sigmoid", use_bias=False)
    J = Objective(mlp, "sse")
    params = [(np.float32(W),), (np.float32(V),)]
    return trace(J)(params, np.float32(x), np.array([[1.0, 0.0]], np.float32))


def e4():
    one, two = lecture_network()
    return {"h for x = (1, 0, 1)": one.A[0], "y": two.A[0]}


def e5():
    J = Objective(MLP((2, 4, 4, 3), hidden="tanh"), "cross_entropy")
    params = J.mlp.init(jax.random.key(0), "glorot")
    grads, dX = grad(J, argnums=(0, 1))(params, *spiral()[:2])
    found = {"dJ/dx of sample 99, times m": dX[99] * len(dX)}
    return found | {f"largest |dW{l}|": jnp.abs(g.W).max() for l, g in enumerate(grads, start=1)}


def e6():
    one, two = lecture_network()
    h, y = float(one.A[0, 0]), float(two.A[0, 0])
    factors = h, y, 1 - y, 2 * (y - 1)
    W = "dE/dW11 = x1 . h1 (1 - h1) . V11 . y1 (1 - y1) . 2 (y1 - t1) + the path over y2"
    return {
        "h1 . y1 . (1 - y1) . 2 (y1 - 1)": factors,
        "their product, dE/dV11": math.prod(factors),
        "dV11 by jaxmlp.trace": two.dW[0, 0],
        W: one.dW[0, 0],
    }


# --- H --------------------------------------------------------------------------------------------


def deep(hidden: str, init: str, depth: int = 50, width: int = 64):
    """Return the flow of a deep network on the spiral, and the share of W1 that a step changes."""
    sizes = (2, *[width] * depth, 3)
    J = Objective(MLP(sizes, hidden=hidden, stack_from=1), "cross_entropy")
    params, (X, Y, *_) = J.mlp.init(jax.random.key(0), init), spiral()
    flow, grads = gradient_flow(J)(params, X, Y), grad(J)(params, X, Y)
    W1, dW1 = np.asarray(params[0].W), np.asarray(grads[0].W)
    return flow, float(np.mean(W1 - np.float32(0.1) * dW1 != W1))


def h1():
    found: dict = {"0.25^50": 0.25**50}
    for init in ("lecun", "he"):
        flow, moved = deep("sigmoid", init)
        found[f"{init}: |dZ1| / |dZ51|"] = 10.0 ** float(flow.log10_delta[0] - flow.log10_delta[-1])
        found[f"{init}: share of W1 that a step of 0.1 moves"] = moved
    return found


def h2():
    flow, _ = deep("linear", "gaussian:4:0")
    delta = np.asarray(flow.log10_delta)
    lecun = np.asarray(deep("tanh", "lecun")[0].log10_delta)
    return {
        "linear, sigma_w2 = 4: factor a layer": 10 ** ((delta[0] - delta[-1]) / 50),
        "tanh, lecun: factor a layer": 10 ** ((lecun[0] - lecun[-1]) / 50),
    }


def h3():
    J = Objective(MLP((2, 4, 3), hidden="relu"), "cross_entropy")
    one, two = J.mlp.init(jax.random.key(0), "he")
    dead = (one._replace(b=jnp.asarray([-100.0, 0, 0, 0])), two)  # unit 1 never opens
    found = {}
    for name in ("relu", "leaky_relu"):
        J = Objective(MLP((2, 4, 3), hidden=name), "cross_entropy")
        found[f"{name}: dJ/dW1 of a unit with z < 0 on all samples"] = grad(J)(dead, *spiral()[:2])[
            0
        ].W[:, 0]
    return found


def h4():
    pairs = ("sigmoid", "lecun"), ("tanh", "lecun"), ("relu", "he"), ("relu", "lecun")
    found = {}
    for hidden, init in pairs:
        delta = deep(hidden, init)[0].log10_delta
        found[f"{hidden}, {init}: decades of dZ over 50 layers"] = float(delta[0] - delta[-1])
    return found


def slips():
    one, two = lecture_network()
    y, h = float(two.A[0, 0]), float(one.A[0, 0])
    return {
        "(0.4 - 0)^2, not 0.36": (0.4 - 0) ** 2,
        "softmax's last, not 0.013": activations.get("softmax").fn(
            jnp.asarray([1.1, 2.2, 0.2, -1.7])
        )[3],
        "V - lr dE/dV11, not +, lr = 1": -h * y * (1 - y) * 2 * (y - 1),
        "shape of Z1, not (600, 4)": str(tuple(walked()[2][0].Z.shape)),
        "db2 = mean over axis 0": walked()[2][1].db,
        "dh1/da1, once in dE/dU11": h * (1 - h),
    }


NAMES = {
    "D1": ("Linear", "a x + b; derivative a", "linear"),
    "D2": ("Unit step", "0, 1/2 at 0, 1; derivative 0", "step"),
    "D3": ("Sign", "-1, 0, 1; derivative 0", "sign"),
    "D4": ("Piecewise linear", "z + 1/2 between -1/2 and 1/2", "piecewise_linear"),
    "D5": ("Sigmoid", "1 / (1 + e^-z); a (1 - a)", "sigmoid"),
    "D6": ("Tanh", "2 sigmoid(2z) - 1; 1 - a^2", "tanh"),
    "D7": ("ReLU", "z if z > 0 else 0; 1 or 0", "relu"),
    "D8": ("Leaky ReLU", "z if z > 0 else s z; 1 or s", "leaky_relu"),
    "D9": ("PReLU", "max(0, z) + alpha min(0, z), alpha learned", "prelu"),
    "D10": ("ELU", "alpha (e^z - 1) below 0", "elu"),
    "D11": ("Softplus", "ln(1 + e^z); sigmoid(z)", "softplus"),
}
ROWS = (
    Row("C1", "Softmax alone", "Z = X W + b", c1, "spiral", "spiral"),
    Row("C2", "A linear hidden layer", "(X W1 + b1) W2 + b2 is linear", c2, "spiral", "spiral"),
    Row("C3", "With a non-linearity", "relu(X W1 + b1) W2 + b2", c3, "spiral", "spiral"),
    *(
        Row(key, title, formula, function_of(name), "activations", "activations")
        for key, (title, formula, name) in NAMES.items()
    ),
    Row("D12", "Softmax", "s_i (1 - s_i), -s_i s_k", d12, "activations", "activations"),
    Row("D13", "What is wanted of one", "steep, cheap, not saturated", d13, "vanishing"),
    Row("D14", "Pictures", "each with its derivative", d14, "activations", "activations_beyond"),
    Row("E1", "Shapes", "(2 x 4 + 4) + (4 x 3 + 3) = 27", e1, "spiral"),
    Row("E2", "Forward", "Z = A W + b, A = act(Z)", e2, "spiral"),
    Row("E3", "Backward", "dZ2 = A2 - Y, then six steps", e3, "chain_rule", "chain_rule"),
    Row(
        "E4", "A network without biases", "y = s(s(x W) V)", e4, "chain_rule", "chain_rule_lecture"
    ),
    Row("E5", "Any number of layers", "dJ/dx flows too", e5, "chain_rule", "chain_rule"),
    Row("E6", "One weight's chain", "dE/dV11 = h1 y1 (1 - y1) 2 (y1 - t1)", e6, "chain_rule"),
    Row("H1", "Sigmoids vanish", "prod a (1 - a) <= 0.25^50", h1, "vanishing", "vanishing"),
    Row("H2", "Factors of 2 explode", "2^50", h2, "depth_sweep", "depth_sweep"),
    Row("H3", "Dead units", "dJ/dW1 = (A2 - Y) . W2 . 0 . x = 0", h3, "vanishing"),
    Row("H4", "It depends", "activation, target, depth", h4, "depth_sweep", "depth_sweep"),
    Row("I", "Slips of the notes", "beside the right formula", slips, "neuron"),
)
