"""Check whether a user's Activation describes itself truly, by central differences of its `fn`.

Every gradient relies on `derivative`, and the flow relies on `homogeneous` and `asymptote` too. If
one of them were wrong, every number would be wrong without an error. The activations of this
package are not checked here, because the tests check them.
"""

import contextlib
import functools
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp import named
from jaxmlp.activations.by_name import get
from jaxmlp.activations.description import Activation

_POINTS, _REACH = 200, 100.0  # chosen: the number of points, and the largest |z| of them
_STEPS = 2.0 ** -np.arange(4, 37, 2)  # large for smooth functions, small for slopes of 1e6
_TOLERANCE = 1e-6  # relative; in float64 differences of smooth functions are off by 1e-9
_EXACT = 1e-12  # relative; for what must hold to rounding, with room for a few operations
_TINY = 1.37 * 10.0 ** -np.arange(2, 9)  # points near 0, for functions that are steep there
_LOWER = {"f32": jnp.float32, "f16": jnp.float16, "bf16": jnp.bfloat16}  # names in a jaxpr


def check_derivative(activation: Activation) -> None:
    """Refuse a user's Activation whose derivative is not that of its function.

    The derivative is compared with central differences in float64 at some 200 points with
    |z| <= 100, except at kinks and where `fn` is not finite. `fn` must also be elementwise, a
    learned slope must multiply min(z, 0), and `homogeneous` and `asymptote` must be true. Each
    Activation is checked once, also under a trace. If its functions close over traced values, it
    passes unchecked, because it has no numbers yet.

    Raises:
      ValueError: with the place and both numbers.

    Example:
      >>> check_derivative(Activation("wrong", jnp.tanh, lambda Z, A: 1 - A))
      Traceback (most recent call last):
      ValueError: activation 'wrong': derivative(Z, A) is 2 at z = -38.4563, but central differences
      of fn give 0 (if the derivative jumps there, name the place in kinks=)
    """
    try:
        with np.errstate(all="ignore"):  # the comparisons below treat NaN and infinity themselves
            _check(activation)
    except jax.errors.TracerArrayConversionError:
        return


@functools.cache
def _check(activation: Activation) -> None:
    if activation.derivative is None or named.is_known(activation, get):
        return
    evaluate, Z = _evaluator(activation), _points(activation.kinks)
    slope = () if activation.slope is None else (activation.slope,)
    _check_elementwise(activation, evaluate, Z, slope)
    _compare_with_differences(activation, evaluate, Z, slope)
    if activation.slope is not None:
        # The derivative in z must also hold at another slope than the first: 0.5 is chosen
        _compare_with_differences(activation, evaluate, Z, (activation.slope + 0.5,))
        _check_learned_slope(activation, evaluate, Z, activation.slope)
    if activation.homogeneous:
        _check_homogeneous(activation, evaluate, Z, slope)
    if activation.asymptote is not None:
        _check_asymptote(activation, evaluate, Z.shape, slope)


# --- the points, and the values there -------------------------------------------------------------


def _points(kinks: tuple[float, ...]) -> np.ndarray:
    """Return `(1 + 2 steps, points)`: points, then those each step above, then those below.

    The points lie densely near 0 and near each kink. None is a kink or a round number, and no
    step crosses a kink.
    """
    golden = (np.sqrt(5) - 1) / 2  # the fractional parts of its multiples fill [0, 1) evenly
    even = 2 * (golden * np.arange(1, _POINTS + 1) % 1) - 1
    # Chosen: two distances on each side of a kink, one small, one smaller, none round
    beside = np.add.outer(kinks, [-0.0312, -0.000171, 0.000223, 0.0417]).ravel()
    points = np.concatenate([np.sinh(even * np.arcsinh(_REACH)), _TINY, -_TINY, beside])
    points = points[~np.isin(points, kinks)]
    # Steps are relative to |z| beyond 1, and at most a part of the distance to the nearest kink
    room = np.min(np.abs(np.subtract.outer(points, [*kinks, np.inf])), axis=1)
    h = np.multiply.outer(_STEPS, np.minimum(np.maximum(1, np.abs(points)), room))
    return np.concatenate([points[None], points + h, points - h])


@contextlib.contextmanager
def in_float64():
    """Compute in float64, at once even inside a trace, and on the CPU if there is one."""
    try:
        device = jax.local_devices(backend="cpu")[0]  # a TPU's float64 has fewer digits
    except RuntimeError:
        device = None
    with (
        jax.default_device(device),
        jax.ensure_compile_time_eval(),
        jax.enable_x64(True),
        jax.transfer_guard("allow"),
        jax.debug_nans(False),
        jax.debug_infs(False),
    ):
        yield


def _evaluator(activation: Activation) -> Callable:
    """Return `evaluate(Z, *slope) -> (A, derivative)`, NumPy arrays in float64."""
    assert activation.derivative is not None
    derivative = activation.derivative

    @jax.jit
    def values(Z, *slope):
        A = activation.fn(Z, *slope)
        return A, derivative(Z, A, *slope)

    def evaluate(Z, *slope):
        with in_float64():
            A, d = values(Z, *map(np.float64, slope))
            A, d = np.asarray(A, np.float64), np.asarray(d, np.float64)  # fn may have used less
        if A.shape != Z.shape or d.shape not in (Z.shape, ()):
            raise ValueError(
                f"activation {activation.name!r}: fn and derivative must be elementwise, but Z of "
                f"shape {Z.shape} gives {A.shape} and {d.shape}"
            )
        return A, np.broadcast_to(d, Z.shape)

    return evaluate


def rounding_of(fn: Callable, *args: Any) -> float:
    """Return eps of the coarsest precision that `fn` uses inside when its arguments are float64."""
    with in_float64():
        jaxpr = str(jax.make_jaxpr(fn)(*(jnp.asarray(arg, jnp.float64) for arg in args)))
    dtypes = [_LOWER[name] for name in re.findall(r"\b(f32|f16|bf16)\[", jaxpr)]
    return max(float(jnp.finfo(dtype).eps) for dtype in (jnp.float64, *dtypes))


# --- what must hold -------------------------------------------------------------------------------


def _check_elementwise(activation: Activation, evaluate: Callable, Z, slope) -> None:
    """Refuse a function that does not commute with a permutation of the entries."""
    order = np.random.default_rng(0).permutation(Z.size)
    A = evaluate(Z, *slope)[0]
    permuted = evaluate(Z.ravel()[order].reshape(Z.shape), *slope)[0]
    if not np.allclose(A.ravel()[order], permuted.ravel(), _EXACT, 0, equal_nan=True):
        raise ValueError(
            f"activation {activation.name!r}: fn must be elementwise, but what it gives for one "
            "entry of Z depends on the others"
        )


def _compare_with_differences(activation: Activation, evaluate: Callable, Z, slope) -> None:
    """Refuse a derivative that differs from central differences; name the worst place."""
    A, d = evaluate(Z, *slope)
    z, d = Z[0], d[0]
    # The largest |d| between 0 and z: if fn falls again further out, terms of that size cancel in
    # it, and their rounding remains
    abs_d, steepest = np.nan_to_num(np.abs(d), posinf=0), np.empty_like(z)
    for side in (z > 0, z < 0):
        outwards = np.flatnonzero(side)[np.argsort(np.abs(z[side]))]
        steepest[outwards] = np.maximum.accumulate(abs_d[outwards])
    found, error = _differences(Z, A, steepest, rounding_of(activation.fn, Z, *slope))
    # Compare where the differences are known; their error estimate may be 10 times too small
    size = np.fmax(np.abs(d), np.abs(found))
    known = np.isfinite(A[0]) & np.isfinite(error)
    off = np.where(np.isnan(d), np.inf, np.abs(d - found))
    wrong = known & (off > _TOLERANCE * size + 10 * error + _EXACT * steepest)
    i = np.argmax(np.where(wrong, off / size, -1))
    if not known.any():
        raise ValueError(
            f"activation {activation.name!r}: fn is finite at none of {z.size} points between "
            f"{-_REACH:g} and {_REACH:g}"
        )
    if wrong.any():
        at = f"z = {z[i]:.6g}" + "".join(f" with the slope {s:g}" for s in slope)
        raise ValueError(
            f"activation {activation.name!r}: derivative(Z, A) is {d[i]:.6g} at {at}, but central "
            f"differences of fn give {found[i]:.6g} (if the derivative jumps there, name the place "
            "in kinks=)"
        )


def _differences(Z, A, steepest, rounding: float) -> tuple[np.ndarray, np.ndarray]:
    """Return at each point the best of the central differences, and an estimate of its error.

    The estimate for a step is its rounding error plus its distance from the differences of all
    shorter steps, less their rounding errors. The best step has the smallest estimate.
    """
    n = len(_STEPS)
    above, below = slice(1, n + 1), slice(n + 1, None)
    width = Z[above] - Z[below]
    D = (A[above] - A[below]) / width
    # The rounding of the values, and that of z inside fn; 4 operations of each are assumed
    terms = np.abs(A[above]) + np.abs(A[below]) + np.abs(Z[0]) * (np.abs(D) + steepest)
    noise = 4 * rounding * terms / width
    distance = [
        np.max(np.abs(D[j] - D[j + 1 :]) - noise[j + 1 :], axis=0, initial=0) for j in range(n - 1)
    ]
    error = np.nan_to_num(np.array(distance) + noise[:-1], nan=np.inf, posinf=np.inf)
    best = np.argmin(error, axis=0)[None]
    found, error = (np.take_along_axis(x, best, axis=0)[0] for x in (D, error))
    return found, error


def _check_learned_slope(activation: Activation, evaluate: Callable, Z, slope: float) -> None:
    """Refuse a function whose derivative in its slope is not min(z, 0), as the walk assumes."""
    step = 2.0**-10  # any will do: fn is linear in the slope
    D = (evaluate(Z, slope + step)[0] - evaluate(Z, slope - step)[0])[0] / (2 * step)
    z, expected = Z[0], np.minimum(Z[0], 0)
    wrong = np.abs(D - expected) > _TOLERANCE * np.abs(z)
    if wrong.any():
        i = np.argmax(wrong)
        raise ValueError(
            f"activation {activation.name!r}: the derivative of fn in its learned slope must be "
            f"min(z, 0), PReLU's, but it is {D[i]:.6g} at z = {z[i]:.6g}"
        )


def _check_homogeneous(activation: Activation, evaluate: Callable, Z, slope) -> None:
    """Refuse a function for which fn(c z) is not c fn(z)."""
    A = evaluate(Z, *slope)[0]
    for c in (0.5, 3.0):  # chosen: a smaller and a larger z, one by no power of two
        scaled = evaluate(c * Z, *slope)[0]
        wrong = ~np.isclose(scaled, c * A, _EXACT, 0, equal_nan=True)
        if wrong.any():
            i = np.unravel_index(np.argmax(wrong), Z.shape)
            raise ValueError(
                f"activation {activation.name!r} is no homogeneous function: at z = {Z[i]:.6g} "
                f"fn({c:g} z) is {scaled[i]:.6g}, but {c:g} fn(z) is {c * A[i]:.6g}"
            )


def _check_asymptote(activation: Activation, evaluate: Callable, shape, slope) -> None:
    """Refuse lines that fn does not follow beyond its threshold."""
    assert activation.asymptote is not None
    # Chosen: just beyond the threshold, and up to a million times as far
    beyond = (activation.threshold or 1.0) * np.array([1 + 1e-9, 2.0, 30.0, 1e3, 1e6])
    beyond = beyond[np.isfinite(beyond)]
    for side, s in zip((-1, 1), activation.asymptote, strict=True):
        z = side * beyond
        # The shape is that of all other calls, so that nothing is compiled again
        A, d = (x.ravel()[: z.size] for x in evaluate(np.resize(z, shape), *slope))
        line = s * z if s else np.full(z.shape, A[-1])
        wrong = ~np.isclose(A, line, _EXACT, 0 if s else _EXACT) | ~np.isclose(d, s, 0, _EXACT)
        if wrong.any():
            i = np.argmax(wrong)
            raise ValueError(
                f"activation {activation.name!r}: asymptote={activation.asymptote} does not hold "
                f"beyond threshold={activation.threshold:g}: at z = {z[i]:.6g} fn is {A[i]:.6g} "
                f"and its derivative {d[i]:.6g}"
            )
