"""Comparing gradients: relative to their own size, for each leaf and layer, never absolute."""

from typing import Any, overload

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxmlp.layer import Layer
from jaxmlp.numerics import power_of_two_scale


@overload
def relative_difference(candidate: np.ndarray, reference: np.ndarray) -> float: ...
@overload
def relative_difference(candidate: Any, reference: Any) -> Array: ...
def relative_difference(candidate, reference):
    """Return `max|candidate - reference| / max|reference|`: of two arrays, or for each layer.

    It is 0 where both are exactly zero, inf where only the reference is, NaN where either holds a
    NaN. Near the end of its range a precision cannot decide: entries below 1e-30 in float32 have
    lost bits to underflow on the way, in both gradients. Compare such layers in float64.

    Args:
      candidate, reference: two arrays; or two gradients in the pytree of params, grouped alike.

    Returns:
      A number for two arrays, a Python float if both are NumPy's; for gradients `(L,)`, of each
      layer the largest over its W, b and slope.

    Example:
      >>> relative_difference(np.array([1e-40, 2e-40]), np.array([1e-40, 4e-40]))
      0.5
    """
    if isinstance(reference, list | tuple):
        pairs = zip(candidate, reference, strict=True)
        return jnp.concatenate([_of_layer(c, r) for c, r in pairs])
    if isinstance(candidate, np.ndarray) and isinstance(reference, np.ndarray):
        return _on_host(candidate, reference)
    return _ratio(jnp.asarray(candidate), jnp.asarray(reference), lead=0)


def _of_layer(candidate: Layer, reference: Layer) -> Array:
    lead = reference.W.ndim - 2
    ratios = jax.tree.map(lambda c, r: _ratio(c, r, lead), candidate, reference)
    return jnp.atleast_1d(jnp.max(jnp.stack(jax.tree.leaves(ratios)), axis=0))


def _ratio(c, r, lead: int):
    if jnp.shape(c) != jnp.shape(r):
        raise ValueError(
            f"candidate and reference must have one shape, got {jnp.shape(c)} and {jnp.shape(r)}"
        )
    axes = tuple(range(lead, r.ndim))
    scale = power_of_two_scale(r, axes)  # exact, and keeps c - r from being flushed to 0
    error, size = (jnp.max(jnp.abs(x), axis=axes) for x in (c * scale - r * scale, r * scale))
    return jnp.where(error == 0, 0, error / size)


def _on_host(candidate: np.ndarray, reference: np.ndarray) -> float:
    if candidate.shape != reference.shape:
        raise ValueError(
            f"candidate and reference must have one shape, got {candidate.shape} and "
            f"{reference.shape}"
        )
    k = magnitude(reference)
    with np.errstate(all="ignore"):  # NaN and infinity are an answer here
        c, r = np.ldexp(candidate, -k), np.ldexp(reference, -k)
        error, size = np.max(np.abs(c - r), initial=0), np.max(np.abs(r), initial=0)
        return float(error / size) if error != 0 else 0.0


def magnitude(x: np.ndarray) -> int:
    """Return k with max|x| in [2^(k-1), 2^k); 0 for zeros and what is not finite."""
    largest = np.max(np.abs(x), initial=0)
    return int(np.frexp(largest)[1]) if np.isfinite(largest) else 0
