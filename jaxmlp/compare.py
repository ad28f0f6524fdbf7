"""The difference of two gradients, relative to the size of each leaf or layer, never absolute."""

import functools
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

    It is 0 if both are exactly zero, inf if only the reference is, and NaN if either holds a NaN.
    Very small gradients cannot be compared in their own precision: float32 entries below 1e-30
    have lost bits to underflow on the way, in both gradients. Compare such layers in float64.

    Args:
      candidate, reference: two arrays; or two gradients in the pytree of params, grouped alike.

    Returns:
      For two arrays a number, a Python float if both are NumPy's. For gradients `(L,)`: of each
      layer the largest difference over its W, b, slope and alpha.

    Example:
      >>> relative_difference(np.array([1e-40, 2e-40]), np.array([1e-40, 4e-40]))
      0.5
    """
    if isinstance(reference, list | tuple):
        pairs = zip(candidate, reference, strict=True)
        return jnp.concatenate([_of_layer(c, r) for c, r in pairs])
    if not (isinstance(candidate, np.ndarray) and isinstance(reference, np.ndarray)):
        return _ratio(jnp.asarray(candidate), jnp.asarray(reference), lead=0)
    _check_shapes(candidate, reference)
    # NumPy arrays are scaled by a power of two, which is exact; NaN and infinity are answers here
    k = magnitude(reference)
    with np.errstate(all="ignore"):
        c, r = np.ldexp(candidate, -k), np.ldexp(reference, -k)
        error, size = np.max(np.abs(c - r), initial=0), np.max(np.abs(r), initial=0)
        return float(error / size) if error != 0 else 0.0


def _of_layer(candidate: Layer, reference: Layer) -> Array:
    lead = reference.W.ndim - 2
    ratios = jax.tree.map(lambda c, r: _ratio(c, r, lead), candidate, reference)
    return jnp.atleast_1d(jnp.max(jnp.stack(jax.tree.leaves(ratios)), axis=0))


def _check_shapes(c, r) -> None:
    """Refuse two arrays of different shapes, even if they broadcast."""
    if c.shape != r.shape:
        raise ValueError(
            f"candidate and reference must have one shape, got {c.shape} and {r.shape}"
        )


@functools.partial(jax.jit, static_argnames="lead")
def _ratio(c, r, lead: int):
    _check_shapes(c, r)
    axes = tuple(range(lead, r.ndim))
    scale = power_of_two_scale(r, axes)  # exact, and keeps c - r from being flushed to 0
    error, size = (jnp.max(jnp.abs(x), axis=axes) for x in (c * scale - r * scale, r * scale))
    return jnp.where(error == 0, 0, error / size)


def magnitude(x: np.ndarray) -> int:
    """Return k with max|x| in [2^(k-1), 2^k); 0 if max|x| is 0 or not finite."""
    largest = np.max(np.abs(x), initial=0)
    return int(np.frexp(largest)[1]) if np.isfinite(largest) else 0
