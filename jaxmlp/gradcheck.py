"""Comparing gradients: relative, for each leaf and each layer, never with an absolute tolerance."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmlp.numerics import power_of_two_scale
from jaxmlp.storage import Layer, is_stacked


def relative_difference(candidate, reference) -> Float[Array, " L"]:
    """Return for each layer 1..L the largest relative difference between two gradients.

    For each of W, b and slope it is `max|candidate - reference| / max|reference|` over that
    layer's entries; the result is the largest of the three: 0 where both are exactly zero, inf
    where only the reference is, NaN where either holds a NaN.

    Near the end of its range a precision cannot decide: entries below 1e-30 in float32 have lost
    bits to underflow on the way, in both gradients. Compare such layers in float64.

    Args:
      candidate, reference: gradients in the pytree of params, of the same grouping.
    """
    rows = [_of_entry(c, r) for c, r in zip(candidate, reference, strict=True)]
    return jnp.concatenate(rows)


def _of_entry(candidate: Layer, reference: Layer) -> Float[Array, " n"]:
    lead = int(is_stacked(reference))

    def ratio(c, r):
        axes = tuple(range(lead, r.ndim))
        scale = power_of_two_scale(r, axes)  # exact, and keeps c - r from being flushed to 0
        error, size = (jnp.max(jnp.abs(x), axis=axes) for x in (c * scale - r * scale, r * scale))
        return jnp.where(error == 0, 0, error / size)

    leaves = jax.tree.leaves(jax.tree.map(ratio, candidate, reference))
    return jnp.atleast_1d(jnp.max(jnp.stack(leaves), axis=0))
