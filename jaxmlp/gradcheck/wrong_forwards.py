"""Mistakes in the forward pass: another Z or A, carried on as a right backward pass would be."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp import losses
from jaxmlp.gradcheck.mistake import Forward
from jaxmlp.gradcheck.tape import (
    Record,
    Tape,
    backward,
    elementwise,
    flat_calls,
    passed,
    softmax,
    through_activation,
)
from jaxmlp.gradcheck.wrong_arrays import orders
from jaxmlp.gradcheck.wrong_walks import OTHERS, RATES
from jaxmlp.layer import Layer

FEW = 8  # layers: of more, a mistake of the forward pass is looked for in all of them at once

# Of a layer: another Z, from its number, record and A_prev; another (A, act'), from its new record
Z_of = Callable[[int, Record, np.ndarray], np.ndarray | None]
A_of = Callable[[int, Record], tuple | None]


def none(*_: Any) -> None:
    """Leave every layer as it is."""


def again(
    tape: Tape,
    Z_of: Z_of = none,
    A_of: A_of = none,
    X: Any = None,
    layers: Sequence[Layer] | None = None,
) -> Tape:
    """The tape with some layers passed otherwise; those before them are kept."""
    records, A, S = [], tape.records[0].A_prev if X is None else X, None
    for number, old in enumerate(tape.records, start=1):
        Z = Z_of(number, old, A)
        same = Z is None and A is old.A_prev and layers is None
        layer = old.layer if layers is None else layers[number - 1]
        record = old if same else passed(old.spec, layer, A, S, Z)
        if (new := A_of(number, record)) is not None:
            record = record._replace(A=new[0], prime=new[1])
        records.append(record)
        A, S = record.A, record.S
    return started(tape._replace(records=records))


def started(tape: Tape) -> Tape:
    """The tape with dA and dZ of the output by the formulas: A - Y where they collapse."""
    last, J = tape.records[-1], tape.J
    dA = np.asarray(J.loss.dA(jnp.asarray(last.A), jnp.asarray(tape.Y)))
    collapses = losses.collapses(J.loss, J.mlp.output)
    return tape._replace(dA=dA, dZ=last.A - tape.Y if collapses else through_activation(last, dA))


def _places(layers: range) -> Iterator[tuple[int, ...]]:
    """Each of some layers, and all of them."""
    if len(layers) <= FEW:
        yield from ((number,) for number in layers)
    if len(layers) > 1:
        yield tuple(layers)


# --- Z = A @ W + b --------------------------------------------------------------------------------


def bias_left_out(tape: Tape):
    has_bias = any(r.layer.b is not None and r.layer.b.any() for r in tape.records)
    for places in _places(range(1, len(tape.records) + 1)) if has_bias else ():

        def Z_of(number, record, A_prev, places=places):
            return A_prev @ record.layer.W if number in places else None

        yield Forward(again(tape, Z_of), places, "Z")


def other_W(tape: Tape):
    """Another layer's weights of the same shape, or the transpose of a square one."""
    shapes = [record.layer.W.shape for record in tape.records]
    for number in range(1, len(shapes) + 1) if len(shapes) <= FEW else ():
        same = [
            l
            for l in range(1, len(shapes) + 1)
            if shapes[l - 1] == shapes[number - 1] and l != number
        ]
        others = {f"W{l}": tape.records[l - 1].layer.W for l in same}
        if len(set(shapes[number - 1])) == 1:
            others[f"W{number}.T"] = tape.records[number - 1].layer.W.T
        for name, W in others.items():

            def Z_of(l, record, A_prev, number=number, W=W):
                b = 0.0 if record.layer.b is None else record.layer.b
                return A_prev @ W + b if l == number else None

            yield Forward(again(tape, Z_of), (number,), "Z", {"other": name})


# --- A = act(Z) -----------------------------------------------------------------------------------


@jax.jit
def _all_outputs(Z):
    """Every activation's value and derivative."""
    found = []
    for act in OTHERS:
        assert act.derivative is not None
        found.append((act.fn(Z), act.derivative(Z, act.fn(Z))))
    return jnp.asarray(found)


def other_activation(tape: Tape):
    """Another activation; its derivative may be right for it, or be the right one of the layer."""
    for places in _places(range(1, len(tape.records))):
        first = flat_calls(_all_outputs, tape.records[places[0] - 1].U)
        for which, own_prime in itertools.product(range(len(OTHERS)), (False, True)):

            def A_of(number, record, places=places, first=first, which=which, own_prime=own_prime):
                if number not in places:
                    return None
                found = first if number == places[0] else flat_calls(_all_outputs, record.U)
                A, prime = found[which]
                return A, record.prime if own_prime else prime

            if all(tape.records[number - 1].spec.activation != OTHERS[which] for number in places):
                words = {"other": OTHERS[which].name}
                yield Forward(again(tape, A_of=A_of), places, "A", words)


def other_output(tape: Tape):
    """Something else where the network has its output's activation."""
    last = len(tape.records)
    outputs = {
        "softmax over all entries of Z": lambda Z: softmax(Z, axis=None),
        "softmax over the samples, axis 0": lambda Z: softmax(Z, axis=0),
        "exp(Z) without its sum": np.exp,
        "softmax of softmax": lambda Z: softmax(softmax(Z)),
        "softmax of the hidden activation": lambda Z: softmax(_hidden(tape, Z)),
        "softmax": softmax,
        "sigmoid": lambda Z: 1 / (1 + np.exp(-Z)),
        "tanh": np.tanh,
        "ReLU": lambda Z: np.maximum(Z, 0),
        "Z itself": lambda Z: Z,
    }
    for name, output in outputs.items():

        def A_of(number, record, output=output):
            return (output(record.Z), record.prime) if number == last else None

        yield Forward(again(tape, A_of=A_of), (last,), "A", {"other": name})


def _hidden(tape: Tape, Z):
    first = tape.records[0]
    return (
        elementwise(first.spec.activation, first.layer, Z)[0]
        if len(tape.records) > 1
        else np.maximum(Z, 0)
    )


# --- X, Y, and the parameters ---------------------------------------------------------------------


def rows_of_X(tape: Tape):
    X = tape.records[0].A_prev
    for order, rows in orders(len(X)):
        yield Forward(again(tape, X=X[rows]), (1,), "Z", {"order": order})


def scaled_X(tape: Tape):
    X = tape.records[0].A_prev
    mean, spread = X.mean(axis=0), X.std(axis=0)
    for what, new in (
        ("standardised", (X - mean) / np.where(spread > 0, spread, 1)),
        ("divided by its largest entry", X / (np.abs(X).max() or 1.0)),
        ("centred", X - mean),
    ):
        yield Forward(again(tape, X=new), (1,), "Z", {"what": what})


def other_Y(tape: Tape):
    last, Y = len(tape.records), tape.Y
    found = [(f"its rows {order}", Y[rows]) for order, rows in orders(len(Y))]
    if Y.shape[1] > 1:
        found += [("classes counted from another number", np.roll(Y, by, axis=1)) for by in (1, -1)]
    for what, new in found:
        yield Forward(started(tape._replace(Y=new)), (last,), "dZ", {"what": what})


def after_a_step(tape: Tape):
    """The whole gradient at parameters that a step of gradient descent has moved, there or back."""
    gradient = backward(tape)

    def moved(layer: Layer, number: int, rate: float) -> Layer:
        fields = {name: leaf for name, leaf in layer._asdict().items() if leaf is not None}
        new = {name: leaf - rate * gradient[f"{name}{number}"] for name, leaf in fields.items()}
        return layer._replace(**new)

    layers = [record.layer for record in tape.records]
    for rate in RATES if len(layers) <= FEW else ():
        for sign in (1, -1):
            new = [moved(layer, l, sign * rate) for l, layer in enumerate(layers, start=1)]
            there = again(tape, layers=new)
            yield Forward(there, (1,), "Z", {"rate": f"{rate:g}"})
            if sign == 1:  # with the right weights on the way back
                pairs = zip(there.records, layers, strict=True)
                own = [record._replace(layer=layer) for record, layer in pairs]
                yield Forward(there._replace(records=own), (1,), "Z", {"rate": f"{rate:g}"})
