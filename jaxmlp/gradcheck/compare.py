"""Comparing gradients: relative, for each leaf and each layer, never with an absolute tolerance."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
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


class Numbers(NamedTuple):
    """How far one array is from another; every number is free of their size.

    difference: `max|c - r| / max|r|`; cosine and norm_ratio: of c against r; sign_flips: entries
    of opposite sign; ulp: `max|c - r|` in units of the last place of r's largest entry.
    """

    difference: float
    cosine: float
    norm_ratio: float
    sign_flips: int
    ulp: float


def numbers(candidate: np.ndarray, reference: np.ndarray, eps: float) -> Numbers:
    """Return the numbers that compare two arrays of one shape, in float64; eps sizes the ulp."""
    c, r = flushed(candidate), flushed(reference)
    kc, kr = magnitude(c), magnitude(r)
    with np.errstate(all="ignore"):  # NaN and infinity are an answer here
        error = np.max(np.abs(np.ldexp(c, -kr) - np.ldexp(r, -kr)), initial=0)
        c, r_own = np.ldexp(c, -kc), np.ldexp(r, -kr)
        norm_c, norm_r = (np.sqrt(np.sum(x * x)) for x in (c, r_own))
        size = np.max(np.abs(r_own), initial=0)
        alike = 1.0 if norm_c == norm_r == 0 else np.sum(c * r_own) / (norm_c * norm_r)
        ratio = 1.0 if norm_c == norm_r == 0 else np.ldexp(norm_c / norm_r, kc - kr)
        return Numbers(
            float(error / size) if error != 0 else 0.0,
            float(alike),
            float(ratio),
            int(np.sum(np.sign(c) * np.sign(r_own) < 0)),
            float(error / (eps / 2)),
        )


def relative(candidate: np.ndarray, reference: np.ndarray) -> float:
    """Return `max|c - r| / max|r|` alone, of two float64 arrays."""
    k = magnitude(reference)
    with np.errstate(all="ignore"):
        c, r = np.ldexp(candidate, -k), np.ldexp(reference, -k)
        error, size = np.max(np.abs(c - r), initial=0), np.max(np.abs(r), initial=0)
        return float(error / size) if error != 0 else 0.0


def magnitude(x: np.ndarray) -> int:
    """Return k with max|x| in [2^(k-1), 2^k); 0 for zeros and what is not finite."""
    largest = np.max(np.abs(x), initial=0)
    return int(np.frexp(largest)[1]) if np.isfinite(largest) else 0


def flushed(x: np.ndarray) -> np.ndarray:
    """Return x in float64 with subnormals as 0, which is what XLA makes of them."""
    x = np.asarray(x).astype(np.float64)
    return np.where(np.abs(x) < np.finfo(np.float64).tiny, 0.0, x)
