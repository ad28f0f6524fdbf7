"""Instruments: a readout at every layer of one walk, and a finish that makes the result of it.

A reading has two parts. Means over the samples are merged over microbatches; numbers of each
sample are put one after the other.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmlp import numerics, walk
from jaxmlp.backprop import walked
from jaxmlp.layer import Layer, Pair
from jaxmlp.objective import Objective, divisor
from jaxmlp.per_sample import readouts
from jaxmlp.per_sample.readouts import GradientMoments
from jaxmlp.storage import (
    canonical,
    counts_of,
    grouped_like,
    in_container_of,
    split,
    swap_layer_and_sample,
)


class Reading(NamedTuple):
    """Hold what is read of one layer, or of all.

    means: what is pooled over the samples; an Instrument's `merge` joins it over microbatches.
    samples: what belongs to each sample; it leads with m.
    """

    means: Any = None
    samples: Any = None


class NoiseScale(NamedTuple):
    """Hold how much the samples' own gradients g_i scatter about their mean g; numbers of shape ().

    trace_covariance: `sum_i |g_i - g|^2 / (m - 1)` over all parameters, at least 0. It is as exact
    as the differences g_i - g.
    squared_gradient_norm: `|g|^2`.
    simple: their ratio; inf if g is 0, NaN if all g_i are 0. It is right also if the two numbers
    above underflow.
    """

    trace_covariance: Float[Array, ""]
    squared_gradient_norm: Float[Array, ""]
    simple: Float[Array, ""]


def weighted(one: Any, m, other: Any, k) -> Any:
    """Return the means over m + k samples from those over m and those over the other k."""
    return jax.tree.map(lambda x, y: x + (y - x) * (k / (m + k)), one, other)


class Instrument(NamedTuple):
    """Describe how a quantity is computed in one walk.

    read: `read(pair, layer) -> Reading` of one layer.
    finish: `finish(J, params, m, reading)` makes the result from the readings of all runs.
    merge: `merge(means, m, other means, k)` joins the means of two microbatches, of one layer.
    """

    read: Callable[[Pair, Layer], Reading]
    finish: Callable
    merge: Callable = weighted


# --- how readings are finished and merged ---------------------------------------------------------


def as_layer(by_name: readouts.ByName, dtype: Any = None) -> Layer:
    """Return arrays by name as a Layer, cast to dtype if it is given."""
    cast = {n: x if x is None or dtype is None else x.astype(dtype) for n, x in by_name.items()}
    return Layer(**cast)


def _gradient(J: Objective, params, m: int, reading: Reading):
    scale = m // divisor(J, m)  # 1, or m for a loss that is a sum
    means = reading.means if scale == 1 else jax.tree.map(lambda x: x * scale, reading.means)
    return _like(J, params, means)


def _like(J: Objective, params, entries) -> Any:
    """Return the Layers of the runs in the grouping, pytree and dtype of params."""
    dtype = params[0].W.dtype
    entries = jax.tree.map(lambda x: x.astype(dtype), tuple(entries))
    return in_container_of(params, grouped_like(params, J.mlp.runs, entries))


def _samples(J: Objective, params, m: int, reading: Reading):
    """Return Layers whose arrays lead with the sample, in a stack too: `(m, n, ...)`."""
    layers = _like(J, params, reading.samples)
    return in_container_of(params, swap_layer_and_sample(counts_of(params), layers))


def _columns(J: Objective, params, m: int, reading: Reading) -> Float[Array, "m L"]:
    return jnp.concatenate([x.reshape(-1, m) for x in reading.samples]).T


def merged_moments(one: GradientMoments, m, other: GradientMoments, k) -> GradientMoments:
    """Return the moments over m + k samples from those over m and those over the other k.

    Source: T. Chan, G. Golub and R. LeVeque, "Updating formulae and a pairwise algorithm for
    computing sample variances", 1979.
    """
    means = weighted(one, m, other, k)

    def variance(v, w, x, y):
        within = v * jnp.maximum(m - 1, 0) + w * max(k - 1, 0)
        return (within + (y - x) ** 2 * (m * k / (m + k))) / jnp.maximum(m + k - 1, 1)

    return means._replace(
        variance=jax.tree.map(variance, one.variance, other.variance, one.mean, other.mean)
    )


def merged_deviations(one: tuple[Layer, Array], m, other: tuple[Layer, Array], k):
    """Merge `(mean gradient g, sqrt(sum_i |g_i - g|^2))` of two groups of samples.

    The formula is that of `merged_moments`, in norms.
    """
    apart = numerics.tree_norm(jax.tree.map(lambda x, y: y - x, one[0], other[0]))
    parts = jnp.stack([one[1], other[1], apart * jnp.sqrt(m * k / (m + k)).astype(apart.dtype)])
    return weighted(one[0], m, other[0], k), numerics.norm(parts)


def noise(m: int, means: list[tuple[Any, Array]]) -> NoiseScale:
    """Return the noise scale from each layer's mean gradient and `sqrt(sum_i |g_i - g|^2)`."""
    gradients, deviations = zip(*means, strict=True)
    g = numerics.tree_norm(gradients)
    spread = numerics.norm(jnp.concatenate([jnp.atleast_1d(d) for d in deviations]))
    # Both are scaled before they are squared, so that the ratio is right at any magnitude
    scale = numerics.power_of_two_scale(jnp.stack([g, spread]))[0]
    squared, trace = (g * scale) ** 2, (spread * scale) ** 2 / (m - 1)
    return NoiseScale(trace / scale / scale, squared / scale / scale, trace / squared)


def _read_norms(pair: Pair, _) -> Reading:
    return Reading(samples=readouts.norms(*pair))


INSTRUMENTS = {
    "grad": Instrument(
        lambda pair, _: Reading(means=as_layer(readouts.mean(*pair))),
        _gradient,
    ),
    "per_sample_grads": Instrument(
        lambda pair, _: Reading(samples=as_layer(readouts.grads(*pair))),
        _samples,
    ),
    "per_sample_norms": Instrument(_read_norms, _columns),
    "per_sample_sq_norms": Instrument(_read_norms, lambda *args: _columns(*args) ** 2),
    "gradient_moments": Instrument(
        lambda pair, _: Reading(means=GradientMoments(*map(as_layer, readouts.moments(*pair)))),
        lambda J, params, m, reading: GradientMoments(
            *(_like(J, params, of) for of in zip(*reading.means, strict=True))
        ),
        merged_moments,
    ),
    "noise_scale": Instrument(
        lambda pair, _: Reading(means=(as_layer(readouts.mean(*pair)), readouts.deviation(*pair))),
        lambda J, params, m, reading: noise(m, reading.means),
        merged_deviations,
    ),
}
INSTRUMENTS["moments"] = INSTRUMENTS["gradient_moments"]


def users_readout(function: Callable) -> Instrument:
    """Return the instrument of a user's `function(A, dZ, layer)`: a list of what it returns."""

    def read(pair: Pair, layer: Layer) -> Reading:
        return Reading(means=jax.tree.map(jnp.asarray, function(pair.A, pair.dZ, layer)))

    def finish(J: Objective, params, m: int, reading: Reading) -> list:
        return split(reading.means, tuple(run.count for run in J.mlp.runs))

    return Instrument(read, finish)


# --- one walk, or one for each microbatch ---------------------------------------------------------


def read_one_walk(J: Objective, tools: tuple[Instrument, ...], size: int, params, X, Y):
    """Return J and the result of each instrument. Walk with `size` samples at a time.

    Nothing is checked.
    """
    m, runs = len(X), J.mlp.runs
    stored = canonical(runs, params)
    counts = counts_of(stored)

    def one(x, y):
        """Walk with one microbatch. Samples come first, so that microbatches can be joined."""
        found = walked(J, stored, x, y, lambda *at: [tool.read(*at) for tool in tools])
        means = [[r.means for r in of_runs] for of_runs in zip(*found.readings, strict=True)]
        samples = [[r.samples for r in of_runs] for of_runs in zip(*found.readings, strict=True)]
        value = found.value * (divisor(J, len(x)) / len(x))  # the mean, also if J is a sum
        return (value, means), [swap_layer_and_sample(counts, each) for each in samples]

    def merge(so_far, a, other, b):
        value = weighted(so_far[0], a, other[0], b)
        return value, [
            walk.each(runs, lambda x, y, tool=tool: tool.merge(x, a, y, b), x, y)
            for tool, x, y in zip(tools, so_far[1], other[1], strict=True)
        ]

    (value, means), samples = in_microbatches(one, merge, size, X, Y)
    results = [
        tool.finish(J, params, m, Reading(of_runs, swap_layer_and_sample(counts, each)))
        for tool, of_runs, each in zip(tools, means, samples, strict=True)
    ]
    return value * (m // divisor(J, m)), results  # J again: the mean, or the sum


def in_microbatches(one: Callable, merge: Callable, size: int, X, Y):
    """Return what `one(X, Y) -> (means, samples)` returns, computed `size` samples at a time.

    Args:
      merge: `merge(means, m, other means, k)` returns the means over m + k samples.
      X, Y: pytrees of arrays that lead with m, as `samples` does.
    """
    m = len(jax.tree.leaves((X, Y))[0])
    if size >= m:
        return one(X, Y)
    whole = m // size * size
    batches = jax.tree.map(lambda x: x[:whole].reshape(-1, size, *x.shape[1:]), (X, Y))

    # A loop over the whole microbatches, merging means as it goes
    def merged(so_far, before, means, k):
        joined = merge(so_far, before, means, k)
        return jax.tree.map(lambda x, y: y.astype(x.dtype), so_far, joined)

    def body(carry, batch):
        so_far, before = carry
        means, samples = one(*batch)
        return (merged(so_far, before, means, size), before + size), samples

    shapes = jax.eval_shape(one, *jax.tree.map(lambda x: x[0], batches))[0]
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    none_yet = jnp.zeros((), float)  # a float, because `merge` computes m k, which may pass int32
    (means, before), samples = jax.lax.scan(body, (zeros, none_yet), batches)
    samples = jax.tree.map(lambda x: x.reshape(whole, *x.shape[2:]), samples)
    if whole < m:  # the remaining samples, a smaller microbatch
        rest, others = one(*jax.tree.map(lambda x: x[whole:], (X, Y)))
        means = merged(means, before, rest, m - whole)
        samples = jax.tree.map(lambda x, y: jnp.concatenate([x, y]), samples, others)
    return means, samples
