"""What rounding does to each number of a tape, and what a kink leaves open."""

import collections
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxmlp import losses
from jaxmlp.gradcheck.judge import PIECE, gap
from jaxmlp.gradcheck.names import VALUE, Arrays
from jaxmlp.gradcheck.tape import (
    NOISE,
    Noise,
    Place,
    Record,
    Tape,
    backward_steps,
    elementwise,
    forward,
    forward_steps,
    from_dS,
    leaves,
    noise_of,
    term_size,
    top,
    walk,
)
from jaxmlp.layer import Layer
from jaxmlp.objective import Objective


class Rounding(NamedTuple):
    """The effect of a relative error of 1 in every intermediate, by first order.

    growth: by name, of the entry that changes most; U: of each entry of each U.
    """

    growth: dict[str, float]
    U: list[np.ndarray]


def rounding(J: Objective, layers: Sequence[Layer], X, Y, tape: Tape, draws: int = 3) -> Rounding:
    """Measure how rounding grows on its way: repeat both passes with noise in every step.

    Monte-Carlo arithmetic (Parker 1997, "Monte Carlo arithmetic"). The largest of some draws
    counts, because one may be lucky.
    """
    noise, largest = noise_of(np.random.default_rng(0)), collections.defaultdict(float)
    drift = [np.zeros_like(record.U) for record in tape.records]
    for _ in range(draws):
        noisy = forward(J, layers, X, Y, noise)
        for name, value, exact in _side_by_side(noisy, tape, noise):
            off = gap(value, exact) / NOISE
            largest[name] = max(largest[name], off if np.isfinite(off) else 0.0)
        for worst, record, other in zip(drift, tape.records, noisy.records, strict=True):
            np.maximum(worst, np.abs(other.U - record.U) / NOISE, out=worst)
    return Rounding(dict(largest), drift)


def _side_by_side(noisy: Tape, tape: Tape, noise: Noise) -> Iterator[tuple]:
    """Yield name, noisy and exact numbers of everything, some rows of a weight at a time."""
    yield VALUE, np.asarray(noisy.value), np.asarray(tape.value)
    exact = forward_steps(tape)
    yield from ((name, array, exact[name]) for name, array in forward_steps(noisy).items())
    for place, right in zip(walk(noisy, noise), walk(tape), strict=True):
        exact = backward_steps(right)
        yield from ((name, x, exact[name]) for name, x in backward_steps(place, noise).items())
        d_in, d_out = right.record.layer.W.shape
        step = PIECE // d_out + 1
        for rows in (slice(i, i + step) for i in range(0, d_in, step)):
            exact = leaves(right, rows=rows)
            yield from ((name, x, exact[name]) for name, x in leaves(place, noise, rows).items())


# --- kinks ----------------------------------------------------------------------------------------


def conventions(tape: Tape, drift: Sequence[np.ndarray], eps: float) -> list[Tape]:
    """Return the tape with act' of the lower and the upper side, and with their mean.

    At every unit that rounding cannot tell from its kink; [] if no unit is that close. drift: what
    a relative error of 1 in every intermediate does to each U.
    """
    lower, upper = [], []
    for record, moved in zip(tape.records, drift, strict=True):
        # Twice the usual doubt: 8 and 4 eps, and 4 of the kink's own place
        act, doubt = record.spec.activation, eps * (8 * moved + 4 * _terms_of_U(record))
        sides = [record.prime, record.prime]
        for kink in act.kinks:
            reach = doubt + max(4 * eps * abs(kink), 1e-200)  # also where U is exactly 0
            near = np.abs(record.U - kink) <= reach
            for i, sign in enumerate((-2, 2)):
                U = np.where(near, kink + sign * reach, record.U)
                sides[i] = np.where(near, elementwise(act, record.layer, U)[1], sides[i])
        lower.append(sides[0])
        upper.append(sides[1])
    if all(a is b or np.array_equal(a, b) for a, b in zip(lower, upper, strict=True)):
        return []
    mean = [None if a is None else (a + b) / 2 for a, b in zip(lower, upper, strict=True)]
    return [_with_primes(tape, primes) for primes in (lower, upper, mean)]


def _terms_of_U(record: Record):
    """How large the terms are that U is the sum of."""
    terms = term_size(record.A_prev, record.layer.W)
    if record.spec.residual is not None:
        terms = np.abs(record.alpha) * terms + np.abs(record.S)
    return terms if record.r is None else (terms + np.abs(record.S)) * record.r


def _with_primes(tape: Tape, primes: list) -> Tape:
    pairs = zip(tape.records, primes, strict=True)
    tape = tape._replace(records=[record._replace(prime=new) for record, new in pairs])
    if primes[-1] is None or losses.collapses(tape.J.loss, tape.J.mlp.output):
        return tape
    return tape._replace(dZ=tape.dA * primes[-1])


def spread(tape: Tape, lower: Tape, upper: Tape) -> Arrays:
    """Bound how far each gradient entry can move if every unit at a kink chooses its side
    independently."""
    # A tape of sizes: the terms of its sums are those of the gradient, in absolute value
    sizes = [
        record._replace(
            A_prev=np.abs(record.A_prev),
            Z=np.abs(record.Z),
            U=np.minimum(record.U, 0),  # read by the slope's gradient alone
            layer=jax.tree.map(np.abs, record.layer),
        )
        for record in tape.records
    ]
    none, off_dZ = np.zeros_like(tape.dA), np.abs(upper.dZ - lower.dZ)
    start = top(tape._replace(records=sizes, dA=none, dZ=off_dZ))
    found, off = {}, start
    for place in walk(tape):
        if place.above is not None:
            off = _below(off, place, lower, upper)
        found |= backward_steps(off) | {name: np.abs(x) for name, x in leaves(off).items()}
    return found


def _below(off: Place, place: Place, lower: Tape, upper: Tape) -> Place:
    """What is off one layer down: the terms of each step may all add up."""
    record = place.record
    a, b = (np.asarray(tape.records[place.number - 1].prime) for tape in (lower, upper))
    off_dA = off.dZ @ off.record.layer.W.T
    off_dU = off_dA * np.maximum(np.abs(a), np.abs(b)) + np.abs(place.dA) * np.abs(b - a)
    off_dS = off_dU
    if record.spec.norm is not None:
        U = np.abs(record.U)
        mean = np.mean(off_dU, axis=1, keepdims=True) if record.spec.norm.centred else 0.0
        off_dS = record.r * (off_dU + U * np.mean(U * off_dU, axis=1, keepdims=True) + mean)
    new = Place(off.tape, place.number, off_dA, off_dU, off_dS, off_dS, off)
    return from_dS(new, off_dS if new.skip is None else off_dS + new.skip)
