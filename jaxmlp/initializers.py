"""Initialisers: how the weights and biases of a layer are drawn.

| name | variance of W | source |
|---|---|---|
| lecun | 1 / fan_in | LeCun et al. 1998; truncated normal |
| glorot | 2 / (fan_in + fan_out) | Glorot & Bengio 2010; truncated normal |
| he | 2 / fan_in | He et al. 2015; truncated normal |
| orthogonal | orthogonal columns or rows, gain 1 | Saxe et al. 2014 |
| gaussian:sigma_w2:sigma_b2 | sigma_w2 / fan_in; b has sigma_b2 | Poole et al. 2016; normal |
| normal:std | std^2 for every width | a bad choice, for comparison |
| zeros | 0 | the worst choice: all units of a layer stay equal |

Only gaussian draws biases; the others set b = 0. The truncated normals equal those of
`jax.nn.initializers` to rounding.
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
    """Describe how one layer is drawn.

    Args:
      name: its name in tables. Sweeps refuse two initialisers of the same name.
      W: `W(key, shape, dtype)` draws the weights, shape `(fan_in, fan_out)`, as every
        `jax.nn.initializers` callable does.
      sigma_b2: the variance of the biases.
      unit: `unit(key, shape, dtype)` draws them without their scale: `W == unit * std` to the bit.
        Initialisers with the same `unit` can share random numbers. None if W is no such product.
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


# --- a random draw times a standard deviation -----------------------------------------------------


def _truncated_normal(key, shape, dtype):
    return jax.random.truncated_normal(key, -2, 2, shape, dtype)


_TRUNCATED_STD = 0.87962566103423978  # the std of a standard normal truncated at -2 and 2


def _product(name: str, unit: Callable, std: Callable, sigma_b2: float = 0.0) -> Initializer:
    def W(key, shape, dtype):
        return _times(unit(key, shape, dtype), std(shape, dtype))

    return Initializer(name, W, sigma_b2, unit, std)


def _times(unit, std):
    """Return unit * std, equal to the bit in every compiled program.

    A normal draw ends in a constant factor. Without the barrier XLA may multiply it with std first.
    """
    return jax.lax.optimization_barrier(unit) * std


def _truncated(name: str, variance: Callable[[int, int], float]) -> Initializer:
    def std(shape, dtype):
        return np.sqrt(np.asarray(variance(*shape), dtype)) / np.asarray(_TRUNCATED_STD, dtype)

    return _product(name, _truncated_normal, std)


def gaussian(sigma_w2: float, sigma_b2: float = 0.0) -> Initializer:
    """Return `W ~ N(0, sigma_w2 / fan_in)`, `b ~ N(0, sigma_b2)`, not truncated.

    Mean-field theory assumes this one (Poole et al. 2016, "Exponential expressivity in deep
    neural networks through transient chaos", section 2).

    Raises:
      ValueError: for a variance that is negative or not finite, and for sigma_w2 = 0.

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
    """Return `W ~ N(0, std^2)`, b = 0, with the same std for every width.

    Raises:
      ValueError: for a std that is not a finite number above 0.
    """
    return _normal(positive_number("std", std))


@functools.cache
def _normal(std: float) -> Initializer:
    return _product(
        named.label(normal, std), jax.random.normal, lambda shape, dtype: np.asarray(std, dtype)
    )


def _orthogonal(key, shape, dtype):
    """Draw as `jax.nn.initializers.orthogonal`; its QR knows no half precision."""
    at_least = jnp.promote_types(dtype, jnp.float32)
    return jax.nn.initializers.orthogonal()(key, shape, at_least).astype(dtype)


# --- by name --------------------------------------------------------------------------------------

_KNOWN = {
    "lecun": _truncated("lecun", lambda d_in, d_out: 1 / d_in),
    "glorot": _truncated("glorot", lambda d_in, d_out: 1 / ((d_in + d_out) / 2)),
    "he": _truncated("he", lambda d_in, d_out: 2 / d_in),
    "orthogonal": Initializer("orthogonal", _orthogonal),
    "zeros": Initializer("zeros", jax.nn.initializers.zeros),
    "gaussian": gaussian,
    "normal": normal,
}
_MEANT = {"xavier": "glorot", "kaiming": "he"}  # names that other libraries use


def names() -> tuple[str, ...]:
    """Return the names that `get` knows; after gaussian and normal come their numbers."""
    return tuple(_KNOWN)


def get(init: str | Initializer | Callable) -> Initializer:
    """Return the initialiser of that name, or one that calls a `jax.nn.initializers` function.

    An Initializer is returned as it is.

    Raises:
      ValueError: for an unknown name (a near one is suggested), and for arguments that do not fit.
      TypeError: for anything else that cannot be called.

    Example:
      >>> get("gaussian:1.5:0.1") == gaussian(1.5, 0.1)
      True
      >>> get(jax.nn.initializers.uniform(0.1))
      Initializer('jax.nn.initializers.uniform.init(scale=0.1)')
    """
    if isinstance(init, Initializer):
        _check_unit(init)
        return init
    if isinstance(init, str):
        return named.look_up("initializer", init, _KNOWN, _MEANT)
    if not callable(init):
        raise TypeError(
            f"init must be a name, initializers.gaussian(...) or a callable (key, shape, dtype), "
            f"got {init!r}"
        )
    return Initializer(_name_of(init), init)


@functools.cache
def _check_unit(init: Initializer) -> None:
    """Refuse an own Initializer whose W is not unit * std: a sweep would draw other networks."""
    if init.unit is None or named.is_known(init, get):
        return
    if init.std is None:
        raise ValueError(f"init {init.name}: unit needs std, so that W == unit * std")
    key, shape = jax.random.key(0), (3, 5)
    with jax.ensure_compile_time_eval():
        W, unit = (np.asarray(f(key, shape, jnp.float32)) for f in (init.W, init.unit))
        scaled = unit * np.float32(init.std(shape, np.float32))
    # 1e-6: a few roundings; which of W's bits differ is for the tests of the library's own
    if not np.allclose(W, scaled, rtol=1e-6, atol=0):
        raise ValueError(
            f"init {init.name}: W must be unit * std, but of a weight (3, 5) the first entry is "
            f"{W[0, 0]:.6g} and unit * std {scaled[0, 0]:.6g}"
        )


def _name_of(fn: Callable) -> str:
    """Return `module.function`; if another function made it, with the plain values it holds."""
    name = getattr(fn, "__qualname__", None)
    if name is None:  # a functools.partial, or another object that can be called
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
    """Return one layer's `(W, b)`, drawn from that layer's key; b is None without biases."""
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
    """Draw biases of variance 1. They take a folded key, because W has used the key itself."""
    return jax.random.normal(jax.random.fold_in(key, 1), shape[1:], dtype)
