"""What A and dZ of a weight at t positions say of the samples' own gradients.

Sample i's gradient is `G_i = A_i.T @ dZ_i`, a sum over positions, with A_i `(t, d_in)` and dZ_i
`(t, d_out)`. Everything is computed in float32 at least. Nothing is squared before it is scaled.

| quantity | one position | more |
|---|---|---|
| sum | `A.T @ dZ` | the same, samples and positions as rows |
| norm | `|a_i| |dz_i|` | `sqrt(sum((A_i A_i^T) * (dZ_i dZ_i^T)))`, or by G_i if it is smaller |
| squared deviations | by parts, from those of `a_i` and `dz_i` | those of G_i, a few at a time |
| inner products | `(A A^T) * (dZ dZ^T)` | of G_i |
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmlp import numerics

# Products of positions cancel if the gradient is small against its parts. Down to this share of the
# parts' squares the rounding error of the norm grows by less than 16.
CANCELLED = 1 / 32


class Product(NamedTuple):
    """A weight's input, each sample's own derivative in its output, and how they are multiplied."""

    A: Float[Array, "m t d_in"]
    dZ: Float[Array, "m t d_out"]
    precision: Any = None


def unit(x: Array, axis: tuple[int, ...] | None = None) -> tuple[Array, Array]:
    """Return x times a power of two that brings it near 1, in float32 at least; and the power."""
    x = wide(x)
    scale = numerics.power_of_two_scale(x, axis)
    return x * scale, scale.squeeze(axis)


def wide(x: Array) -> Array:
    """Return x in float32 at least."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def grads(product: Product) -> Float[Array, "m d_in d_out"]:
    """Return each sample's own gradient, `A_i.T @ dZ_i`."""
    return _einsum("mti,mto->mio", *product)


def total(product: Product, weights: Float[Array, " m"] | None = None) -> Float[Array, "i o"]:
    """Return the sum of the samples' own gradients, each times its weight."""
    A, dZ, precision = product
    if weights is not None:
        A = A * weights[:, None, None]
    A, dZ = (x.reshape(-1, x.shape[-1]) for x in (A, dZ))
    return _einsum("ni,no->io", A, dZ, precision)


# --- norms ----------------------------------------------------------------------------------------


def norms(product: Product) -> Float[Array, " m"]:
    """Return the norm of each sample's own gradient."""
    A, dZ, precision = product
    t, d_in, d_out = *A.shape[1:], dZ.shape[2]
    if t == 1:
        return numerics.norm(wide(A), (1, 2)) * numerics.norm(wide(dZ), (1, 2))
    # Bring each a_t near 1, which its dz_t makes up for, then the largest dz_t
    A, scale = unit(A, (2,))
    dZ, of_sample = unit(wide(dZ) / scale[:, :, None], (1, 2))
    if products_are_smaller(t, d_in, d_out):
        roots = _norms_by_products(A, dZ, precision)
    else:
        roots = numerics.norm(grads(Product(A, dZ, precision)), (1, 2))
    return roots / of_sample


def products_are_smaller(t: int, d_in: int, d_out: int) -> bool:
    """Whether the two `(t, t)` products of a sample are smaller than its gradient."""
    return 2 * t * t <= d_in * d_out


def _norms_by_products(A, dZ, precision) -> Float[Array, " m"]:
    """Norms by the products of positions; by the gradient for samples whose products cancel."""
    K = _einsum("mti,msi->mts", A, A, precision) * _einsum("mto,mso->mts", dZ, dZ, precision)
    squares, parts = jnp.sum(K, (1, 2)), jnp.trace(K, axis1=1, axis2=2)
    cancelled = squares < CANCELLED * parts

    def by_gradient(a, dz, square):
        return numerics.norm(_einsum("ti,to->io", a, dz, precision))

    def by_products(a, dz, square):
        return jnp.sqrt(square)

    def one_by_one():
        each = cancelled, A, dZ, squares
        return jax.lax.map(lambda of: jax.lax.cond(of[0], by_gradient, by_products, *of[1:]), each)

    return jax.lax.cond(cancelled.any(), one_by_one, lambda: jnp.sqrt(squares))


# --- deviations from the mean ---------------------------------------------------------------------


def squared_deviations(product: Product, mean: Float[Array, "i o"]) -> Float[Array, "i o"]:
    """Return `sum_i (G_i - mean)^2`, entry by entry.

    With `alpha_i = A_i - mean(A)` and `delta_i = dZ_i - mean(dZ)`, means over the samples, G_i is
    `mean(A).T @ mean(dZ)` plus `alpha_i.T @ dZ_i + mean(A).T @ delta_i`: what samples that are
    nearly alike have in common cancels before anything is rounded or squared. Gradients that are
    alike although A and dZ are not are told apart down to eps times their size.
    """
    (A, of_A), (dZ, of_dZ) = (unit(x, (0, 1)) for x in product[:2])  # scales of each column
    scale = jnp.outer(of_A, of_dZ)
    scaled = Product(A, dZ, product.precision)
    of = _squares_by_parts if A.shape[1] == 1 else _squares_a_few_at_a_time
    return of(scaled, wide(mean) * scale) / scale / scale


def deviation(product: Product, mean: Float[Array, "i o"]) -> Float[Array, ""]:
    """Return `sqrt(sum_i |G_i - mean|^2)`."""
    (A, of_A), (dZ, of_dZ) = unit(product.A), unit(product.dZ)
    scaled = Product(A, dZ, product.precision)
    of = _norm_by_parts if A.shape[1] == 1 else _squares_a_few_at_a_time
    squares = jnp.sum(of(scaled, wide(mean) * of_A * of_dZ))
    return jnp.sqrt(squares) / of_A / of_dZ


def _squares_by_parts(product: Product, mean) -> Float[Array, "i o"]:
    """One position: the squares of `alpha_i (outer) dz_i + a (outer) delta_i`, summed by parts."""
    A, dZ, a, dz, alpha, delta = (x[..., 0, :] for x in _centred(product))
    squares = (
        _einsum("mi,mo->io", alpha**2, dZ**2, product.precision)
        + 2 * a[:, None] * _einsum("mi,mo->io", alpha, dZ * delta, product.precision)
        + jnp.outer(a**2, jnp.sum(delta**2, 0))
    )
    return jnp.maximum(squares - len(A) * (mean - jnp.outer(a, dz)) ** 2, 0)


def _norm_by_parts(product: Product, mean) -> Float[Array, ""]:
    """The sum of all entries of `_squares_by_parts`, from numbers of the samples."""
    A, dZ, a, dz, alpha, delta = (x[..., 0, :] for x in _centred(product))
    squares = (
        jnp.sum(alpha**2, 1) * jnp.sum(dZ**2, 1)
        + jnp.sum(a**2) * jnp.sum(delta**2, 1)
        + 2 * (alpha @ a) * jnp.sum(dZ * delta, 1)
    )
    return jnp.maximum(squares.sum() - len(A) * jnp.sum((mean - jnp.outer(a, dz)) ** 2), 0)


def _squares_a_few_at_a_time(product: Product, mean) -> Float[Array, "i o"]:
    """More positions: deviations are formed, of as many samples as need no more than A and dZ."""
    A, dZ, a, dz, alpha, delta = _centred(product)
    m, t, d_in, d_out = *A.shape, dZ.shape[2]
    most = min(m, max(1, m * t * (d_in + d_out) // (d_in * d_out)))
    size = max(k for k in range(1, most + 1) if m % k == 0)
    off = mean - _einsum("ti,to->io", a, dz, product.precision)

    def add(squares, few):
        alpha, dZ, delta = few
        rows = jnp.concatenate([alpha, jnp.broadcast_to(a, alpha.shape)], axis=1)
        G = grads(Product(rows, jnp.concatenate([dZ, delta], axis=1), product.precision))
        return squares + jnp.sum((G - off) ** 2, 0), None

    few = tuple(x.reshape(m // size, size, *x.shape[1:]) for x in (alpha, dZ, delta))
    return jax.lax.scan(add, jnp.zeros_like(mean), few)[0]


def _centred(product: Product) -> tuple[Array, ...]:
    """A, dZ, their means over the samples, and the deviations from these."""
    A, dZ = product.A, product.dZ
    a, dz = A.mean(0), dZ.mean(0)
    return A, dZ, a, dz, A - a, dZ - dz


# --- pairs of samples -----------------------------------------------------------------------------


def inner_products(rows: Product, columns: Product) -> Float[Array, "m k"]:
    """Return the inner products of the gradients of two groups of samples."""
    if rows.A.shape[1] > 1:
        return flat_inner_products(grads(rows), grads(columns), rows.precision)
    (A, of_A), (dZ, of_dZ) = unit(rows.A), unit(rows.dZ)
    (B, of_B), (dY, of_dY) = unit(columns.A), unit(columns.dZ)
    K = flat_inner_products(A, B, rows.precision) * flat_inner_products(dZ, dY, rows.precision)
    return K / (of_A * of_dZ) / (of_B * of_dY)


def flat_inner_products(rows: Array, columns: Array, precision: Any = None) -> Float[Array, "m k"]:
    """Return the inner products of the samples of two arrays `(m, ...)` and `(k, ...)`."""
    rows, columns = (x.reshape(len(x), -1) for x in (rows, columns))
    return _einsum("mi,ki->mk", rows, columns, precision)


def _einsum(axes: str, x: Array, y: Array, precision: Any) -> Array:
    dtype = jnp.promote_types(jnp.result_type(x, y), jnp.float32)
    return jnp.einsum(axes, x, y, precision=precision, preferred_element_type=dtype)
