"""Mistakes in the forward pass: another Z or A, carried on as a right backward pass would be."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp import losses
from jaxmlp.gradcheck.mistake import Forward
from jaxmlp.gradcheck.tape import Record, Tape, backward, chain, elementwise, flat_calls, softmax
from jaxmlp.gradcheck.wrong_arrays import orders
from jaxmlp.gradcheck.wrong_walks import OTHERS, RATES

FEW = 8  # layers: of more, a mistake of the forward pass is looked for in all of them at once

Passing = Callable[
    [int, Record, np.ndarray], tuple | None
]  # layer, its record, A_prev -> Z, A, act'


def again(tape: Tape, passing: Passing, X: Any = None, Y: Any = None) -> Tape:
    """The tape with some layers passed otherwise; the others as they are."""
    records, A = [], tape.records[0].A_prev if X is None else X
    for number, record in enumerate(tape.records, start=1):
        new = passing(number, record, A)
        Z, A_new, slope = new if new is not None else right_layer(record, A)
        records.append(record._replace(A_prev=A, Z=Z, A=A_new, slope_Z=slope))
        A = A_new
    tape = tape._replace(records=records, Y=tape.Y if Y is None else Y)
    return started(tape)


def right_layer(record: Record, A_prev: np.ndarray, Z: Any = None) -> tuple:
    """Z, A, act'(Z) of a layer."""
    if Z is None:
        Z = A_prev @ record.layer.W + (0.0 if record.layer.b is None else record.layer.b)
    A, slope, _ = elementwise(record.act, record.layer, Z)
    return Z, A, slope


def started(tape: Tape) -> Tape:
    """The tape with dA and dZ of the output by the formulas: A - Y where they collapse."""
    last, J = tape.records[-1], tape.J
    dA = np.asarray(J.loss.dA(jnp.asarray(last.A), jnp.asarray(tape.Y)))
    dZ = last.A - tape.Y if losses.collapses(J.loss, J.mlp.output) else chain(last, dA)
    return tape._replace(dA=dA, dZ=dZ)


def right(number: int, record: Record, A_prev: np.ndarray) -> None:
    """Every layer as it is."""


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

        def passing(number, record, A_prev, places=places):
            return (
                right_layer(record, A_prev, A_prev @ record.layer.W) if number in places else None
            )

        yield Forward(again(tape, passing), places, "Z")


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

            def passing(l, record, A_prev, number=number, W=W):
                b = 0.0 if record.layer.b is None else record.layer.b
                return right_layer(record, A_prev, A_prev @ W + b) if l == number else None

            yield Forward(again(tape, passing), (number,), "Z", {"other": name})


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
        for which, own_slope in itertools.product(range(len(OTHERS)), (False, True)):

            def passing(number, record, A_prev, places=places, which=which, own_slope=own_slope):
                if number not in places:
                    return None
                Z, _, slope = right_layer(record, A_prev)
                A, other = flat_calls(_all_outputs, Z)[which]
                return Z, A, slope if own_slope else other

            if all(tape.records[number - 1].act != OTHERS[which] for number in places):
                words = {"other": OTHERS[which].name}
                yield Forward(again(tape, passing), places, "A", words)


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

        def passing(number, record, A_prev, output=output):
            Z, _, slope = right_layer(record, A_prev)
            return (Z, output(Z), slope) if number == last else None

        yield Forward(again(tape, passing), (last,), "A", {"other": name})


def _hidden(tape: Tape, Z):
    first = tape.records[0]
    return elementwise(first.act, first.layer, Z)[0] if len(tape.records) > 1 else np.maximum(Z, 0)


# --- X, Y, and the parameters ---------------------------------------------------------------------


def rows_of_X(tape: Tape):
    X = tape.records[0].A_prev
    for order, rows in orders(len(X)):
        yield Forward(again(tape, right, X=X[rows]), (1,), "Z", {"order": order})


def scaled_X(tape: Tape):
    X = tape.records[0].A_prev
    mean, spread = X.mean(axis=0), X.std(axis=0)
    for what, new in (
        ("standardised", (X - mean) / np.where(spread > 0, spread, 1)),
        ("divided by its largest entry", X / (np.abs(X).max() or 1.0)),
        ("centred", X - mean),
    ):
        yield Forward(again(tape, right, X=new), (1,), "Z", {"what": what})


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

    def moved(record: Record, number: int, rate: float) -> Record:
        layer = record.layer._replace(
            **{
                field: leaf - rate * gradient[f"{field}{number}"]
                for field, leaf in record.layer._asdict().items()
                if f"{field}{number}" in gradient
            }
        )
        return record._replace(layer=layer)

    for rate in RATES if len(tape.records) <= FEW else ():
        for sign in (1, -1):
            records = [moved(r, l, sign * rate) for l, r in enumerate(tape.records, start=1)]
            there = again(tape._replace(records=records), right)
            yield Forward(there, (1,), "Z", {"rate": f"{rate:g}"})
            if sign == 1:  # with the right weights on the way back
                pairs = zip(there.records, tape.records, strict=True)
                own = [new._replace(layer=old.layer) for new, old in pairs]
                yield Forward(there._replace(records=own), (1,), "Z", {"rate": f"{rate:g}"})
