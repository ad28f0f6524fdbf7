"""What several test modules need: problems to solve, and the one way in which gradients compare."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxmlp


def problem(
    sizes, *, loss="cross_entropy", init="lecun", m=7, seed=0, labels=False, dtype=None, **mlp
):
    """An objective with drawn parameters and data: `(J, params, X, Y)`.

    Targets are unbalanced on purpose: with balanced ones the mean of `A - Y` cancels in deep
    networks, and float32 cannot decide.
    """
    J = jaxmlp.Objective(jaxmlp.MLP(sizes, **mlp), loss)
    kp, kx, ky = jax.random.split(jax.random.key(seed), 3)
    params = J.mlp.init(kp, init, dtype=dtype)
    dtype = params[0].W.dtype
    X = jax.random.normal(kx, (m, sizes[0]), dtype)
    K = sizes[-1]
    if loss == "cross_entropy":
        Y = jnp.minimum(jax.random.randint(ky, (m,), 0, 2 * K), K - 1)
        Y = Y if labels else jax.nn.one_hot(Y, K, dtype=dtype)
    elif loss == "binary_cross_entropy":
        Y = (jax.random.uniform(ky, (m, K)) < 0.3).astype(dtype)
    else:
        Y = jax.random.normal(ky, (m, K), dtype) + 1
    return J, params, X, Y


def relative_errors(candidate, reference):
    """`max|c - r| / max|r|` for each leaf of each layer, as `{"W3": 1e-7, ...}`; NumPy float64.

    No absolute tolerance: a layer of tiny gradients must be right in its own size. Leaves that are
    exactly zero on both sides count as 0.
    """
    c, r = (
        {k: np.asarray(v, np.float64) for k, v in jaxmlp.as_dict(g).items()}
        for g in (candidate, reference)
    )
    assert c.keys() == r.keys()
    assert all(c[k].shape == r[k].shape for k in r)
    return {k: relative_error(c[k], r[k]) for k in r}


def relative_error(candidate, reference):
    """`max|c - r| / max|r|` of two arrays; 0 where both are zero, inf where only r is."""
    c, r = np.asarray(candidate, np.float64), np.asarray(reference, np.float64)
    error, size = np.abs(c - r).max(initial=0), np.abs(r).max(initial=0)
    return (
        0.0 if error == 0 else float(np.divide(error, size, where=size > 0, out=np.array(np.inf)))
    )
