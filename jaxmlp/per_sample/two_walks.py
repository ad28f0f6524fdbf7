"""Quantities that one walk cannot give: clipping needs all norms before any weight, and the Gram
matrix of a large batch every pair of its microbatches."""

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
    """Return `1/m sum_i g_i min(1, max_norm / |g_i|)`, `size` samples at a time; unchecked."""
    m, runs = len(X), J.mlp.runs
    own = canonical(runs, params)

    def read(pair: Pair, _):
        return readouts.norms(*pair), pair.dZ, pair.direct

    def one(x, y):
        home = walked(J, own, x, y, read)
        weights = clip_factors([norms for norms, *_ in home.readings], max_norm)
        return _weighted_sums(J, home, weights), None

    sums, _ = in_microbatches(one, lambda a, m, b, k: jax.tree.map(jnp.add, a, b), size, X, Y)
    dtype = params[0].W.dtype
    sums = [jax.tree.map(lambda x: (x / divisor(J, m)).astype(dtype), each) for each in sums]
    return in_container_of(params, grouped_like(params, runs, sums))


def clip_factors(norms: list, max_norm: Any) -> Float[Array, " m"]:
    """Return `min(1, max_norm / |g_i|)` from the norms of each run; 1 where the gradient is 0."""
    total = numerics.norm(jnp.concatenate([jnp.atleast_2d(n) for n in norms]), axis=0)
    zero = total == 0
    return jnp.where(zero, 1, jnp.minimum(1, max_norm / jnp.where(zero, 1, total)))


def _weighted_sums(J: Objective, home: Walked, weights: Float[Array, " m"]) -> list:
    """Sum the samples' weighted gradients of every run; the `g_i` are never formed."""

    def weigh(rows):
        w = weights.astype(rows.dtype)
        return w * rows if rows.ndim == 1 else w[:, None] * rows

    def one(A, dZ, direct):
        return summed(A, weigh(dZ), jax.tree.map(weigh, direct))

    inputs = [saved.A_prev for saved in home.saved]
    _, dZs, directs = zip(*home.readings, strict=True)
    return walk.each(J.mlp.runs, one, inputs, dZs, directs)


def gradient_gram(J: Objective, params, X, Y, *, size: int) -> Float[Array, "L m m"]:
    """Return the Gram matrices of all samples, from blocks of pairs of microbatches; unchecked."""
    m, runs = len(X), J.mlp.runs
    own = canonical(runs, params)
    if size >= m:
        return walk.in_line(
            runs, walked(J, own, X, Y, lambda pair, _: readouts.gram(pair, pair)).readings
        )
    starts = jnp.array([*range(0, m - size, size), m - size])  # the last overlaps the one before

    def pairs(at):
        x, y = (jax.lax.dynamic_slice_in_dim(data, at, size) for data in (X, Y))
        return walked(J, own, x, y, lambda pair, _: pair).readings

    def row(K, i):
        rows = pairs(i)

        def column(K, j):
            block = walk.in_line(runs, walk.each(runs, readouts.gram, rows, pairs(j)))
            return jax.lax.dynamic_update_slice(K, block, (0, i, j)), None

        return jax.lax.scan(column, K, starts)

    K = jnp.zeros((J.mlp.num_layers, m, m), X.dtype)
    return jax.lax.scan(row, K, starts)[0]
