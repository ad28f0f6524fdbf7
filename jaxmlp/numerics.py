"""Norms that neither underflow nor overflow, because entries are scaled before they are squared.

`jnp.linalg.norm` and `optax.global_norm` square first, so float32 entries of 1e-22 have norm 0
and entries of 1e25 have norm inf. The scales are powers of two, because these multiply exactly.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

LOG10_2 = math.log10(2)


def exponent(x: Array) -> Array:
    """Return the integer k with |x| in [2^(k-1), 2^k), as `frexp` does; 0 for 0, inf and NaN.

    It is read from the bits of x, which compiles to a few instructions. Subnormal numbers count
    as 0.
    """
    limits, bits = jnp.finfo(x.dtype), _bits(x.dtype)
    field = jax.lax.bitcast_convert_type(jnp.abs(x), bits) >> limits.nmant
    k = (field - (limits.maxexp - 2)).astype(jnp.int32)  # IEEE 754: field 1 is 2^(2 - maxexp)
    return jnp.where((field == 0) | (k > limits.maxexp), 0, k)


def power_of_two(k: Array, dtype) -> Array:
    """Return 2^k exactly; if dtype cannot hold it, 0 or the largest power that it can hold."""
    limits, bits = jnp.finfo(dtype), _bits(dtype)
    field = jnp.clip(k, limits.minexp - 1, limits.maxexp - 1) + (limits.maxexp - 1)
    return jax.lax.bitcast_convert_type(field.astype(bits) << limits.nmant, dtype)


def _bits(dtype):
    """Return the integer dtype of the same width."""
    return jnp.dtype(f"int{8 * jnp.dtype(dtype).itemsize}")


def power_of_two_scale(x: Array, axis: int | tuple[int, ...] | None = None) -> Array:
    """Return the power of two s for which the largest |x s| is near 1; s = 1 if x is all 0.

    The axes are kept, so `x * s` broadcasts. No derivative is taken through s.
    """
    largest = jnp.max(jnp.abs(jax.lax.stop_gradient(x)), axis=axis, keepdims=True, initial=0)
    return power_of_two(-exponent_of_scale(largest), x.dtype)


def exponent_of_scale(largest: Array) -> Array:
    """Return the exponent k of a size, kept where 2^-k and 2^k have all their bits; 0 for 0."""
    limit = -jnp.finfo(largest.dtype).minexp
    return jnp.clip(exponent(largest), -limit, limit)


def norm(x: Array, axis: int | tuple[int, ...] | None = None) -> Array:
    """Return sqrt(sum x^2) over `axis` (all axes by default). It is right for every finite x.

    Its derivative at 0 is 0; that of the plain formula is NaN.

    Example:
      >>> f"{norm(jnp.full(4, 1e-30)):.3g}", float(jnp.linalg.norm(jnp.full(4, 1e-30)))
      ('2e-30', 0.0)
    """
    dtype = x.dtype
    x = x.astype(jnp.promote_types(dtype, jnp.float32))
    scale = power_of_two_scale(x, axis)
    squares = jnp.sum((x * scale) ** 2, axis=axis)
    zero = squares == 0  # sqrt is given 1 instead: its derivative at 0 is infinite, and 0 inf NaN
    root = jnp.sqrt(jnp.where(zero, 1, squares)) / jnp.reshape(scale, squares.shape)
    return jnp.where(zero, 0, root).astype(dtype)


def tree_norm(tree) -> Array:
    """Return the norm of all leaves together. It is right for all finite entries."""
    return norm(jnp.stack([norm(leaf) for leaf in jax.tree.leaves(tree)]))


def split_norm(x: Array) -> tuple[Array, Array]:
    """Return (r, k) with norm r 2^k and r in [0.5, 1); (0, 0) if x is all 0."""
    r, k, _ = split_norms(x)
    return r[0], k[0]


def plain_norms(*arrays: Array) -> tuple[Array, Array, Array]:
    """Return `(r, k, right)`: norms r 2^k whose squares are summed without scaling.

    If `right` is False, a sum of squares left the range: then r and k are wrong, and the caller
    must use `split_norms`. This compiles to a fraction of the instructions of `split_norms`.
    """
    squares = jnp.stack([jnp.vdot(x, x) for x in arrays])
    root = jnp.sqrt(squares)
    k = exponent(root)
    return root * power_of_two(-k, root.dtype), k, jnp.all(_right(squares))


def _right(squares: Array) -> Array:
    """Return whether sums of squares are neither too small nor too large to be right."""
    limits = jnp.finfo(squares.dtype)
    # A square below tiny counts as 0. To a sum above tiny / eps^2 it matters less than eps^2
    return (squares > limits.tiny / limits.eps**2) & (squares < limits.max)


def split_norms(*arrays: Array, if_extreme: Callable | None = None):
    """Return the norms r 2^k of some arrays of one dtype, as `(r, k, extra)`, r and k vectors.

    Large arrays are summed twice only if they must be: first their squares as they are; then, if
    one sum is too small or too large to be right, all of them after scaling. A sum of 0 is too
    small.

    Args:
      if_extreme: a function of nothing that is called in the second case only. Its result is
        `extra`; otherwise `extra` is zeros of the same shapes, or None without the function.
    """
    arrays = tuple(x.astype(jnp.promote_types(x.dtype, jnp.float32)) for x in arrays)
    more = (lambda: None) if if_extreme is None else if_extreme

    def scaled():
        k = exponent_of_scale(jnp.stack([jnp.max(jnp.abs(x), initial=0) for x in arrays]))
        scales = power_of_two(-k, arrays[0].dtype)
        sums = [jnp.sum((x * s) ** 2) for x, s in zip(arrays, scales, strict=True)]
        return jnp.stack(sums), k, more()

    # Chosen: arrays this small are scaled at once, because a branch costs more than it saves
    if max(x.size for x in arrays) <= 1024:
        squares, shift, extra = scaled()
    else:
        squares = jnp.stack([jnp.vdot(x, x) for x in arrays])
        right = jnp.all(_right(squares))
        none = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(more))
        as_it_is = lambda: (squares, jnp.zeros(len(arrays), jnp.int32), none)  # noqa: E731
        squares, shift, extra = jax.lax.cond(right, as_it_is, scaled)
    # From the root to r in [0.5, 1) and its exponent
    root = jnp.sqrt(squares)
    k = exponent(root)
    r = root * power_of_two(-k, root.dtype)
    k = jnp.where(r == 0, 0, k + shift)
    return r, k, extra
