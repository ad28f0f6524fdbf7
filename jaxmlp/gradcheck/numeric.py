"""The second route: the derivative of J along a random direction, without autodiff.

Complex step, `imag J(p + i h v) / h`, is right to rounding at any size (Squire & Trapp 1998, "Using
complex variables to estimate derivatives of real functions"), where J's operations are those of
complex analysis. Some of JAX are not, silently; central differences serve there, and see no
derivative that is small beside J itself.
"""

import functools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxmlp import activations
from jaxmlp.gradcheck.naming import by_name, cast, replaced
from jaxmlp.gradcheck.references import FLOAT64
from jaxmlp.objective import Objective, value_and_output

# tests/test_gradcheck.py compares each activation and loss with autodiff
NOT_COMPLEX = {"step", "sign", "softplus", "gelu", "gelu_tanh", "erf", "softsign", "mish"}
LOSSES_COMPLEX = {"cross_entropy", "mse", "sse", "half_squared_error"}

COMPLEX_STEP = 1e-20  # its square vanishes beside 1, and 1e-280 can still be seen
STEPS = 2.0 ** -np.arange(4, 16, 2)  # of central differences, relative to the size of the array


class Seen(NamedTuple):
    """A derivative along a direction, how far it may be off, and which route saw it."""

    derivative: float
    error: float
    route: str  # "complex step", "central differences", or "" where nothing can be seen


class Line(NamedTuple):
    """J along `array + t v`; t may be complex."""

    J: Callable
    args: tuple
    name: str
    array: np.ndarray
    direction: np.ndarray

    def __call__(self, t: complex) -> Any:
        moved = self.array + t * self.direction
        return _value(self.J, replaced(self.args[0], self.name, moved), *self.args[1:])


def complex_is_right(J: Any) -> bool:
    """Whether JAX evaluates this objective rightly at complex parameters, from a tested list."""
    if not isinstance(J, Objective) or J.loss.name not in LOSSES_COMPLEX:
        return False
    known = (act.name.split(":")[0] not in NOT_COMPLEX for act in J.mlp.activations)
    return all(known) and all(map(_is_built_in, J.mlp.activations))


def _is_built_in(act) -> bool:
    try:
        return activations.get(act.name) == act
    except ValueError:
        return False


def lines(J: Callable, args: tuple, name: str, count: int = 2) -> list[Line]:
    """Return J along random directions of one array; to be followed under `enable_x64`."""
    args = cast(args, FLOAT64)
    array = np.asarray(by_name(args[0])[name])
    size = np.sqrt(np.mean(array**2)) or 1.0 if array.size else 1.0
    rng = np.random.default_rng(sum(map(ord, name)))
    directions = rng.standard_normal((count, *array.shape)) * size
    return [Line(J, args, name, array, v) for v in directions]


def complex_step(line: Line) -> Seen:
    """Return the derivative by complex step; unseen where it is not finite or below its range."""
    try:
        params, *rest = _complex(line.J, line.args)
        moved = line.array + 1j * COMPLEX_STEP * line.direction
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a cast to real numbers only warns
            args = replaced(params, line.name, moved), *rest
            is_mlp = isinstance(line.J, Objective)
            value = complex(_complex_value(line.J, *args) if is_mlp else _value(line.J, *args))
    except Exception:  # whatever J makes of complex numbers
        return Seen(0.0, np.inf, "")
    derivative = value.imag / COMPLEX_STEP
    if not np.isfinite(derivative) or abs(value.imag) < 1e-300:
        return Seen(0.0, np.inf, "")
    return Seen(derivative, 1e-13 * abs(derivative), "complex step")


def _complex(J: Callable, args: tuple) -> tuple:
    """Parameters as complex numbers, and an objective's inputs, so that loops carry one dtype."""
    count = 2 if isinstance(J, Objective) else 1
    to_complex = lambda x: np.asarray(x) + 0j if _is_float(x) else x  # noqa: E731
    return (*jax.tree.map(to_complex, args[:count]), *args[count:])


def _is_float(x: Any) -> bool:
    return hasattr(x, "dtype") and jax.numpy.issubdtype(x.dtype, np.floating)


def central(line: Line) -> Seen:
    """Return the derivative by central differences, Richardson's extrapolation of the best steps.

    Unseen at a kink, where the two one-sided differences do not approach each other.
    """
    middle = float(line(0.0))
    ahead, behind = (np.array([float(line(s * h)) for h in STEPS]) for s in (1, -1))
    with np.errstate(all="ignore"):
        slopes = (ahead - behind) / (2 * STEPS)
        better = (16 * slopes[1:] - slopes[:-1]) / 15
        noise = 16 * np.finfo(float).eps * max(abs(middle), np.abs(ahead).max()) / STEPS[2:]
        errors = np.abs(np.diff(better)) + noise
        bend = np.abs(ahead + behind - 2 * middle) / STEPS  # falls with h, except at a kink
        kink = bend[-1] > 0.6 * bend[-2] and bend[-1] > 4 * noise[-1]
    if kink or not np.isfinite(errors).any():
        return Seen(0.0, np.inf, "")
    best = int(np.nanargmin(errors))
    return Seen(float(better[best + 1]), float(errors[best]), "central differences")


def _value(J: Callable, *args):
    try:
        return _kept(J)(*args)
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError):
        return J(*args)


def _kept(J: Callable) -> Callable:
    try:
        return _jitted(J)
    except TypeError:  # J cannot be hashed
        return J


@functools.lru_cache(maxsize=64)
def _jitted(J: Callable) -> Callable:
    return jax.jit(J)


@functools.partial(jax.jit, static_argnums=0)
def _complex_value(J: Objective, params, X, Y):
    """The objective without its checks, which refuse complex parameters."""
    return value_and_output(J, params, X, jax.numpy.asarray(Y))[0]
