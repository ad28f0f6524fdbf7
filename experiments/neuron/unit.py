"""One neuron: its chain rule factor by factor, the matrix form, and three units on digits."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxmlp
from experiments.common import Rows
from experiments.neuron.options import Config
from experiments.neuron.shared import UNITS, digits, one_neuron, pass_until, vehicles


def by_hand() -> tuple[Any, Any, Any]:
    """Return weights for multiplying by hand, and the standardised vehicles for training."""
    data, _ = vehicles("standardised")
    layer = jaxmlp.Layer(jnp.array([[0.5], [-0.5], [0.25]]), jnp.array([0.1]))
    return (layer,), data.X, data.Y


def chain() -> Rows:
    """Return A3: the factors of dJ/dw and dJ/db, their product, (a - y) x, for each unit.

    For the step function the derivative is 0, and (a - y) x is the perceptron's rule.
    """
    (params, X, Y), rows = by_hand(), []
    x, y = X[:1], Y[:1]
    for name in UNITS:
        J, _ = one_neuron(name, 3)
        (t,) = jaxmlp.trace(J)(params, x, y)
        a, dJ_da, da_dz = t.A.item(), t.dA.item(), J.mlp.output.derivative(t.Z, t.A).item()
        ((W, b, *_),), dz_dw = jax.grad(J)(params, x, y), np.append(x[0], 1.0)
        rows.append(
            {"unit": name, "a": a, "dJ/da": dJ_da, "da/dz": da_dz, "dz/dw, dz/db": dz_dw,
             "product": dJ_da * da_dz * dz_dw, "(a - y) (x, 1)": (a - y.item()) * dz_dw,
             "jax.grad": np.append(W, b)}
        )  # fmt: skip
    return rows


def matrix_form() -> Rows:
    """Return A4: the logistic unit's mean gradient in three ways; I: the wrong axis."""
    (params, X, Y), (J, _) = by_hand(), one_neuron("logistic", 3)
    error = np.asarray(J.mlp.apply(params, X)) - Y[:, None]
    (hand,), (auto,) = (grad(J)(params, X, Y) for grad in (jaxmlp.grad, jax.grad))
    routes = {
        "X.T (A - Y) / m, mean(A - Y, axis=0)": (X.T @ error / len(X), error.mean(axis=0)),
        "jaxmlp.grad": (hand.W, hand.b),
        "jax.grad": (auto.W, auto.b),
        "I: mean(A - Y, axis=1), four numbers for one b": ("", error.mean(axis=1)),
    }
    return [{"route": name, "dJ/dw": dW, "dJ/db": db} for name, (dW, db) in routes.items()]


# --- three units on the digits --------------------------------------------------------------------


def three_units(config: Config) -> tuple[Rows, dict[str, Any]]:
    """Return A1: the three units on 3 against 8: rows, and the weights each has learnt."""
    (train, test), rows, weights = digits(config.seed), [], {}
    for name in UNITS:
        J, zero = one_neuron(name, 64)
        gradient = jaxmlp.grad(J)(zero, train.X, train.Y)[0].W
        params, epochs, learns_by = learnt(config, name, J, zero, train)
        A = np.asarray(J.mlp.apply(params, np.vstack([train.X, test.X])))[:, 0]
        wrong = (A > 0.5) != np.append(train.Y, test.Y)
        m = len(train.Y)
        rows.append(
            {"unit": name, "largest |dJ/dw| at w = 0": float(np.abs(gradient).max()),
             "learns by": learns_by, "epochs": epochs, f"errors of {m}": int(wrong[:m].sum()),
             f"held out, of {len(test.Y)}": int(wrong[m:].sum())}
        )  # fmt: skip
        weights[name] = params[0].W
    return rows, weights


def learnt(config: Config, name: str, J, zero, data) -> tuple[Any, int, str]:
    """Return a unit's parameters after training, its epochs, and the name of its rule."""
    if name == "perceptron":
        rule = functools.partial(perceptron_rule, J, config.learning_rate)
        params, epochs, _ = pass_until(rule, zero, data.X, data.Y, config.epochs)
        return params, epochs, "the rule w - lr (a - y) x"
    lr = {"logistic": config.learning_rate, "linear": config.linear_rate}[name]
    params, _ = jaxmlp.fit(
        J, zero, data.X, data.Y, optimizer=lr, epochs=config.epochs, batch_size=25
    )
    return params, config.epochs, f"dJ/dw of {J.loss.name}"


def perceptron_rule(J, learning_rate: float, params, x, y):
    """w <- w - lr (a - y) x, b <- b - lr (a - y); and whether the sample was told wrong."""
    ((W, b, *_),) = params
    error = J.mlp.apply(params, x) - y
    layer = params[0]._replace(
        W=W - learning_rate * x[:, None] * error, b=b - learning_rate * error
    )
    return (layer,), error[0] != 0
