"""Arrays with an exponent, `mantissa 2^exponent`, for magnitudes beyond the range of the dtype.

Multiplying by a power of two is exact. So the mantissas have the digits of a plain computation if
that one stays in range. Each array also carries about which power of two the norm of its mantissa
is; the next operation divides by it, so that mantissas stay near 1.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxmlp.activations import Activation, sigmoid, softmax, tanh
from jaxmlp.activations.choice import Choice
from jaxmlp.numerics import LOG10_2, exponent, power_of_two

VERY_SMALL = -(2**29)
"""The log2 of zero: smaller than that of any number, and sums of a few of it fit in int32."""


class Scaled(NamedTuple):
    """Hold an array of value `mantissa 2^exponent`.

    about: three integers, which the properties below name.
    """

    mantissa: Array
    about: Array

    @property
    def exponent(self) -> Array:
        return self.about[0]

    @property
    def mantissa_log2(self) -> Array:
        """Return about log2 of the mantissa's norm; any number if the mantissa is all 0."""
        return self.about[1]

    @property
    def cause(self) -> Array:
        """Return why the array is all 0, a FlowStatus; 0 if it is not."""
        return self.about[2]

    @property
    def log2(self) -> Array:
        """Return about log2 of the norm of the value, an integer."""
        return self.about[0] + self.about[1]


def scaled(mantissa: Array, exponent: Any, mantissa_log2: Any = 0, cause: Any = 0) -> Scaled:
    """Return a Scaled array of these parts."""
    about = [jnp.asarray(x, jnp.int32) for x in (exponent, mantissa_log2, cause)]
    return Scaled(mantissa, jnp.stack(about))


def times_power(x: Array, k: Any) -> Array:
    """Return `x 2^k`. If the dtype cannot hold 2^k, it counts as 0 or as the largest power."""
    return x * power_of_two(k, x.dtype)


def at(x: Scaled, k: Array) -> Array:
    """Return the mantissa that x has with the exponent k."""
    # In two steps, because the dtype may not be able to hold the product of the two powers
    return times_power(times_power(x.mantissa, -x.mantissa_log2), x.log2 - k)


def log2_of_largest(x: Array, axis: Any = None) -> Array:
    """Return about log2 of the largest |entry|, an integer; VERY_SMALL for zeros."""
    return log2_of(jnp.max(jnp.abs(x), axis=axis, initial=0))


def log2_of(size: Array) -> Array:
    """Return about log2 of numbers that are not negative, an integer; VERY_SMALL for zeros."""
    return jnp.where(size == 0, VERY_SMALL, exponent(size))


def log10(r: Array, k: Array, xp: Any = jnp) -> Array:
    """Return log10 of `r 2^k`, -inf for r = 0."""
    return xp.log10(r) + k.astype(r.dtype) * r.dtype.type(LOG10_2)


# --- activations of Scaled arrays -----------------------------------------------------------------


def activated(act: Activation, slopes: tuple, U: Array, k: Array):
    """Return `(A, e, U_near)` with `act(U 2^k) = A 2^e` and `act'(U 2^k) = act'(U_near, A)`.

    A homogeneous activation is applied to U, and the exponent stays k. Any other is applied to
    U 2^near_k, with near_k kept within -limit..limit. Beyond that it is a line to rounding (one on
    each side of 0 for small values, its asymptotes for large ones), and a line keeps the rest of
    k. If both asymptotes are constant, there is no exponent: each entry is clipped to the limit.
    """
    if act.homogeneous:
        return act.fn(U, *slopes), k, U
    if act == softmax:  # shifted by its largest logit, it needs no exponent
        near = times_power(U - jnp.max(U, axis=-1, keepdims=True), k)
        return act.fn(near), jnp.zeros((), jnp.int32), near
    limit, lines = _limit(U.dtype), asymptote(act)
    near_k = k
    if lines is not None and any(lines):
        near_k = jnp.minimum(near_k, limit)
    if straight_at_zero(act):
        near_k = jnp.maximum(near_k, -limit)
    near = times_power(U, near_k)
    # Constant asymptotes: clipping leaves small entries as they are, so each sample keeps its size
    if lines == (0, 0):
        near = times_power(times_power(U, jnp.minimum(near_k, limit)), jnp.maximum(k - limit, 0))
        near = jnp.clip(near, -(2.0**limit), 2.0**limit)
    # Without an asymptote nothing is known beyond the range: infinity says so
    if lines is None:
        near = jnp.where(k > jnp.finfo(U.dtype).maxexp - 2, U * jnp.inf, near)
    return act.fn(near, *slopes), k - near_k, near


def derivative_near(act: Activation, slopes: tuple, near: Array, A: Array) -> Array:
    """Return act'(near), right to 1e-4 even if tanh or sigmoid saturate.

    In the lecture's formulas `1 - A` then cancels: in float32 A is 1 beyond z = 9 (sigmoid: 17),
    where act' is still 6e-8.
    """
    assert act.derivative is not None
    plain = act.derivative(near, A, *slopes)
    if act not in (tanh, sigmoid):
        return plain

    def exact():
        # Below 0.9 the formulas in A are the more exact ones: act' hardly moves with A there
        x, steep = (jnp.abs(near), 1) if act == sigmoid else (2 * jnp.abs(near), 4)
        e = jnp.exp(-x)
        return jnp.where(jnp.abs(A) > 0.9, steep * e / (1 + e) ** 2, plain)

    # At 4096 eps from 1 the plain formula is still right to 1e-4, and costs no exponential
    saturated = jnp.max(jnp.abs(A)) > 1 - 4096 * jnp.finfo(A.dtype).eps
    return jax.lax.cond(saturated, exact, lambda: plain)


def saturates(act: Activation | Choice) -> bool:
    """Return whether `derivative_near` needs more than A, so that act' must be kept."""
    several = act.several if isinstance(act, Choice) else (act,)
    return tanh in several or sigmoid in several


def leaves_range(act: Activation, A: Array, k: Array) -> Array:
    """Return whether one exponent cannot hold all samples of `activated`.

    This happens if the layer is far above the range, and a sample of it lies only on a side where
    act is bounded, as elu is below 0.
    """
    lines = None if act.homogeneous else asymptote(act)
    if lines is None or not any(lines) or all(lines):
        return jnp.zeros((), bool)
    limit = _limit(A.dtype)
    largest = jnp.max(jnp.abs(A), axis=-1)
    small = (largest > 0) & (largest < 2.0 ** (limit // 2))  # that of a bounded side, not 2^limit
    return (k > limit) & jnp.any(small)


def _limit(dtype) -> int:
    """Return log2 of the largest |z| at which `activated` evaluates an activation.

    For float32 it is 60. A square is then 2^120, which leaves room for a sum of 2^8 squares.
    """
    return jnp.finfo(dtype).maxexp // 2 - 4


def asymptote(act: Activation) -> tuple[float, float] | None:
    """Return act's asymptote; None if it has none, or if its threshold is too far out."""
    reach = 2.0 ** (_limit(jnp.float32) // 2)  # 2^30: so it holds at 2^60 for smaller entries too
    return act.asymptote if act.threshold < reach else None


@functools.cache
def straight_at_zero(act: Activation) -> bool:
    """Return whether act is a line to rounding on each side of 0, with slopes that are not 0.

    Most activations with act(0) = 0 are, with the same slope on both sides; selu has two slopes.
    """
    assert act.derivative is not None
    with jax.ensure_compile_time_eval():
        Z = jnp.asarray([-1e-6, 0.0, 1e-6], jnp.float32)  # so small that z^2 is 1e-6 of z
        A = act.fn(Z)
        slope = np.asarray(act.derivative(Z, A), np.float64)
    values = np.asarray(A, np.float64)
    line = slope * np.asarray(Z, np.float64)
    straight = np.abs(values - line)[[0, 2]] <= 1e-5 * np.abs(line)[[0, 2]]
    return bool(values[1] == 0 and slope.all() and straight.all())
