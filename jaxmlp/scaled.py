"""Arrays with an exponent: `mantissa 2^exponent`, so that no magnitude leaves the range.

Multiplying by a power of two is exact, so the mantissas are those of a plain computation wherever
that one stays in range. `size` says about which power of two the mantissa's norm is: what the next
operation takes off before it multiplies on.
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
"""The exponent of zero in an alignment: below every other."""


class Scaled(NamedTuple):
    """Hold an array of value `mantissa 2^exponent`.

    about: three integers. exponent; size: the mantissa's norm is about `2^size` (of zeros it is
      anything); cause: why the array is zero throughout, a FlowStatus, 0 where it is not.
    """

    mantissa: Array
    about: Array

    @property
    def exponent(self) -> Array:
        return self.about[0]

    @property
    def size(self) -> Array:
        return self.about[1]

    @property
    def cause(self) -> Array:
        return self.about[2]

    @property
    def top(self) -> Array:
        """About which power of two the norm of the value is."""
        return self.about[0] + self.about[1]


def scaled(mantissa: Array, exponent: Any, size: Any = 0, cause: Any = 0) -> Scaled:
    """Return the array with what is known about it."""
    return Scaled(mantissa, jnp.stack([jnp.asarray(x, jnp.int32) for x in (exponent, size, cause)]))


def times_power(x: Array, k: Any) -> Array:
    """Return `x 2^k`; 0 if 2^k is below the range, and at most the largest power above it."""
    return x * power_of_two(k, x.dtype)


def at(x: Scaled, k: Array) -> Array:
    """Return the mantissa of x at the exponent k.

    First its size is taken off, then the rest: the two together may be no power in range.
    """
    return times_power(times_power(x.mantissa, -x.size), x.top - k)


def top_of(x: Array, axis: Any = None) -> Array:
    """Return about which power of two the largest entry is, VERY_SMALL for zeros."""
    largest = jnp.max(jnp.abs(x), axis=axis, initial=0)
    return jnp.where(largest == 0, VERY_SMALL, exponent(largest))


def log10(r: Array, k: Array, xp: Any = jnp) -> Array:
    """Return log10 of `r 2^k`, -inf for r = 0."""
    return xp.log10(r) + k.astype(r.dtype) * r.dtype.type(LOG10_2)


# --- activations of scaled arrays -----------------------------------------------------------------


def activated(act: Activation, slopes: tuple, U: Array, k: Array):
    """Return `(A, e, U_near)` with `act(U 2^k) = A 2^e` and `act'(U 2^k) = act'(U_near, A)`.

    A homogeneous activation takes U as it is. Another one is looked at within 2^-limit..2^limit:
    beyond, it is a straight line to rounding, through 0 below (if it has slopes there) and with
    the slopes of its asymptote above, and a straight line keeps the exponent.
    """
    if act.homogeneous:
        return act.fn(U, *slopes), k, U
    if act == softmax:
        near = times_power(U - jnp.max(U, axis=-1, keepdims=True), k)
        return act.fn(near), jnp.zeros((), jnp.int32), near
    limit, lines = _limit(U.dtype), asymptote(act)
    near_k = k
    if lines is not None and any(lines):
        near_k = jnp.minimum(near_k, limit)
    if straight_at_zero(act):
        near_k = jnp.maximum(near_k, -limit)
    near = times_power(U, near_k)
    if lines == (0, 0):  # constant beyond: a sample far below the others stays where it is
        near = times_power(times_power(U, jnp.minimum(near_k, limit)), jnp.maximum(k - limit, 0))
        near = jnp.clip(near, -(2.0**limit), 2.0**limit)
    if lines is None:  # nothing is known of it far out
        near = jnp.where(k > jnp.finfo(U.dtype).maxexp - 2, U * jnp.inf, near)
    return act.fn(near, *slopes), k - near_k, near


def derivative_near(act: Activation, slopes: tuple, near: Array, A: Array) -> Array:
    """Return act'(near), right to rounding also where tanh and sigmoid saturate.

    There `1 - A` of the lecture's formulas cancels: A is 1 from z = 9 (17) on, act' is 6e-8 then.
    """
    assert act.derivative is not None
    if act == sigmoid:
        return A * sigmoid.fn(-near)
    if act == tanh:
        e = jnp.exp(-2 * jnp.abs(near))
        return 4 * e / (1 + e) ** 2
    return act.derivative(near, A, *slopes)


def saturates(act: Activation | Choice) -> bool:
    """Whether `derivative_near` is not the derivative of A alone, which need not be kept."""
    several = act.several if isinstance(act, Choice) else (act,)
    return tanh in several or sigmoid in several


def leaves_range(act: Activation, A: Array, k: Array) -> Array:
    """Whether `activated` cannot represent all samples together.

    So it is where the layer is far above range and a sample of it is bounded, as elu is below 0.
    """
    lines = None if act.homogeneous else asymptote(act)
    if lines is None or not any(lines) or all(lines):
        return jnp.zeros((), bool)
    limit = _limit(A.dtype)
    largest = jnp.max(jnp.abs(A), axis=-1)
    small = (largest > 0) & (largest < 2.0 ** (limit // 2))
    return (k > limit) & jnp.any(small)


def _limit(dtype) -> int:
    """The power of two beyond which an asymptote is the function: squares near it are in range."""
    return jnp.finfo(dtype).maxexp // 2 - 4


def asymptote(act: Activation) -> tuple[float, float] | None:
    """The slopes of the lines that act is beyond its threshold, None if that is out of reach."""
    reach = 2.0 ** (_limit(jnp.float32) // 2)
    return act.asymptote if act.threshold < reach else None


@functools.cache
def straight_at_zero(act: Activation) -> bool:
    """Whether act is a straight line to rounding on either side of 0, with slopes that are not 0.

    So it is where `act(z) = act'(0) z`, and for selu, whose two slopes differ.
    """
    assert act.derivative is not None
    with jax.ensure_compile_time_eval():
        Z = jnp.asarray([-1e-6, 0.0, 1e-6], jnp.float32)
        A = act.fn(Z)
        slope = np.asarray(act.derivative(Z, A), np.float64)
    values = np.asarray(A, np.float64)
    line = slope * np.asarray(Z, np.float64)
    straight = np.abs(values - line)[[0, 2]] <= 1e-5 * np.abs(line)[[0, 2]]
    return bool(values[1] == 0 and slope.all() and straight.all())
