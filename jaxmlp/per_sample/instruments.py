"""Instruments: a readout at every layer of one walk, and what is made of the readings.

A reading has two parts: means over the samples, which are merged over microbatches, and numbers
of each sample, which line up.
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
    samples_first,
    split,
)


class Reading(NamedTuple):
    """Hold what is pooled over the samples and what belongs to each, of one layer or of all.

    means: what an Instrument's `merge` joins over microbatches, means over the samples if it says
    nothing else.
    """

    means: Any = None
    samples: Any = None


class NoiseScale(NamedTuple):
    """Hold the gradient's noise over the samples, in numbers of shape ().

    trace_covariance: `sum_i |g_i - g|^2 / (m - 1)`, over all parameters, at least 0; right to the
    rounding of the differences between the samples' gradients.
    squared_gradient_norm: `|g|^2`, g the mean of the samples' own gradients.
    simple: their ratio, inf where g is 0, NaN where all gradients are 0; right also where the two
    numbers above underflow. At least two samples are needed.
    """

    trace_covariance: Float[Array, ""]
    squared_gradient_norm: Float[Array, ""]
    simple: Float[Array, ""]


def weighted(one: Any, m, other: Any, k) -> Any:
    """Return the means of all samples from those of m and of k."""
    return jax.tree.map(lambda x, y: x + (y - x) * (k / (m + k)), one, other)


class Instrument(NamedTuple):
    """Say how a quantity is read.

    read: `(pair, layer) -> Reading` of one layer.
    finish: `finish(J, params, m, reading)`, of what all runs gave, makes the result.
    merge: `merge(means, m, other means, k)` of one layer.
    """

    read: Callable[[Pair, Layer], Reading]
    finish: Callable
    merge: Callable = weighted


# --- what is read, and made of it -----------------------------------------------------------------


def as_layer(by_name: readouts.ByName, dtype: Any = None) -> Layer:
    """Return arrays by name as a Layer."""
    cast = {n: x if x is None or dtype is None else x.astype(dtype) for n, x in by_name.items()}
    return Layer(**cast)


def _gradient(J: Objective, params, m: int, reading: Reading):
    scale = m // divisor(J, m)  # m for a loss that is a sum
    means = reading.means if scale == 1 else jax.tree.map(lambda x: x * scale, reading.means)
    return _like(J, params, means)


def _like(J: Objective, params, entries) -> Any:
    """The runs' Layers grouped like params, in their container and dtype."""
    dtype = params[0].W.dtype
    entries = jax.tree.map(lambda x: x.astype(dtype), tuple(entries))
    return in_container_of(params, grouped_like(params, J.mlp.runs, entries))


def _samples_first(J: Objective, params, m: int, reading: Reading):
    """Layers whose leaves lead with the sample, also in a stack: `(m, n, ...)`."""
    layers = _like(J, params, reading.samples)
    return in_container_of(params, samples_first(counts_of(params), layers))


def _columns(J: Objective, params, m: int, reading: Reading) -> Float[Array, "m L"]:
    return jnp.concatenate([x.reshape(-1, m) for x in reading.samples]).T


def _moments(J: Objective, params, m: int, reading: Reading) -> GradientMoments:
    return GradientMoments(*(_like(J, params, of) for of in zip(*reading.means, strict=True)))


def merged_moments(one: GradientMoments, m, other: GradientMoments, k) -> GradientMoments:
    """Merge two groups of samples.

    Source: T. Chan, G. Golub and R. LeVeque, "Updating formulae and a pairwise algorithm for
    computing sample variances", 1979.
    """
    both = weighted(one, m, other, k)

    def variance(v, w, x, y):
        within = v * jnp.maximum(m - 1, 0) + w * max(k - 1, 0)
        return (within + (y - x) ** 2 * (m * k / (m + k))) / jnp.maximum(m + k - 1, 1)

    return both._replace(
        variance=jax.tree.map(variance, one.variance, other.variance, one.mean, other.mean)
    )


def merged_deviations(one: tuple[Layer, Array], m, other: tuple[Layer, Array], k):
    """As `merged_moments`, of the mean gradient and of the root of the summed squares."""
    apart = numerics.tree_norm(jax.tree.map(lambda x, y: y - x, one[0], other[0]))
    parts = jnp.stack([one[1], other[1], apart * jnp.sqrt(m * k / (m + k)).astype(apart.dtype)])
    return weighted(one[0], m, other[0], k), numerics.norm(parts)


def noise(m: int, means: list[tuple[Any, Array]]) -> NoiseScale:
    """Return the noise scale from each layer's mean gradient and the size of its deviations."""
    gradients, deviations = zip(*means, strict=True)
    g = numerics.tree_norm(gradients)
    spread = numerics.norm(jnp.concatenate([jnp.atleast_1d(d) for d in deviations]))
    scale = numerics.power_of_two_scale(jnp.stack([g, spread]))[0]
    squared, trace = (g * scale) ** 2, (spread * scale) ** 2 / (m - 1)
    return NoiseScale(trace / scale / scale, squared / scale / scale, trace / squared)


def _mean(pair: Pair) -> Layer:
    return as_layer(readouts.mean(*pair))


def _read_moments(pair: Pair, _) -> Reading:
    return Reading(means=GradientMoments(*map(as_layer, readouts.moments(*pair))))


def _read_norms(pair: Pair, _) -> Reading:
    return Reading(samples=readouts.norms(*pair))


ONE_WALK = {
    "grad": Instrument(lambda pair, _: Reading(means=_mean(pair)), _gradient),
    "per_sample_grads": Instrument(
        lambda pair, _: Reading(samples=as_layer(readouts.grads(*pair))), _samples_first
    ),
    "per_sample_norms": Instrument(_read_norms, _columns),
    "per_sample_sq_norms": Instrument(_read_norms, lambda *args: _columns(*args) ** 2),
    "gradient_moments": Instrument(_read_moments, _moments, merged_moments),
    "noise_scale": Instrument(
        lambda pair, _: Reading(means=(_mean(pair), readouts.deviation(*pair))),
        lambda J, params, m, reading: noise(m, reading.means),
        merged_deviations,
    ),
}
ONE_WALK["moments"] = ONE_WALK["gradient_moments"]


def own_readout(function: Callable) -> Instrument:
    """Make an instrument of a user's `function(A, dZ, layer)`: a list of its readings, 1..L."""

    def read(pair: Pair, layer: Layer) -> Reading:
        return Reading(means=jax.tree.map(jnp.asarray, function(pair.A, pair.dZ, layer)))

    def finish(J: Objective, params, m: int, reading: Reading) -> list:
        return split(reading.means, tuple(run.count for run in J.mlp.runs))

    return Instrument(read, finish)


# --- one walk, or one for each microbatch ---------------------------------------------------------


def read_one_walk(J: Objective, tools: tuple[Instrument, ...], size: int, params, X, Y):
    """Return J and what each instrument says, `size` samples at a time; unchecked."""
    m, runs = len(X), J.mlp.runs
    own = canonical(runs, params)
    counts = counts_of(own)

    def one(x, y):
        home = walked(J, own, x, y, lambda *at: [tool.read(*at) for tool in tools])
        means = [[r.means for r in of_runs] for of_runs in zip(*home.readings, strict=True)]
        samples = [[r.samples for r in of_runs] for of_runs in zip(*home.readings, strict=True)]
        value = home.value * (divisor(J, len(x)) / len(x))
        return (value, means), [samples_first(counts, each) for each in samples]

    def merge(so_far, a, other, b):
        value = weighted(so_far[0], a, other[0], b)
        return value, [
            walk.each(runs, lambda x, y, tool=tool: tool.merge(x, a, y, b), x, y)
            for tool, x, y in zip(tools, so_far[1], other[1], strict=True)
        ]

    (value, means), samples = in_microbatches(one, merge, size, X, Y)
    results = [
        tool.finish(J, params, m, Reading(of_runs, samples_first(counts, each)))
        for tool, of_runs, each in zip(tools, means, samples, strict=True)
    ]
    return value * (m // divisor(J, m)), results


def in_microbatches(one: Callable, merge: Callable, size: int, X, Y):
    """Return `one(X, Y) -> (means, samples)`, taken `size` samples at a time.

    Args:
      merge: `merge(means, m, other means, k)`, the means of m + k samples; samples lead with m.
      X, Y: pytrees of arrays that lead with m.
    """
    m = len(jax.tree.leaves((X, Y))[0])
    if size >= m:
        return one(X, Y)
    whole = m // size * size
    batches = jax.tree.map(lambda x: x[:whole].reshape(-1, size, *x.shape[1:]), (X, Y))

    def merged(so_far, before, means, k):
        both = merge(so_far, before, means, k)
        return jax.tree.map(lambda x, y: y.astype(x.dtype), so_far, both)

    def body(carry, batch):
        so_far, before = carry
        means, samples = one(*batch)
        return (merged(so_far, before, means, size), before + size), samples

    shapes = jax.eval_shape(one, *jax.tree.map(lambda x: x[0], batches))[0]
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    none_yet = jnp.zeros((), float)  # m k may be beyond the integers
    (means, before), samples = jax.lax.scan(body, (zeros, none_yet), batches)
    samples = jax.tree.map(lambda x: x.reshape(whole, *x.shape[2:]), samples)
    if whole < m:  # the samples that remain
        rest, others = one(*jax.tree.map(lambda x: x[whole:], (X, Y)))
        means = merged(means, before, rest, m - whole)
        samples = jax.tree.map(lambda x, y: jnp.concatenate([x, y]), samples, others)
    return means, samples
