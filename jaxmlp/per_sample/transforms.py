"""The transforms of an Objective: one for each per-sample quantity, and several on one walk."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxmlp import numerics
from jaxmlp.backprop import check_hand
from jaxmlp.objective import Objective, check
from jaxmlp.per_sample import two_walks
from jaxmlp.per_sample.instruments import ONE_WALK, own_readout, read_one_walk
from jaxmlp.per_sample.names import (
    check_max_norm,
    check_microbatch_size,
    check_names,
    label,
    refuse_one_sample,
)

NAMES = (*ONE_WALK, "clipped_grad", "gradient_gram")


def per_sample_grads(J: Objective, *, microbatch_size: int | None = None) -> Callable:
    """Return the function for each sample's own gradient, `jax.vmap(jax.grad(J1), (None, 0, 0))`.

    Args:
      J: the objective; the gradient is that of each sample's own loss, with no 1/m.
      microbatch_size: walk so many samples at a time, for batches whose activations do not fit;
        the results are the same up to rounding.

    Returns:
      `f(params, X, Y)` -> the pytree of params with a leading m: `(m, d_in, d_out)`, and
      `(m, n, d, d)` for a stack of n. Its mean over axis 0 is the gradient of the mean loss.

    Raises:
      ValueError, TypeError: as `Objective`; for a microbatch_size below 1.

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

    `sqrt(|a_i|^2 |dz_i|^2 + sum |direct_i|^2)`, direct being biases, slopes and gates; right
    wherever the gradient itself is representable: nothing is squared before it is scaled.

    Args:
      J, microbatch_size: as `per_sample_grads`.
      total: the norm over all parameters instead, `(m,)`.

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

    It underflows where the norm does not. Args, returns: as `per_sample_norms`.
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
      ValueError: for a batch of 1, which has no variance.

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

    About the batch size at which averaging over more samples ceases to pay. Both numbers are those
    of the batch given; `|g|^2` still holds the batch's own noise, `tr(cov) / m` on average.

    Args:
      J, microbatch_size: as `per_sample_grads`.

    Returns:
      `f(params, X, Y)` -> `NoiseScale`.

    Raises:
      ValueError: for a batch of 1, which has no variance.

    Source: S. McCandlish et al., "An empirical model of large-batch training", 2018, eq. 2.9.
    """
    return _one(J, "noise_scale", microbatch_size)


def clipped_grad(J: Objective, max_norm: Any, *, microbatch_size: int | None = None) -> Callable:
    """Return the function for the mean of the samples' own gradients, each clipped to `max_norm`.

    `1/m sum_i g_i min(1, max_norm / |g_i|)`, the norm over all parameters; a zero gradient has
    factor 1. The `g_i` are never formed: norms first, then `A.T @ (w * dZ) / m` for each layer. It
    is what `optax.contrib.differentially_private_aggregate` computes before it adds noise; there
    is no noise and no privacy accounting here.

    Args:
      J, microbatch_size: as `per_sample_grads`. For "sse" it is the sum, as its gradient is.
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
      microbatch_size: walk so many samples at a time, each group once for every group.

    Returns:
      `f(params, X, Y)` -> `(L, m, m)`; the sum over layers is the empirical neural tangent kernel
      of the losses. The diagonal is `per_sample_sq_norms`.
    """
    return _one(J, "gradient_gram", microbatch_size)


def instruments(
    J: Objective,
    names: Sequence[str | Callable],
    *,
    max_norm: Any = None,
    microbatch_size: int | None = None,
) -> Callable:
    """Return the function that reads several instruments off one walk.

    Args:
      J, microbatch_size: as `per_sample_grads`.
      names: of "grad", "per_sample_grads", "per_sample_norms", "per_sample_sq_norms", "moments" or
        "gradient_moments", "noise_scale", "clipped_grad", "gradient_gram"; and readouts of your
        own, functions `(A, dZ, layer)` -> pytree of arrays, with `A (m, d_in)` the layer's input,
        `dZ (m, d_out)` each sample's own derivative; these not with microbatch_size.
      max_norm: for "clipped_grad".

    Returns:
      `f(params, X, Y)` -> `(J, dict)` by those names, a readout of your own by its `__name__`, as a
      list of one reading for each of the layers 1..L.

    Raises:
      ValueError: for an unknown name (all are listed) or one given twice.

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
    """Return J and the results; those that need two walks share their first with the others."""
    tools = tuple(ONE_WALK[n] if n in ONE_WALK else own_readout(n) for n in _in_one_walk(names))
    value, results = read_one_walk(J, tools, size, params, X, Y)
    found = dict(zip(_in_one_walk(names), results, strict=True))
    if "clipped_grad" in names:
        found["clipped_grad"] = two_walks.clipped_grad(
            J, params, X, Y, size=size, max_norm=max_norm
        )
    if "gradient_gram" in names:
        found["gradient_gram"] = two_walks.gradient_gram(J, params, X, Y, size=size)
    return value, [found[name] for name in names]


def _in_one_walk(names: tuple) -> tuple:
    return tuple(name for name in names if callable(name) or name in ONE_WALK)


def _one(J: Objective, name: str, microbatch_size: int | None, max_norm: Any = None) -> Callable:
    read = instruments(J, (name,), max_norm=max_norm, microbatch_size=microbatch_size)
    return lambda params, X, Y: read(params, X, Y)[1][name]
