"""Transforms of an Objective: one for each per-sample quantity, and one for several at once."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxmlp import numerics
from jaxmlp.backprop import check_hand
from jaxmlp.objective import Objective, check
from jaxmlp.per_sample import two_walks
from jaxmlp.per_sample.instruments import INSTRUMENTS, read_one_walk, users_readout
from jaxmlp.per_sample.names import (
    check_max_norm,
    check_microbatch_size,
    check_names,
    label,
    refuse_one_sample,
)

NAMES = (*INSTRUMENTS, "clipped_grad", "gradient_gram")


def per_sample_grads(J: Objective, *, microbatch_size: int | None = None) -> Callable:
    """Return the function for each sample's own gradient, `jax.vmap(jax.grad(J1), (None, 0, 0))`.

    Args:
      J: the objective. The gradient is that of each sample's own loss, with no 1/m.
      microbatch_size: how many samples to walk with at a time, if the activations of the whole
        batch do not fit in memory. The results are the same up to rounding.

    Returns:
      `f(params, X, Y)` -> the pytree of params with a leading m: `(m, d_in, d_out)`, and
      `(m, n, d, d)` for a stack of n. Its mean over axis 0 is the gradient of the mean loss.

    Raises:
      ValueError, TypeError: as `Objective`, and for a microbatch_size below 1.

    Example:
      >>> import jax, jax.numpy as jnp, jaxmlp
      >>> J = jaxmlp.Objective(jaxmlp.MLP((2, 4, 3)), "cross_entropy")
      >>> params = J.mlp.init(jax.random.key(0), "he")
      >>> per_sample_grads(J)(params, jnp.ones((5, 2)), jnp.arange(5) % 3)[0].W.shape
      (5, 2, 4)
    """
    return _one(J, "per_sample_grads", microbatch_size)


def per_sample_norms(
    J: Objective, *, total: bool = False, microbatch_size: int | None = None
) -> Callable:
    """Return the function for the norm of each sample's own gradient, layer by layer.

    It is `sqrt(|a_i|^2 |dz_i|^2 + sum |direct_i|^2)`; the direct derivatives are those in biases,
    slopes and gates. Nothing is squared before it is scaled, so the norm is right for every
    gradient that the dtype can hold.

    Args:
      J, microbatch_size: as `per_sample_grads`.
      total: return the norm over all parameters instead, `(m,)`.

    Returns:
      `f(params, X, Y)` -> `(m, L)`, layer 1 first.

    Example:
      >>> import jax, jax.numpy as jnp, jaxmlp
      >>> J = jaxmlp.Objective(jaxmlp.MLP((2, 4, 3)), "cross_entropy")
      >>> params = J.mlp.init(jax.random.key(0), "he")
      >>> per_sample_norms(J)(params, jnp.ones((5, 2)), jnp.arange(5) % 3).shape
      (5, 2)
    """
    each = _one(J, "per_sample_norms", microbatch_size)
    return (lambda params, X, Y: numerics.norm(each(params, X, Y), axis=1)) if total else each


def per_sample_sq_norms(
    J: Objective, *, total: bool = False, microbatch_size: int | None = None
) -> Callable:
    """Return the function for the square of `per_sample_norms`.

    The square may underflow although the norm does not. Arguments and results are those of
    `per_sample_norms`.
    """
    each = per_sample_norms(J, total=total, microbatch_size=microbatch_size)
    return lambda params, X, Y: each(params, X, Y) ** 2


def gradient_moments(J: Objective, *, microbatch_size: int | None = None) -> Callable:
    """Return the function for mean, second moment and variance over the samples' own gradients.

    Args:
      J, microbatch_size: as `per_sample_grads`.

    Returns:
      `f(params, X, Y)` -> `GradientMoments`. Squares of entries below 1e-19 are 0 in float32.

    Raises:
      ValueError: for a single sample, which has no variance.

    Example:
      >>> import jax, jax.numpy as jnp, jaxmlp
      >>> J = jaxmlp.Objective(jaxmlp.MLP((2, 4, 3)), "cross_entropy")
      >>> params = J.mlp.init(jax.random.key(0), "he")
      >>> gradient_moments(J)(params, jnp.ones((5, 2)), jnp.arange(5) % 3).variance[1].W.shape
      (4, 3)
    """
    return _one(J, "gradient_moments", microbatch_size)


def noise_scale(J: Objective, *, microbatch_size: int | None = None) -> Callable:
    """Return the function for the simple noise scale, `tr(cov) / |g|^2`.

    With batches much larger than it, more samples hardly improve the gradient. Both numbers are
    estimated from the given batch. `|g|^2` is too large by `tr(cov) / m` on average, because g is
    a mean of m noisy gradients.

    Args:
      J, microbatch_size: as `per_sample_grads`.

    Returns:
      `f(params, X, Y)` -> `NoiseScale`.

    Raises:
      ValueError: for a single sample, which has no variance.

    Source: S. McCandlish et al., "An empirical model of large-batch training", 2018, eq. 2.9.
    """
    return _one(J, "noise_scale", microbatch_size)


def clipped_grad(J: Objective, max_norm: Any, *, microbatch_size: int | None = None) -> Callable:
    """Return the function for the mean of the samples' own gradients, each clipped to `max_norm`.

    It is `1/m sum_i g_i min(1, max_norm / |g_i|)`, with norms over all parameters; the factor of a
    zero gradient is 1. The `g_i` are never formed: first their norms are computed, then
    `A.T @ (w * dZ) / m` for each layer, w the factors. This is what
    `optax.contrib.differentially_private_aggregate` computes before it adds noise. Here no noise is
    added and no privacy is accounted for.

    Args:
      J, microbatch_size: as `per_sample_grads`. For "sse" the result is the sum, without 1/m.
      max_norm: above 0; inf for no clipping.

    Returns:
      `f(params, X, Y)` -> the pytree and dtype of params.

    Source: J. Lee and D. Kifer, "Scaling up differentially private deep learning with fast
    per-example gradient clipping", 2021.
    """
    return _one(J, "clipped_grad", microbatch_size, max_norm)


def gradient_gram(J: Objective, *, microbatch_size: int | None = None) -> Callable:
    """Return the function for the inner products of the samples' own gradients, layer by layer.

    Args:
      J: as `per_sample_grads`.
      microbatch_size: how many samples to walk with at a time. There is one pair of walks for
        every pair of microbatches.

    Returns:
      `f(params, X, Y)` -> `(L, m, m)`. The sum over the layers is the empirical neural tangent
      kernel of the losses. The diagonal is `per_sample_sq_norms`.
    """
    return _one(J, "gradient_gram", microbatch_size)


def instruments(
    J: Objective,
    names: Sequence[str | Callable],
    *,
    max_norm: Any = None,
    microbatch_size: int | None = None,
) -> Callable:
    """Return the function that computes several per-sample quantities in one walk.

    Args:
      J, microbatch_size: as `per_sample_grads`.
      names: any of "grad", "per_sample_grads", "per_sample_norms", "per_sample_sq_norms",
        "moments" (or "gradient_moments"), "noise_scale", "clipped_grad", "gradient_gram"; and
        readouts that you write, functions `(A, dZ, layer)` -> pytree of arrays. `A (m, d_in)` is
        the layer's input, `dZ (m, d_out)` each sample's own derivative. They cannot be combined
        with microbatch_size.
      max_norm: for "clipped_grad".

    Returns:
      `f(params, X, Y)` -> `(J, dict)`, a dict by these names. A readout that you wrote stands under
      its `__name__`, as a list of its readings of the layers 1..L.

    Raises:
      ValueError: for an unknown name (the error lists all) and for one given twice.

    Example:
      >>> import jax, jax.numpy as jnp, jaxmlp
      >>> J = jaxmlp.Objective(jaxmlp.MLP((2, 4, 3)), "cross_entropy")
      >>> params = J.mlp.init(jax.random.key(0), "he")
      >>> def largest(A, dZ, layer):
      ...     return jnp.abs(dZ).max()
      >>> read = instruments(J, ("grad", "per_sample_norms", largest))
      >>> value, out = read(params, jnp.ones((5, 2)), jnp.arange(5) % 3)
      >>> out["per_sample_norms"].shape, len(out["largest"])
      ((5, 2), 2)
    """
    check_hand(J)
    names = check_names(names, NAMES, "(A, dZ, layer)")
    check_microbatch_size(names, microbatch_size)
    check_max_norm(names, max_norm)

    def read(params, X, Y):
        params, X, Y = check(J, params, X, Y)
        m = X.shape[0]
        refuse_one_sample(names, m)
        size = m if microbatch_size is None else min(microbatch_size, m)
        value, results = _read(J, names, size, params, X, Y, max_norm)
        return value, dict(zip(map(label, names), results, strict=True))

    return read


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _read(J: Objective, names: tuple, size: int, params, X, Y, max_norm):
    """Return J and the results. One walk serves all instruments but clipping and Gram."""
    in_one_walk = [name for name in names if callable(name) or name in INSTRUMENTS]
    tools = tuple(users_readout(n) if callable(n) else INSTRUMENTS[n] for n in in_one_walk)
    value, results = read_one_walk(J, tools, size, params, X, Y)
    found = dict(zip(in_one_walk, results, strict=True))
    if "clipped_grad" in names:
        found["clipped_grad"] = two_walks.clipped_grad(
            J, params, X, Y, size=size, max_norm=max_norm
        )
    if "gradient_gram" in names:
        found["gradient_gram"] = two_walks.gradient_gram(J, params, X, Y, size=size)
    return value, [found[name] for name in names]


def _one(J: Objective, name: str, microbatch_size: int | None, max_norm: Any = None) -> Callable:
    """Return the function for the result of a single instrument."""
    read = instruments(J, (name,), max_norm=max_norm, microbatch_size=microbatch_size)
    return lambda params, X, Y: read(params, X, Y)[1][name]
