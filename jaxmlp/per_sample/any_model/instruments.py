"""The instruments of any JAX model: a readout of every leaf, and a finish that makes the result.

They are like those of `per_sample.instruments` and merge microbatches with the same functions.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmlp.per_sample.any_model import readouts
from jaxmlp.per_sample.any_model.derivatives import Own, derivatives
from jaxmlp.per_sample.any_model.tracing import Program
from jaxmlp.per_sample.instruments import (
    Reading,
    in_microbatches,
    merged_deviations,
    merged_moments,
    noise,
    weighted,
)
from jaxmlp.per_sample.readouts import GradientMoments
from jaxmlp.per_sample.two_walks import clip_factors, gram_in_blocks


class Instrument(NamedTuple):
    """Describe how a quantity is computed.

    read: `read(own, factors) -> Reading` of one leaf; factors `(m,)` are those of clipping.
    finish: `finish(tree, m, reading)` makes the result from a reading whose parts are lists over
    the leaves. `tree(arrays)` returns a list of arrays as a pytree like params.
    merge: `merge(means, m, other means, k)` joins the means of two microbatches, of one leaf.
    """

    read: Callable[[Own, Any], Reading]
    finish: Callable
    merge: Callable = weighted


def _tree(tree: Callable, m: int, reading: Reading) -> Any:
    return tree(reading.means)


def _columns(tree: Callable, m: int, reading: Reading) -> Float[Array, "m n"]:
    return jnp.stack(reading.samples, axis=1)


INSTRUMENTS = {
    "grad": Instrument(lambda own, _: Reading(means=readouts.mean(own)), _tree),
    "per_sample_grads": Instrument(
        lambda own, _: Reading(samples=readouts.grads(own)),
        lambda tree, m, reading: tree(reading.samples),
    ),
    "per_sample_norms": Instrument(lambda own, _: Reading(samples=readouts.norms(own)), _columns),
    "per_sample_sq_norms": Instrument(
        lambda own, _: Reading(samples=readouts.norms(own)), lambda *args: _columns(*args) ** 2
    ),
    "gradient_moments": Instrument(
        lambda own, _: Reading(means=readouts.moments(own)),
        lambda tree, m, reading: GradientMoments(*map(tree, zip(*reading.means, strict=True))),
        merged_moments,
    ),
    "noise_scale": Instrument(
        lambda own, _: Reading(means=(readouts.mean(own), readouts.deviation(own))),
        lambda tree, m, reading: noise(m, reading.means),
        merged_deviations,
    ),
    "clipped_grad": Instrument(
        lambda own, factors: Reading(means=readouts.mean(own, factors)), _tree
    ),
    "gradient_gram": Instrument(  # of a whole batch; `gram` does it for microbatches
        lambda own, _: Reading(samples=readouts.gram(own, own)),
        lambda tree, m, reading: jnp.stack(reading.samples),
    ),
}
INSTRUMENTS["moments"] = INSTRUMENTS["gradient_moments"]


def users_readout(function: Callable) -> Instrument:
    """Return the instrument of a user's `function(A, dZ)`: a list of what it returns by product."""

    def of_product(product) -> Any:
        pair = product[:2] if product.t > 1 else [x[:, 0] for x in product[:2]]
        return jax.tree.map(jnp.asarray, function(*pair))

    def read(own: Own, _) -> Reading:
        if own.leaf.obstacle is not None:
            return Reading(means=[])
        return Reading(means=readouts.each_of(of_product, own))

    return Instrument(read, lambda tree, m, reading: [x for each in reading.means for x in each])


def read_all(
    program: Program, tools: list[Instrument], size: int, params: list[Array], X, Y, max_norm
) -> tuple[Float[Array, ""], list[Reading]]:
    """Return the mean loss and the reading of each instrument, with `size` samples at a time."""

    def one(x, y):
        losses, owns = derivatives(program, params, x, y)
        factors = None
        if max_norm is not None:  # clipping needs the norms over all leaves first
            factors = clip_factors([readouts.norms(own) for own in owns], max_norm)
        readings = [[tool.read(own, factors) for own in owns] for tool in tools]
        wide = jnp.promote_types(losses.dtype, jnp.float32)
        value = losses.mean(dtype=wide)
        means = [[reading.means for reading in each] for each in readings]
        return (value, means), [[reading.samples for reading in each] for each in readings]

    def merge(so_far, m, others, k):
        means = [
            [tool.merge(x, m, y, k) for x, y in zip(one, other, strict=True)]
            for tool, one, other in zip(tools, so_far[1], others[1], strict=True)
        ]
        return weighted(so_far[0], m, others[0], k), means

    (value, means), samples = in_microbatches(one, merge, size, X, Y)
    value = value.astype(program.traced.out_avals[0].dtype)
    return value, [Reading(*both) for both in zip(means, samples, strict=True)]


def gram(program: Program, size: int, params: list[Array], X, Y) -> Float[Array, "n m m"]:
    """Return the inner products of all pairs of samples' own gradients, in blocks of `size`."""

    def owns(x, y):
        return derivatives(program, params, x, y)[1]

    def of(rows, columns):
        return jnp.stack([readouts.gram(*pair) for pair in zip(rows, columns, strict=True)])

    return gram_in_blocks(owns, of, size, X, Y)
