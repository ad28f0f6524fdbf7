"""Initialisers: names for those of `jax.nn.initializers`, and the Gaussian of mean-field theory.

| name | variance of W | source |
|---|---|---|
| lecun | 1 / fan_in | LeCun et al. 1998; truncated normal |
| glorot | 2 / (fan_in + fan_out) | Glorot & Bengio 2010; truncated normal |
| he | 2 / fan_in | He et al. 2015; truncated normal |
| orthogonal | orthogonal columns or rows, gain 1 | Saxe et al. 2014 |
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxmlp._checks import unknown_name


@dataclasses.dataclass(frozen=True)
class Initializer:
    """Describe how one layer is drawn: `W(key, shape, dtype)` and the variance of its biases.

    `W` takes the shape `(fan_in, fan_out)`, as every `jax.nn.initializers` callable does.
    """

    name: str
    W: Callable = dataclasses.field(repr=False)
    sigma_b2: float = 0.0


_NAMED = {
    name: Initializer(name, W)
    for name, W in {
        "lecun": jax.nn.initializers.lecun_normal(),
        "glorot": jax.nn.initializers.glorot_normal(),
        "he": jax.nn.initializers.he_normal(),
        "orthogonal": jax.nn.initializers.orthogonal(),
    }.items()
}


@dataclasses.dataclass(frozen=True)
class _ScaledNormal:
    """Draw W ~ N(0, sigma_w2 / fan_in). A class, so that equal arguments compare equal."""

    sigma_w2: float

    def __call__(self, key, shape, dtype):
        return jax.random.normal(key, shape, dtype) * math.sqrt(self.sigma_w2 / shape[0])


def gaussian(sigma_w2: float, sigma_b2: float = 0.0) -> Initializer:
    """Return `W ~ N(0, sigma_w2 / fan_in)`, `b ~ N(0, sigma_b2)`, not truncated.

    The initialisation of mean-field theory (Poole et al. 2016, "Exponential expressivity in deep
    neural networks through transient chaos", section 2).

    Raises:
      ValueError: for a variance that is negative or not finite.

    Example:
      >>> gaussian(2.0) == gaussian(2, 0)
      True
    """
    for name, value in (("sigma_w2", sigma_w2), ("sigma_b2", sigma_b2)):
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be finite and at least 0, got {value}")
    sigma_w2, sigma_b2 = float(sigma_w2), float(sigma_b2)
    name = f"gaussian({sigma_w2:g}, {sigma_b2:g})"
    return Initializer(name, _ScaledNormal(sigma_w2), sigma_b2)


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
    # fold_in, because W has already drawn from the key itself
    noise = jax.random.normal(jax.random.fold_in(key, 1), shape[1:], dtype)
    return W, noise * math.sqrt(init.sigma_b2)
