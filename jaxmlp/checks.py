"""The sentences in which the public edge refuses bad input: what was given, what was expected."""

import difflib
import math
import numbers
import operator
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


def is_concrete(*trees: Any) -> bool:
    """Whether no leaf is a tracer, so that values may be looked at on the host."""
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(trees))


def unknown_name(kind: str, name: str, known: Iterable[str]) -> ValueError:
    known = sorted(known)
    close = difflib.get_close_matches(name.lower(), known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return ValueError(f"unknown {kind} {name!r}; {hint}known: {', '.join(known)}")


def integer(name: str, value: Any, *, at_least: int) -> int:
    """A Python integer, whatever integer kind `value` is; bool and float are refused."""
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if number < at_least:
        raise ValueError(f"{name} must be at least {at_least}, got {number}")
    return number


def positive_number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real | np.ndarray | jax.Array):
        raise TypeError(f"{name} must be a number, got {value!r}")
    number = float(value)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name} must be finite and above 0, got {number}")
    return number


def seed(value: Any) -> int:
    """A seed in 0..2^32-1: beyond it seeds collide when x64 is off (key(2**40) == key(0))."""
    number = integer("seed", value, at_least=0)
    if number >= 2**32:
        raise ValueError(f"seed must lie in 0..{2**32 - 1}, got {number}")
    return number


def prng_key(key: Any) -> jax.Array:
    """A single PRNG key, typed or legacy; anything else is told how to make one."""
    is_array = isinstance(key, jax.Array | np.ndarray)
    typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if isinstance(key, jax.Array) and typed and key.ndim == 0:
        return key
    if is_array and not typed and key.dtype == np.uint32 and key.ndim == 1:
        try:
            return jax.random.wrap_key_data(jnp.asarray(key))
        except TypeError:
            default = jax.config.jax_default_prng_impl  # pyright: ignore[reportAttributeAccessIssue]
            raise TypeError(
                f"key holds {len(key)} numbers, which is no key of the default {default!r}: pass a "
                "typed key such as jax.random.key(0, impl='rbg')"
            ) from None
    given = f"an array of {key.dtype}{list(key.shape)}" if is_array else repr(key)
    raise TypeError(f"key must be one PRNG key such as jax.random.key(0), got {given}")


def finite(name: str, values: np.ndarray) -> None:
    """Refuse NaN and infinity, naming the first place where one stands."""
    bad = ~np.isfinite(values)
    if bad.any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        place = index[0] if len(index) == 1 else index
        raise ValueError(
            f"{name} must be finite, but {int(bad.sum())} of its {bad.size} entries are not; "
            f"the first is {values[index]} at index {place}"
        )
