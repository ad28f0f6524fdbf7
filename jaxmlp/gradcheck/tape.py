"""A second backward pass, in NumPy float64 and plain to read: what the certificate reasons with.

It knows every intermediate of one network on one batch, so that it can say what rounding may do to
a gradient, where a unit sits at a kink, and what the gradient would be with a mistake in one step.
It does not decide what is right: that is autodiff's and the numeric route's part.
"""

import collections
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp import activations, losses, targets
from jaxmlp.activations import Activation
from jaxmlp.gradcheck.numbers import PIECE, gap, size
from jaxmlp.layer import Layer, slopes
from jaxmlp.objective import Objective, divisor

Leaves = dict[str, np.ndarray]  # {"W1": ..., "b1": ..., "dZ2": ...}
ALL = slice(None)


class Record(NamedTuple):
    """One layer of the forward pass, its parameters in NumPy too; slope_Z, slope_A: act'(Z) and
    act'(A), None for softmax."""

    act: Activation
    A_prev: np.ndarray
    Z: np.ndarray
    A: np.ndarray
    slope_Z: Any
    slope_A: Any
    layer: Layer


class Tape(NamedTuple):
    """The forward pass, layer 1 first, and where the backward pass starts; dA, dZ of each sample's
    own loss. size: how large the terms of the loss are, which may cancel in its value."""

    J: Objective
    records: list[Record]
    dA: np.ndarray
    dZ: np.ndarray
    Y: np.ndarray
    divisor: int
    value: float
    size: float


class Noise(NamedTuple):
    """Relative noise that every intermediate receives: rounding, made large enough to be seen."""

    rng: np.random.Generator
    size: float = 1e-9

    def on(self, x, scale):
        return x + self.size * self.rng.standard_normal(np.shape(x)) * scale

    def on_sum(self, x, A, dZ):
        return self.on(x, np.reshape(_sum_size(A, dZ), x.shape))


class Quiet(NamedTuple):
    """No noise."""

    def on(self, x, scale):
        return x

    def on_sum(self, x, A, dZ):
        return x


# --- forward --------------------------------------------------------------------------------------


def forward(J: Objective, layers: Sequence[Layer], X, Y, noise: Any = None) -> Tape:
    """Return the tape of one batch; float64 throughout, so call it under `enable_x64`."""
    noise = noise or Quiet()
    records, A = [], np.asarray(X, np.float64)
    for act, layer in zip(J.mlp.activations, layers, strict=True):
        in_numpy = jax.tree.map(lambda x: np.asarray(x, np.float64), layer)
        records.append(_record(act, in_numpy, A, noise))
        A = records[-1].A
    rows = np.asarray(targets.targets_as_rows(J.loss, jnp.asarray(Y), A.shape[1], jnp.float64))
    n = divisor(J, len(A))
    each, dA, dZ = _output(J, records[-1], rows, noise)
    terms = np.ones(len(A)) if J.loss.outputs else np.sum(A**2 + rows**2, axis=1)
    return Tape(J, records, dA, dZ, rows, n, float(np.sum(each) / n), float(np.sum(terms) / n))


def _record(act, layer: Layer, A_prev, noise) -> Record:
    Z = A_prev @ layer.W if layer.b is None else A_prev @ layer.W + layer.b
    Z = noise.on(Z, _term_size(A_prev, layer.W))
    A, slope_Z, slope_A = elementwise(act, layer, Z)
    A = noise.on(A, np.abs(A))
    if slope_Z is not None:  # 1 - A^2 has an absolute error of an eps, whatever its size
        slope_Z = noise.on(slope_Z, np.abs(slope_Z) + np.minimum(1, np.abs(A)))
    return Record(act, A_prev, Z, A, slope_Z, slope_A, layer)


def _term_size(A, W):
    """The root of the sum of squares of the terms of `A @ W`, for terms of random sizes."""
    sizes = size(A), size(W)  # divided out, because squares of 1e-170 are 0
    rows, columns = (
        s * np.sqrt(np.einsum(axes, x / s, x / s))
        for axes, x, s in zip(("ij,ij->i", "ij,ij->j"), (A, W), sizes, strict=True)
    )
    return np.outer(rows, columns) / np.sqrt(len(W))


def _sum_size(A, dZ, blocks: int = 16):
    """How the sum over samples `A.T @ dZ` rounds when they are added one after the other.

    Every addition rounds the sum so far, which is larger than the whole where classes come in turn.
    """
    starts, scale = range(0, len(A), -(-len(A) // blocks)), size(dZ)
    so_far, squares = 0.0, 0.0
    for i in starts:
        so_far = so_far + A[i : i + starts.step].T @ (dZ[i : i + starts.step] / scale)
        squares = squares + so_far**2
    return _term_size(A.T, dZ) + scale * np.sqrt(len(A) * squares / len(starts)) / 2


def elementwise(act, layer: Layer, Z):
    """Return `A, act'(Z), act'(A)` by autodiff of act.fn; the last two are None for softmax."""
    if act == activations.softmax:
        return softmax(Z), None, None
    return flat_calls(functools.partial(_elementwise, act, slopes(layer)), Z)


def softmax(Z, axis: int | None = 1):
    E = np.exp(Z - Z.max(axis=axis, keepdims=True))
    return E / E.sum(axis=axis, keepdims=True)


def flat_calls(f: Callable, *arrays):
    """Return f of arrays of one shape, for an elementwise f; padded to a power of two, so that
    networks of many sizes share what is compiled."""
    shape, n = arrays[0].shape, arrays[0].size
    length = max(1024, 1 << (n - 1).bit_length())
    out = f(*(np.pad(np.ravel(x), (0, length - n)) for x in arrays))
    # the elementwise axis is the last, others may come before it
    return jax.tree.map(lambda x: np.asarray(x)[..., :n].reshape(*x.shape[:-1], *shape), out)


@functools.partial(jax.jit, static_argnums=0)
def _elementwise(act, slope, Z):
    A, slope_Z = _with_derivative(act, Z, slope)
    return A, slope_Z, _with_derivative(act, A, slope)[1]


def _with_derivative(act, Z, slope):
    A, pull = jax.vjp(lambda Z: act.fn(Z, *slope), Z)
    return A, pull(jnp.ones_like(A))[0]


def _output(J: Objective, last: Record, Y, noise):
    """Each sample's loss, dA[L] and dZ[L]; with noise as the naive formulas round."""
    each, dA, dZ = map(np.asarray, _output_derivatives(J, last.Z, last.A, Y, *slopes(last.layer)))
    if isinstance(noise, Quiet):
        return each, dA, dZ
    if losses.collapses(J.loss, J.mlp.output):
        return each, dA, noise.on(dZ, np.abs(last.A) + np.abs(Y))
    dA = np.asarray(J.loss.dA(jnp.asarray(last.A), jnp.asarray(noise.on(Y, np.abs(Y)))))
    return each, dA, chain(last, dA)


@functools.partial(jax.jit, static_argnums=0)
def _output_derivatives(J: Objective, Z, A, Y, *slope):
    def of_samples(Z):
        return J.loss.value(Z, J.mlp.output.fn(Z, *slope), Y)

    each, pull = jax.vjp(of_samples, Z)
    return each, J.loss.dA(A, Y), pull(jnp.ones_like(each))[0]


def chain(record: Record, dA):
    """Return dZ = dA * act'(Z), or through the softmax Jacobian."""
    if record.slope_Z is not None:
        return dA * record.slope_Z
    A = record.A
    return A * (dA - np.sum(A * dA, axis=1, keepdims=True))


# --- backward -------------------------------------------------------------------------------------


def leaves(tape: Tape, number: int, dA, dZ, noise: Any = None, rows: slice = ALL) -> Leaves:
    """Return the gradient of layer `number`: `{"W2": dW, "b2": db, "slope2": dslope}`.

    rows: those of dW to compute.
    """
    record, noise = tape.records[number - 1], noise or Quiet()
    A, b, slope = record.A_prev[:, rows], record.layer.b, record.layer.slope
    found = {f"W{number}": noise.on_sum(A.T @ dZ, A, dZ) / tape.divisor}
    if b is not None:
        ones = np.ones((len(dZ), 1))
        found[f"b{number}"] = noise.on_sum(np.sum(dZ, axis=0), ones, dZ) / tape.divisor
    if slope is not None:
        terms = dA * np.minimum(record.Z, 0)
        total = noise.on(np.sum(terms), np.sqrt(np.sum(terms * terms)))
        found[f"slope{number}"] = np.asarray(total / tape.divisor)
    return found


def backward(tape: Tape, noise: Any = None) -> Leaves:
    """Return gradient and steps by name; steps dA, dZ are each sample's own."""
    found = forward_steps(tape)
    for number, dA, dZ in walk(tape, noise):
        found[f"dA{number}"] = dA
        if number:
            found |= {f"dZ{number}": dZ, **leaves(tape, number, dA, dZ, noise)}
    return found


def walk(tape: Tape, noise: Any = None) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield `l, dA[l], dZ[l]` from the output to layer 1, and `0, dA[0], None`."""
    noise, dA, dZ = noise or Quiet(), tape.dA, tape.dZ
    for number in range(len(tape.records), 0, -1):
        yield number, dA, dZ
        W = tape.records[number - 1].layer.W
        dA = noise.on(dZ @ W.T, _term_size(dZ, W.T))
        dZ = None if number == 1 else dA * tape.records[number - 2].slope_Z
    yield 0, dA, dZ


def forward_steps(tape: Tape) -> Leaves:
    """Return `{"A0": X, "Z1": ..., "A1": ...}`."""
    found = {"A0": tape.records[0].A_prev}
    for number, record in enumerate(tape.records, start=1):
        found |= {f"Z{number}": record.Z, f"A{number}": record.A}
    return found


# --- what rounding does, and where kinks are ------------------------------------------------------


class Rounding(NamedTuple):
    """The effect of a relative error of 1 in every intermediate, by first order.

    growth: by name, of the entry it changes most; Z: of each entry of each Z.
    """

    growth: dict[str, float]
    Z: list[np.ndarray]


def rounding(J: Objective, layers: Sequence[Layer], X, Y, tape: Tape, draws: int = 3) -> Rounding:
    """Measure how rounding grows on its way: repeat both passes with noise in every step.

    Monte-Carlo arithmetic (Parker 1997, "Monte Carlo arithmetic"), the largest of some draws.
    """
    rng, largest = np.random.default_rng(0), collections.defaultdict(float)
    drift = [np.zeros_like(record.Z) for record in tape.records]
    for noise in (Noise(rng) for _ in range(draws)):
        noisy = forward(J, layers, X, Y, noise)
        for name, value, exact in _side_by_side(noisy, tape, noise):
            off = gap(value, exact) / noise.size
            largest[name] = max(largest[name], off if np.isfinite(off) else 0.0)
        for worst, record, other in zip(drift, tape.records, noisy.records, strict=True):
            np.maximum(worst, np.abs(other.Z - record.Z) / noise.size, out=worst)
    return Rounding(dict(largest), drift)


def _side_by_side(noisy: Tape, tape: Tape, noise: Noise):
    """Yield name, noisy and exact numbers of everything, some rows of a weight at a time."""
    yield "J", np.asarray(noisy.value), np.asarray(tape.value)
    exact = forward_steps(tape)
    yield from ((name, array, exact[name]) for name, array in forward_steps(noisy).items())
    for (number, *steps), (_, *exact) in zip(walk(noisy, noise), walk(tape), strict=True):
        yield f"dA{number}", steps[0], exact[0]
        if number == 0:
            return
        yield f"dZ{number}", steps[1], exact[1]
        d_in, d_out = tape.records[number - 1].layer.W.shape
        for rows in (slice(i, i + PIECE // d_out + 1) for i in range(0, d_in, PIECE // d_out + 1)):
            right = leaves(tape, number, *exact, rows=rows)
            found = leaves(noisy, number, *steps, noise, rows)
            yield from ((name, found[name], right[name]) for name in right)


def conventions(J: Objective, tape: Tape, drift: Sequence[np.ndarray], eps: float) -> list[Tape]:
    """Return the tape with act' of the lower, the upper side, and their mean, at every unit that
    rounding cannot tell from its kink; an empty list where there is none."""
    lower, upper = [], []
    for act, record, spread in zip(J.mlp.activations, tape.records, drift, strict=True):
        doubt = eps * (8 * spread + 4 * _term_size(record.A_prev, record.layer.W))
        sides = [record.slope_Z, record.slope_Z]
        for kink in act.kinks:
            reach = doubt + max(4 * eps * abs(kink), 1e-200)
            near = np.abs(record.Z - kink) <= reach
            for i, sign in enumerate((-2, 2)):
                Z = np.where(near, kink + sign * reach, record.Z)
                sides[i] = np.where(near, elementwise(act, record.layer, Z)[1], sides[i])
        lower.append(sides[0])
        upper.append(sides[1])
    if all(a is b or np.array_equal(a, b) for a, b in zip(lower, upper, strict=True)):
        return []
    mean = [None if a is None else (a + b) / 2 for a, b in zip(lower, upper, strict=True)]
    return [_with_slopes(J, tape, slopes) for slopes in (lower, upper, mean)]


def _with_slopes(J: Objective, tape: Tape, slopes_Z: list) -> Tape:
    pairs = zip(tape.records, slopes_Z, strict=True)
    tape = tape._replace(records=[record._replace(slope_Z=new) for record, new in pairs])
    if slopes_Z[-1] is None or losses.collapses(J.loss, J.mlp.output):
        return tape
    return tape._replace(dZ=tape.dA * slopes_Z[-1])


def spread(tape: Tape, lower: Tape, upper: Tape) -> Leaves:
    """Return by name how far the choice of a side at every kink by itself may move each entry."""
    found, dA, dZ = {}, tape.dA, tape.dZ
    off_A, off_Z = np.zeros_like(dA), np.abs(upper.dZ - lower.dZ)
    for number in range(len(tape.records), 0, -1):
        record, under = tape.records[number - 1], max(number - 2, 0)
        one = tape._replace(records=[record._replace(A_prev=np.abs(record.A_prev))])
        terms = leaves(one, 1, off_A, off_Z)
        found |= {f"{name[:-1]}{number}": np.abs(x) for name, x in terms.items()}
        found |= {f"dA{number}": off_A, f"dZ{number}": off_Z}
        dA, off_A = dZ @ record.layer.W.T, off_Z @ np.abs(record.layer.W).T
        if number > 1:
            sides = [np.asarray(t.records[under].slope_Z) for t in (lower, upper)]
            off_Z = off_A * np.max(np.abs(sides), axis=0) + np.abs(dA) * np.abs(sides[1] - sides[0])
            dZ = dA * tape.records[under].slope_Z
    return found | {"dA0": off_A}
