"""Is what a user's Activation says of itself true? Central differences of `fn` answer.

Every tool believes the derivative, and the flow believes `homogeneous` and `asymptote` too: a
wrong one would give wrong numbers without a word. The library's own are checked by the tests.
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

_POINTS, _REACH = 200, 100.0  # how many places, and the largest |z| among them
_STEPS = 2.0 ** -np.arange(4, 37, 2)  # from those for a smooth function to those for slopes of 1e6
_TOLERANCE = 1e-6  # relative; differences of smooth functions are off by 1e-9 in float64
_EXACT = 1e-12  # relative; what holds to rounding
_TINY = 1.37 * 10.0 ** -np.arange(2, 9)  # places near 0, for functions that are steep there
_LOWER = {"f32": jnp.float32, "f16": jnp.float16, "bf16": jnp.bfloat16}  # as a jaxpr writes them


def check_derivative(activation: Activation) -> None:
    """Refuse a user's Activation whose derivative is not that of its function.

    The derivative is compared with central differences in float64 at some 200 points, |z| <= 100,
    off the kinks and where `fn` is finite. `fn` must be elementwise, a learned slope must multiply
    min(z, 0), and `homogeneous` and `asymptote` must hold. Each Activation is looked at once, also
    under a trace; one whose functions close over traced values has no numbers yet, and passes.

    Raises:
      ValueError: names the place and both numbers.

    Example:
      >>> check_derivative(Activation("wrong", jnp.tanh, lambda Z, A: 1 - A))
      Traceback (most recent call last):
      ValueError: activation 'wrong': derivative(Z, A) is 2 at z = -38.4563, but central differences
      of fn give 0 (if the derivative jumps there, name the place in kinks=)
    """
    try:
        with np.errstate(all="ignore"):  # NaN and infinity are answers here
            _check(activation)
    except jax.errors.TracerArrayConversionError:
        return


@functools.cache
def _check(activation: Activation) -> None:
    if activation.derivative is None or named.is_known(activation, get):
        return
    look, points = _looker(activation), _points(activation.kinks)
    Z = _around(points, activation.kinks)
    slope = () if activation.slope is None else (activation.slope,)
    _check_elementwise(activation, look, Z, slope)
    _check_slope(activation, look, Z, slope)
    if activation.slope is not None:
        _check_slope(activation, look, Z, (activation.slope + 0.5,))
        _check_learned_slope(activation, look, Z, activation.slope)
    if activation.homogeneous:
        _check_homogeneous(activation, look, Z, slope)
    if activation.asymptote is not None:
        _check_asymptote(activation, look, Z.shape, slope)


# --- where, and what is there ---------------------------------------------------------------------


def _points(kinks: tuple[float, ...]) -> np.ndarray:
    """Points dense at 0 and beside each kink, on no round number and on no kink."""
    golden = (np.sqrt(5) - 1) / 2  # its multiples spread evenly over the circle
    even = 2 * (golden * np.arange(1, _POINTS + 1) % 1) - 1
    beside = np.add.outer(kinks, [-0.0312, -0.000171, 0.000223, 0.0417]).ravel()
    points = np.concatenate([np.sinh(even * np.arcsinh(_REACH)), _TINY, -_TINY, beside])
    return points[~np.isin(points, kinks)]


def _around(points: np.ndarray, kinks: tuple[float, ...]) -> np.ndarray:
    """Return `(1 + 2 steps, points)`: the points, then those a step above, then those below.

    No step crosses a kink.
    """
    room = np.min(np.abs(np.subtract.outer(points, [*kinks, np.inf])), axis=1)
    h = np.multiply.outer(_STEPS, np.minimum(np.maximum(1, np.abs(points)), room))
    return np.concatenate([points[None], points + h, points - h])


@contextlib.contextmanager
def in_float64():
    """Run what follows in float64 and at once, also inside a trace, on the CPU if there is one."""
    try:
        device = jax.local_devices(backend="cpu")[0]  # float64 of a TPU is none
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


def _looker(activation: Activation) -> Callable:
    """Return `look(Z, *slope) -> (A, derivative)` in float64 on the host, also inside a trace."""
    assert activation.derivative is not None
    derivative = activation.derivative

    @jax.jit
    def both(Z, *slope):
        A = activation.fn(Z, *slope)
        return A, derivative(Z, A, *slope)

    def look(Z, *slope):
        with in_float64():
            A, d = both(jnp.asarray(Z), *map(jnp.float64, slope))
            A, d = np.asarray(A, np.float64), np.asarray(d, np.float64)
        if A.shape != Z.shape or d.shape not in (Z.shape, ()):
            raise ValueError(
                f"activation {activation.name!r}: fn and derivative must be elementwise, but Z of "
                f"shape {Z.shape} gives {A.shape} and {d.shape}"
            )
        return A, np.broadcast_to(d, Z.shape)

    return look


def rounding_of(fn: Callable, *args: Any) -> float:
    """The rounding of 1 in the coarsest precision that `fn` computes in, given float64."""
    with in_float64():
        jaxpr = str(jax.make_jaxpr(fn)(*(jnp.asarray(arg, jnp.float64) for arg in args)))
    dtypes = [_LOWER[name] for name in re.findall(r"\b(f32|f16|bf16)\[", jaxpr)]
    return max(float(jnp.finfo(dtype).eps) for dtype in (jnp.float64, *dtypes))


# --- what must hold -------------------------------------------------------------------------------


def _check_elementwise(activation: Activation, look: Callable, Z, slope) -> None:
    order = np.random.default_rng(0).permutation(Z.size)
    A, among_others = look(Z, *slope)[0], look(Z.ravel()[order].reshape(Z.shape), *slope)[0]
    if not np.allclose(A.ravel()[order], among_others.ravel(), _EXACT, 0, equal_nan=True):
        raise ValueError(
            f"activation {activation.name!r}: fn must be elementwise, but what it gives for one "
            "entry of Z depends on the others"
        )


def _check_slope(activation: Activation, look: Callable, Z, slope) -> None:
    A, d = look(Z, *slope)
    z, d = Z[0], d[0]
    steepest = _steepest_nearer(z, d)
    found, error = _differences(Z, A, steepest, rounding_of(activation.fn, Z, *slope))
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


def _steepest_nearer(z, d) -> np.ndarray:
    """The largest |d| at points between 0 and z: where fn falls off its terms cancel, and their
    rounding stays."""
    size, steepest = np.nan_to_num(np.abs(d), posinf=0), np.empty_like(z)
    for side in (z > 0, z < 0):
        outwards = np.flatnonzero(side)[np.argsort(np.abs(z[side]))]
        steepest[outwards] = np.maximum.accumulate(size[outwards])
    return steepest


def _differences(Z, A, steepest, rounding: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the central difference of each point that the shorter steps contradict least, and how
    far off it may be."""
    n = len(_STEPS)
    above, below = slice(1, n + 1), slice(n + 1, None)
    width = Z[above] - Z[below]
    D = (A[above] - A[below]) / width
    # what rounding of the values, and of z inside of fn, makes of the difference
    terms = np.abs(A[above]) + np.abs(A[below]) + np.abs(Z[0]) * (np.abs(D) + steepest)
    noise = 4 * rounding * terms / width
    contradicted = [
        np.max(np.abs(D[j] - D[j + 1 :]) - noise[j + 1 :], axis=0, initial=0) for j in range(n - 1)
    ]
    error = np.nan_to_num(np.array(contradicted) + noise[:-1], nan=np.inf, posinf=np.inf)
    best = np.argmin(error, axis=0)[None]
    found, error = (np.take_along_axis(x, best, axis=0)[0] for x in (D, error))
    return found, error


def _check_learned_slope(activation: Activation, look: Callable, Z, slope: float) -> None:
    step = 2.0**-10
    D = (look(Z, slope + step)[0] - look(Z, slope - step)[0])[0] / (2 * step)
    z, expected = Z[0], np.minimum(Z[0], 0)
    wrong = np.abs(D - expected) > _TOLERANCE * np.abs(z)
    if wrong.any():
        i = np.argmax(wrong)
        raise ValueError(
            f"activation {activation.name!r}: the derivative of fn in its learned slope must be "
            f"min(z, 0), PReLU's, but it is {D[i]:.6g} at z = {z[i]:.6g}"
        )


def _check_homogeneous(activation: Activation, look: Callable, Z, slope) -> None:
    A = look(Z, *slope)[0]
    for c in (0.5, 3.0):
        scaled = look(c * Z, *slope)[0]
        wrong = ~np.isclose(scaled, c * A, _EXACT, 0, equal_nan=True)
        if wrong.any():
            i = np.unravel_index(np.argmax(wrong), Z.shape)
            raise ValueError(
                f"activation {activation.name!r} is no homogeneous function: at z = {Z[i]:.6g} "
                f"fn({c:g} z) is {scaled[i]:.6g}, but {c:g} fn(z) is {c * A[i]:.6g}"
            )


def _check_asymptote(activation: Activation, look: Callable, shape, slope) -> None:
    assert activation.asymptote is not None
    beyond = (activation.threshold or 1.0) * np.array([1 + 1e-9, 2.0, 30.0, 1e3, 1e6])
    beyond = beyond[np.isfinite(beyond)]
    for side, s in zip((-1, 1), activation.asymptote, strict=True):
        z = side * beyond
        A, d = (x.ravel()[: z.size] for x in look(np.resize(z, shape), *slope))
        line = s * z if s else np.full(z.shape, A[-1])
        wrong = ~np.isclose(A, line, _EXACT, 0 if s else _EXACT) | ~np.isclose(d, s, 0, _EXACT)
        if wrong.any():
            i = np.argmax(wrong)
            raise ValueError(
                f"activation {activation.name!r}: asymptote={activation.asymptote} does not hold "
                f"beyond threshold={activation.threshold:g}: at z = {z[i]:.6g} fn is {A[i]:.6g} "
                f"and its derivative {d[i]:.6g}"
            )
