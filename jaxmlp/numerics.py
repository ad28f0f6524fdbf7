"""Norms that neither underflow nor overflow: scaled by a power of two before squaring.

`jnp.linalg.norm` and `optax.global_norm` square first, so float32 entries of 1e-22 have norm 0
and entries of 1e25 have norm inf. Multiplying by a power of two is exact.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array

LOG10_2 = math.log10(2)


def exponent(x: Array) -> Array:
    """Return the integer k with |x| in [2^(k-1), 2^k), as `frexp` does; 0 for 0, inf and NaN.

    Read off the bits, which compiles to a few instructions.
    """
    limits, bits = jnp.finfo(x.dtype), _bits(x.dtype)
    field = jax.lax.bitcast_convert_type(jnp.abs(x), bits) >> limits.nmant
    k = (field - (limits.maxexp - 2)).astype(jnp.int32)
    return jnp.where((field == 0) | (k > limits.maxexp), 0, k)


def power_of_two(k: Array, dtype) -> Array:
    """Return 2^k exactly; 0 below the range of dtype and its largest power above."""
    limits, bits = jnp.finfo(dtype), _bits(dtype)
    field = jnp.clip(k, limits.minexp - 1, limits.maxexp - 1) + limits.maxexp - 1
    return jax.lax.bitcast_convert_type(field.astype(bits) << limits.nmant, dtype)


def _bits(dtype):
    """The integers of the same width."""
    return jnp.dtype(f"int{8 * jnp.dtype(dtype).itemsize}")


def power_of_two_scale(x: Array, axis: int | tuple[int, ...] | None = None) -> Array:
    """Return the power of two s that brings the largest |x| s near 1 (s = 1 where x is all 0).

    The axes are kept, so that `x * s` broadcasts.
    """
    largest = jnp.max(jnp.abs(jax.lax.stop_gradient(x)), axis=axis, keepdims=True, initial=0)
    limit = -jnp.finfo(x.dtype).minexp  # beyond it the scale itself would be subnormal
    return power_of_two(jnp.clip(-exponent(largest), -limit, limit), x.dtype)


def norm(x: Array, axis: int | tuple[int, ...] | None = None) -> Array:
    """Return sqrt(sum x^2) over `axis` (all axes by default), right for every finite x.

    The derivative at 0 is 0, where that of the plain formula is NaN.

    Example:
      >>> f"{norm(jnp.full(4, 1e-30)):.3g}", float(jnp.linalg.norm(jnp.full(4, 1e-30)))
      ('2e-30', 0.0)
    """
    dtype = x.dtype
    x = x.astype(jnp.promote_types(dtype, jnp.float32))
    scale = power_of_two_scale(x, axis)
    squares = jnp.sum((x * scale) ** 2, axis=axis)
    zero = squares == 0
    root = jnp.sqrt(jnp.where(zero, 1, squares)) / jnp.reshape(scale, squares.shape)
    return jnp.where(zero, 0, root).astype(dtype)


def tree_norm(tree) -> Array:
    """Return the norm of all the leaves together, right for every finite entry."""
    return norm(jnp.stack([norm(leaf) for leaf in jax.tree.leaves(tree)]))


def split_norm(x: Array) -> tuple[Array, Array]:
    """Return (r, k) with |x| = r 2^k and r in [0.5, 1); (0, 0) for zeros.

    Cheap for a large array: its squares are summed as they are, and anew after scaling only where
    that sum is too small or too large to be right.
    """
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))

    def scaled():
        scale = power_of_two_scale(x)
        root = jnp.sqrt(jnp.sum((x * scale) ** 2))
        return root, exponent(jnp.squeeze(scale)) - 1

    if x.size <= 1024:
        root, shift = scaled()
    else:
        squares, limits = jnp.vdot(x, x), jnp.finfo(x.dtype)
        right = (squares > limits.tiny / limits.eps**2) & (squares < limits.max)
        as_it_is = lambda: (jnp.sqrt(squares), jnp.zeros((), jnp.int32))  # noqa: E731
        root, shift = jax.lax.cond(right, as_it_is, scaled)
    k = exponent(root)
    return root * power_of_two(-k, x.dtype), k - shift
