"""Gradient flow at any depth: the walk with an exponent, so that no magnitude underflows.

The walk of backprop.py again, but `dZ = D 2^e` with a mantissa D near 1 and an integer e: at each
layer D is rescaled by the power of two of the norm it had one layer above. Multiplying by a power
of two is exact, so the mantissas are those of the plain walk wherever that one stays in range.
Layers whose activation is homogeneous (linear, ReLU, leaky ReLU, PReLU) carry an exponent on the
way forward too, `A = M 2^e`, with the bias aligned to it: act(2^e z) = 2^e act(z).
"""

import enum
import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int8

from jaxmlp import activations, numerics, targets
from jaxmlp.activations import Activation
from jaxmlp.backprop import check_hand, output_derivatives
from jaxmlp.mlp import Segment, segments
from jaxmlp.numerics import LOG10_2, power_of_two, split_norm
from jaxmlp.objective import Objective, check, divisor
from jaxmlp.storage import Layer, slopes


class FlowStatus(enum.IntEnum):
    """Say whether a layer's numbers are magnitudes, or why they are not."""

    OK = 0
    GATES_CLOSED = 1
    """act' is 0 for every unit and sample of this layer or one above: dZ is exactly zero"""
    LOSS_GRADIENT_ZERO = 2
    """the loss's own derivative is exactly zero for every sample"""
    FORWARD_BELOW_RANGE = 3
    """the layer's input A[l-1] is zero throughout in this precision: dW is exactly zero"""
    NOT_FINITE = 4
    """NaN or infinity on the way forward or back"""


class GradientFlow(NamedTuple):
    """Report magnitudes as log10, arrays of length L, layer 1 first; -inf for an exact zero.

    log10_delta: rms over the samples of the norm of each sample's own `dZ[l]`.
    log10_grad_W, log10_grad_b: Frobenius norm of the gradient of the mean loss; NaN without bias.
    log10_activation: rms over the samples of the norm of `A[l]`.
    correlation: mean cosine between `Z[l]` of the pairs of samples; NaN for one sample.
    saturated: share of (sample, unit) with |act'| at most 1% of its largest; NaN for softmax.
    dead: share of units with act' = 0 on all samples; NaN for softmax.
    status: a `FlowStatus` for each layer.
    """

    log10_delta: Float[Array, " L"]
    log10_grad_W: Float[Array, " L"]
    log10_grad_b: Float[Array, " L"]
    log10_activation: Float[Array, " L"]
    correlation: Float[Array, " L"]
    saturated: Float[Array, " L"]
    dead: Float[Array, " L"]
    status: Int8[Array, " L"]


class Scaled(NamedTuple):
    """An array of value `mantissa 2^exponent`, on its way through the layers.

    r, size: where the norm was last taken it was `r 2^size`, that of the mantissa; the next layer
      rescales by 2^-size.
    cause: why the array is zero throughout, a FlowStatus; OK where it is not.
    """

    mantissa: Array
    exponent: Array
    r: Array
    size: Array
    cause: Array


class Kept(NamedTuple):
    """What the way forward keeps of a layer; Z, where the derivative reads it, has the exponent of
    the layer's output, which no derivative depends on."""

    A_prev: Scaled
    Z: Any


class Forward(NamedTuple):
    """What is measured of a layer on the way forward."""

    log10_activation: Array
    correlation: Array
    saturated: Array
    dead: Array


class Backward(NamedTuple):
    """What is measured of a layer on the way back."""

    log10_delta: Array
    log10_grad_W: Array
    log10_grad_b: Array
    cause: Array


def gradient_flow(J: Objective, *, statistics: bool = True, recompute: bool = False) -> Callable:
    """Return the function that measures the gradient flow of J's network by hand, at any depth.

    Args:
      J: the objective.
      statistics: whether correlation, saturated and dead are measured too (NaN if not).
      recompute: keep the activations of about sqrt(n) of n stacked layers and compute the others
        again on the way back: the same numbers in less memory, for one more forward pass.

    Returns:
      `f(params, X, Y)` -> `GradientFlow`.

    Example:
      >>> import jaxmlp
      >>> J = jaxmlp.Objective(jaxmlp.MLP((2, *[32] * 500, 3), hidden="sigmoid"), "cross_entropy")
      >>> params = J.mlp.init(jax.random.key(0), "lecun")
      >>> flow = gradient_flow(J)(params, jnp.ones((5, 2)), jnp.array([0, 1, 2, 2, 2]))
      >>> bool(-330 < flow.log10_delta[0] < -300)  # float64 itself ends at -308
      True
    """
    check_hand(J)

    def flow(params, X, Y):
        return _gradient_flow(J, statistics, recompute, *check(J, params, X, Y))

    return flow


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _gradient_flow(J: Objective, statistics: bool, recompute: bool, params, X, Y) -> GradientFlow:
    parts = _merged(segments(J.mlp, params))
    forward = functools.partial(
        _forward_in_pieces if recompute else forward_segment, statistics=statistics
    )
    backward = functools.partial(
        _backward_in_pieces if recompute else _backward, divisor=divisor(J, X.shape[0])
    )
    A, kept, seen = scaled_input(X), [], []
    for part in parts:
        A, k, reading = forward(part, A)
        kept.append(k)
        seen.append(reading)
    *hidden, output = zip(parts, kept, strict=True)
    dZ = output_derivative(J, output[0].layer, output[1].Z, A, Y)
    carry, reading = read_layer(output[0].layer, output[1], dZ, divisor(J, X.shape[0]))
    back = [reading]
    for part, k in reversed(hidden):
        carry, reading = backward(part, k, carry)
        back.append(reading)
    return flow_of(_concatenated(seen), _concatenated(back[::-1]))


def _merged(parts: list[Segment]) -> list[Segment]:
    """Stack neighbours of equal shape and activation: a loop compiles as fast as one layer."""
    *hidden, output = parts
    merged = []
    for (act, *_), group in itertools.groupby(
        hidden, key=lambda part: (part.activation, part.count, part.layer.W.shape)
    ):
        first, *others = group
        if others and first.count is None:
            layer = jax.tree.map(lambda *xs: jnp.stack(xs), first.layer, *(p.layer for p in others))
            first = Segment(first.entry, 1 + len(others), act, layer)
            others = []
        merged += [first, *others]
    return [*merged, output]


def flow_of(forward: Forward, backward: Backward) -> GradientFlow:
    """Put the two ways together, and say of each layer whether its numbers are magnitudes."""
    magnitudes = jnp.stack([*backward[:2], forward.log10_activation])
    broken = jnp.any(jnp.isnan(magnitudes) | (magnitudes == jnp.inf), axis=0)
    status = jnp.where(broken, FlowStatus.NOT_FINITE, backward.cause).astype(jnp.int8)
    return GradientFlow(*backward[:3], *forward, status)


def _concatenated(readings: list):
    return jax.tree.map(lambda *xs: jnp.concatenate([jnp.ravel(x) for x in xs]), *readings)


# --- one layer, or a stack ------------------------------------------------------------------------


def forward_segment(part: Segment, A: Scaled, statistics: bool, numbers=None):
    """Return the segment's output, what is kept and the readings, with a leading n for a stack.

    `numbers`: the layers of the stack to go through, all by default.
    """
    one = functools.partial(forward_layer, part.activation, statistics=statistics)
    if part.count is None:
        return one(part.layer, A, keep_Z=True)  # the loss reads that of the output

    def body(A, l):
        A, kept, reading = one(pick(part.layer, l), A)
        return A, (kept, reading)

    numbers = jnp.arange(part.count) if numbers is None else numbers
    A, (kept, readings) = jax.lax.scan(body, A, numbers)
    return A, kept, readings


def _backward(part: Segment, kept: Kept, carry, divisor: int, numbers=None):
    """Return `(dA, A)` of the layer below, from those of the segment's output, and the readings."""
    one = functools.partial(backward_layer, part.activation, divisor=divisor)
    if part.count is None:
        return one(part.layer, kept, *carry)

    def body(carry, number_and_kept):
        l, kept = number_and_kept
        return one(pick(part.layer, l), kept, *carry)

    numbers = jnp.arange(part.count) if numbers is None else numbers
    return jax.lax.scan(body, carry, (numbers, kept), reverse=True)


def _pieces(n: int):
    """Cut n layers into `rest`, then pieces of `length`, about sqrt(n), from `starts` on."""
    length = math.isqrt(n)
    rest = n % length
    return rest, length, rest + length * jnp.arange(n // length)


def _forward_in_pieces(part: Segment, A: Scaled, statistics: bool):
    """As `forward_segment`, keeping of each piece its input only."""
    if part.count is None:
        return forward_segment(part, A, statistics)
    rest, length, starts = _pieces(part.count)
    A, kept, first = forward_segment(part, A, statistics, jnp.arange(rest))

    def piece(A, start):
        A_out, _, readings = forward_segment(part, A, statistics, start + jnp.arange(length))
        return A_out, (A, readings)

    A, (inputs, readings) = jax.lax.scan(piece, A, starts)
    return A, (kept, inputs), _concatenated([first, readings])


def _backward_in_pieces(part: Segment, kept, carry, divisor: int):
    """As `_backward`, going through each piece forwards again."""
    if part.count is None:
        return _backward(part, kept, carry, divisor)
    kept, inputs = kept
    rest, length, starts = _pieces(part.count)

    def piece(carry, start_and_input):
        start, A = start_and_input
        numbers = start + jnp.arange(length)
        _, kept, _ = forward_segment(part, A, False, numbers)
        return _backward(part, kept, carry, divisor, numbers)

    carry, readings = jax.lax.scan(piece, carry, (starts, inputs), reverse=True)
    carry, first = _backward(part, kept, carry, divisor, jnp.arange(rest))
    return carry, _concatenated([first, readings])


def pick(stacked: Any, l) -> Any:
    """Return layer l of arrays that lead with the layer."""
    return jax.tree.map(lambda x: x[l], stacked)


# --- one layer forwards ---------------------------------------------------------------------------


def scaled_input(X: Float[Array, "m d"]) -> Scaled:
    """Return X as the first layer takes it."""
    r, size = split_norm(X)
    return Scaled(X, jnp.zeros((), jnp.int32), r, size, _where(r == 0, _BELOW_RANGE, _OK))


def forward_layer(
    act: Activation, layer: Layer, A_prev: Scaled, statistics: bool = True, keep_Z: bool = False
):
    """Return A (scaled), what is kept for the way back, and the readings of one layer."""
    slope = slopes(layer)
    if act.homogeneous:
        Z, exponent = _aligned(layer, A_prev)
    else:
        Z, exponent = _in_range(layer, A_prev), jnp.zeros((), jnp.int32)
    A = act.fn(Z, *slope)
    r, size = split_norm(A)
    cause = _cause_of_zero(act, slope, Z, A, r, A_prev.cause)
    correlation = saturated = dead = jnp.full((), jnp.nan, r.dtype)
    if statistics:
        correlation = _mean_cosine(Z).astype(r.dtype)
        if act.derivative is not None:
            steepness = jnp.abs(act.derivative(Z, A, *slope))
            saturated = jnp.mean(steepness <= 0.01 * _largest_slope(act, slope), dtype=r.dtype)
            dead = jnp.mean(jnp.all(steepness == 0, axis=0), dtype=r.dtype)
    keep_Z = keep_Z or bool(slope) or activations.derivative_needs_z(act)
    scaled = Scaled(A, exponent, r, size, cause)
    reading = Forward(_log10_rms(scaled), correlation, saturated, dead)
    return scaled, Kept(A_prev, Z if keep_Z else None), reading


def _aligned(layer: Layer, A: Scaled):
    """Return the mantissa of `Z = A W + b` and its exponent, so that neither term leaves range."""
    Z, exponent = A.mantissa @ layer.W, A.exponent + A.size
    if layer.b is None:
        return Z * power_of_two(-A.size, Z.dtype), exponent
    r, of_bias = split_norm(layer.b)
    exponent = jnp.where(r > 0, jnp.maximum(exponent, of_bias), exponent)
    Z = Z * power_of_two(A.exponent - exponent, Z.dtype)
    return Z + layer.b * power_of_two(-exponent, Z.dtype), exponent


def _in_range(layer: Layer, A: Scaled) -> Array:
    """Return Z itself, for an activation that cannot take it scaled; huge ones stay finite."""
    Z = A.mantissa @ layer.W
    largest = jnp.finfo(Z.dtype).maxexp - 28  # room for a norm of 2^28
    Z = Z * power_of_two(jnp.minimum(A.exponent, largest - A.size), Z.dtype)
    return Z if layer.b is None else Z + layer.b


def _cause_of_zero(act: Activation, slope, Z, A, r, before) -> Array:
    """Say why A is zero throughout: what lies below, a value out of range, or closed gates."""

    def look():
        gates = jnp.any(Z != 0)
        if act.derivative is not None:
            gates &= ~jnp.any(act.derivative(Z, A, *slope) != 0)
        return _where(before > 0, before, _where(gates, _CLOSED, _BELOW_RANGE))

    return jax.lax.cond(r == 0, look, lambda: jnp.asarray(_OK))


def _mean_cosine(Z: Float[Array, "m d"]) -> Float[Array, ""]:
    """Return the mean cosine over the pairs of rows: `(|sum_i u_i|^2 - m) / (m (m - 1))`."""
    sizes = numerics.norm(Z, axis=1)
    u = Z / jnp.where(sizes == 0, 1, sizes)[:, None]
    m = jnp.sum(sizes != 0).astype(Z.dtype)
    return jnp.where(m > 1, (jnp.sum(jnp.sum(u, axis=0) ** 2) - m) / (m * (m - 1)), jnp.nan)


@functools.cache
def _largest(act: Activation) -> float:
    """max |act'| over |z| <= 20."""
    assert act.derivative is not None
    with jax.ensure_compile_time_eval():
        Z = jnp.linspace(-20, 20, 8001)
        return float(jnp.max(jnp.abs(act.derivative(Z, act.fn(Z)))))


def _largest_slope(act: Activation, slope):
    return jnp.maximum(1, jnp.abs(slope[0])) if slope else _largest(act)


# --- the output, and one layer back ---------------------------------------------------------------


def output_derivative(J: Objective, layer: Layer, Z, A: Scaled, Y) -> Scaled:
    """Return dZ[L]; from scaled values where output and loss allow it, so that none overflows."""
    slope = slopes(layer)
    exponent = jnp.zeros((), jnp.int32)
    if J.mlp.output.homogeneous and J.loss.degree is not None:
        Y = targets.targets_as_rows(J.loss, Y, A.mantissa.shape[1], A.mantissa.dtype)
        common = jnp.maximum(A.exponent + A.size, split_norm(Y)[1])
        dA = J.loss.dA(
            A.mantissa * power_of_two(A.exponent - common, Y.dtype),
            Y * power_of_two(-common, Y.dtype),
        )
        dZ, exponent = None, common * J.loss.degree
    else:
        dA, dZ = output_derivatives(J, Z, A.mantissa, Y)
    if dZ is None:
        assert J.mlp.output.derivative is not None
        dZ = dA * J.mlp.output.derivative(Z, A.mantissa, *slope)
    r, size = split_norm(dZ)
    return Scaled(dZ, exponent, r, size, _where(r == 0, _NO_LOSS_GRADIENT, _OK))


def backward_layer(act: Activation, layer: Layer, kept: Kept, dA: Scaled, A: Scaled, divisor: int):
    """Return `(dA, A)` of the layer below and the readings, from dA of this layer's output."""
    assert act.derivative is not None
    slope = slopes(layer)
    gates = act.derivative(kept.Z, A.mantissa, *slope)
    D = dA.mantissa * power_of_two(-dA.size, gates.dtype) * gates
    r, size = split_norm(D)
    own = _where(A.cause > 0, A.cause, _CLOSED)
    cause = _where(r == 0, _where(dA.cause > 0, dA.cause, own), _OK)
    return read_layer(layer, kept, Scaled(D, dA.exponent + dA.size, r, size, cause), divisor)


def read_layer(layer: Layer, kept: Kept, dZ: Scaled, divisor: int):
    """Return `(dA, A)` of the layer below and the readings, from this layer's dZ."""
    A_prev, D = kept.A_prev, dZ.mantissa
    r, k = split_norm(A_prev.mantissa.T @ D / divisor)
    log10_grad_W = _log10(r, k + A_prev.exponent + dZ.exponent)
    log10_grad_b = jnp.full((), jnp.nan, r.dtype)
    if layer.b is not None:
        r, k = split_norm(jnp.sum(D, axis=0) / divisor)
        log10_grad_b = _log10(r, k + dZ.exponent)
    cause = _where(dZ.cause > 0, dZ.cause, A_prev.cause)
    reading = Backward(_log10_rms(dZ), log10_grad_W, log10_grad_b, cause)
    return (dZ._replace(mantissa=D @ layer.W.T), A_prev), reading


def _log10(r: Array, k: Array) -> Array:
    """log10 of r 2^k."""
    return jnp.log10(r) + k.astype(r.dtype) * r.dtype.type(LOG10_2)


def _log10_rms(x: Scaled) -> Array:
    """log10 of the rms over the samples of the norm of each, |x| / sqrt(m)."""
    return _log10(x.r, x.size + x.exponent) - math.log10(x.mantissa.shape[0]) / 2


_OK, _CLOSED, _NO_LOSS_GRADIENT, _BELOW_RANGE = (
    np.int8(status)
    for status in (
        FlowStatus.OK,
        FlowStatus.GATES_CLOSED,
        FlowStatus.LOSS_GRADIENT_ZERO,
        FlowStatus.FORWARD_BELOW_RANGE,
    )
)


def _where(condition, status, other) -> Array:
    return jnp.where(condition, status, other).astype(jnp.int8)
