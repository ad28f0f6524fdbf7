"""What each mistake in the forward pass makes: a tape that a right backward pass goes on from."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxmlp import losses
from jaxmlp.gradcheck.edits import Words, orders
from jaxmlp.gradcheck.steps import OTHERS, RATES, every_activation
from jaxmlp.gradcheck.tape import (
    Record,
    Tape,
    backward,
    elementwise,
    flat_calls,
    loss_derivative,
    passed,
    softmax,
    through_activation,
)
from jaxmlp.layer import Layer

FEW = 8  # layers: of more, a mistake of the forward pass is looked for in all of them at once


class Forward(NamedTuple):
    """A mistake in the forward pass, its layers, its step (as "Z"), and the tape that it makes."""

    mistake: str
    layers: Sequence[int]
    step: str
    tape: Tape
    words: Words = {}  # noqa: RUF012


def forwards(tape: Tape) -> Iterator[Forward]:
    """Yield the tape with each of the known mistakes of a forward pass."""
    for find in (_biases, _weights, _activations, _outputs, _data, _after_a_step):
        yield from find(tape)


def again(
    tape: Tape,
    X: Any = None,
    layers: Sequence[Layer] | None = None,
    steps: dict[str, np.ndarray] | None = None,
    output_of: Callable[[int, Record], tuple | None] = lambda number, record: None,
) -> Tape:
    """Return the tape with some layers passed otherwise; those before them are kept.

    layers: the parameters of the forward pass; the backward pass keeps its own. steps: Z1, A1, ...
    in the place of what comes out. output_of: another (A, act') of a layer, from its new record.
    """
    # From X, layer by layer: as before while nothing has changed
    steps, records, S = steps or {}, [], None
    A = tape.records[0].A_prev if X is None else X
    for number, old in enumerate(tape.records, start=1):
        layer = old.layer if layers is None else layers[number - 1]
        Z, record = steps.get(f"Z{number}"), old
        if Z is not None or A is not old.A_prev or layer is not old.layer:
            record = passed(old.spec, layer, A, S, Z)._replace(layer=old.layer)
        # Another output
        if f"A{number}" in steps:
            record = record._replace(A=steps[f"A{number}"])
        if (new := output_of(number, record)) is not None:
            record = record._replace(A=new[0], prime=new[1])
        records.append(record)
        A, S = record.A, record.S
    return _started(tape._replace(records=records))


def _started(tape: Tape) -> Tape:
    """The tape with dA and dZ of the output by the formulas: A - Y where they collapse."""
    last, J = tape.records[-1], tape.J
    dA = np.asarray(loss_derivative(J.loss, last.A, tape.Y))
    collapses = losses.collapses(J.loss, J.mlp.output)
    return tape._replace(dA=dA, dZ=last.A - tape.Y if collapses else through_activation(last, dA))


def _places(L: int) -> list[list[int]]:
    """Each of the layers 1..L, if they are few, and all of them."""
    alone = [[number] for number in range(1, L + 1)] if L <= FEW else []
    return [*alone, list(range(1, L + 1))] if L > 1 else alone


# --- Z = A @ W + b --------------------------------------------------------------------------------


def _biases(tape: Tape) -> Iterator[Forward]:
    own = [record.layer for record in tape.records]
    if any(layer.b is not None and layer.b.any() for layer in own):
        for places in _places(len(own)):
            layers = [
                layer._replace(b=None) if l in places else layer
                for l, layer in enumerate(own, start=1)
            ]
            yield Forward("bias_left_out", places, "Z", again(tape, layers=layers))


def _weights(tape: Tape) -> Iterator[Forward]:
    """Another layer's weights of the same shape, or the transpose of a square one."""
    own = [record.layer for record in tape.records]
    for number, layer in enumerate(own, start=1) if len(own) <= FEW else ():
        others = {f"W{l}": other.W for l, other in enumerate(own, start=1) if l != number}
        others[f"W{number}.T"] = layer.W.T
        for name, W in others.items():
            if W.shape == layer.W.shape:
                layers = [*own[: number - 1], layer._replace(W=W), *own[number:]]
                new = again(tape, layers=layers)
                yield Forward("wrong_W_forward", [number], "Z", new, {"other": name})


# --- A = act(Z) -----------------------------------------------------------------------------------


def _activations(tape: Tape) -> Iterator[Forward]:
    """Another activation; its derivative may be right for it, or be the right one of the layer."""
    for places in _places(len(tape.records) - 1):
        U = tape.records[places[0] - 1].U
        first = flat_calls(every_activation, U, U)
        for which, act in enumerate(OTHERS):
            if any(tape.records[number - 1].spec.activation == act for number in places):
                continue
            own: dict[int, Any] = {}  # the derivatives of the layers' own activations

            def output_of(number, record, places=places, first=first, which=which, own=own):
                if number not in places:
                    return None
                own[number], found = record.prime, first
                if number != places[0]:  # the layers above see another input
                    found = flat_calls(every_activation, record.U, record.U)
                return found[which][:2]

            new = again(tape, output_of=output_of)
            yield Forward("wrong_activation", places, "A", new, {"other": act.name})
            records = list(new.records)
            for number, prime in own.items():
                records[number - 1] = records[number - 1]._replace(prime=prime)
            new = new._replace(records=records)
            yield Forward("wrong_activation", places, "A", new, {"other": act.name})


def _outputs(tape: Tape) -> Iterator[Forward]:
    """Something else in the place of the output's activation."""
    first, L, Z = tape.records[0], len(tape.records), tape.records[-1].Z
    # The hidden activation is taken of the output's Z
    relu = np.maximum(Z, 0)
    hidden = elementwise(first.spec.activation, first.layer, Z)[0] if L > 1 else relu
    outputs = {
        "softmax over all entries of Z": softmax(Z, axis=None),
        "softmax over the samples, axis 0": softmax(Z, axis=0),
        "exp(Z) without its sum": np.exp(Z),
        "softmax of softmax": softmax(softmax(Z)),
        "softmax of the hidden activation": softmax(hidden),
        "softmax": softmax(Z),
        "sigmoid": 1 / (1 + np.exp(-Z)),
        "tanh": np.tanh(Z),
        "ReLU": relu,
        "Z itself": Z,
    }
    for name, A in outputs.items():
        new = again(tape, steps={f"A{L}": A})
        yield Forward("wrong_output", [L], "A", new, {"other": name})


# --- X, Y, and the parameters ---------------------------------------------------------------------


def _data(tape: Tape) -> Iterator[Forward]:
    # The rows and the scale of X
    X, Y, L = tape.records[0].A_prev, tape.Y, len(tape.records)
    for order, rows in orders(len(X)):
        yield Forward("X_moved", [1], "Z", again(tape, X=X[rows]), {"order": order})
    mean, spread = X.mean(axis=0), X.std(axis=0)
    for what, new in (
        ("standardised", (X - mean) / np.where(spread > 0, spread, 1)),
        ("divided by its largest entry", X / (np.abs(X).max() or 1.0)),
        ("centred", X - mean),
    ):
        yield Forward("X_scaled", [1], "Z", again(tape, X=new), {"what": what})
    # The rows and the columns of Y
    targets = [(f"its rows {order}", Y[rows]) for order, rows in orders(len(Y))]
    if Y.shape[1] > 1:
        what = "classes counted from another number"
        targets += [(what, np.roll(Y, by, axis=1)) for by in (1, -1)]
    for what, new in targets:
        yield Forward("Y_moved", [L], "dZ", _started(tape._replace(Y=new)), {"what": what})


def _after_a_step(tape: Tape) -> Iterator[Forward]:
    """The whole gradient at parameters that a step of gradient descent has moved, there or back."""
    gradient, own = backward(tape), [record.layer for record in tape.records]

    def moved(layer: Layer, number: int, rate: float) -> Layer:
        fields = {field: x for field, x in layer._asdict().items() if x is not None}
        return layer._replace(
            **{field: x - rate * gradient[f"{field}{number}"] for field, x in fields.items()}
        )

    for rate in RATES if len(own) <= FEW else ():
        for signed in (rate, -rate):
            layers = [moved(layer, l, signed) for l, layer in enumerate(own, start=1)]
            there, words = again(tape, layers=layers), {"rate": f"{rate:g}"}
            pairs = zip(there.records, layers, strict=True)
            both = [record._replace(layer=layer) for record, layer in pairs]
            yield Forward("after_a_step", [1], "Z", there._replace(records=both), words)
            if signed > 0:  # with the right weights on the way back
                yield Forward("after_a_step", [1], "Z", there, words)
