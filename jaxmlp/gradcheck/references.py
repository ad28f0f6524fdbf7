"""What a gradient is compared with: autodiff in float64, and what rounding explains.

Autodiff of J is a reference only where J holds no rule of the user's own: `jax.grad` of a function
with a `custom_vjp` repeats that rule. The rules that JAX itself gives to functions of `jax.nn` and
`jax.numpy` are trusted.
"""

import functools
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxmlp.gradcheck.names import Arrays, by_name, cast, dtype_of, eps_of
from jaxmlp.gradcheck.numbers import error, flushed, size

FLOAT64 = np.dtype(np.float64)


class Reference(NamedTuple):
    """The value and the gradient, and the dtype they were computed in."""

    value: float
    gradient: Arrays
    dtype: np.dtype

    @property
    def arrays(self) -> Arrays:
        """The gradient and, as "J", the value."""
        return self.gradient | {"J": np.asarray(self.value)}


def autodiff(J: Callable, args: tuple, dtype) -> Reference:
    """Return J and `jax.grad(J)` at args, computed in dtype, by name."""
    dtype = np.dtype(dtype)
    with jax.enable_x64(dtype == FLOAT64):
        if dtype == FLOAT64 or dtype_of(args[0]) != dtype:
            args = cast(args, dtype)
        value, gradient = _run(J, args)
        gradient = {name: flushed(leaf) for name, leaf in by_name(gradient).items()}
        return Reference(float(value), gradient, dtype)


def _run(J: Callable, args: tuple):
    try:
        return _compiled(J)(*args)
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError):
        return jax.value_and_grad(J)(*args)  # J looks at values: it runs, but not under jit


def _compiled(J: Callable) -> Callable:
    try:
        return _kept(J)
    except TypeError:  # J cannot be hashed
        return jax.jit(jax.value_and_grad(J))


@functools.lru_cache(maxsize=64)
def _kept(J: Callable) -> Callable:
    return jax.jit(jax.value_and_grad(J))


# --- may autodiff be trusted ----------------------------------------------------------------------


class Inside(NamedTuple):
    """What J's jaxpr holds: rules of the user's own, and casts to less than float64."""

    own_rules: tuple[str, ...]
    narrow: str | None


def look_inside(J: Callable, args: tuple, dtype) -> Inside | None:
    """Return what J's jaxpr at arguments of dtype holds; None where J cannot be traced."""
    with jax.enable_x64(dtype == FLOAT64):
        try:
            jaxpr = jax.make_jaxpr(J)(*cast(args, dtype)).jaxpr
        except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError):
            return None
    rules, narrow = [], None
    for eqn in _equations(jaxpr):
        if "custom_vjp" in eqn.primitive.name or "custom_jvp" in eqn.primitive.name:
            sources = list(_sources(eqn.params))
            if not sources or not all(map(_is_jax, sources)):
                rules.append(sources[0] if sources else eqn.primitive.name)
        elif eqn.primitive.name == "convert_element_type":
            to = np.dtype(eqn.params["new_dtype"])
            was = eqn.invars[0].aval.dtype
            if was == FLOAT64 and jax.numpy.issubdtype(to, np.floating) and to != FLOAT64:
                narrow = str(to)
    return Inside(tuple(dict.fromkeys(rules)), narrow)


def _equations(jaxpr: Any) -> Iterator[Any]:
    """Every equation, also those inside loops, branches and jitted functions."""
    for eqn in jaxpr.eqns:
        yield eqn
        is_jaxpr = lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")  # noqa: E731
        for inner in filter(is_jaxpr, jax.tree.leaves(eqn.params, is_leaf=is_jaxpr)):
            yield from _equations(inner if hasattr(inner, "eqns") else inner.jaxpr)


def _sources(params: dict[str, Any]) -> Iterator[str]:
    """Where the function and its rule are written: "relu at .../jax/_src/nn/functions.py:71"."""
    for value in params.values():
        info = getattr(getattr(value, "debug_info", None), "func_src_info", None)
        if info:
            yield info


def _is_jax(source: str) -> bool:
    return source.split(" at ")[-1].startswith(os.path.dirname(jax.__file__) + os.sep)


# --- what rounding explains -----------------------------------------------------------------------


def errors_of_autodiff(J: Callable, args: tuple, dtype, truth: Reference) -> dict[str, float]:
    """Return by name the `error` of `jax.grad(J)` in dtype against the truth in float64.

    The value's own stands under "J". inf where it could not be computed.
    """
    own = autodiff(J, args, dtype)
    found = {name: error(own.arrays[name], array) for name, array in truth.arrays.items()}
    return {name: off if off == off else np.inf for name, off in found.items()}


def errors_nearby(J: Callable, args: tuple, dtype, truth: Reference, draws: int = 3):
    """Return the same as the largest of some draws, a few last bits away from args.

    One draw can be right by luck. In float64, where there is nothing better to compare with, it is
    the error of float32, which sees the same cancellations, scaled by the ratio of their eps.
    """
    coarse = np.dtype(np.float32) if dtype == FLOAT64 else np.dtype(dtype)
    unknown = 64 * eps_of(dtype) if dtype == FLOAT64 else np.inf
    scale, rng = eps_of(dtype) / eps_of(coarse), np.random.default_rng(0)
    largest = dict.fromkeys(truth.arrays, 0.0)
    for _ in range(draws):
        near = (jax.tree.map(lambda x: _moved(x, coarse, rng), args[0]), *cast(args[1:], coarse))
        exact, own = autodiff(J, near, FLOAT64), autodiff(J, near, coarse)
        for name, array in truth.arrays.items():
            off = np.max(np.abs(own.arrays[name] - exact.arrays[name]), initial=0)
            relative = float(off / size(array)) * scale
            largest[name] = max(largest[name], relative if np.isfinite(relative) else unknown)
    return largest


def errors_of_moving(J: Callable, args: tuple, own: Reference, draws: int = 3):
    """Return by name what a few last bits of the parameters change, where float64 cannot run."""
    rng, largest = np.random.default_rng(0), dict.fromkeys(own.arrays, 0.0)
    for _ in range(draws):
        near = (jax.tree.map(lambda x: _moved(x, own.dtype, rng), args[0]), *args[1:])
        moved = autodiff(J, near, own.dtype)
        for name, array in own.arrays.items():
            largest[name] = max(largest[name], error(moved.arrays[name], array))
    return largest


def _moved(leaf: Any, dtype, rng) -> np.ndarray:
    """The leaf in dtype, each entry some of its last bits away."""
    leaf = np.asarray(leaf).astype(dtype).astype(np.float64)
    steps = rng.integers(-2, 3, size=leaf.shape)
    return (leaf * (1 + steps * eps_of(dtype))).astype(dtype)
