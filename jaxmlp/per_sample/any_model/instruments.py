"""The instruments of any JAX model, and how they add up over microbatches."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmlp import numerics
from jaxmlp.per_sample.any_model import leaves
from jaxmlp.per_sample.any_model.derivatives import Own, derivatives
from jaxmlp.per_sample.any_model.products import wide
from jaxmlp.per_sample.any_model.tracing import Program
from jaxmlp.per_sample.instruments import NoiseScale
from jaxmlp.per_sample.readouts import GradientMoments


class Instrument(NamedTuple):
    """Say how a quantity is read off what holds the gradients, a list with one Own for each leaf.

    read: `read(owns, max_norm)` -> `(sums, samples)`: what adds up over microbatches, and what
    belongs to each sample. finish: `finish(tree, m, sums, samples)` -> the result; `tree` makes a
    pytree like params of a list of arrays. add: `add(sums, m, others, k)`, of m and of k samples.
    """

    read: Callable
    finish: Callable
    add: Callable = lambda sums, m, others, k: jax.tree.map(jnp.add, sums, others)


# --- what is read ---------------------------------------------------------------------------------


def _totals(owns: list[Own], max_norm) -> tuple:
    return [leaves.total(own) for own in owns], None


def _norms(owns: list[Own], max_norm=None) -> tuple:
    columns = jnp.stack([leaves.norms(own) for own in owns], axis=1)
    return None, columns


def _clipped(owns: list[Own], max_norm) -> tuple:
    norms = numerics.norm(_norms(owns)[1], axis=1)
    factor = jnp.where(norms == 0, 1, jnp.minimum(1, max_norm / jnp.where(norms == 0, 1, norms)))
    return [leaves.total(own, factor.astype(norms.dtype)) for own in owns], None


def _means_and_squares(owns: list[Own], max_norm) -> tuple:
    means = [leaves.total(own) / own.m for own in owns]
    return (means, [leaves.squared_deviations(own) for own in owns]), None


def _means_and_deviation(owns: list[Own], max_norm) -> tuple:
    means = [leaves.total(own) / own.m for own in owns]
    return (means, numerics.norm(jnp.stack([leaves.deviation(own) for own in owns]))), None


# --- how it adds up -------------------------------------------------------------------------------


def _add_squares(sums: tuple, m, others: tuple, k: int) -> tuple:
    """Add means and squared deviations of m and of k samples, by Chan, Golub and LeVeque (1983)."""
    (means, squares), (more, more_squares) = sums, others
    apart = jax.tree.map(jnp.subtract, more, means)
    between = jax.tree.map(lambda d: d**2 * (m * _share(m, k, d)), apart)
    squares = jax.tree.map(lambda *parts: sum(parts), squares, more_squares, between)
    return _add_means(means, m, apart, k), squares


def _add_deviation(sums: tuple, m, others: tuple, k: int) -> tuple:
    """Do the same with the root of the sum of all squared deviations."""
    (means, root), (more, more_root) = sums, others
    apart = jax.tree.map(jnp.subtract, more, means)
    between = numerics.tree_norm(apart).astype(root.dtype) * jnp.sqrt(m * _share(m, k, root))
    root = numerics.norm(jnp.stack([root, more_root, between]))
    return _add_means(means, m, apart, k), root


def _add_means(means: Any, m, apart: Any, k: int) -> Any:
    return jax.tree.map(lambda mean, d: mean + d * _share(m, k, d), means, apart)


def _share(m, k: int, like: Array) -> Array:
    """The share of k samples among m + k."""
    return k / (jnp.asarray(m, like.dtype) + k)


# --- what is made of it ---------------------------------------------------------------------------


def _mean(tree: Callable, m: int, sums: list, samples) -> Any:
    return tree([s / m for s in sums])


def _moments(tree: Callable, m: int, sums: tuple, samples) -> GradientMoments:
    means, squares = sums
    second = [mean**2 + s / m for mean, s in zip(means, squares, strict=True)]
    return GradientMoments(tree(means), tree(second), tree([s / (m - 1) for s in squares]))


def _noise(tree: Callable, m: int, sums: tuple, samples) -> NoiseScale:
    means, root = sums
    size = numerics.tree_norm(means)
    root = (root / (m - 1) ** 0.5).astype(size.dtype)
    return NoiseScale(root**2, size**2, (root / size) ** 2)


def _as_they_are(tree: Callable, m: int, sums, samples) -> Any:
    return samples


def gram(rows: list[Own], columns: list[Own]) -> Float[Array, "n m k"]:
    """Return the inner products of the gradients of two groups of samples, for each leaf."""
    return jnp.stack([leaves.inner_products(*pair) for pair in zip(rows, columns, strict=True)])


INSTRUMENTS = {
    "grad": Instrument(_totals, _mean),
    "per_sample_grads": Instrument(
        lambda owns, max_norm: (None, [leaves.grads(own) for own in owns]),
        lambda tree, m, sums, samples: tree(samples),
    ),
    "per_sample_norms": Instrument(_norms, _as_they_are),
    "per_sample_sq_norms": Instrument(_norms, lambda tree, m, sums, samples: samples**2),
    "gradient_moments": Instrument(_means_and_squares, _moments, _add_squares),
    "noise_scale": Instrument(_means_and_deviation, _noise, _add_deviation),
    "clipped_grad": Instrument(_clipped, _mean),
    "gradient_gram": Instrument(  # of microbatches it is read in blocks
        lambda owns, max_norm: (None, gram(owns, owns)), _as_they_are
    ),
}
INSTRUMENTS["moments"] = INSTRUMENTS["gradient_moments"]


# --- one batch, or one microbatch after the other -------------------------------------------------


def read_all(
    program: Program, tools: list[Instrument], size: int, params: list[Array], X, Y, max_norm
) -> tuple[Float[Array, ""], list[tuple[Any, Any]]]:
    """Return the mean loss, and what each instrument reads, `size` samples at a time."""

    def one(data):
        losses, owns = derivatives(program, params, *data)
        read = [tool.read(owns, max_norm) for tool in tools]
        return (wide(losses).sum(), [sums for sums, _ in read]), [samples for _, samples in read]

    def add(total, m, others, k):
        both = zip(tools, total[1], others[1], strict=True)
        return total[0] + others[0], [tool.add(a, m, b, k) for tool, a, b in both]

    m = len(jax.tree.leaves((X, Y))[0])
    (loss, sums), samples = (
        one((X, Y)) if size == m else _in_microbatches(one, add, m, size, (X, Y))
    )
    value = (loss / m).astype(program.traced.out_avals[0].dtype)
    return value, list(zip(sums, samples, strict=True))


def _in_microbatches(one: Callable, add: Callable, m: int, size: int, data: Any):
    """Read `size` samples at a time, the last time those that remain."""
    whole = m // size * size

    def body(carry, batch):
        done, total = carry
        sums, samples = one(batch)
        return (done + size, add(total, done, sums, size)), samples

    batches = jax.tree.map(lambda x: x[:whole].reshape(-1, size, *x.shape[1:]), data)
    shapes, _ = jax.eval_shape(one, jax.tree.map(lambda x: x[0], batches))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    (_, total), samples = jax.lax.scan(body, (jnp.zeros((), jnp.int32), zeros), batches)
    samples = jax.tree.map(lambda x: x.reshape(whole, *x.shape[2:]), samples)
    if whole < m:
        sums, rest = one(jax.tree.map(lambda x: x[whole:], data))
        total = add(total, whole, sums, m - whole)
        samples = jax.tree.map(lambda x, y: jnp.concatenate([x, y]), samples, rest)
    return total, samples


def gram_in_blocks(program: Program, size: int, params: list[Array], X, Y) -> Float[Array, "n m m"]:
    """Return the inner products of all pairs of microbatches; the last overlaps the one before."""
    m = len(jax.tree.leaves((X, Y))[0])
    starts = jnp.array([*range(0, m - size, size), m - size])

    def owns(at):
        slices = (jax.lax.dynamic_slice_in_dim(x, at, size) for x in jax.tree.leaves((X, Y)))
        data = jax.tree.unflatten(jax.tree.structure((X, Y)), slices)
        return derivatives(program, params, *data)[1]

    def row(K, i):
        rows = owns(i)

        def column(K, j):
            return jax.lax.dynamic_update_slice(K, gram(rows, owns(j)), (0, i, j)), None

        return jax.lax.scan(column, K, starts)

    dtype = jax.eval_shape(lambda: gram(owns(0), owns(0))).dtype
    return jax.lax.scan(row, jnp.zeros((len(params), m, m), dtype), starts)[0]
