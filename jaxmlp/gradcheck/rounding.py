"""What rounding does to each number of a tape, and what a kink leaves open."""

import collections
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxmlp import losses
from jaxmlp.gradcheck.numbers import PIECE, gap
from jaxmlp.gradcheck.tape import (
    Back,
    Leaves,
    Noise,
    Record,
    Tape,
    backward_steps,
    elementwise,
    forward,
    forward_steps,
    leaves,
    skipped,
    term_size,
    walk,
)
from jaxmlp.layer import Layer
from jaxmlp.objective import Objective


class Rounding(NamedTuple):
    """The effect of a relative error of 1 in every intermediate, by first order.

    growth: by name, of the entry it changes most; U: of each entry of each U.
    """

    growth: dict[str, float]
    U: list[np.ndarray]


def rounding(J: Objective, layers: Sequence[Layer], X, Y, tape: Tape, draws: int = 3) -> Rounding:
    """Measure how rounding grows on its way: repeat both passes with noise in every step.

    Monte-Carlo arithmetic (Parker 1997, "Monte Carlo arithmetic"), the largest of some draws.
    """
    rng, largest = np.random.default_rng(0), collections.defaultdict(float)
    drift = [np.zeros_like(record.U) for record in tape.records]
    for noise in (Noise(rng) for _ in range(draws)):
        noisy = forward(J, layers, X, Y, noise)
        for name, value, exact in _side_by_side(noisy, tape, noise):
            off = gap(value, exact) / noise.size
            largest[name] = max(largest[name], off if np.isfinite(off) else 0.0)
        for worst, record, other in zip(drift, tape.records, noisy.records, strict=True):
            np.maximum(worst, np.abs(other.U - record.U) / noise.size, out=worst)
    return Rounding(dict(largest), drift)


def _side_by_side(noisy: Tape, tape: Tape, noise: Noise):
    """Yield name, noisy and exact numbers of everything, some rows of a weight at a time."""
    yield "J", np.asarray(noisy.value), np.asarray(tape.value)
    exact = forward_steps(tape)
    yield from ((name, array, exact[name]) for name, array in forward_steps(noisy).items())
    for (number, back), (_, exact_back) in zip(walk(noisy, noise), walk(tape), strict=True):
        exact = backward_steps(tape, number, exact_back)
        for name, array in backward_steps(noisy, number, back, noise).items():
            yield name, array, exact[name]
        d_in, d_out = tape.records[number - 1].layer.W.shape
        for rows in (slice(i, i + PIECE // d_out + 1) for i in range(0, d_in, PIECE // d_out + 1)):
            right = leaves(tape, number, exact_back, rows=rows)
            found = leaves(noisy, number, back, noise, rows)
            yield from ((name, found[name], right[name]) for name in right)


# --- kinks ----------------------------------------------------------------------------------------


def conventions(J: Objective, tape: Tape, drift: Sequence[np.ndarray], eps: float) -> list[Tape]:
    """Return the tape with act' of the lower, the upper side, and their mean, at every unit that
    rounding cannot tell from its kink; [] if no unit is that close."""
    lower, upper = [], []
    for record, spread in zip(tape.records, drift, strict=True):
        act, doubt = record.spec.activation, eps * (8 * spread + 4 * _terms_of_U(record))
        sides = [record.prime, record.prime]
        for kink in act.kinks:
            reach = doubt + max(4 * eps * abs(kink), 1e-200)
            near = np.abs(record.U - kink) <= reach
            for i, sign in enumerate((-2, 2)):
                U = np.where(near, kink + sign * reach, record.U)
                sides[i] = np.where(near, elementwise(act, record.layer, U)[1], sides[i])
        lower.append(sides[0])
        upper.append(sides[1])
    if all(a is b or np.array_equal(a, b) for a, b in zip(lower, upper, strict=True)):
        return []
    mean = [None if a is None else (a + b) / 2 for a, b in zip(lower, upper, strict=True)]
    return [_with_primes(J, tape, primes) for primes in (lower, upper, mean)]


def _terms_of_U(record: Record):
    """How large the terms are that U is the sum of."""
    terms = term_size(record.A_prev, record.layer.W)
    if record.spec.residual is not None:
        terms = np.abs(record.alpha) * terms + np.abs(record.S)
    return terms if record.r is None else (terms + np.abs(record.S)) * record.r


def _with_primes(J: Objective, tape: Tape, primes: list) -> Tape:
    pairs = zip(tape.records, primes, strict=True)
    tape = tape._replace(records=[record._replace(prime=new) for record, new in pairs])
    if primes[-1] is None or losses.collapses(J.loss, J.mlp.output):
        return tape
    return tape._replace(dZ=tape.dA * primes[-1])


def spread(tape: Tape, lower: Tape, upper: Tape) -> Leaves:
    """Bound how far each gradient entry can move if every unit at a kink chooses its side
    independently."""
    found, off_dZ = {}, np.abs(upper.dZ - lower.dZ)
    off = Back(np.zeros_like(tape.dA), off_dZ, off_dZ, off_dZ)
    for number, back in walk(tape):
        record = tape.records[number - 1]
        # The sums over samples and units of absolute terms
        sizes = record._replace(**{x: np.abs(getattr(record, x)) for x in ("A_prev", "Z", "U")})
        terms = leaves(tape._replace(records=[sizes]), 1, off)
        found |= {f"{name[:-1]}{number}": np.abs(x) for name, x in terms.items()}
        found |= backward_steps(tape, number, off)
        off_dA = off.dZ @ np.abs(record.layer.W).T
        if number == 1:
            return found | {"dA0": off_dA}
        # One layer down: |act'| of either side, and what the sides differ by
        under = number - 2
        sides = [np.asarray(t.records[under].prime) for t in (lower, upper)]
        dA = back.dZ @ record.layer.W.T
        off_dU = off_dA * np.max(np.abs(sides), axis=0) + np.abs(dA) * np.abs(sides[1] - sides[0])
        off = _onto_stream(tape.records[under], off_dA, off_dU, skipped(record, off))
    return found


def _onto_stream(record: Record, off_dA, off_dU, skip) -> Back:
    """As the tape's, in absolute values: what is off may add up."""
    off_dS = off_dU
    if record.spec.norm is not None:
        U = np.abs(record.U)
        mean = np.mean(off_dU, axis=1, keepdims=True) if record.spec.norm.centred else 0.0
        off_dS = record.r * (off_dU + U * np.mean(U * off_dU, axis=1, keepdims=True) + mean)
    off_dS = off_dS if skip is None else off_dS + skip
    return Back(off_dA, off_dU, off_dS, np.abs(record.alpha) * off_dS)
