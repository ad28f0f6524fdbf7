"""Initialisers: how W is drawn, by name; and the Gaussian of mean-field theory.

| name | variance of W | source |
|---|---|---|
| lecun | 1 / fan_in | LeCun et al. 1998; truncated normal |
| glorot | 2 / (fan_in + fan_out) | Glorot & Bengio 2010; truncated normal |
| he | 2 / fan_in | He et al. 2015; truncated normal |
| orthogonal | orthogonal columns or rows, gain 1 | Saxe et al. 2014 |
| gaussian:sigma_w2:sigma_b2 | sigma_w2 / fan_in | Poole et al. 2016; normal |
| normal:std | std^2, whatever the width | a bad one, to try |
| zeros | 0 | the worst one: no unit learns anything else than its neighbour |

The truncated normals are those of `jax.nn.initializers`, to rounding.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp import named
from jaxmlp.checks import not_negative_number, positive_number


@dataclasses.dataclass(frozen=True)
class Initializer:
    """Describe how one layer is drawn: `W(key, shape, dtype)` and the variance of its biases.

    Args:
      name: what tables call it. Sweeps refuse two initialisers of the same name.
      W: takes the shape `(fan_in, fan_out)`, as every `jax.nn.initializers` callable does.
      sigma_b2: variance of the biases.
      unit: a draw that knows no scale, with `W == unit * std` to the bit; None where W is no such
        product. Initialisations with the same unit can share their random numbers.
      std: `std(shape, dtype)`, a NumPy number.
    """

    name: str
    W: Callable = dataclasses.field(repr=False)
    sigma_b2: float = 0.0
    unit: Callable | None = dataclasses.field(default=None, repr=False)
    std: Callable | None = dataclasses.field(default=None, repr=False)

    def __repr__(self):
        return f"Initializer({self.name!r})"

    def __reduce__(self):
        return named.reduced(self, get)


# --- a draw without scale, times a number ---------------------------------------------------------


def _truncated_normal(key, shape, dtype):
    return jax.random.truncated_normal(key, -2, 2, shape, dtype)


_TRUNCATED_STD = 0.87962566103423978  # of a standard normal that is cut at -2 and 2


def _product(name: str, unit: Callable, std: Callable, sigma_b2: float = 0.0) -> Initializer:
    def W(key, shape, dtype):
        return _times(unit(key, shape, dtype), std(shape, dtype))

    return Initializer(name, W, sigma_b2, unit, std)


def _times(unit, std):
    """unit * std with the bits of that product, wherever it is compiled.

    A normal draw ends in a constant factor, which XLA would merge with std.
    """
    return jax.lax.optimization_barrier(unit) * std


def _truncated(name: str, variance: Callable[[int, int], float]) -> Initializer:
    def std(shape, dtype):
        return np.sqrt(np.asarray(variance(*shape), dtype)) / np.asarray(_TRUNCATED_STD, dtype)

    return _product(name, _truncated_normal, std)


def gaussian(sigma_w2: float, sigma_b2: float = 0.0) -> Initializer:
    """Return `W ~ N(0, sigma_w2 / fan_in)`, `b ~ N(0, sigma_b2)`, not truncated.

    The initialisation of mean-field theory (Poole et al. 2016, "Exponential expressivity in deep
    neural networks through transient chaos", section 2).

    Raises:
      ValueError: for a variance that is negative or not finite, or sigma_w2 = 0.

    Example:
      >>> gaussian(2.0) == gaussian(2, 0) == get("gaussian:2")
      True
    """
    return _gaussian(
        positive_number("sigma_w2", sigma_w2), not_negative_number("sigma_b2", sigma_b2)
    )


@functools.cache
def _gaussian(sigma_w2: float, sigma_b2: float) -> Initializer:
    def std(shape, dtype):
        return np.sqrt(np.asarray(sigma_w2 / shape[0], dtype))

    return _product(named.label(gaussian, sigma_w2, sigma_b2), jax.random.normal, std, sigma_b2)


def normal(std: float) -> Initializer:
    """Return `W ~ N(0, std^2)`, b = 0: the same scale for every width.

    Raises:
      ValueError: for a std that is not finite or not above 0.
    """
    return _normal(positive_number("std", std))


@functools.cache
def _normal(std: float) -> Initializer:
    return _product(
        named.label(normal, std), jax.random.normal, lambda shape, dtype: np.asarray(std, dtype)
    )


# --- by name --------------------------------------------------------------------------------------

_KNOWN = {
    "lecun": _truncated("lecun", lambda d_in, d_out: 1 / d_in),
    "glorot": _truncated("glorot", lambda d_in, d_out: 1 / ((d_in + d_out) / 2)),
    "he": _truncated("he", lambda d_in, d_out: 2 / d_in),
    "orthogonal": Initializer("orthogonal", jax.nn.initializers.orthogonal()),
    "zeros": Initializer("zeros", jax.nn.initializers.zeros),
    "gaussian": gaussian,
    "normal": normal,
}
_MEANT = {"xavier": "glorot", "kaiming": "he"}  # their names elsewhere


def names() -> tuple[str, ...]:
    """Return the names that `get` knows; gaussian and normal want their numbers behind."""
    return tuple(_KNOWN)


def get(init: str | Initializer | Callable) -> Initializer:
    """Return the initialiser: by name, as it is, or around any `jax.nn.initializers` callable.

    Raises:
      ValueError: for an unknown name (the nearest is suggested), or arguments that do not fit.
      TypeError: for anything that cannot be called.

    Example:
      >>> get("gaussian:1.5:0.1") == gaussian(1.5, 0.1)
      True
      >>> get(jax.nn.initializers.uniform(0.1))
      Initializer('jax.nn.initializers.uniform.init(scale=0.1)')
    """
    if isinstance(init, Initializer):
        return init
    if isinstance(init, str):
        return named.look_up("initializer", init, _KNOWN, _MEANT)
    if not callable(init):
        raise TypeError(
            f"init must be a name, initializers.gaussian(...) or a callable (key, shape, dtype), "
            f"got {init!r}"
        )
    return Initializer(_name_of(init), init)


def _name_of(fn: Callable) -> str:
    """`module.function`; for a function made by another, with the plain values it was made with."""
    name = getattr(fn, "__qualname__", None)
    if name is None:  # a functools.partial, or an object that can be called
        return repr(fn)
    variables = getattr(getattr(fn, "__code__", None), "co_freevars", ())
    values = [cell.cell_contents for cell in getattr(fn, "__closure__", None) or ()]
    plain = [
        f"{variable}={value!r}"
        for variable, value in zip(variables, values, strict=True)
        if isinstance(value, str | int | float | tuple)
    ]
    made_with = f"({', '.join(plain)})" if plain else ""
    return f"{fn.__module__}.{name}{made_with}".replace("._src.", ".").replace(".<locals>", "")


def draw(init: Initializer, key: jax.Array, shape: tuple[int, ...], use_bias: bool, dtype):
    """Return one layer's `(W, b)`, b None without biases, drawn from that layer's key."""
    W = init.W(key, shape, dtype)
    has = getattr(W, "shape", None), getattr(W, "dtype", None)
    if has != (shape, dtype):
        given = repr(W) if has[1] is None else f"{W.dtype}{list(W.shape)}"
        raise ValueError(
            f"init {init.name} returned {given} for a weight of {jnp.dtype(dtype)}{list(shape)}"
        )
    if not use_bias:
        return W, None
    if init.sigma_b2 == 0:
        return W, jnp.zeros(shape[1], dtype)
    return W, _times(unit_bias(key, shape, dtype), jnp.sqrt(jnp.asarray(init.sigma_b2, dtype)))


def unit_bias(key, shape, dtype):
    """Draw biases of variance 1; from `fold_in`, because W draws from the key itself."""
    return jax.random.normal(jax.random.fold_in(key, 1), shape[1:], dtype)
