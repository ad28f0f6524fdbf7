"""Readouts of arrays: what a layer's input A and its samples' own derivatives dZ say.

For a dense layer `Z = A @ W + b` of any JAX model: sample i's own gradient of W is
`a_i (outer) dz_i`, with rows of A and dZ, and that of b is `dz_i`. Nothing else is needed.

Source: I. Goodfellow, "Efficient per-example gradient computations", arXiv:1510.01799, 2015.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmlp import numerics


def grads(A: Float[Array, "m d_in"], dZ: Float[Array, "m d_out"]) -> Float[Array, "m d_in d_out"]:
    """Return each sample's own gradient of W, `a_i (outer) dz_i`; that of b is dZ itself.

    Args:
      A: the layer's input, `Z = A @ W + b`.
      dZ: each sample's own derivative (of its own loss, no 1/m) in Z.
    """
    return A[:, :, None] * dZ[:, None, :]


def norms(
    A: Float[Array, "m d_in"], dZ: Float[Array, "m d_out"], *, use_bias: bool = True
) -> Float[Array, " m"]:
    """Return the norm of each sample's own gradient, `sqrt(|a_i|^2 + 1) |dz_i|`.

    Right wherever the gradient itself is representable: nothing is squared before it is scaled.

    Args:
      A, dZ: as `grads` takes them.
      use_bias: whether the layer has a bias; without it `|a_i| |dz_i|`.

    Example:
      >>> norms(jnp.array([[3.0, 4.0]]), jnp.array([[1e-30, 0.0]]), use_bias=False)
      Array([5.e-30], dtype=float32)
    """
    of_A = numerics.norm(A, axis=1)
    return (jnp.hypot(of_A, 1) if use_bias else of_A) * numerics.norm(dZ, axis=1)


def moments(
    A: Float[Array, "m d_in"], dZ: Float[Array, "m d_out"]
) -> tuple[Float[Array, "d_in d_out"], Float[Array, "d_in d_out"]]:
    """Return mean and second moment over the samples of W's gradient, entry by entry.

    `A.T @ dZ / m` and `(A^2).T @ (dZ^2) / m`; those of b are the means of dZ and of dZ^2.
    """
    mean = _at_least_float32(jnp.matmul, A.T, dZ) / len(A)
    second = _at_least_float32(jnp.matmul, (A**2).T, dZ**2) / len(A)
    return mean.astype(dZ.dtype), second.astype(dZ.dtype)


def gram(
    A: Float[Array, "m d_in"], dZ: Float[Array, "m d_out"], *, use_bias: bool = True
) -> Float[Array, "m m"]:
    """Return the inner products of the samples' own gradients, `(A A^T + 1) * (dZ dZ^T)`.

    Args:
      A, dZ, use_bias: as `norms` takes them. The diagonal is `norms` squared.
    """
    return inner_products((A, dZ), (A, dZ), use_bias=use_bias)


def inner_products(rows: tuple, columns: tuple, *, use_bias: bool = True) -> Float[Array, "m k"]:
    """Return the inner products of two groups of samples, each given as `(A, dZ)`."""
    of_A, of_dZ = (_at_least_float32(jnp.inner, x, y) for x, y in zip(rows, columns, strict=True))
    return ((of_A + int(use_bias)) * of_dZ).astype(rows[1].dtype)


def _at_least_float32(product, x, y):
    """The product with half precision summed in float32."""
    return product(x, y, preferred_element_type=jnp.promote_types(x.dtype, jnp.float32))
