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

from jaxmlp import activations, losses
from jaxmlp.gradcheck.names import by_name, replaced
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
    """J along `array + t v`, where v is random and of the size of the array."""

    J: Callable
    args: tuple
    name: str
    array: np.ndarray
    seed: int

    @property
    def direction(self) -> np.ndarray:
        """v, drawn again whenever it is asked for: all of them would be several gradients large."""
        size = np.sqrt(np.mean(self.array**2)) or 1.0 if self.array.size else 1.0
        rng = np.random.default_rng((self.seed, *map(ord, self.name)))
        return rng.standard_normal(self.array.shape) * size

    def at(self, array: np.ndarray) -> Any:
        return _value(self.J, replaced(self.args[0], self.name, array), *self.args[1:])


def complex_is_right(J: Any) -> bool:
    """Whether JAX evaluates this objective rightly at complex parameters, from a tested list."""
    if not isinstance(J, Objective):
        return False
    known = (act.name.split(":")[0] not in NOT_COMPLEX for act in J.mlp.activations)
    is_ours = _is_built_in(losses, J.loss) and all(
        _is_built_in(activations, act) for act in J.mlp.activations
    )
    return is_ours and all(known) and J.loss.name in LOSSES_COMPLEX


def _is_built_in(module: Any, thing: Any) -> bool:
    """Whether the activation or loss is that of its name, and not one's own of that name."""
    try:
        return module.get(thing.name) == thing
    except ValueError:
        return False


def lines(J: Callable, args: tuple, name: str, count: int = 2) -> list[Line]:
    """Return J along random directions of one array, for args in float64 under `enable_x64`."""
    array = by_name(args[0])[name]
    return [Line(J, args, name, array, seed) for seed in range(count)]


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
    middle, v = float(line.at(line.array)), line.direction
    ahead, behind = (
        np.array([float(line.at(line.array + s * h * v)) for h in STEPS]) for s in (1, -1)
    )
    with np.errstate(all="ignore"):
        slopes = (ahead - behind) / (2 * STEPS)
        better = (16 * slopes[1:] - slopes[:-1]) / 15
        noise = 16 * np.finfo(float).eps * max(abs(middle), np.abs(ahead).max()) / STEPS[2:]
        bend = (ahead + behind - 2 * middle) / STEPS  # falls as h, unless there is a kink
        jumps = np.abs(bend[:-1] - 4 * bend[1:])
        errors = np.abs(np.diff(better)) + np.maximum(jumps[:-1], jumps[1:]) + noise
        kink = abs(bend[-1]) > 0.6 * abs(bend[-2]) and abs(bend[-1]) > 4 * noise[-1]
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
