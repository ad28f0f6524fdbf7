"""What each instrument reads at a layer, and what it makes of the readings.

A reading has two parts: sums over the samples, which add up over microbatches, and numbers of each
sample, which line up.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmlp import numerics
from jaxmlp.backprop import Step, like, summed, walk
from jaxmlp.objective import Objective, divisor
from jaxmlp.per_sample import readouts
from jaxmlp.storage import Layer, is_stacked


class Reading(NamedTuple):
    """Hold for each entry of params what adds up over the samples and what belongs to each."""

    sums: Any = None
    samples: Any = None


class Instrument(NamedTuple):
    """Say how a quantity is read.

    read: at a layer of the walk. reweigh: turns the readings of one walk into others, with the
    inputs `A[l-1]` at hand. at_layer: `at_layer(J, m, dtype, sums)` makes a layer's sums over all m
    samples into what is wanted, entry by entry; while they are in the cache, where one walk serves.
    finish: `finish(J, params, m, reading)` makes the result of all layers.
    """

    read: Callable[[Step], Reading]
    finish: Callable
    at_layer: Callable = lambda J, m, dtype, sums: sums
    reweigh: Callable | None = None


class GradientMoments(NamedTuple):
    """Hold moments over the samples' own gradients, entry by entry: pytrees like params.

    variance: `(second_moment - mean^2) m / (m - 1)` (ddof=1); what rounding leaves below 0 is 0.
    """

    mean: Any
    second_moment: Any
    variance: Any


class NoiseScale(NamedTuple):
    """Hold the gradient's noise over the samples, in numbers of shape ().

    trace_covariance: `sum_i |g_i - g|^2 / (m - 1)`, over all parameters.
    squared_gradient_norm: `|g|^2`, g the mean of the samples' own gradients.
    simple: their ratio, inf where g is 0; right also where the two underflow.
    """

    trace_covariance: Float[Array, ""]
    squared_gradient_norm: Float[Array, ""]
    simple: Float[Array, ""]


# --- at a layer -----------------------------------------------------------------------------------


def _sum(step: Step) -> Layer:
    return summed(step.A_prev, step.dZ, step.dslope, step.layer)


def _sum_of_squares(step: Step) -> Layer:
    dslope = None if step.dslope is None else step.dslope**2
    return summed(step.A_prev**2, step.dZ**2, dslope, step.layer)


def _grads(step: Step) -> Layer:
    db = None if step.layer.b is None else step.dZ
    return Layer(readouts.grads(step.A_prev, step.dZ), db, step.dslope)


def _norms(step: Step) -> Float[Array, " m"]:
    of_layer = readouts.norms(step.A_prev, step.dZ, use_bias=step.layer.b is not None)
    return of_layer if step.dslope is None else jnp.hypot(of_layer, step.dslope)


def _gram(step: Step, other: Step) -> Float[Array, "m k"]:
    rows, columns = ((s.A_prev, s.dZ) for s in (step, other))
    K = readouts.inner_products(rows, columns, use_bias=step.layer.b is not None)
    return K if step.dslope is None else K + jnp.outer(step.dslope, other.dslope)


def own_readout(fn: Callable) -> Instrument:
    """Make an instrument of a user's `fn(A, dZ, layer)`."""

    def read(step: Step) -> Reading:
        return Reading(jax.tree.map(jnp.asarray, fn(step.A_prev, step.dZ, step.layer)))

    return Instrument(read, lambda J, params, m, reading: reading.sums)


# --- of all samples -------------------------------------------------------------------------------


def _mean_loss_gradient(J: Objective, m: int, dtype, sums: Layer) -> Layer:
    return jax.tree.map(lambda s: (s / divisor(J, m)).astype(dtype), sums)


def _gradient(J: Objective, params, m: int, reading: Reading) -> Any:
    return like(params, reading.sums)


def _moments(J: Objective, m: int, dtype, sums: tuple[Layer, Layer]) -> GradientMoments:
    mean, second = (jax.tree.map(lambda s: s / m, each) for each in sums)
    variance = jax.tree.map(lambda s, g: jnp.maximum((s - g**2) * (m / (m - 1)), 0), second, mean)
    return jax.tree.map(lambda x: x.astype(dtype), GradientMoments(mean, second, variance))


def _columns(params, norms: tuple) -> Float[Array, "m L"]:
    return jnp.concatenate([n if n.ndim == 2 else n[:, None] for n in norms], axis=1)


def _finish_moments(J: Objective, params, m: int, reading: Reading) -> GradientMoments:
    return GradientMoments(*(like(params, each) for each in zip(*reading.sums, strict=True)))


def _finish_noise(J: Objective, params, m: int, reading: Reading) -> NoiseScale:
    mean = numerics.tree_norm(jax.tree.map(lambda x: x / m, reading.sums))
    each = numerics.norm(_columns(params, reading.samples), axis=1).astype(mean.dtype)
    scale = numerics.power_of_two_scale(jnp.append(each, mean))[0]
    squared = (mean * scale) ** 2
    trace = (jnp.sum((each * scale) ** 2) - m * squared) / (m - 1)
    return NoiseScale(trace / scale / scale, squared / scale / scale, trace / squared)


def _clip(params, inputs: tuple, reading: tuple, max_norm) -> tuple:
    """Sum the gradients weighted by min(1, max_norm / norm), from the norms and dZ of one walk."""
    norms = [r.samples[0] for r in reading]
    total = numerics.norm(jnp.concatenate([jnp.atleast_2d(n) for n in norms]), axis=0)
    factor = jnp.where(total == 0, 1, jnp.minimum(1, max_norm / jnp.where(total == 0, 1, total)))

    def weighted(layer: Layer, A, dZ, dslope) -> Layer:
        w = factor.astype(dZ.dtype)
        return summed(A, w[:, None] * dZ, None if dslope is None else w * dslope, layer)

    entries = []
    for layer, A, r in zip(params, inputs, reading, strict=True):
        one = functools.partial(weighted, layer)
        derivatives = r.samples[1:]
        if is_stacked(layer):
            sums = jax.lax.map(lambda each, one=one: one(*each), (A, *derivatives))
        else:
            sums = one(A, *derivatives)
        entries.append(Reading(sums))
    return tuple(entries)


INSTRUMENTS = {
    "grad": Instrument(
        lambda step: Reading(sums=_sum(step)), _gradient, at_layer=_mean_loss_gradient
    ),
    "per_sample_grads": Instrument(
        lambda step: Reading(samples=_grads(step)),
        lambda J, params, m, reading: like(params, reading.samples),
    ),
    "per_sample_norms": Instrument(
        lambda step: Reading(samples=_norms(step)),
        lambda J, params, m, reading: _columns(params, reading.samples),
    ),
    "per_sample_sq_norms": Instrument(
        lambda step: Reading(samples=_norms(step)),
        lambda J, params, m, reading: _columns(params, reading.samples) ** 2,
    ),
    "gradient_moments": Instrument(
        lambda step: Reading(sums=(_sum(step), _sum_of_squares(step))),
        _finish_moments,
        at_layer=_moments,
    ),
    "noise_scale": Instrument(
        lambda step: Reading(sums=_sum(step), samples=_norms(step)), _finish_noise
    ),
    "clipped_grad": Instrument(
        lambda step: Reading(samples=(_norms(step), step.dZ, step.dslope)),
        _gradient,
        at_layer=_mean_loss_gradient,
        reweigh=_clip,
    ),
    "gradient_gram": Instrument(
        lambda step: Reading(sums=_gram(step, step)),
        lambda J, params, m, reading: _stacked_first(reading.sums),
    ),
}
INSTRUMENTS["moments"] = INSTRUMENTS["gradient_moments"]


def _stacked_first(blocks: tuple) -> Float[Array, "L m k"]:
    return jnp.concatenate([K if K.ndim == 3 else K[None] for K in blocks])


# --- one walk, or one for each microbatch ---------------------------------------------------------


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def read_all(J: Objective, wanted: tuple, size: int, params, X, Y, max_norm):
    """Return J and what each wanted instrument says, `size` samples at a time; unchecked."""
    m = len(X)
    blocks = "gradient_gram" if size < m else None  # pairs samples of different microbatches
    walked = tuple(name for name in wanted if name != blocks)
    tools = [instrument(name) for name in walked]
    if size == m:
        value, readings = _one_batch(J, [_whole(J, m, t) for t in tools], params, max_norm, X, Y)
    else:
        one = functools.partial(_one_batch, J, tools, params, max_norm)
        value, readings = _in_microbatches(one, size, X, Y)
    results = {}
    for name, tool, (sums, samples) in zip(walked, tools, readings, strict=True):
        if size < m or tool.reweigh is not None:
            dtype = params[0].W.dtype
            sums = tuple(tool.at_layer(J, m, dtype, each) for each in sums)
        results[name] = tool.finish(J, params, m, Reading(sums, samples))
    if blocks in wanted:
        results[blocks] = _gram_in_blocks(J, size, params, X, Y)
    return value / divisor(J, m), [results[name] for name in wanted]


def _whole(J: Objective, m: int, tool: Instrument) -> Instrument:
    """The instrument that makes its sums at each layer into what is wanted there and then."""
    if tool.reweigh is not None:
        return tool

    def read(step: Step) -> Reading:
        sums, samples = tool.read(step)
        return Reading(tool.at_layer(J, m, step.dZ.dtype, sums), samples)

    return tool._replace(read=read)


def instrument(name: str | Callable) -> Instrument:
    return INSTRUMENTS[name] if isinstance(name, str) else own_readout(name)


def _one_batch(J: Objective, tools: list[Instrument], params, max_norm, X, Y):
    """One walk: the summed loss, and a Reading for each instrument."""
    seen = walk(J, params, X, Y, lambda step: [tool.read(step) for tool in tools])
    readings = []
    for tool, entries in zip(tools, zip(*seen.readings, strict=True), strict=True):
        if tool.reweigh is not None:
            entries = tool.reweigh(params, seen.inputs, entries, max_norm)
        sums = tuple(entry.sums for entry in entries)
        samples = tuple(
            jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), entry.samples)
            if is_stacked(layer)
            else entry.samples
            for layer, entry in zip(params, entries, strict=True)
        )
        readings.append(Reading(sums, samples))
    return seen.value * divisor(J, len(X)), readings


def _in_microbatches(one: Callable, size: int, X, Y):
    """Walk `size` samples at a time, the last time those that remain."""
    whole = len(X) // size * size

    def body(total, batch):
        value, readings = one(*batch)
        sums = value, [r.sums for r in readings]
        return jax.tree.map(jnp.add, total, sums), [r.samples for r in readings]

    batches = tuple(x[:whole].reshape(-1, size, *x.shape[1:]) for x in (X, Y))
    value, readings = jax.eval_shape(one, *(x[0] for x in batches))
    shapes = value, [r.sums for r in readings]
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    total, samples = jax.lax.scan(body, zeros, batches)
    samples = jax.tree.map(lambda x: x.reshape(whole, *x.shape[2:]), samples)
    if whole < len(X):
        value, rest = one(X[whole:], Y[whole:])
        total = jax.tree.map(jnp.add, total, (value, [r.sums for r in rest]))
        samples = jax.tree.map(
            lambda x, y: jnp.concatenate([x, y]), samples, [r.samples for r in rest]
        )
    value, sums = total
    return value, [Reading(*parts) for parts in zip(sums, samples, strict=True)]


def _gram_in_blocks(J: Objective, size: int, params, X, Y) -> Float[Array, "L m m"]:
    """The Gram matrices of all pairs of microbatches; the last one overlaps the one before it."""
    m = len(X)
    starts = jnp.array([*range(0, m - size, size), m - size])

    def steps(at):
        x, y = (jax.lax.dynamic_slice_in_dim(data, at, size) for data in (X, Y))
        return walk(J, params, x, y, lambda step: step).readings

    def block(rows, columns):
        pairs = zip(params, rows, columns, strict=True)
        return _stacked_first(
            tuple((jax.vmap(_gram) if is_stacked(p) else _gram)(r, c) for p, r, c in pairs)
        )

    def row(K, i):
        rows = steps(i)

        def column(K, j):
            return jax.lax.dynamic_update_slice(K, block(rows, steps(j)), (0, i, j)), None

        return jax.lax.scan(column, K, starts)

    K = jnp.zeros((J.mlp.num_layers, m, m), X.dtype)
    return jax.lax.scan(row, K, starts)[0]
