"""The walk's rule for magnitudes: the lecture's steps on arrays with an exponent.

Forwards and back, every array is `mantissa 2^exponent` (see `scaled`). At each layer the mantissas
are brought near 1: they are divided by the power of two of the norm one step before and by that of
the largest weight. An array that is exactly 0 carries the reason, a `FlowStatus`.
"""

import functools
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmlp import activations
from jaxmlp import layer as arithmetic
from jaxmlp.activations import Activation
from jaxmlp.activations.choice import of_act
from jaxmlp.activations.description import steepest
from jaxmlp.backprop import handed_down
from jaxmlp.flow_report import FlowStatus
from jaxmlp.layer import Layer, Saved, Spec
from jaxmlp.numerics import exponent, exponent_of_scale, plain_norms, split_norm, split_norms
from jaxmlp.scaled import (
    VERY_SMALL,
    Scaled,
    activated,
    at,
    derivative_near,
    leaves_range,
    log2_of,
    log2_of_largest,
    saturates,
    scaled,
    times_power,
)
from jaxmlp.walk import Rule

UNDECIDED = -1  # the cause of a layer whose numbers a quick rule may have wrong; no FlowStatus
CLOSED = 0.01  # chosen: a unit is saturated if |act'| is at most this share of its largest


class ForwardReading(NamedTuple):
    """Hold what is measured of a layer on the way forward: |A| is `r 2^k`.

    statistics: correlation, saturated, dead, as in `GradientFlow`. above_range: whether the
    layer's samples do not fit one exponent.
    """

    r: Array
    k: Array
    statistics: Array
    above_range: Array


class BackwardReading(NamedTuple):
    """Hold what is measured of a layer on the way back: the norms of dS, dW, db are `r 2^k`.

    alpha: the size of the residual's gate, 1 without one. cause: why dZ or dW is 0; 0 if neither
    is; UNDECIDED.
    """

    r: Array
    k: Array
    alpha: Array
    cause: Array


class Measured(NamedTuple):
    """Hold a layer or a stack, with the log2 of its largest weight and bias.

    std: what W is still to be multiplied by, if its random numbers were drawn without a scale.
    """

    layer: Layer
    W_log2: Array
    b_log2: Array
    W_is_zero: Array
    std: Array | None = None

    def near_one(self) -> Layer:
        """Return the layer with W scaled near 1. In a loop this joins the copy of W's slice."""
        W = self.layer.W if self.std is None else self.layer.W * self.std
        return self.layer._replace(W=times_power(W, -self.W_log2))


class Kept(NamedTuple):
    """Hold what the way forward keeps of a layer, as `layer.Saved`; the norm's r is r 2^-r_k."""

    A_prev: Scaled
    U: Array | None
    r: Array | None
    r_k: Array | None
    D: Array | None


# --- the rule -------------------------------------------------------------------------------------


def rule(divisor: int, statistics: bool, *, quick: bool = False) -> Rule:
    """Return the rule that measures magnitudes. It carries what the lecture's does, as Scaled.

    divisor: what sums over the samples are divided by, for the gradients of W and b.
    quick: compile in half the time. Squares are then summed without scaling, and act' is kept on
      the way forward. If the cause of a layer is UNDECIDED, the caller must measure again.
    """
    return Rule(
        functools.partial(forward, statistics=statistics, quick=quick),
        functools.partial(backward, divisor=divisor, quick=quick),
        lambda dA: scaled(jnp.zeros_like(dA.mantissa), VERY_SMALL, 0, dA.cause),
    )


def measured(layer: Layer, std: Any = None, largest: Any = None) -> Measured:
    """Return a layer or a stack as the rule takes it.

    Args:
      std: what W is still to be multiplied by.
      largest: max |W| of each layer, if it is already known.
    """
    if largest is None:
        largest = jnp.max(jnp.abs(layer.W), axis=(-2, -1))
    largest = largest if std is None else largest * std
    W_log2 = exponent_of_scale(largest)
    b_log2 = jnp.full_like(W_log2, VERY_SMALL)
    if layer.b is not None:
        b_log2 = log2_of_largest(layer.b, axis=-1)
    if std is not None:
        std = jnp.broadcast_to(std, W_log2.shape)
    return Measured(layer, W_log2, b_log2, largest == 0, std)


def scaled_input(X: Float[Array, "m d"]) -> Scaled:
    """Return X as the first layer takes it, scaled near 1, because its squares may overflow."""
    r, k = split_norm(X)
    cause = jnp.where(r == 0, FlowStatus.FORWARD_BELOW_RANGE, FlowStatus.OK)
    return scaled(times_power(X, -k), k, 0, cause)


def forward(spec: Spec, measured: Measured, carry, *, statistics: bool, quick: bool = False):
    """Pass a layer forwards on Scaled arrays. Another rule may use it and walk back differently."""
    A_prev, S_prev = carry
    layer, act = measured.layer, spec.activation
    # Z = A_prev @ W + b, with an exponent k at which neither term overflows
    k = A_prev.log2 + measured.W_log2
    k = k if layer.b is None else jnp.maximum(k, measured.b_log2)
    Z = arithmetic.affine(measured.near_one()._replace(b=None), A_prev.mantissa)
    Z = at(scaled(Z, A_prev.exponent + measured.W_log2, A_prev.mantissa_log2), k)
    lost = jnp.zeros((), bool)
    if layer.b is not None:
        b = times_power(layer.b, -k)
        # One exponent does not do if b becomes 0 with it although a sample has nothing but b
        lost = jnp.any((b == 0) & (layer.b != 0)) & jnp.any(jnp.all(Z == 0, axis=-1))
        Z = Z + b
    # The stream: both terms of the sum are brought to one exponent
    S = scaled(Z, k)
    if spec.residual is not None:
        alpha = arithmetic.gate(spec, layer)
        common = jnp.maximum(S_prev.log2, k + log2_of(jnp.abs(jnp.asarray(alpha, Z.dtype))))
        S = at(S_prev, common) + alpha * times_power(Z, k - common)
        S = scaled(S, common, split_norm(S)[1])
    # A norm gives numbers near 1. Its eps is added to the true variance, so it is scaled too;
    # r_k is chosen so that neither the variance nor eps overflows (>> 1: the root of eps)
    U, U_k, r, r_k = S.mantissa, S.exponent, None, None
    if spec.norm is not None:
        r_k = jnp.maximum(S.log2, log2_of(jnp.asarray(spec.norm.eps, Z.dtype)) >> 1)
        eps = times_power(jnp.asarray(spec.norm.eps, Z.dtype), -2 * r_k)
        U, r = spec.norm.apply(at(S, r_k), eps)
        U_k = jnp.zeros((), jnp.int32)
    # The activation
    keep_U = spec.norm is not None or not quick or act == activations.softmax
    passed = functools.partial(_passed, keep_U=keep_U, exact=not quick)
    A, A_k, U_near, D, steep, above = of_act(act, passed, arithmetic.slopes(layer), U, U_k)
    numbers = jnp.full(3, jnp.nan, A.dtype)
    if statistics:
        shares = (jnp.nan, jnp.nan) if D is None else closed_shares(D, steep)
        numbers = jnp.stack([_mean_cosine(S.mantissa), *shares])
    # The norm of A, and if it is 0, why
    if quick:
        (norm,), (norm_k,), right = plain_norms(A)
        right &= numbers[1] != 1  # if all units are saturated, the quick act' has lost its digits
        cause = jnp.where(right, FlowStatus.OK, UNDECIDED)
        kept = Kept(A_prev, U_near, r, r_k, D)
    else:
        look = functools.partial(_cause_of_zero, U_near, D, A_prev.cause)
        (norm,), (norm_k,), cause = split_norms(A, if_extreme=look)  # pyright: ignore
        cause = jnp.where(norm == 0, jnp.asarray(cause), FlowStatus.OK)
        U_kept = U_near if arithmetic.needs_U(spec) else None
        kept = Kept(A_prev, U_kept, r, r_k, D if saturates(act) else None)
    A_k = jnp.where(norm == 0, VERY_SMALL, A_k)  # so that the next bias is larger than these zeros
    # What is read, and what goes on
    if act == activations.softmax:  # its loss reads logits, to which any constant may be added
        S = scaled(U_near, 0)
    reading = ForwardReading(norm, norm_k + A_k, numbers, above | lost)
    return (scaled(A, A_k, norm_k, cause), S), kept, reading


def _passed(act: Activation, slopes: tuple, U: Array, k: Array, *, keep_U: bool, exact: bool):
    """Return `(A, e, U_near)` of `activated`, act', the largest |act'|, whether A leaves the range.

    act' and its largest are None for softmax. What is not used costs nothing: XLA drops it.
    """
    A, e, U_near = activated(act, slopes, U, k)
    D = steep = None
    if act.derivative is not None:
        D = derivative_near(act, slopes, U_near, A) if exact else act.derivative(U_near, A, *slopes)
        steep = jnp.asarray(steepest(act, *slopes), U.dtype)
    return A, e, (U_near if keep_U else None), D, steep, leaves_range(act, A, k)


def backward(spec: Spec, measured: Measured, kept: Kept, carry: Any, *, divisor: int, quick: bool):
    """Pass a layer back on Scaled arrays."""
    dA, dS, A = carry
    layer, A_prev = measured.layer, kept.A_prev
    # One exponent k for what comes through the activation (and the norm's r) and along the stream
    r_k = 0 if kept.r_k is None else kept.r_k
    logs = [dA.log2 - r_k] if dA is not None else []
    logs += [dS.log2] if dS is not None else []
    k = functools.reduce(jnp.maximum, logs)
    dA_m = None if dA is None else at(dA, k + r_k)
    dS_m = None if dS is None else at(dS, k)
    saved = Saved(A_prev.mantissa, kept.U, kept.r, kept.D)
    back = arithmetic.backward(spec, measured.near_one(), saved, A.mantissa, dA_m, dS_m)
    # The norms of dS, dW and db. The quick way takes the last two without alpha and multiplies it
    # on later: if alpha is 0, they would be 0, which `plain_norms` calls undecided
    alpha = jnp.abs(jnp.asarray(arithmetic.gate(spec, layer), back.dS.dtype))
    pair, later = back.pair, jnp.ones((), back.dS.dtype)
    if quick and spec.residual is not None:
        pair, later = pair._replace(dZ=back.dS), alpha
    arrays = [back.dS, pair.A.T @ pair.dZ / divisor]
    arrays += [] if layer.b is None else [jnp.sum(pair.dZ, axis=0) / divisor]
    r, norm_k, right = (plain_norms if quick else split_norms)(*arrays)
    exponents = jnp.stack([k, A_prev.exponent + k, k])
    if layer.b is None:
        r, norm_k = jnp.append(r, jnp.nan), jnp.append(norm_k, 0)
    r = r.at[1:].multiply(later)
    # Why they are 0, if they are
    from_above = (dS if dA is None else dA).cause  # pyright: ignore
    causes = _causes_of_zeros(spec, measured, r[0] == 0, from_above, A, A_prev, alpha)
    dS_cause, dA_cause, cause = causes
    if quick:
        cause = jnp.where(right & (A.cause == 0) & (A_prev.cause == 0), cause, UNDECIDED)
    reading = BackwardReading(r, norm_k + exponents, alpha, cause)
    # What the layer below takes
    dZ_log2 = norm_k[0] + (0 if spec.residual is None else exponent(alpha))
    dA_prev, dS_prev, _ = handed_down(spec, back)
    dS_prev = None if dS_prev is None else scaled(dS_prev, k, norm_k[0], dS_cause)
    return (scaled(dA_prev, k + measured.W_log2, dZ_log2, dA_cause), dS_prev, A_prev), reading


# --- at one layer ---------------------------------------------------------------------------------


def _causes_of_zeros(spec: Spec, measured: Measured, is_zero, from_above, A, A_prev, alpha):
    """Return why dS is 0 (if `is_zero`), why dA of the layer below is, and why dZ or dW is."""
    # dS: because what came from above was, or because of this layer's activation
    here = jnp.where(A.cause > 0, A.cause, FlowStatus.GATES_CLOSED)
    of_dS = jnp.where(from_above > 0, from_above, here)
    of_dS = jnp.where(is_zero, of_dS, FlowStatus.OK)
    # dZ: as dS, or because of the residual's gate
    of_dZ = of_dS
    if spec.residual is not None:
        gate_zero = (alpha == 0) & (of_dS == 0)
        of_dZ = jnp.where(gate_zero, FlowStatus.RESIDUAL_GATE_ZERO, of_dS)
    # dA: as dZ, or because of the weights. dW: as dZ, or because of the layer's input
    of_dA = jnp.where((of_dZ == 0) & measured.W_is_zero, FlowStatus.WEIGHTS_ZERO, of_dZ)
    return of_dS, of_dA, jnp.where(of_dZ > 0, of_dZ, A_prev.cause)


def _cause_of_zero(U, D, cause_below) -> Array:
    """Return why A is all 0: its input is; act' is too; or its values are below the range."""
    gates_closed = jnp.any(U != 0)
    if D is not None:
        gates_closed &= ~jnp.any(D != 0)
    here = jnp.where(gates_closed, FlowStatus.GATES_CLOSED, FlowStatus.FORWARD_BELOW_RANGE)
    return jnp.where(cause_below > 0, cause_below, here)


def closed_shares(D: Float[Array, "m d"], largest: Any) -> tuple[Array, Array]:
    """Return `(saturated, dead)` of `GradientFlow`, from a layer's act' and the largest |act'|."""
    steepness = jnp.abs(D)
    saturated = jnp.mean(steepness <= CLOSED * largest, dtype=D.dtype)
    total = jnp.ones(len(D), D.dtype) @ steepness  # a product is faster than a sum along the axis
    return saturated, jnp.mean(total == 0, dtype=D.dtype)


def _mean_cosine(Z: Float[Array, "m d"]) -> Float[Array, ""]:
    """Return the mean cosine over the pairs of rows: `(|sum_i u_i|^2 - m) / (m (m - 1))`.

    The u_i are the rows divided by their norms. Rows whose square is below the range are left out,
    and m counts the others. Sums along an axis are products with ones, which are faster.
    """
    squares = (Z * Z) @ jnp.ones(Z.shape[1], Z.dtype)
    seen = squares > jnp.finfo(Z.dtype).tiny
    total = jnp.where(seen, 1 / jnp.sqrt(squares), 0) @ Z
    m = jnp.sum(seen).astype(Z.dtype)
    return jnp.where(m > 1, (total @ total - m) / (m * (m - 1)), jnp.nan)
