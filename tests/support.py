"""What several test modules need: problems, and the comparison of gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import jaxmlp


def problem(
    sizes, *, loss="cross_entropy", init="lecun", m=7, seed=0, labels=False, dtype=None, **mlp
):
    """Return an objective with drawn parameters and data, `(J, params, X, Y)`.

    Targets are unbalanced on purpose: with balanced ones the mean of `A - Y` cancels in deep
    networks, and float32 cannot decide.
    """
    J = jaxmlp.Objective(jaxmlp.MLP(sizes, **mlp), loss)
    dtype = np.dtype(dtype or jnp.zeros(()).dtype)
    rng, K = np.random.default_rng(seed), sizes[-1]
    params = drawn(J.mlp, init, dtype, rng)
    X = rng.standard_normal((m, sizes[0])).astype(dtype)
    if loss == "cross_entropy":
        Y = np.minimum(rng.integers(0, 2 * K, m), K - 1)
        Y = Y if labels else np.eye(K, dtype=dtype)[Y]
    elif loss == "binary_cross_entropy":
        Y = (rng.random((m, K)) < 0.3).astype(dtype)
    else:
        Y = (rng.standard_normal((m, K)) + 1).astype(dtype)
    return J, params, *jax.device_put((X, Y))


def drawn(mlp, init, dtype, rng):
    """Parameters like those of `mlp.init`; "lecun" and "he" drawn by NumPy, with no compilation."""
    if init not in SIGMA_W2:
        return mlp.init(jax.random.key(int(rng.integers(2**32))), init, dtype=dtype)
    like = jax.eval_shape(functools.partial(mlp.init, dtype=dtype), jax.random.key(0))

    def filled(layer):
        W = rng.standard_normal(layer.W.shape) * (SIGMA_W2[init] / layer.W.shape[-2]) ** 0.5
        full = lambda like, x: None if like is None else np.full(like.shape, x, dtype)  # noqa: E731
        return jaxmlp.Layer(
            W.astype(dtype),
            full(layer.b, 0),
            full(layer.slope, 0.25),
            full(layer.alpha, 0),
        )

    return jax.device_put(tuple(filled(layer) for layer in like))


SIGMA_W2 = {"lecun": 1, "he": 2}


def relative_errors(candidate, reference):
    """Return `max|c - r| / max|r|` of each leaf of each layer, `{"W3": 1e-7, ...}`, in float64.

    No absolute tolerance: a layer of tiny gradients must be right in its own size. Leaves that are
    exactly zero on both sides count as 0.
    """
    c, r = (
        {k: v.astype(np.float64) for k, v in jaxmlp.as_dict(jax.tree.map(np.asarray, g)).items()}
        for g in (candidate, reference)
    )
    assert c.keys() == r.keys()
    assert all(c[k].shape == r[k].shape for k in r)
    return {k: relative_error(c[k], r[k]) for k in r}


def relative_error(candidate, reference):
    """Return `max|c - r| / max|r|` of two arrays; 0 if both are zero, inf if only r is."""
    c, r = np.asarray(candidate, np.float64), np.asarray(reference, np.float64)
    error, size = np.abs(c - r).max(initial=0), np.abs(r).max(initial=0)
    return (
        0.0 if error == 0 else float(np.divide(error, size, where=size > 0, out=np.array(np.inf)))
    )
