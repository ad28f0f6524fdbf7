"""Norms that neither underflow nor overflow: scaled by a power of two before squaring.

`jnp.linalg.norm` and `optax.global_norm` square first, so float32 entries of 1e-22 have norm 0
and entries of 1e25 have norm inf. Multiplying by a power of two is exact.
"""

import math
from collections.abc import Callable

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
    """Return (r, k) with |x| = r 2^k and r in [0.5, 1); (0, 0) for zeros."""
    r, k, _ = split_norms(x)
    return r[0], k[0]


def plain_norms(*arrays: Array) -> tuple[Array, Array, Array]:
    """Return `(r, k)` as `split_norms` does, and whether no square left the range: else they err.

    A fraction of its instructions, for whoever can come back with `split_norms`.
    """
    squares = jnp.stack([jnp.vdot(x, x) for x in arrays])
    root = jnp.sqrt(squares)
    k = exponent(root)
    return root * power_of_two(-k, root.dtype), k, jnp.all(_right(squares))


def _right(squares: Array) -> Array:
    """Whether sums of squares are neither too small nor too large to be right."""
    limits = jnp.finfo(squares.dtype)
    return (squares > limits.tiny / limits.eps**2) & (squares < limits.max)


def split_norms(*arrays: Array, if_extreme: Callable | None = None):
    """Return the norms of some arrays of one dtype as `(r, k, None)`, vectors, |x| = r 2^k.

    Cheap for large arrays: their squares are summed as they are, and all anew after scaling only
    if one of those sums is too small or too large to be right (a sum of zeros is too small).

    Args:
      if_extreme: evaluated then and only then; its result comes third, and zeros like it else.
    """
    arrays = tuple(x.astype(jnp.promote_types(x.dtype, jnp.float32)) for x in arrays)
    more = (lambda: None) if if_extreme is None else if_extreme

    def scaled():
        scales = [jnp.squeeze(power_of_two_scale(x)) for x in arrays]
        sums = [jnp.sum((x * s) ** 2) for x, s in zip(arrays, scales, strict=True)]
        return jnp.stack(sums), exponent(jnp.stack(scales)) - 1, more()

    if max(x.size for x in arrays) <= 1024:  # nothing to gain, and less to compile
        squares, shift, extra = scaled()
    else:
        squares = jnp.stack([jnp.vdot(x, x) for x in arrays])
        right = jnp.all(_right(squares))
        none = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(more))
        as_it_is = lambda: (squares, jnp.zeros(len(arrays), jnp.int32), none)  # noqa: E731
        squares, shift, extra = jax.lax.cond(right, as_it_is, scaled)
    root = jnp.sqrt(squares)
    k = exponent(root)
    r = root * power_of_two(-k, root.dtype)
    k = jnp.where(r == 0, 0, k - shift)
    return r, k, extra
