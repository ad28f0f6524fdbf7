"""Readouts: functions of a layer's arrays that give quantities of the samples' own gradients.

Every function but `gram` takes a `Pair` unpacked, `f(*pair)`:

- A `(m, d_in)`, the input that W multiplies;
- dZ `(m, d_out)`, each sample's own derivative (of its own loss, no 1/m) in `Z = A @ W + b`;
- direct, each sample's own derivatives in the layer's other parameters, `{"b": dZ}` for a bias.

Sample i's own gradient of W is `a_i (outer) dz_i`. So this is enough for a dense layer of any JAX
model, if each sample passes it once.

Source: I. Goodfellow, "Efficient per-example gradient computations", arXiv:1510.01799, 2015.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmlp import numerics
from jaxmlp.backprop import summed
from jaxmlp.layer import Pair

Direct = Mapping[str, Array]
ByName = dict[str, Array]  # {"W": ..., "b": ..., ...}


class GradientMoments(NamedTuple):
    """Hold the moments over the samples of every entry of the gradient.

    variance: `sum_i (g_i - mean)^2 / (m - 1)` (ddof=1), never negative; 0 for one sample.
    Each of the three is a dict by name for one layer, and a pytree like params for a network.
    """

    mean: Any
    second_moment: Any
    variance: Any


def grads(A: Float[Array, "m d_in"], dZ: Float[Array, "m d_out"], direct: Direct = {}) -> ByName:  # noqa: B006
    """Return each sample's own gradient: `a_i (outer) dz_i` of W, `(m, d_in, d_out)`."""
    return {"W": A[:, :, None] * dZ[:, None, :], **direct}


def norms(
    A: Float[Array, "m d_in"],
    dZ: Float[Array, "m d_out"],
    direct: Direct = {},  # noqa: B006
) -> Float[Array, " m"]:
    """Return the norm of each sample's own gradient, `sqrt(|a_i|^2 |dz_i|^2 + sum |direct_i|^2)`.

    Nothing is squared before it is scaled, so the norm is right for every gradient that the dtype
    can hold.

    Example:
      >>> norms(jnp.array([[3.0, 4.0]]), jnp.array([[1e-30, 0.0]]))
      Array([5.e-30], dtype=float32)
    """
    total = numerics.norm(A, axis=1) * numerics.norm(dZ, axis=1)
    for each in direct.values():
        rows = each[:, None] if each.ndim == 1 else each
        total = jnp.hypot(total, numerics.norm(rows, axis=tuple(range(1, rows.ndim))))
    return total


def gram(one: Pair, other: Pair) -> Float[Array, "m k"]:
    """Return the inner products of two groups of samples' own gradients.

    They are `(A A^T) * (dZ dZ^T) + sum D D^T`, with D the direct derivatives. If both groups are
    the same, the diagonal is `norms` squared.
    """
    K = _inner(one.A, other.A) * _inner(one.dZ, other.dZ)
    for name, rows in one.direct.items():
        K = K + _inner(rows, other.direct[name])
    return K.astype(one.dZ.dtype)


def mean(A: Float[Array, "m d_in"], dZ: Float[Array, "m d_out"], direct: Direct = {}) -> ByName:  # noqa: B006
    """Return the mean of the samples' own gradients, `A.T @ dZ / m`, as float32 or wider."""
    totals = summed(A, dZ, direct)._asdict().items()
    return {name: total / len(A) for name, total in totals if total is not None}


def moments(
    A: Float[Array, "m d_in"],
    dZ: Float[Array, "m d_out"],
    direct: Direct = {},  # noqa: B006
) -> GradientMoments:
    """Return the moments over the samples of every entry of the gradient, as dicts by name.

    The mean is `A.T @ dZ / m`, the second moment `(A^2).T @ (dZ^2) / m`. The variance of W is
    the second moment less the mean squared. If the samples' gradients are nearly equal, that
    difference cancels; then the variance is summed from centred factors, and is as exact as the
    differences between the samples.
    """
    m = len(A)
    found = mean(A, dZ, direct)
    A, dZ, direct = _wide(A), _wide(dZ), {name: _wide(each) for name, each in direct.items()}
    squares = summed(A * A, dZ * dZ, {name: each * each for name, each in direct.items()})
    second = {name: total / m for name, total in squares._asdict().items() if total is not None}
    variance = {
        name: jnp.sum((each - found[name]) ** 2, axis=0) / max(m - 1, 1)
        for name, each in direct.items()
    }
    plain = second["W"] - found["W"] ** 2
    # Chosen: 1/64. If no more cancels, the relative error is at most 64 eps, 2^-17 in float32
    lost = jnp.any((plain < second["W"] / 64) & (second["W"] > 0))
    of_W = jax.lax.cond(lost, lambda: _centred(A, dZ), lambda: plain * m)
    return GradientMoments(found, second, {"W": of_W / max(m - 1, 1), **variance})


def _centred(A, dZ):
    """Return the sum over the samples of `(a_i (outer) dz_i - mean)^2`, entry by entry.

    With the means a and d, `a_i = a + x_i` and `dz_i = d + y_i`, the deviation from the mean is
    `x_i d + a y_i + x_i y_i - C`, C the mean of `x_i y_i`. Its square is summed term by term.
    """
    a, d = jnp.mean(A, axis=0), jnp.mean(dZ, axis=0)
    X, Y = A - a, dZ - d
    a, xy, xx = a[:, None], X.T @ Y, X * X
    squares = (
        jnp.sum(xx, axis=0)[:, None] * d**2
        + a**2 * jnp.sum(Y * Y, axis=0)
        + xx.T @ (Y * Y)
        + 2 * (a * d * xy + d * (xx.T @ Y) + a * (X.T @ (Y * Y)))
    )
    return jnp.maximum(squares - xy**2 / len(A), 0)


def deviation(
    A: Float[Array, "m d_in"],
    dZ: Float[Array, "m d_out"],
    direct: Direct = {},  # noqa: B006
) -> Float[Array, ""]:
    """Return `sqrt(sum_i |g_i - mean|^2)` of one layer, as exact as the differences g_i - mean.

    With the means a and d, `a_i = a + x_i` and `dz_i = d + y_i`, the deviation of W's gradient is
    `x_i d + a y_i + x_i y_i - C`, C the mean of `x_i y_i`. Its squared norm needs only inner
    products of rows.
    """
    scales = [jnp.squeeze(numerics.power_of_two_scale(_wide(x))) for x in (A, dZ)]
    A, dZ = _wide(A) * scales[0], _wide(dZ) * scales[1]
    a, d = jnp.mean(A, axis=0), jnp.mean(dZ, axis=0)
    X, Y = A - a, dZ - d
    # The deviations are u_i - C, and C is the mean of the u_i: sum |u_i - C|^2 is
    # sum |u_i|^2 - m |C|^2
    xx, yy = jnp.sum(X * X, axis=1), jnp.sum(Y * Y, axis=1)
    xa, yd, C = X @ a, Y @ d, X.T @ Y / len(A)
    squares = xx * (d @ d) + (a @ a) * yy + xx * yy + 2 * (xa * yd + xx * yd + xa * yy)
    total = jnp.maximum(jnp.sum(squares) - len(A) * jnp.sum(C * C), 0)
    # W's part, then that of each direct parameter
    parts = [jnp.sqrt(total) / scales[0] / scales[1]]
    for each in direct.values():
        parts.append(numerics.norm(_wide(each) - jnp.mean(_wide(each), axis=0)))
    return numerics.norm(jnp.stack(parts))


def _inner(x, y):
    """Return the inner products of the rows of x and y; half precision adds in float32."""
    x, y = (v[:, None] if v.ndim == 1 else v for v in (x, y))
    return jnp.inner(x, y, preferred_element_type=jnp.promote_types(x.dtype, jnp.float32))


def _wide(x):
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
