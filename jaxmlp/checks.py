"""Checks of what users pass in. Each refuses with one sentence: what was given and expected."""

import difflib
import math
import numbers
import operator
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


def is_concrete(*trees: Any) -> bool:
    """Return whether no leaf is a tracer. Then the host can read the values."""
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(trees))


def unknown_name(
    kind: str, name: str, known: Iterable[str], meant: Mapping[str, str] = {}
) -> ValueError:
    """Return the error for an unknown name. It suggests a known name if one is close.

    Args:
      meant: names that other libraries use, and what they are called here.

    If the first word of `name` is itself known, it is suggested: `he` for `he_normal`.
    """
    known, first_word = sorted(known), name.lower().split("_")[0]
    close = difflib.get_close_matches(name.lower(), known, n=1)
    close = [word for word in (meant.get(first_word, first_word),) if word in known] or close
    hint = f"did you mean {close[0]!r}? " if close else ""
    return ValueError(f"unknown {kind} {name!r}; {hint}known: {', '.join(known)}")


def integer(name: str, value: Any, *, at_least: int) -> int:
    """Return any kind of integer as a Python int; refuse bool, float and what is too small."""
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
    """Return `value` as a float; refuse it unless it is finite and above 0."""
    number = _real(name, value)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name} must be finite and above 0, got {number}")
    return number


def not_negative_number(name: str, value: Any) -> float:
    """Return `value` as a float; refuse it unless it is finite and at least 0."""
    number = _real(name, value)
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"{name} must be finite and at least 0, got {number}")
    return number


def finite_number(name: str, value: Any) -> float:
    """Return `value` as a float; refuse it unless it is finite."""
    number = _real(name, value)
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, got {number}")
    return number


def _real(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real | np.ndarray | jax.Array):
        raise TypeError(f"{name} must be a number, got {value!r}")
    return float(value)


def seed(value: Any) -> int:
    """Return a seed in 0..2^32-1. Larger ones collide if x64 is off: key(2**40) == key(0)."""
    number = integer("seed", value, at_least=0)
    if number >= 2**32:
        raise ValueError(f"seed must lie in 0..{2**32 - 1}, got {number}")
    return number


_LEGACY = {2: "threefry2x32", 4: "rbg"}  # length of a legacy key: its implementation


def prng_key(key: Any) -> jax.Array:
    """Return one PRNG key as a typed key, whether it came typed or legacy; refuse all else."""
    is_array = isinstance(key, jax.Array | np.ndarray)
    if is_array and jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 0:
        return jnp.asarray(key)
    if is_array and key.dtype == np.uint32 and key.ndim == 1 and len(key) in _LEGACY:
        try:
            return jax.random.wrap_key_data(jnp.asarray(key))
        except TypeError:  # it is not a key of JAX's default implementation
            return jax.random.wrap_key_data(jnp.asarray(key), impl=_LEGACY[len(key)])
    given = f"an array of {key.dtype}{list(key.shape)}" if is_array else repr(key)
    raise TypeError(f"key must be one PRNG key such as jax.random.key(0), got {given}")


def finite(name: str, values: np.ndarray) -> None:
    """Refuse NaN and infinity; the error names the first such entry."""
    bad = ~np.isfinite(values)
    if bad.any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        place = index[0] if len(index) == 1 else index
        raise ValueError(
            f"{name} must be finite, but {int(bad.sum())} of its {bad.size} entries are not; "
            f"the first is {values[index]} at index {place}"
        )


def csv_cell(value: Any) -> Any:
    """Return a value as it may stand in a CSV file.

    A spreadsheet runs text such as "=A1" as a formula, so such text gets an apostrophe in front.
    Numbers such as "-1" do not.
    """
    if not (isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value
