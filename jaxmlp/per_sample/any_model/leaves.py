"""The same quantities of one leaf: of its products, or of the gradients formed.

The products of a leaf share no entry of it, so squares of norms, squared deviations and inner
products add up. A leaf that the loss does not use has no product, and its gradient is 0.
Everything is in float32 at least; only `grads` has the dtype of the leaf.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmlp import numerics
from jaxmlp.per_sample.any_model import products
from jaxmlp.per_sample.any_model.derivatives import Own
from jaxmlp.per_sample.any_model.products import Product, wide


def of_uses(own: Own) -> list[Product]:
    """Return the products of a leaf, in the order of its uses."""
    uses = own.leaf.uses
    return [Product(*pair, use.precision) for pair, use in zip(own.pairs, uses, strict=True)]


def grads(own: Own) -> Float[Array, "m ..."]:
    """Return each sample's own gradient, `(m, *shape)`."""
    if own.formed is not None:
        return own.formed
    placed = jnp.zeros((own.m, *own.leaf.shape), _dtype(own))
    for use, product in zip(own.leaf.uses, of_uses(own), strict=True):
        placed += jax.vmap(lambda G, use=use: use.place(G, own.leaf.shape))(products.grads(product))
    return placed.astype(own.leaf.dtype)


def total(own: Own, weights: Float[Array, " m"] | None = None) -> Float[Array, "..."]:
    """Return the sum of the samples' own gradients, each times its weight."""
    if own.formed is not None:
        each = wide(own.formed)
        return each.sum(0) if weights is None else jnp.tensordot(weights, each, 1)
    return _placed(own, lambda product: products.total(product, weights))


def norms(own: Own) -> Float[Array, " m"]:
    """Return the norm of each sample's own gradient."""
    if own.formed is not None:
        return numerics.norm(wide(own.formed).reshape(own.m, -1), axis=1)
    each = [products.norms(product) for product in of_uses(own)]
    if len(each) == 1:
        return each[0]
    return numerics.norm(jnp.stack(each), axis=0) if each else jnp.zeros(own.m, _dtype(own))


def squared_deviations(own: Own) -> Float[Array, "..."]:
    """Return `sum_i (g_i - mean)^2`, entry by entry."""
    if own.formed is not None:
        each, scale = products.unit(own.formed, (0,))  # of each entry
        return jnp.sum((each - each.mean(0)) ** 2, 0) / scale / scale

    def of(product: Product):
        return products.squared_deviations(product, products.total(product) / own.m)

    return _placed(own, of)


def deviation(own: Own) -> Float[Array, ""]:
    """Return `sqrt(sum_i |g_i - mean|^2)`."""
    if own.formed is not None:
        return numerics.norm(wide(own.formed) - wide(own.formed).mean(0))
    each = [products.deviation(p, products.total(p) / own.m) for p in of_uses(own)]
    return numerics.norm(jnp.stack([jnp.zeros((), _dtype(own)), *each]))


def inner_products(rows: Own, columns: Own) -> Float[Array, "m k"]:
    """Return the inner products of the gradients of two groups of samples."""
    if rows.formed is not None and columns.formed is not None:
        return products.flat_inner_products(rows.formed, columns.formed)
    pairs = zip(of_uses(rows), of_uses(columns), strict=True)
    zeros = jnp.zeros((rows.m, columns.m), _dtype(rows))
    return sum((products.inner_products(*pair) for pair in pairs), zeros)


def _placed(own: Own, of: Callable[[Product], Array]) -> Array:
    """What a function says of each product, in the axes of the leaf."""
    placed = jnp.zeros(own.leaf.shape, _dtype(own))
    for use, product in zip(own.leaf.uses, of_uses(own), strict=True):
        placed += use.place(of(product), own.leaf.shape)
    return placed


def _dtype(own: Own):
    return jnp.promote_types(own.leaf.dtype, jnp.float32)
