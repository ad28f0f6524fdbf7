"""Readouts of a leaf: quantities of the samples' own gradients, from A and dZ of its products.

Sample i's gradient is `G_i = A_i.T @ dZ_i`, a sum over t positions, with A_i `(t, d_in)` and dZ_i
`(t, d_out)`. If t = 1, the readouts of a dense layer are used. If t > 1:

- mean: `A.T @ dZ / m`, with all positions of all samples as rows;
- norm: `sqrt(sum((A_i A_i^T) * (dZ_i dZ_i^T)))`, or from G_i if that is smaller;
- moments, deviation: from G_i, of a few samples at a time;
- inner products: from G_i.

No entry of a leaf is in two of its products, so squares and inner products add up. A leaf that the
loss does not use has no product, and its gradient is 0. Results are float32 or wider; only `grads`
has the dtype of the leaf. Nothing is squared before it is scaled.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmlp import numerics
from jaxmlp.backprop import summed
from jaxmlp.layer import Pair
from jaxmlp.per_sample import readouts
from jaxmlp.per_sample.any_model.derivatives import Own, Product
from jaxmlp.per_sample.readouts import GradientMoments

# A sum over positions cancels if the gradient is small against its parts. Chosen: as long as its
# square is more than 1/32 of that of its parts, the rounding error of the norm grows less than
# 16-fold (half of 32, because of the root)
CANCELLED = 1 / 32


# --- readouts of a leaf ---------------------------------------------------------------------------


def mean(own: Own, weights: Float[Array, " m"] | None = None) -> Float[Array, "..."]:
    """Return the mean of the samples' own gradients, each times its weight."""
    return _placed(own, lambda product: mean_of(product, weights), _zeros(own))


def grads(own: Own) -> Float[Array, "m ..."]:
    """Return each sample's own gradient, `(m, *shape)`."""
    parts = zip(own.products, each_of(grads_of, own), strict=True)
    placed = [jax.vmap(product.place)(G) for product, G in parts]
    return sum(placed, _zeros(own, own.m)).astype(own.leaf.dtype)


def norms(own: Own) -> Float[Array, " m"]:
    """Return the norm of each sample's own gradient."""
    each = each_of(norms_of, own)
    if len(each) < 2:
        return each[0] if each else jnp.zeros(own.m, _zeros(own).dtype)
    return numerics.norm(jnp.stack(each), axis=0)


def moments(own: Own) -> GradientMoments:
    """Return the moments over the samples of every entry of the gradient."""
    return _placed(own, moments_of, GradientMoments(*3 * [_zeros(own)]))


def deviation(own: Own) -> Float[Array, ""]:
    """Return `sqrt(sum_i |g_i - mean|^2)`."""
    return numerics.norm(jnp.stack([_zeros(own).dtype.type(0), *each_of(deviation_of, own)]))


def gram(one: Own, other: Own) -> Float[Array, "m k"]:
    """Return the inner products of two groups of samples' own gradients."""
    zeros = jnp.zeros((one.m, other.m), _zeros(one).dtype)
    return sum(each_of(gram_of, one, other), zeros)


def each_of(of: Callable, *owns: Own) -> list:
    """Return `of(product)` of each product; it multiplies as precisely as the loss does."""
    found = []
    for products in zip(*(own.products for own in owns), strict=True):
        with jax.default_matmul_precision(products[0].precision):
            found.append(of(*products))
    return found


def _placed(own: Own, of: Callable, zeros: Any) -> Any:
    """Return the sum of `of(product)` over the products, each put into the axes of the leaf."""
    pairs = zip(own.products, each_of(of, own), strict=True)
    parts = [jax.tree.map(product.place, part) for product, part in pairs]
    return jax.tree.map(lambda *entries: sum(entries), zeros, *parts)


def _zeros(own: Own, *lead: int) -> Array:
    wide = jnp.promote_types(own.leaf.dtype, jnp.float32)
    return jnp.zeros((*lead, *own.leaf.shape), wide)


# --- readouts of a product ------------------------------------------------------------------------


def mean_of(product: Product, weights: Float[Array, " m"] | None = None) -> Float[Array, "i o"]:
    """Return the mean of the samples' own gradients, each times its weight."""
    A = product.A if weights is None else product.A * weights[:, None, None]
    A, dZ = (x.reshape(len(x) * product.t, x.shape[2]) for x in (A, product.dZ))
    return summed(A, dZ, {}).W / len(product.A)


def grads_of(product: Product) -> Float[Array, "m i o"]:
    """Return each sample's own gradient, `A_i.T @ dZ_i`."""
    return _contract("mti,mto->mio", product.A, product.dZ)


def norms_of(product: Product) -> Float[Array, " m"]:
    """Return the norm of each sample's own gradient."""
    A, dZ = _wide(product.A), _wide(product.dZ)
    if product.t == 1:
        return readouts.norms(A[:, 0], dZ[:, 0])
    # Scale each a_t near 1 and its dz_t by the inverse, then all dz_t by the largest of a sample
    A, scale = _unit(A, (2,))
    dZ, of_sample = _unit(dZ / scale[:, :, None], (1, 2))
    if products_are_smaller(product.t, A.shape[2], dZ.shape[2]):
        return _norms_by_products(A, dZ) / of_sample
    return numerics.norm(_contract("mti,mto->mio", A, dZ), (1, 2)) / of_sample


def products_are_smaller(t: int, d_in: int, d_out: int) -> bool:
    """Return whether the two `(t, t)` products of a sample are smaller than its gradient."""
    return 2 * t * t <= d_in * d_out


def _norms_by_products(A, dZ) -> Float[Array, " m"]:
    """Return norms from the products of positions. If those of a sample cancel, form G_i."""
    K = _contract("mti,msi->mts", A, A) * _contract("mto,mso->mts", dZ, dZ)
    squares, parts = jnp.sum(K, (1, 2)), jnp.trace(K, axis1=1, axis2=2)
    cancelled = squares < CANCELLED * parts

    # One sample after another only if one cancels: otherwise nothing is formed
    def by_gradient(a, dz, square):
        return numerics.norm(_contract("ti,to->io", a, dz))

    def by_products(a, dz, square):
        return jnp.sqrt(square)

    def one_by_one():
        each = cancelled, A, dZ, squares
        return jax.lax.map(lambda of: jax.lax.cond(of[0], by_gradient, by_products, *of[1:]), each)

    return jax.lax.cond(cancelled.any(), one_by_one, lambda: jnp.sqrt(squares))


def moments_of(product: Product) -> GradientMoments:
    """Return the moments over the samples of every entry of the gradient."""
    (A, of_A), (dZ, of_dZ) = (_unit(x, (0, 1)) for x in (product.A, product.dZ))  # of each column
    if product.t == 1:
        found = [by_name["W"] for by_name in readouts.moments(A[:, 0], dZ[:, 0])]
    else:
        mean, squares = _squared_deviations(A, dZ)
        found = [mean, mean**2 + squares / len(A), squares / max(len(A) - 1, 1)]
    scale = jnp.outer(of_A, of_dZ)
    return GradientMoments(found[0] / scale, *(x / scale / scale for x in found[1:]))


def deviation_of(product: Product) -> Float[Array, ""]:
    """Return `sqrt(sum_i |G_i - mean|^2)`."""
    if product.t == 1:
        return readouts.deviation(product.A[:, 0], product.dZ[:, 0])
    (A, of_A), (dZ, of_dZ) = _unit(product.A), _unit(product.dZ)
    return jnp.sqrt(jnp.sum(_squared_deviations(A, dZ)[1])) / of_A / of_dZ


def _squared_deviations(A, dZ) -> tuple[Array, Array]:
    """Return the mean, and `sum_i (G_i - mean)^2`, entry by entry.

    With the means a and d over the samples, `alpha_i = A_i - a` and `delta_i = dZ_i - d`, G_i is
    `a.T @ d` plus `alpha_i.T @ dZ_i + a.T @ delta_i`. Samples that are nearly alike have the first
    term in common, and it is left out before anything is squared. G_i is formed for a few samples
    at a time.
    """
    m, t, d_in, d_out = *A.shape, dZ.shape[2]
    a, dz = A.mean(0), dZ.mean(0)
    alpha, delta = A - a, dZ - dz
    mean, common = mean_of(Product(A, dZ)), _contract("ti,to->io", a, dz)
    # As many samples as need no more memory than A and dZ
    most = min(m, max(1, m * t * (d_in + d_out) // max(d_in * d_out, 1)))
    size = max(k for k in range(1, most + 1) if m % k == 0)

    def add(squares, few):
        alpha, dZ, delta = few
        rows = jnp.concatenate([alpha, jnp.broadcast_to(a, alpha.shape)], axis=1)
        G = _contract("mti,mto->mio", rows, jnp.concatenate([dZ, delta], axis=1))
        return squares + jnp.sum((G - (mean - common)) ** 2, 0), None

    few = tuple(x.reshape(m // size, size, *x.shape[1:]) for x in (alpha, dZ, delta))
    return mean, jax.lax.scan(add, jnp.zeros_like(mean), few)[0]


def gram_of(one: Product, other: Product) -> Float[Array, "m k"]:
    """Return the inner products of two groups of samples' own gradients."""
    pairs, scales = [], []
    for A, dZ in (one[:2], other[:2]):
        if one.t > 1:  # form the gradient, and write it as a product with the input 1
            dZ = _contract("mti,mto->mio", A, dZ)
            A = jnp.ones((len(A), 1), dZ.dtype)
        (A, of_A), (dZ, of_dZ) = (_unit(x.reshape(len(x), -1)) for x in (A, dZ))
        pairs.append(Pair(A, dZ, {}))
        scales.append((of_A, of_dZ))
    K = readouts.gram(*pairs)
    for of_A, of_dZ in scales:
        K = K / of_A / of_dZ
    return K


# --- numbers --------------------------------------------------------------------------------------


def _unit(x: Array, axis: tuple[int, ...] | None = None) -> tuple[Array, Array]:
    """Return x times a power of two that brings it near 1, and that power; float32 or wider."""
    x = _wide(x)
    scale = numerics.power_of_two_scale(x, axis)
    return x * scale, scale.squeeze(axis)


def _wide(x: Array) -> Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _contract(axes: str, x: Array, y: Array) -> Array:
    """Return an einsum that adds in float32 or wider."""
    wide = jnp.promote_types(jnp.result_type(x, y), jnp.float32)
    return jnp.einsum(axes, x, y, preferred_element_type=wide)
