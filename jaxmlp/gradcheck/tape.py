"""A second backward pass, in NumPy float64 and plain to read: what the certificate reasons with.

It knows every intermediate of one network on one batch, so that it can say what rounding may do to
a gradient, where a unit sits at a kink, and what the gradient would be with a mistake in one step.
It does not decide what is right: that is autodiff's and the numeric route's part.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp import activations, losses, targets
from jaxmlp.gradcheck.numbers import size
from jaxmlp.layer import Layer, Spec, gate, slopes
from jaxmlp.objective import Objective, divisor

Leaves = dict[str, np.ndarray]  # {"W1": ..., "b1": ..., "dZ2": ...}
ALL = slice(None)


class Record(NamedTuple):
    """One layer of the forward pass, its parameters in NumPy too.

    S: the stream; U: what the activation is taken of; both are Z in a plain layer. r: the norm's,
    None without one. prime, prime_A: act'(U) and act'(A), None for softmax.
    """

    spec: Spec
    layer: Layer
    A_prev: np.ndarray
    Z: np.ndarray
    S: np.ndarray
    U: np.ndarray
    r: Any
    A: np.ndarray
    prime: Any
    prime_A: Any

    @property
    def alpha(self) -> Any:
        """What the stream takes Z times; 1 in a plain layer."""
        return gate(self.spec, self.layer)


class Back(NamedTuple):
    """Each sample's own derivatives at one layer."""

    dA: np.ndarray
    dU: np.ndarray
    dS: np.ndarray
    dZ: np.ndarray


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

    @property
    def has_stream(self) -> bool:
        """Whether S and U are others than Z anywhere."""
        return any(r.spec.residual is not None or r.spec.norm is not None for r in self.records)

    @property
    def top(self) -> Back:
        """At the output, which is a plain layer."""
        return Back(self.dA, self.dZ, self.dZ, self.dZ)


class Noise(NamedTuple):
    """Relative noise that every intermediate receives: rounding, made large enough to be seen."""

    rng: np.random.Generator
    size: float = 1e-9

    def on(self, x, scale: Callable):
        return x + self.size * self.rng.standard_normal(np.shape(x)) * np.reshape(scale(), x.shape)


class Quiet(NamedTuple):
    """No noise."""

    def on(self, x, scale: Callable):
        return x


QUIET = Quiet()

# --- forward --------------------------------------------------------------------------------------


def forward(J: Objective, layers: Sequence[Layer], X, Y, noise: Any = QUIET) -> Tape:
    """Return the tape of one batch; float64 throughout, so call it under `enable_x64`."""
    records, A, S = [], np.asarray(X, np.float64), None
    for spec, layer in zip(J.mlp.specs, layers, strict=True):
        in_numpy = jax.tree.map(lambda x: np.asarray(x, np.float64), layer)
        records.append(passed(spec, in_numpy, A, S, noise=noise))
        A, S = records[-1].A, records[-1].S
    rows = np.asarray(targets.targets_as_rows(J.loss, jnp.asarray(Y), A.shape[1], jnp.float64))
    n = divisor(J, len(A))
    each, dA, dZ = _output(J, records[-1], rows, noise)
    terms = np.ones(len(A)) if J.loss.outputs else np.sum(A**2 + rows**2, axis=1)
    return Tape(J, records, dA, dZ, rows, n, float(np.sum(each) / n), float(np.sum(terms) / n))


def passed(spec: Spec, layer: Layer, A_prev, S_prev, Z: Any = None, noise: Any = QUIET) -> Record:
    """Pass one layer, from another Z where one is given."""
    # The affine map
    if Z is None:
        Z = A_prev @ layer.W if layer.b is None else A_prev @ layer.W + layer.b
        Z = noise.on(Z, lambda: term_size(A_prev, layer.W))
    # The stream and its norm
    S, alpha = Z, gate(spec, layer)
    if spec.residual is not None:
        S = noise.on(S_prev + alpha * Z, lambda: np.abs(S_prev) + np.abs(alpha * Z))
    U, r = S, None
    if spec.norm is not None:
        mean = S.mean(axis=1, keepdims=True) if spec.norm.centred else 0.0
        r = 1 / np.sqrt(np.mean((S - mean) ** 2, axis=1, keepdims=True) + spec.norm.eps)
        U = noise.on((S - mean) * r, lambda: (np.abs(S) + np.abs(mean)) * r)
    # The activation; 1 - A^2 has an absolute error of an eps, whatever its size
    A, prime, prime_A = elementwise(spec.activation, layer, U)
    A = noise.on(A, lambda: np.abs(A))
    if prime is not None:
        prime = noise.on(prime, lambda: np.abs(prime) + np.minimum(1, np.abs(A)))
    return Record(spec, layer, A_prev, Z, S, U, r, A, prime, prime_A)


def term_size(A, W):
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
    return term_size(A.T, dZ) + scale * np.sqrt(len(A) * squares / len(starts)) / 2


def elementwise(act, layer: Layer, U):
    """Return `A, act'(U), act'(A)` by autodiff of act.fn; the last two are None for softmax."""
    if act == activations.softmax:
        return softmax(U), None, None
    return flat_calls(functools.partial(_elementwise, act, slopes(layer)), U)


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
def _elementwise(act, slope, U):
    A, prime = _with_derivative(act, U, slope)
    return A, prime, _with_derivative(act, A, slope)[1]


def _with_derivative(act, U, slope):
    A, pull = jax.vjp(lambda U: act.fn(U, *slope), U)
    return A, pull(jnp.ones_like(A))[0]


def _output(J: Objective, last: Record, Y, noise):
    """Each sample's loss, dA[L] and dZ[L]; with noise as the naive formulas round."""
    each, dA, dZ = map(np.asarray, _output_derivatives(J, last.Z, last.A, Y, *slopes(last.layer)))
    if isinstance(noise, Quiet):
        return each, dA, dZ
    if losses.collapses(J.loss, J.mlp.output):
        return each, dA, noise.on(dZ, lambda: np.abs(last.A) + np.abs(Y))
    noisy_Y = noise.on(Y, lambda: np.abs(Y))
    dA = np.asarray(J.loss.dA(jnp.asarray(last.A), jnp.asarray(noisy_Y)))
    return each, dA, through_activation(last, dA)


@functools.partial(jax.jit, static_argnums=0)
def _output_derivatives(J: Objective, Z, A, Y, *slope):
    def of_samples(Z):
        return J.loss.value(Z, J.mlp.output.fn(Z, *slope), Y)

    each, pull = jax.vjp(of_samples, Z)
    return each, J.loss.dA(A, Y), pull(jnp.ones_like(each))[0]


# --- backward -------------------------------------------------------------------------------------


def through_activation(record: Record, dA):
    """Return dU = dA * act'(U), or through the softmax Jacobian."""
    if record.prime is not None:
        return dA * record.prime
    A = record.A
    return A * (dA - np.sum(A * dA, axis=1, keepdims=True))


def onto_stream(record: Record, dA, dU, skip, noise: Any = QUIET) -> Back:
    """Go on from dU: through the norm, plus the skip, through the gate.

    skip: dS of the layer above if it has a residual, else None.
    """
    dS = dU
    if record.spec.norm is not None:
        of_U = np.mean(record.U * dU, axis=1, keepdims=True)
        mean = np.mean(dU, axis=1, keepdims=True) if record.spec.norm.centred else 0.0
        dS = noise.on(
            record.r * (dU - record.U * of_U - mean),
            lambda: record.r * (np.abs(dU) + np.abs(record.U * of_U) + np.abs(mean)),
        )
    if skip is not None:
        own = dS
        dS = noise.on(own + skip, lambda: np.abs(own) + np.abs(skip))
    return Back(dA, dU, dS, dS if record.spec.residual is None else record.alpha * dS)


def skipped(record: Record, back: Back) -> np.ndarray | None:
    """What the stream of a layer hands down beside its weight."""
    return None if record.spec.residual is None else back.dS


def below(tape: Tape, number: int, back: Back, noise: Any = QUIET) -> Back:
    """Return the derivatives at layer `number - 1`, from those at layer `number`."""
    record, under = tape.records[number - 1], tape.records[number - 2]
    dA = through_weight(record, back.dZ, noise)
    return onto_stream(under, dA, dA * under.prime, skipped(record, back), noise)


def through_weight(record: Record, dZ, noise: Any = QUIET):
    return noise.on(dZ @ record.layer.W.T, lambda: term_size(dZ, record.layer.W.T))


def walk(tape: Tape, noise: Any = QUIET) -> Iterator[tuple[int, Back]]:
    """Yield the number of each layer and its derivatives, from the output to layer 1."""
    back = tape.top
    for number in range(len(tape.records), 0, -1):
        yield number, back
        if number > 1:
            back = below(tape, number, back, noise)


def leaves(tape: Tape, number: int, back: Back, noise: Any = QUIET, rows: slice = ALL) -> Leaves:
    """Return the gradient of layer `number`: `{"W2": dW, "b2": db, "slope2": ..., "alpha2": ...}`.

    rows: those of dW to compute.
    """
    record, dZ = tape.records[number - 1], back.dZ
    A, layer = record.A_prev[:, rows], record.layer
    found = {f"W{number}": noise.on(A.T @ dZ, lambda: _sum_size(A, dZ)) / tape.divisor}
    if layer.b is not None:
        ones = np.ones((len(dZ), 1))
        total = noise.on(np.sum(dZ, axis=0), lambda: _sum_size(ones, dZ))
        found[f"b{number}"] = total / tape.divisor
    numbers = {}
    if layer.slope is not None:
        numbers["slope"] = back.dA * np.minimum(record.U, 0)
    if layer.alpha is not None:
        numbers["alpha"] = back.dS * record.Z
    for name, terms in numbers.items():
        total = noise.on(np.sum(terms), lambda: np.sqrt(np.sum(terms * terms)))  # noqa: B023
        found[f"{name}{number}"] = np.asarray(total / tape.divisor)
    return found


def backward(tape: Tape) -> Leaves:
    """Return gradient and steps by name; the steps are each sample's own."""
    found = forward_steps(tape)
    for number, back in walk(tape):
        found |= {**backward_steps(tape, number, back), **leaves(tape, number, back)}
    return found


def forward_steps(tape: Tape) -> Leaves:
    """Return `{"A0": X, "Z1": ..., "A1": ...}`, in a network with a stream S and U too."""
    found = {"A0": tape.records[0].A_prev}
    for number, record in enumerate(tape.records, start=1):
        found[f"Z{number}"] = record.Z
        if tape.has_stream:
            found |= {f"S{number}": record.S, f"U{number}": record.U}
        found[f"A{number}"] = record.A
    return found


def backward_steps(tape: Tape, number: int, back: Back, noise: Any = QUIET) -> Leaves:
    """Return `{"dA2": ..., "dZ2": ...}`, with dA0 at layer 1 and, with a stream, dU and dS."""
    record = tape.records[number - 1]
    found = {f"dA{number}": back.dA, f"dZ{number}": back.dZ}
    if tape.has_stream:
        found |= {f"dU{number}": back.dU, f"dS{number}": back.dS}
    if number == 1:
        found["dA0"] = through_weight(record, back.dZ, noise)
    return found
