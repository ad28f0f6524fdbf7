"""What each classic mistake makes of one step of the way back, and so of all below it."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp import activations, losses
from jaxmlp.gradcheck.edits import Words, fitted_factor, known_factors, orders
from jaxmlp.gradcheck.judge import Given
from jaxmlp.gradcheck.names import Arrays
from jaxmlp.gradcheck.tape import (
    Place,
    elementwise,
    flat_calls,
    from_dS,
    from_dU,
    leaves,
    through_activation,
)


class Step(NamedTuple):
    """A mistake and what it makes of one step of the way back, or of act'(U) in it."""

    mistake: str
    array: Any
    words: Words = {}  # noqa: RUF012


class Flow(NamedTuple):
    """A mistake in one step of the way back, as "dA", and the place that follows from it."""

    mistake: str
    step: str
    place: Place
    words: Words


def of_step(place: Place, right: Arrays, given: dict[str, Given], dZ: Any) -> Iterator[Flow]:
    """Yield the places with a mistake in one step, in dA, dU, dS or dZ.

    right: the arrays of the layer without it; dZ: the one that was given, or None.
    """
    # A factor, in all that follows
    largest = max(right, key=lambda name: right[name].size)
    own = given.get(largest)
    fitted = fitted_factor(place, own and own.raw, right[largest])
    for mistake, factor, words in (*known_factors(place), *fitted):
        yield Flow(mistake, "dZ", _mapped(place, lambda x, f=factor: f * x), words)
    # Another order of the samples
    for which, rows in _row_orders(place, dZ):
        moved = _mapped(place, lambda x, rows=rows: x[rows])
        yield Flow("rows_moved", "dZ", dataclasses.replace(moved, dA=place.dA), {"order": which})
    # Another step
    edits = {
        "dA": _wrong_dA(place, right, given),
        "dU": _wrong_dU(place, right),
        "dS": _wrong_dS(place),
        "dZ": _wrong_dZ(place),
    }
    for step, mistakes in edits.items():
        for mistake, array, words in mistakes:
            yield Flow(mistake, step, edited(place, step, array), words)


def edited(place: Place, step: str, array) -> Place:
    """Return the place with one step exchanged, and what follows from it in the layer."""
    if step == "dZ":
        return dataclasses.replace(place, dZ=array)
    if step == "dS":
        return from_dS(place, array)
    dA, dU = (place.dA, array) if step == "dU" else (array, array * place.record.prime)
    return from_dU(Place(place.tape, place.number, dA, dU, dU, dU, place.above))


def _mapped(place: Place, f: Callable) -> Place:
    arrays = {step: f(getattr(place, step)) for step in ("dA", "dU", "dS", "dZ")}
    return dataclasses.replace(place, **arrays)


def _row_orders(place: Place, given: np.ndarray | None) -> Iterator[tuple[str, np.ndarray]]:
    yield from orders(len(place.dZ))
    if given is not None and given.shape == place.dZ.shape and len(given) > 1:
        # The rows that were given, whatever their order, if they are the right ones to 9 digits
        rows, own = (np.lexsort(np.round(x / np.abs(x).max(), 9).T) for x in (given, place.dZ))
        yield "in another order", own[np.argsort(rows)]


# of steps in common use; a rate that fits is searched for where the derivative is linear in it
RATES = (1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01, 0.005, 0.003, 0.002, 0.001, 1e-4)
SIGNED_RATES = np.array([*RATES, *(-rate for rate in RATES)])


def _wrong_dA(place: Place, right: Arrays, given: dict[str, Given]) -> Iterator[Step]:
    """Mistakes in `dA[l] = dZ[l+1] @ W[l+1].T`, which is a step of the layer above."""
    above = place.above
    if above is None:
        return
    W, dZ = above.record.layer.W, above.dZ
    if len(set(W.shape)) == 1:
        yield Step("transposed", dZ @ W)
    yield Step("dA_for_dZ", above.dA @ W.T)
    # Another layer's W
    near = {above.number - 1: "the layer below", above.number + 1: "the layer above"}
    for number, record in enumerate(place.tape.records, start=1):
        other = record.layer.W
        if number != above.number and other.shape == W.shape:
            yield Step("wrong_W", dZ @ other.T, {"other": near.get(number, f"layer {number}")})
    # An updated W: dA is affine in the rate, so it is fitted here and the layers below verify it
    dW = above.record.A_prev.T @ dZ / place.tape.divisor
    no_skip = dataclasses.replace(place, above=None)
    per_rate = leaves(edited(no_skip, "dA", dZ @ dW.T))
    rate = _fitted_rate(given, right, per_rate)
    if rate > 0:
        yield Step("updated_W", dZ @ (W - rate * dW).T)


def _fitted_rate(given: dict[str, Given], right: Arrays, per_rate: Arrays) -> float:
    """Least squares for `given = right - rate * per_rate`, each array in its own size."""
    top = bottom = 0.0
    for name, change in per_rate.items():
        largest, own = np.abs(right[name]).max(initial=0), given.get(name)
        if own is not None and own.raw.shape == change.shape and largest > 0:
            d, s = (own.raw - right[name]) / largest, change / largest
            top, bottom = top - np.vdot(s, d), bottom + np.vdot(s, s)
    return float(top / bottom) if bottom > 0 and np.isfinite(top) else 0.0


def _wrong_dU(place: Place, right: Arrays) -> Iterator[Step]:
    """Mistakes in `dU = dA * act'(U)`; at the output also in the loss's derivative."""
    for mistake, slope, words in _wrong_slopes(place, right):
        yield Step(mistake, place.dA * slope, words)
    if place.above is not None:
        return
    record, A, Y = place.record, place.record.A, place.tape.Y
    # A - Y where it does not belong, or another loss's derivative, however it is taken on
    yield Step("wrong_loss_gradient", A - Y)
    for dA in map(np.asarray, _derivatives_of_losses(A, Y)):
        if not np.array_equal(dA, place.dA):
            for dU in (through_activation(record, dA), dA, dA * A * (1 - A)):
                yield Step("wrong_loss_gradient", dU)
    # Something else in the place of A or of Y
    most = np.eye(Y.shape[1])[A.argmax(axis=1)]
    for what, dU in (
        ("Z in the place of A", record.Z - Y),
        ("the class of the largest A in the place of A", most - Y),
        ("A, rounded", np.round(A) - Y),
        ("A, without Y", A),
        ("Y, without A", -Y),
    ):
        yield Step("wrong_residual", dU, {"what": what})


@jax.jit
def _derivatives_of_losses(A, Y):
    return [losses.get(name).dA(A, Y) for name in losses.names()]


def _wrong_slopes(place: Place, right: Arrays) -> Iterator[Step]:
    """What may stand in the place of act'(U)."""
    record, number, hidden = place.record, place.number, len(place.tape.records) - 1
    yield Step("no_derivative", 1.0)
    yield Step("no_derivative_but_A", record.A, {"what": f"A{number} itself"})
    yield Step("no_derivative_but_A", record.Z, {"what": f"Z{number} itself"})
    yield Step("gate_of_dA", place.dA > 0)
    if record.prime is None:
        yield Step("diagonal_jacobian", record.A * (1 - record.A))
        return
    # The derivative elsewhere: at A, at dA, and at the Z of weights that one step of gradient
    # descent has moved, there or back
    act, layer = record.spec.activation, record.layer
    per_rate = record.A_prev @ right[f"W{number}"] + right.get(f"b{number}", 0.0)
    moved = record.U - SIGNED_RATES[:, None, None] * per_rate
    primes: Any = elementwise(act, layer, np.concatenate([[record.A, place.dA], moved]))[1]
    yield Step("derivative_at_A", primes[0])
    yield Step("derivative_twice", record.prime**2)
    yield Step("gate_of_dA", primes[1])
    # That of another layer, of the 12 nearest: a slip reaches no further
    others = sorted(set(range(1, hidden + 1)) - {number}, key=lambda l: abs(l - number))
    for other in others[:12] if number <= hidden else ():
        if place.tape.records[other - 1].A.shape == record.A.shape:
            yield Step("wrong_gate", place.tape.records[other - 1].prime)
    # That of another activation: of its own output, by its formula of A, and by that of Z
    found = flat_calls(every_activation, record.U, record.A)
    for other, (_, own, of_A, of_Z) in zip(OTHERS, found, strict=True):
        words = {"other": other.name, "own": act.name}
        if other == act:
            yield Step("formula_of_Z", of_Z, words)
        else:
            yield from (Step("other_derivative", x, words) for x in (own, of_A, of_Z))
    for rate, prime in zip(SIGNED_RATES, primes[2:], strict=True):
        yield Step("stale_Z", prime, {"rate": f"{abs(rate):g}"})


OTHERS = tuple(
    {
        act.name: act
        for act in map(activations.get, (*activations.names(), "leaky_relu:0.1", "leaky_relu:0.2"))
        if act != activations.softmax
    }.values()
)


@jax.jit
def every_activation(Z, A):
    """Return of every activation its output, and its formula of its own output, of A and of Z."""
    found = []
    for act in OTHERS:
        assert act.derivative is not None
        own = act.fn(Z)
        found.append((own, *(act.derivative(Z, output) for output in (own, A, Z))))
    return jnp.asarray(found)


def _wrong_dS(place: Place) -> Iterator[Step]:
    """Mistakes in the skip of a residual network and in a norm's derivative."""
    record, dU, skip = place.record, place.dU, place.skip
    if skip is not None:
        yield Step("no_skip", place.dS - skip)
        yield Step("skip_through_gate", place.dS - skip + place.above.dZ)
    if record.spec.norm is None:
        return
    # dS = r (dU - along - mean), without some of it
    along = record.U * np.mean(record.U * dU, axis=1, keepdims=True)
    mean = np.mean(dU, axis=1, keepdims=True)
    for mistake, inner in (
        ("norm_is_constant", dU),
        ("norm_left_out", dU / record.r),
        ("norm_without_mean", dU - along - (0.0 if record.spec.norm.centred else mean)),
        ("norm_without_variance", dU - mean),
    ):
        yield Step(mistake, record.r * inner + (0.0 if skip is None else skip))


def _wrong_dZ(place: Place) -> Iterator[Step]:
    """dZ = dS, without alpha; or alpha twice."""
    if place.record.spec.residual is not None:
        yield Step("no_gate", place.dS)
        yield Step("no_gate", place.record.alpha * place.dZ)
