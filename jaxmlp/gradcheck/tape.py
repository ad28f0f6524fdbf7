"""A second backward pass, in NumPy float64 and plain to read: what the certificate reasons with.

It knows every intermediate of one network on one batch. So it can tell what rounding may do to a
gradient, where a unit sits at a kink, and what the gradient would be with a mistake in one step. It
does not decide what is right: autodiff and the numeric route do.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp import activations, losses, targets
from jaxmlp.gradcheck.judge import size
from jaxmlp.gradcheck.names import Arrays
from jaxmlp.layer import Layer, Spec, affine, gate, slopes
from jaxmlp.objective import Objective, divisor

ALL = slice(None)

Noise = Callable[[Any, Callable], Any]  # noise(x, scale) -> x with an error of the size of scale()
NOISE = 1e-9  # relative: far above the rounding of float64, so small that its square is nothing


def quiet(x, scale: Callable):
    """Leave every intermediate as it is."""
    return x


def noise_of(rng: np.random.Generator) -> Noise:
    """Return what makes the rounding of every intermediate large enough to be measured."""

    def noise(x, scale: Callable):
        return x + NOISE * rng.standard_normal(np.shape(x)) * np.reshape(scale(), np.shape(x))

    return noise


# --- forward --------------------------------------------------------------------------------------


class Record(NamedTuple):
    """One layer of the forward pass, with its parameters in NumPy.

    S: the stream; U: what the activation is applied to; both are Z in a plain layer. r: the norm's
    factor, None without a norm. prime: act'(U), None for softmax.
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

    @property
    def alpha(self) -> Any:
        """The factor of Z in the stream; 1 in a plain layer."""
        return gate(self.spec, self.layer)


class Tape(NamedTuple):
    """The forward pass, layer 1 first, and where the backward pass starts.

    dA, dZ: the output's, of each sample's own loss. size: how large the terms of the loss are,
    which may cancel in its value.
    """

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
        """Whether S and U differ from Z in any layer."""
        return any(r.spec.residual is not None or r.spec.norm is not None for r in self.records)


def forward(J: Objective, layers: Sequence[Layer], X, Y, noise: Noise = quiet) -> Tape:
    """Return the tape of one batch; float64 throughout, so call it under `enable_x64`."""
    records, A, S = [], np.asarray(X, np.float64), None
    for spec, layer in zip(J.mlp.specs, layers, strict=True):
        in_numpy = jax.tree.map(lambda x: np.asarray(x, np.float64), layer)
        records.append(passed(spec, in_numpy, A, S, noise=noise))
        A, S = records[-1].A, records[-1].S
    # The loss
    rows, n = _rows(J, np.asarray(Y), A.shape[1]), divisor(J, len(A))
    each, dA, dZ = _output(J, records[-1], rows, noise)
    terms = np.ones(len(A)) if J.loss.outputs else np.sum(A**2 + rows**2, axis=1)
    return Tape(J, records, dA, dZ, rows, n, float(np.sum(each) / n), float(np.sum(terms) / n))


def _rows(J: Objective, Y: np.ndarray, K: int) -> np.ndarray:
    """Return the targets as rows `(m, K)`, one-hot for labels."""
    if targets.is_labels(J.loss, Y, K):
        return (Y[:, None] == np.arange(K)).astype(np.float64)
    return Y.reshape(len(Y), K).astype(np.float64)


def passed(spec: Spec, layer: Layer, A_prev, S_prev, Z: Any = None, noise: Noise = quiet) -> Record:
    """Pass one layer, from another Z if one is given."""
    # The affine map
    if Z is None:
        Z = noise(affine(layer, A_prev), lambda: term_size(A_prev, layer.W))
    # The stream and its norm
    S, alpha = Z, gate(spec, layer)
    if spec.residual is not None:
        S = noise(S_prev + alpha * Z, lambda: np.abs(S_prev) + np.abs(alpha * Z))
    U, r = S, None
    if spec.norm is not None:
        mean = S.mean(axis=1, keepdims=True) if spec.norm.centred else 0.0
        r = 1 / np.sqrt(np.mean((S - mean) ** 2, axis=1, keepdims=True) + spec.norm.eps)
        U = noise((S - mean) * r, lambda: (np.abs(S) + np.abs(mean)) * r)
    # The activation; 1 - A^2 has an absolute error of one eps, whatever its size
    A, prime = elementwise(spec.activation, layer, U)
    A = noise(A, lambda: np.abs(A))
    if prime is not None:
        prime = noise(prime, lambda: np.abs(prime) + np.minimum(1, np.abs(A)))
    return Record(spec, layer, A_prev, Z, S, U, r, A, prime)


def term_size(A, W):
    """Return the root of the sum of squares of the terms of `A @ W`, for terms of random sizes."""
    sizes = size(A), size(W)  # divided out, because squares of 1e-170 are 0
    rows, columns = (
        s * np.sqrt(np.einsum(axes, x / s, x / s))
        for axes, x, s in zip(("ij,ij->i", "ij,ij->j"), (A, W), sizes, strict=True)
    )
    return np.outer(rows, columns) / np.sqrt(len(W))


def elementwise(act, layer: Layer, U):
    """Return `A, act'(U)` by autodiff of act.fn; act' is None for softmax."""
    if act == activations.softmax:
        return softmax(U), None
    return flat_calls(functools.partial(_elementwise, act, slopes(layer)), U)


def softmax(Z, axis: int | None = 1):
    """Return the softmax of each row, or over another axis."""
    E = np.exp(Z - Z.max(axis=axis, keepdims=True))
    return E / E.sum(axis=axis, keepdims=True)


def flat_calls(f: Callable, *arrays):
    """Return f of arrays of one shape, for an elementwise f.

    The arrays are padded to a power of two, 256 at least, so networks of many sizes share what is
    compiled.
    """
    shape, n = arrays[0].shape, arrays[0].size
    padded = np.zeros((len(arrays), max(256, 1 << (n - 1).bit_length())))
    padded[:, :n] = [np.ravel(x) for x in arrays]
    out = f(*padded)
    # The elementwise axis is the last; f may have added others before it
    return jax.tree.map(lambda x: np.asarray(x)[..., :n].reshape(*x.shape[:-1], *shape), out)


@functools.partial(jax.jit, static_argnums=0)
def _elementwise(act, slope, U):
    A, pull = jax.vjp(lambda U: act.fn(U, *slope), U)
    return A, pull(jnp.ones_like(A))[0]


def _output(J: Objective, last: Record, Y, noise: Noise):
    """Return each sample's loss, dA[L] and dZ[L]; with noise as the naive formulas round."""
    each, dA, dZ = map(np.asarray, _output_derivatives(J, last.Z, last.A, Y, *slopes(last.layer)))
    if noise is quiet:
        return each, dA, dZ
    if losses.collapses(J.loss, J.mlp.output):
        return each, dA, noise(dZ, lambda: np.abs(last.A) + np.abs(Y))
    dA = np.asarray(loss_derivative(J.loss, last.A, noise(Y, lambda: np.abs(Y))))
    return each, dA, through_activation(last, dA)


@functools.partial(jax.jit, static_argnums=0)
def loss_derivative(loss: losses.Loss, A, Y):
    """Return dA of each sample's own loss, by the loss's formula."""
    return loss.dA(A, Y)


@functools.partial(jax.jit, static_argnums=0)
def _output_derivatives(J: Objective, Z, A, Y, *slope):
    each, pull = jax.vjp(lambda Z: J.loss.value(Z, J.mlp.output.fn(Z, *slope), Y), Z)
    return each, J.loss.dA(A, Y), pull(jnp.ones_like(each))[0]


# --- backward -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Place:
    """The way back at one layer: each sample's own derivatives, and the place one layer above.

    above is None at the output.
    """

    tape: Tape
    number: int
    dA: np.ndarray
    dU: np.ndarray
    dS: np.ndarray
    dZ: np.ndarray
    above: Any = None

    @property
    def record(self) -> Record:
        return self.tape.records[self.number - 1]

    @property
    def skip(self) -> np.ndarray | None:
        """What the stream hands down beside the weight: dS of a layer above with a residual."""
        if self.above is None or self.above.record.spec.residual is None:
            return None
        return self.above.dS


def top(tape: Tape) -> Place:
    """Return the place at the output, which is a plain layer."""
    return Place(tape, len(tape.records), tape.dA, tape.dZ, tape.dZ, tape.dZ)


def below(place: Place, noise: Noise = quiet) -> Place:
    """Return the place one layer further down: through the weight, then the activation."""
    W, dZ = place.record.layer.W, place.dZ
    dA = noise(dZ @ W.T, lambda: term_size(dZ, W.T))
    dU = dA * place.tape.records[place.number - 2].prime
    return from_dU(Place(place.tape, place.number - 1, dA, dU, dU, dU, place), noise)


def through_activation(record: Record, dA):
    """Return dU = dA * act'(U), or through the softmax Jacobian."""
    if record.prime is not None:
        return dA * record.prime
    A = record.A
    return A * (dA - np.sum(A * dA, axis=1, keepdims=True))


def from_dU(place: Place, noise: Noise = quiet) -> Place:
    """Return the place with dS and dZ computed from dU: norm, skip, gate."""
    record, dU, skip = place.record, place.dU, place.skip
    # Through the norm
    dS = dU
    if record.spec.norm is not None:
        of_U = np.mean(record.U * dU, axis=1, keepdims=True)
        mean = np.mean(dU, axis=1, keepdims=True) if record.spec.norm.centred else 0.0
        dS = noise(
            record.r * (dU - record.U * of_U - mean),
            lambda: record.r * (np.abs(dU) + np.abs(record.U * of_U) + np.abs(mean)),
        )
    # The stream of the layer above
    if skip is not None:
        own = dS
        dS = noise(own + skip, lambda: np.abs(own) + np.abs(skip))
    return from_dS(place, dS)


def from_dS(place: Place, dS) -> Place:
    """Return the place with this dS and the dZ that follows from it."""
    dZ = dS if place.record.spec.residual is None else place.record.alpha * dS
    return Place(place.tape, place.number, place.dA, place.dU, dS, dZ, place.above)


def walk(tape: Tape, noise: Noise = quiet) -> Iterator[Place]:
    """Yield every place, from the output to layer 1."""
    place = top(tape)
    yield place
    while place.number > 1:
        place = below(place, noise)
        yield place


def leaves(place: Place, noise: Noise = quiet, rows: slice = ALL) -> Arrays:
    """Return the layer's gradient: `{"W2": dW, "b2": db, "slope2": ..., "alpha2": ...}`.

    rows: those of dW to compute.
    """
    record, dZ, m = place.record, place.dZ, place.tape.divisor
    A, layer = record.A_prev[:, rows], record.layer
    found = {"W": noise(A.T @ dZ, lambda: _sum_size(A, dZ))}
    if layer.b is not None:
        found["b"] = noise(np.sum(dZ, axis=0), lambda: _sum_size(np.ones((len(dZ), 1)), dZ))
    # The direct parameters that are one number for each layer
    terms = {}
    if layer.slope is not None:
        terms["slope"] = place.dA * np.minimum(record.U, 0)
    if layer.alpha is not None:
        terms["alpha"] = place.dS * record.Z
    for field, x in terms.items():
        found[field] = np.asarray(noise(np.sum(x), lambda x=x: np.sqrt(np.sum(x * x))))
    return {f"{field}{place.number}": total / m for field, total in found.items()}


def _sum_size(A, dZ, blocks: int = 16):
    """Return how the sum over samples `A.T @ dZ` rounds when they are added one after the other.

    Every addition rounds the sum so far, which is larger than the whole where classes come in turn.
    The sum so far is looked at after each of some blocks of samples.
    """
    starts, scale = range(0, len(A), -(-len(A) // blocks)), size(dZ)
    so_far, squares = 0.0, 0.0
    for i in starts:
        so_far = so_far + A[i : i + starts.step].T @ (dZ[i : i + starts.step] / scale)
        squares = squares + so_far**2
    return term_size(A.T, dZ) + scale * np.sqrt(len(A) * squares / len(starts)) / 2


# --- by name --------------------------------------------------------------------------------------


def backward(tape: Tape) -> Arrays:
    """Return gradient and steps by name; the steps are each sample's own."""
    found = forward_steps(tape)
    for place in walk(tape):
        found |= {**backward_steps(place), **leaves(place)}
    return found


def forward_steps(tape: Tape) -> Arrays:
    """Return `{"A0": X, "Z1": ..., "A1": ...}`, in a network with a stream S and U too."""
    found = {"A0": tape.records[0].A_prev}
    for number, record in enumerate(tape.records, start=1):
        found[f"Z{number}"] = record.Z
        if tape.has_stream:
            found |= {f"S{number}": record.S, f"U{number}": record.U}
        found[f"A{number}"] = record.A
    return found


def backward_steps(place: Place, noise: Noise = quiet) -> Arrays:
    """Return `{"dA2": ..., "dZ2": ...}`, with dA0 at layer 1 and, with a stream, dU and dS."""
    number, record, dZ = place.number, place.record, place.dZ
    found = {f"dA{number}": place.dA, f"dZ{number}": dZ}
    if place.tape.has_stream:
        found |= {f"dU{number}": place.dU, f"dS{number}": place.dS}
    if number == 1:
        W = record.layer.W
        found["dA0"] = noise(dZ @ W.T, lambda: term_size(dZ, W.T))
    return found
