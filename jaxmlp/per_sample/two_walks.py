"""Quantities that one readout in one walk cannot give.

Clipping needs the norm over all layers before it can weight any layer. The Gram matrix of a batch
in microbatches needs every pair of microbatches.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmlp import numerics, walk
from jaxmlp.backprop import Walked, summed, walked
from jaxmlp.layer import Pair
from jaxmlp.objective import Objective, divisor
from jaxmlp.per_sample import readouts
from jaxmlp.per_sample.instruments import in_microbatches
from jaxmlp.storage import canonical, grouped_like, in_container_of


def clipped_grad(J: Objective, params, X, Y, *, size: int, max_norm: Any) -> Any:
    """Return `1/m sum_i g_i min(1, max_norm / |g_i|)`, `size` samples at a time. No checks."""
    m, runs = len(X), J.mlp.runs
    stored = canonical(runs, params)

    def read(pair: Pair, _):
        return readouts.norms(*pair), pair.dZ, pair.direct

    def one(x, y):
        # First the norms over all layers, then the sum of the weighted gradients
        found = walked(J, stored, x, y, read)
        weights = clip_factors([norms for norms, *_ in found.readings], max_norm)
        return _weighted_sums(J, found, weights), None

    sums, _ = in_microbatches(one, lambda a, m, b, k: jax.tree.map(jnp.add, a, b), size, X, Y)
    dtype = params[0].W.dtype
    sums = [jax.tree.map(lambda x: (x / divisor(J, m)).astype(dtype), each) for each in sums]
    return in_container_of(params, grouped_like(params, runs, sums))


def clip_factors(norms: list, max_norm: Any) -> Float[Array, " m"]:
    """Return `min(1, max_norm / |g_i|)` from the norms of each run; 1 if the gradient is 0."""
    total = numerics.norm(jnp.concatenate([jnp.atleast_2d(n) for n in norms]), axis=0)
    zero = total == 0
    return jnp.where(zero, 1, jnp.minimum(1, max_norm / jnp.where(zero, 1, total)))


def _weighted_sums(J: Objective, found: Walked, weights: Float[Array, " m"]) -> list:
    """Return `sum_i w_i g_i` for every run, by weighting the rows of dZ; no `g_i` is formed."""

    def weigh(rows):
        w = weights.astype(rows.dtype)
        return w * rows if rows.ndim == 1 else w[:, None] * rows

    def one(A, dZ, direct):
        return summed(A, weigh(dZ), jax.tree.map(weigh, direct))

    inputs = [saved.A_prev for saved in found.saved]
    _, dZs, directs = zip(*found.readings, strict=True)
    return walk.each(J.mlp.runs, one, inputs, dZs, directs)


def gradient_gram(J: Objective, params, X, Y, *, size: int) -> Float[Array, "L m m"]:
    """Return the Gram matrix of the samples for each layer, `size` samples at a time. No checks."""
    runs = J.mlp.runs
    stored = canonical(runs, params)

    def pairs(x, y):
        return walked(J, stored, x, y, lambda pair, _: pair).readings

    def gram(rows, columns):
        return walk.in_line(runs, walk.each(runs, readouts.gram, rows, columns))

    return gram_in_blocks(pairs, gram, size, X, Y)


def gram_in_blocks(one: Callable, gram: Callable, size: int, X, Y) -> Float[Array, "n m m"]:
    """Return `gram(one(X, Y), one(X, Y))`, block by block for `size` samples at a time."""
    m = len(jax.tree.leaves((X, Y))[0])
    if size >= m:
        pairs = one(X, Y)
        return gram(pairs, pairs)
    # All blocks have one shape: the last may overlap the one before it, and writes it again
    starts = jnp.array([*range(0, m - size, size), m - size])

    def pairs_at(start):
        def some(data):
            return jax.lax.dynamic_slice_in_dim(data, start, size)

        return one(*jax.tree.map(some, (X, Y)))

    def row(K, i):
        rows = pairs_at(i)

        def column(K, j):
            return jax.lax.dynamic_update_slice(K, gram(rows, pairs_at(j)), (0, i, j)), None

        return jax.lax.scan(column, K, starts)

    block = jax.eval_shape(lambda: gram(pairs_at(0), pairs_at(0)))
    return jax.lax.scan(row, jnp.zeros((len(block), m, m), block.dtype), starts)[0]
