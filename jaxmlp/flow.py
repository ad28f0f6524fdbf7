"""Gradient flow at any depth: the walk's rule 2, magnitudes.

The steps are those of the lecture, on arrays `mantissa 2^exponent` (`scaled`), forwards and back:
at each layer the mantissas are brought near 1 by the power of two of the norm one step before and
of this layer's weights. What is exactly zero says why.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxmlp import activations, targets, walk
from jaxmlp import layer as arithmetic
from jaxmlp.activations import Activation
from jaxmlp.activations.choice import of_act
from jaxmlp.backprop import check_hand, handed_down, output_derivatives
from jaxmlp.flow_report import FlowStatus, GradientFlow
from jaxmlp.layer import Layer, Params, Saved, Spec
from jaxmlp.numerics import exponent, plain_norms, split_norm, split_norms
from jaxmlp.objective import Objective, check, divisor
from jaxmlp.scaled import (
    VERY_SMALL,
    Scaled,
    activated,
    at,
    derivative_near,
    leaves_range,
    log10,
    saturates,
    scaled,
    times_power,
    top_of,
)
from jaxmlp.storage import canonical
from jaxmlp.walk import Rule

UNDECIDED = -1
"""What a quick rule says of a layer, in the place of a FlowStatus, whose numbers may be wrong."""


class ForwardReading(NamedTuple):
    """Hold what is measured of a layer on the way forward: |A| is `r 2^k`."""

    r: Array
    k: Array
    statistics: Array  # correlation, saturated, dead
    above_range: Array


class BackwardReading(NamedTuple):
    """Hold what is measured of a layer on the way back: the norms of dS, dW, db are `r 2^k`."""

    r: Array
    k: Array
    alpha: Array
    cause: Array


class Sized(NamedTuple):
    """A layer with the powers of two of its largest weight and bias, or a stack of such."""

    layer: Layer
    W_top: Array
    b_top: Array
    W_is_zero: Array
    std: Array | None = None

    def near_one(self) -> Layer:
        """Return the layer with W brought near 1; in a loop it rides on the copy of W's slice.

        The weights are `std W` if there is a std.
        """
        W = self.layer.W if self.std is None else self.layer.W * self.std
        return self.layer._replace(W=times_power(W, -self.W_top))


class Kept(NamedTuple):
    """What the way forward keeps of a layer; r has the exponent -r_exponent, D is act'(U)."""

    A_prev: Scaled
    U: Array | None
    r: Array | None
    r_exponent: Array | None
    D: Array | None


def gradient_flow(J: Objective, *, statistics: bool = True, recompute: bool = False) -> Callable:
    """Return the function that measures the gradient flow of J's network by hand, at any depth.

    Half-precision parameters are measured in float32.

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

    def flow(params: Params, X: ArrayLike, Y: ArrayLike) -> GradientFlow:
        return _gradient_flow(J, statistics, recompute, *check(J, params, X, Y))

    return flow


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _gradient_flow(J: Objective, statistics: bool, recompute: bool, params, X, Y) -> GradientFlow:
    # Neighbours of equal shape become a stack: a loop compiles as fast as one layer
    runs = dataclasses.replace(J.mlp, stack_from=1).runs
    params = [sized(_wide(layer)) for layer in canonical(runs, params)]
    one = rule(divisor(J, len(X)), statistics)
    (A, S), saved, ahead = walk.forward(
        one, runs, params, (scaled_input(_wide(X)), None), recompute=recompute
    )
    top = output_derivative(J, S, A, Y)
    _, back = walk.backward(one, runs, params, saved, top, recompute=recompute)
    return flow_of(len(X), walk.in_line(runs, ahead), walk.in_line(runs, back))


def _wide(tree: Any) -> Any:
    return jax.tree.map(lambda x: x.astype(jnp.promote_types(x.dtype, jnp.float32)), tree)


def flow_of(m: int, ahead: ForwardReading, back: BackwardReading, xp: Any = jnp) -> GradientFlow:
    """Put the two ways together, and say of each layer whether its numbers are magnitudes.

    xp: numpy for readings that have left the device.
    """
    rms = ahead.r.dtype.type(0.5 * math.log10(m))
    activation = log10(ahead.r, ahead.k, xp) - rms
    of_dS, grad_W, grad_b = log10(back.r, back.k, xp).T
    stream = of_dS - rms
    delta = stream + xp.log10(back.alpha)
    # What the numbers mean
    magnitudes = xp.stack([stream, grad_W, activation])
    broken = xp.any(xp.isnan(magnitudes) | (magnitudes == xp.inf), axis=0)
    status = xp.where(broken, FlowStatus.NOT_FINITE, back.cause)
    above = xp.any(ahead.above_range)
    status = xp.where(above, FlowStatus.FORWARD_ABOVE_RANGE, status).astype(xp.int8)
    delta, stream, grad_W, grad_b, activation = (
        xp.where(above, xp.nan, x) for x in (delta, stream, grad_W, grad_b, activation)
    )
    correlation, saturated, dead = ahead.statistics.T
    return GradientFlow(
        delta, grad_W, grad_b, activation, correlation, saturated, dead, status, stream
    )


# --- the rule -------------------------------------------------------------------------------------


def rule(divisor: int, statistics: bool, *, quick: bool = False) -> Rule:
    """Return the rule that measures magnitudes; the carries are those of the lecture, Scaled.

    quick: compiles in half the time, for whoever measures a network again if a layer's cause is
      UNDECIDED: squares are summed as they are. act' is kept on the way forward.
    """
    return Rule(
        functools.partial(forward, statistics=statistics, quick=quick),
        functools.partial(_backward, divisor=divisor, quick=quick),
        lambda dA: scaled(jnp.zeros_like(dA.mantissa), VERY_SMALL, 0, dA.cause),
    )


def sized(layer: Layer, std: Any = None, largest: Any = None) -> Sized:
    """Return a layer, or a stack, as the rule takes it.

    Args:
      std: what W is still to be multiplied by; largest: max |W| of each layer, if it is known.
    """
    most = -jnp.finfo(layer.W.dtype).minexp  # so that 2^-W_top is in range
    if largest is None:
        largest = jnp.max(jnp.abs(layer.W), axis=(-2, -1))
    W_top = top_of(largest if std is None else largest * std, axis=())
    W_is_zero = W_top == VERY_SMALL
    W_top = jnp.where(W_is_zero, 0, jnp.clip(W_top, -most, most))
    b_top = jnp.full_like(W_top, VERY_SMALL) if layer.b is None else top_of(layer.b, axis=-1)
    if std is not None:
        std = jnp.broadcast_to(std, W_top.shape)
    return Sized(layer, W_top, b_top, W_is_zero, std)


def scaled_input(X: Float[Array, "m d"]) -> Scaled:
    """Return X as the first layer takes it, brought near 1: its squares may be out of range."""
    r, size = split_norm(X)
    cause = jnp.where(r == 0, FlowStatus.FORWARD_BELOW_RANGE, FlowStatus.OK)
    return scaled(times_power(X, -size), size, 0, cause)


def forward(spec: Spec, sized: Sized, carry, *, statistics: bool, quick: bool = False):
    """Pass a layer forwards on Scaled arrays; a rule of its own may walk back differently."""
    A_prev, S_prev = carry
    layer, act = sized.layer, spec.activation
    # Z = A_prev @ W + b at an exponent that neither term leaves
    k = A_prev.top + sized.W_top
    k = k if layer.b is None else jnp.maximum(k, sized.b_top)
    Z = arithmetic.affine(sized.near_one()._replace(b=None), A_prev.mantissa)
    Z = at(scaled(Z, A_prev.exponent + sized.W_top, A_prev.size), k)
    lost = jnp.zeros((), bool)
    if layer.b is not None:
        b = times_power(layer.b, -k)
        # A sample of which b is all there is does not share an exponent at which b is 0
        lost = jnp.any((b == 0) & (layer.b != 0)) & jnp.any(jnp.all(Z == 0, axis=-1))
        Z = Z + b
    # The stream: an aligned sum
    S = scaled(Z, k)
    if spec.residual is not None:
        alpha = arithmetic.gate(spec, layer)
        common = jnp.maximum(S_prev.top, k + top_of(jnp.asarray(alpha, Z.dtype)))
        S = at(S_prev, common) + alpha * times_power(Z, k - common)
        S = scaled(S, common, split_norm(S)[1])
    # A norm resets the exponent; its eps is in the true scale
    U, U_k, r, r_k = S.mantissa, S.exponent, None, None
    if spec.norm is not None:
        r_k = jnp.maximum(S.top, top_of(jnp.asarray(spec.norm.eps, Z.dtype)) >> 1)
        eps = times_power(jnp.asarray(spec.norm.eps, Z.dtype), -2 * r_k)
        U, r = spec.norm.apply(at(S, r_k), eps)
        U_k = jnp.zeros((), jnp.int32)
    # The activation
    both = spec.norm is not None or not quick or act == activations.softmax
    passed = functools.partial(_passed, with_near=both, exact=not quick)
    A, A_k, near, D, steep, above = of_act(act, passed, arithmetic.slopes(layer), U, U_k)
    numbers = jnp.full(3, jnp.nan, A.dtype)
    if statistics:
        numbers = _statistics(S.mantissa, D, steep)
    if quick:
        (norm,), (size,), right = plain_norms(A)
        right &= numbers[1] != 1  # act' is no longer exact where all is saturated
        cause = jnp.where(right, FlowStatus.OK, UNDECIDED)
        kept = Kept(A_prev, near, r, r_k, D)
    else:
        look = functools.partial(_cause_of_zero, near, D, A_prev.cause)
        (norm,), (size,), cause = split_norms(A, if_extreme=look)  # pyright: ignore
        cause = jnp.where(norm == 0, jnp.asarray(cause), FlowStatus.OK)
        D_kept = D if saturates(act) else None
        kept = Kept(A_prev, near if arithmetic.needs_U(spec) else None, r, r_k, D_kept)
    A_k = jnp.where(norm == 0, VERY_SMALL, A_k)  # zeros have no size: they align with any bias
    if act == activations.softmax:  # its loss reads logits, which are known up to a constant
        S = scaled(near, 0)
    reading = ForwardReading(norm, size + A_k, numbers, above | lost)
    return (scaled(A, A_k, size, cause), S), kept, reading


def _passed(act: Activation, slopes: tuple, U: Array, k: Array, *, with_near: bool, exact: bool):
    """Return all that a layer needs of its activation; act' and its largest are None for softmax.

    They are computed where they are not needed too: XLA drops them.
    """
    A, e, near = activated(act, slopes, U, k)
    D = steep = None
    if act.derivative is not None:
        D = derivative_near(act, slopes, near, A) if exact else act.derivative(near, A, *slopes)
        steep = jnp.asarray(steepest(act, *slopes), U.dtype)
    return A, e, (near if with_near else None), D, steep, leaves_range(act, A, k)


def _backward(spec: Spec, sized: Sized, kept: Kept, carry: Any, *, divisor: int, quick: bool):
    dA, dS, A = carry
    layer, A_prev = sized.layer, kept.A_prev
    # One exponent for what comes through the activation (and the norm's r) and along the stream
    r_k = 0 if kept.r_exponent is None else kept.r_exponent
    tops = [dA.top - r_k] if dA is not None else []
    tops += [dS.top] if dS is not None else []
    k = functools.reduce(jnp.maximum, tops)
    dA_m = None if dA is None else at(dA, k + r_k)
    dS_m = None if dS is None else at(dS, k)
    back = arithmetic.backward(
        spec, sized.near_one(), Saved(A_prev.mantissa, kept.U, kept.r, kept.D), A.mantissa, dA_m,
        dS_m,
    )  # fmt: skip
    # The norms of all that is measured
    alpha = jnp.abs(jnp.asarray(arithmetic.gate(spec, layer), back.dS.dtype))
    pair, later = back.pair, jnp.ones((), back.dS.dtype)
    if quick and spec.residual is not None:  # a gate of 0 leaves no norms to take
        pair, later = pair._replace(dZ=back.dS), alpha
    arrays = [back.dS, pair.A.T @ pair.dZ / divisor]
    arrays += [] if layer.b is None else [jnp.sum(pair.dZ, axis=0) / divisor]
    r, sizes, right = (plain_norms if quick else split_norms)(*arrays)
    exponents = jnp.stack([k, A_prev.exponent + k, k])
    if layer.b is None:
        r, sizes = jnp.append(r, jnp.nan), jnp.append(sizes, 0)
    r = r.at[1:].multiply(later)
    # Why it is zero, if it is
    above = (dS if dA is None else dA).cause  # pyright: ignore
    own = jnp.where(A.cause > 0, A.cause, FlowStatus.GATES_CLOSED)
    cause = jnp.where(r[0] == 0, jnp.where(above > 0, above, own), FlowStatus.OK)
    closed = cause
    if spec.residual is not None:
        closed = jnp.where((alpha == 0) & (cause == 0), FlowStatus.RESIDUAL_GATE_ZERO, cause)
    said = jnp.where(closed > 0, closed, A_prev.cause)
    if quick:
        said = jnp.where(right & (A.cause == 0) & (A_prev.cause == 0), said, UNDECIDED)
    reading = BackwardReading(r, sizes + exponents, alpha, said)
    # What the layer below takes
    closed = jnp.where((closed == 0) & sized.W_is_zero, FlowStatus.WEIGHTS_ZERO, closed)
    below = sizes[0] + (0 if spec.residual is None else exponent(alpha))
    dA_prev, dS_prev, _ = handed_down(spec, back)
    dS_prev = None if dS_prev is None else scaled(dS_prev, k, sizes[0], cause)
    return (scaled(dA_prev, k + sized.W_top, below, closed), dS_prev, A_prev), reading


def output_derivative(J: Objective, S: Scaled, A: Scaled, Y):
    """Return `(dA, dS, A)` of the output, from scaled values so that none overflows."""
    dtype = A.mantissa.dtype
    if J.loss.degree is not None and J.mlp.output != activations.softmax:
        rows = targets.targets_as_rows(J.loss, Y, A.mantissa.shape[1], dtype)
        common = jnp.maximum(A.top, top_of(rows))
        derivatives = J.loss.dA(at(A, common), times_power(rows, -common)), None
        k = common * J.loss.degree
    else:
        # the logits of a sigmoid may be infinite: it and its loss are right there
        derivatives = output_derivatives(J, at(S, jnp.zeros((), jnp.int32)), A.mantissa, Y)
        k = 0
    return (*(None if x is None else _begun(x, k) for x in derivatives), A)


def _begun(x: Array, k: Any) -> Scaled:
    r, size = split_norm(x)
    return scaled(x, k, size, jnp.where(r == 0, FlowStatus.LOSS_GRADIENT_ZERO, FlowStatus.OK))


# --- at one layer ---------------------------------------------------------------------------------


def _cause_of_zero(U, D, before) -> Array:
    """Say why A is zero throughout: what lies below, a value out of range, or closed gates."""
    gates = jnp.any(U != 0)
    if D is not None:
        gates &= ~jnp.any(D != 0)
    own = jnp.where(gates, FlowStatus.GATES_CLOSED, FlowStatus.FORWARD_BELOW_RANGE)
    return jnp.where(before > 0, before, own)


def _statistics(S: Array, D: Any, largest: Any) -> Array:
    """Return the correlation of the stream, the saturated and the dead share, from act'."""
    if D is None:
        return jnp.stack([_mean_cosine(S), jnp.nan, jnp.nan])
    return jnp.stack([_mean_cosine(S), *closed_shares(D, largest)])


def closed_shares(D: Float[Array, "m d"], largest: Any) -> tuple[Array, Array]:
    """Return `(saturated, dead)` of `GradientFlow`, from a layer's act' and the largest act'."""
    steepness = jnp.abs(D)
    saturated = jnp.mean(steepness <= 0.01 * largest, dtype=D.dtype)
    total = jnp.ones(len(D), D.dtype) @ steepness  # a product, which is faster than a sum
    return saturated, jnp.mean(total == 0, dtype=D.dtype)


def _mean_cosine(Z: Float[Array, "m d"]) -> Float[Array, ""]:
    """Return the mean cosine over the pairs of rows: `(|sum_i u_i|^2 - m) / (m (m - 1))`.

    Rows of zeros, and those whose square is below the range, are left out; m counts the others.
    Sums along an axis are products with ones, which are faster.
    """
    squares = (Z * Z) @ jnp.ones(Z.shape[1], Z.dtype)
    seen = squares > jnp.finfo(Z.dtype).tiny
    total = jnp.where(seen, 1 / jnp.sqrt(squares), 0) @ Z
    m = jnp.sum(seen).astype(Z.dtype)
    return jnp.where(m > 1, (total @ total - m) / (m * (m - 1)), jnp.nan)


def steepest(act: Activation, *learned: Array) -> Any:
    """Return max |act'|, over |z| <= 20; a homogeneous one's at -1 and 1."""
    assert act.derivative is not None
    if not learned:
        return _steepest(act)
    Z = jnp.asarray([-1.0, 1.0], learned[0].dtype)
    return jnp.max(jnp.abs(act.derivative(Z, act.fn(Z, *learned), *learned)))


@functools.cache
def _steepest(act: Activation) -> float:
    """max |act'| over |z| <= 20."""
    assert act.derivative is not None
    with jax.ensure_compile_time_eval():
        Z = jnp.linspace(-20, 20, 8001)
        return float(jnp.max(jnp.abs(act.derivative(Z, act.fn(Z)))))
