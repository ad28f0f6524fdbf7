"""Initialisers: names for those of `jax.nn.initializers`, and the Gaussian of mean-field theory.

| name | variance of W | source |
|---|---|---|
| lecun | 1 / fan_in | LeCun et al. 1998; truncated normal |
| glorot | 2 / (fan_in + fan_out) | Glorot & Bengio 2010; truncated normal |
| he | 2 / fan_in | He et al. 2015; truncated normal |
| orthogonal | orthogonal columns or rows, gain 1 | Saxe et al. 2014 |
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxmlp.checks import positive_number, unknown_name


@dataclasses.dataclass(frozen=True)
class Initializer:
    """Describe how one layer is drawn: `W(key, shape, dtype)` and the variance of its biases.

    Args:
      name: what tables call it.
      W: takes the shape `(fan_in, fan_out)`, as every `jax.nn.initializers` callable does.
      sigma_b2: variance of the biases.
      unit: a draw that knows no scale, with `W == unit * std`; None where W is no such product.
        Initialisations with the same unit can share their random numbers.
      std: `std(shape, dtype)`.
    """

    name: str
    W: Callable = dataclasses.field(repr=False)
    sigma_b2: float = 0.0
    unit: Callable | None = dataclasses.field(default=None, repr=False)
    std: Callable | None = dataclasses.field(default=None, repr=False)


def _truncated_normal(key, shape, dtype):
    return jax.random.truncated_normal(key, -2, 2, shape, dtype)


_UNITS = {  # the standard deviation of each unit
    "truncated_normal": (_truncated_normal, 0.87962566103423978),
    "normal": (jax.random.normal, 1.0),
}
_FANS = {"fan_in": lambda d_in, d_out: d_in, "fan_avg": lambda d_in, d_out: (d_in + d_out) / 2}


@functools.cache
def _variance_scaling(
    name: str, scale: float, mode: Any, distribution: Any, sigma_b2: float = 0.0
) -> Initializer:
    """`jax.nn.initializers.variance_scaling`, with its factors told apart."""
    unit, unit_std = _UNITS[distribution]

    def std(shape, dtype):
        variance = jnp.asarray(scale / _FANS[mode](*shape), dtype)
        return jnp.sqrt(variance) / jnp.asarray(unit_std, dtype)

    W = jax.nn.initializers.variance_scaling(scale, mode, distribution)
    return Initializer(name, W, sigma_b2, unit, std)


_NAMED = {
    "lecun": _variance_scaling("lecun", 1.0, "fan_in", "truncated_normal"),
    "glorot": _variance_scaling("glorot", 1.0, "fan_avg", "truncated_normal"),
    "he": _variance_scaling("he", 2.0, "fan_in", "truncated_normal"),
    "orthogonal": Initializer("orthogonal", jax.nn.initializers.orthogonal()),
}


def gaussian(sigma_w2: float, sigma_b2: float = 0.0) -> Initializer:
    """Return `W ~ N(0, sigma_w2 / fan_in)`, `b ~ N(0, sigma_b2)`, not truncated.

    The initialisation of mean-field theory (Poole et al. 2016, "Exponential expressivity in deep
    neural networks through transient chaos", section 2).

    Raises:
      ValueError: for a variance that is negative or not finite, or sigma_w2 = 0.

    Example:
      >>> gaussian(2.0) == gaussian(2, 0)
      True
    """
    sigma_w2 = positive_number("sigma_w2", sigma_w2)
    if not (math.isfinite(sigma_b2) and sigma_b2 >= 0):
        raise ValueError(f"sigma_b2 must be finite and at least 0, got {sigma_b2}")
    name = f"gaussian({sigma_w2}, {float(sigma_b2)})"
    return _variance_scaling(name, sigma_w2, "fan_in", "normal", float(sigma_b2))


def names() -> tuple[str, ...]:
    """Return the names that `get` knows."""
    return tuple(_NAMED)


def get(init: str | Initializer | Callable) -> Initializer:
    """Return the initialiser: by name, as it is, or around any `jax.nn.initializers` callable.

    Raises:
      ValueError: for an unknown name (the nearest is suggested).
      TypeError: for anything that cannot be called.
    """
    if isinstance(init, Initializer):
        return init
    if isinstance(init, str):
        if init not in _NAMED:
            raise unknown_name("initializer", init, _NAMED)
        return _NAMED[init]
    if not callable(init):
        raise TypeError(
            f"init must be a name, initializers.gaussian(...) or a callable (key, shape, dtype), "
            f"got {init!r}"
        )
    return Initializer(getattr(init, "__name__", repr(init)), init)


def draw(init: Initializer, key: jax.Array, shape: tuple[int, ...], use_bias: bool, dtype):
    """Return one layer's `(W, b)`, b None without biases, drawn from that layer's key."""
    W = init.W(key, shape, dtype)
    if W.shape != shape or W.dtype != dtype:
        raise ValueError(
            f"init {init.name} returned {W.dtype}{list(W.shape)} for a weight of "
            f"{jnp.dtype(dtype)}{list(shape)}"
        )
    if not use_bias:
        return W, None
    if init.sigma_b2 == 0:
        return W, jnp.zeros(shape[1], dtype)
    return W, unit_bias(key, shape, dtype) * jnp.sqrt(jnp.asarray(init.sigma_b2, dtype))


def unit_bias(key, shape, dtype):
    """Draw biases of variance 1; from `fold_in`, because W draws from the key itself."""
    return jax.random.normal(jax.random.fold_in(key, 1), shape[1:], dtype)
