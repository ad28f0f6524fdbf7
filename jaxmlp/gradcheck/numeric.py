"""The second route: the derivative of J along a random direction, without autodiff.

The complex step, `imag J(p + i h v) / h`, is right to rounding at any size (Squire & Trapp 1998,
"Using complex variables to estimate derivatives of real functions") if J's operations are those of
complex analysis. Some of JAX's are not, silently. There central differences serve, which see no
derivative that is small beside J itself.
"""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxmlp import activations, losses
from jaxmlp.compare import magnitude
from jaxmlp.gradcheck.names import by_name, replaced
from jaxmlp.gradcheck.reference import run
from jaxmlp.objective import Objective, value_and_output

# The tests compare each activation and each loss with autodiff
NOT_COMPLEX = {"step", "sign", "softplus", "gelu", "gelu_tanh", "erf", "softsign", "mish"}
LOSSES_COMPLEX = {"cross_entropy", "mse", "sse", "half_squared_error"}

COMPLEX_STEP = 1e-20  # its square vanishes beside 1, and 1e-280 can still be seen
LEAST = 1e-300  # of an imaginary part: nearer the end of float64's range bits are lost
STEPS = 2.0 ** -np.arange(4, 16, 2)  # of central differences, relative to the size of the array
SURE = 8  # times the error that a route states for itself: it is an estimate


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
        params, *rest = self.args
        return run(_itself, self.J, (replaced(params, self.name, array), *rest))


def _itself(J: Callable) -> Callable:
    return J


class Sight(NamedTuple):
    """The derivative of J along a line, how far it may be off, and the route that saw it.

    route: "complex step" or "central differences"; "" if nothing can be seen.
    """

    line: Line
    derivative: float = 0.0
    error: float = np.inf
    route: str = ""

    @property
    def is_blind(self) -> bool:
        # An error of a fiftieth leaves nothing to compare with
        return not self.route or not self.error <= 0.02 * abs(self.derivative)

    def difference(self, gradient: np.ndarray) -> float:
        """`|<gradient, v> - derivative|`, relative to the length of gradient * v."""
        v = self.line.direction
        return float(abs(np.vdot(gradient, v) - self.derivative) / self._length(gradient * v))

    def resolution(self, gradient: np.ndarray, doubt: float = 0.0) -> float:
        """How far that difference may be off: by the route's own error, and by a doubt of each
        entry of the gradient."""
        v = self.line.direction
        off = max(SURE * self.error, doubt * float(np.linalg.norm(v)))
        return float(off / self._length(gradient * v))

    def _length(self, terms: np.ndarray) -> float:
        k = magnitude(terms)
        length = np.ldexp(np.linalg.norm(np.ldexp(terms, -k)), k)
        return max(float(length), abs(self.derivative), np.finfo(float).tiny)


def sights(J: Callable, args: tuple, names: list[str], count: int) -> dict[str, list[Sight]]:
    """Return for each array what was seen along some directions; args in float64 under x64.

    By complex step if that is known to be right, else by differences. What these cannot see, a
    complex step may, if it agrees with the differences wherever they see.
    """
    by_step = complex_is_right(J)
    first, second = (complex_step, central) if by_step else (central, complex_step)
    found = {name: [first(line) for line in lines(J, args, name, count)] for name in names}
    blind = [name for name, seen in found.items() if any(sight.is_blind for sight in seen)]
    clear = [sight for name in found.keys() - blind for sight in found[name]]
    if by_step or (blind and not isinstance(J, Objective) and _confirm(clear)):
        found |= {name: [second(sight.line) for sight in found[name]] for name in blind}
    return {name: [s for s in seen if not s.is_blind] for name, seen in found.items()}


def _confirm(clear: list[Sight]) -> bool:
    """Whether there are derivatives by differences, and the complex step agrees with each."""
    steps = [complex_step(sight.line) for sight in clear]
    return bool(clear) and all(
        step.route and abs(step.derivative - sight.derivative) <= SURE * sight.error
        for step, sight in zip(steps, clear, strict=True)
    )


def lines(J: Callable, args: tuple, name: str, count: int = 2) -> list[Line]:
    """Return J along random directions of one array, for args in float64 under `enable_x64`."""
    array = by_name(args[0])[name]
    return [Line(J, args, name, array, seed) for seed in range(count)]


# --- complex step ---------------------------------------------------------------------------------


def complex_is_right(J: Any) -> bool:
    """Whether JAX evaluates this objective rightly at complex parameters, from a tested list."""
    if not isinstance(J, Objective) or not _is_built_in(losses, J.loss):
        return False
    acts = J.mlp.activations
    known = all(act.name.split(":")[0] not in NOT_COMPLEX for act in acts)
    ours = all(_is_built_in(activations, act) for act in acts)
    return known and ours and J.loss.name in LOSSES_COMPLEX


def _is_built_in(module: Any, thing: Any) -> bool:
    """Whether the activation or loss is the package's own of that name."""
    try:
        return module.get(thing.name) == thing
    except ValueError:
        return False


def complex_step(line: Line) -> Sight:
    """Return the derivative by complex step; unseen if it is not finite or below its range."""
    # Inputs of an objective are complex too, so that loops carry one dtype
    count = 2 if isinstance(line.J, Objective) else 1
    try:
        params, *rest = (*jax.tree.map(_complex, line.args[:count]), *line.args[count:])
        moved = line.array + 1j * COMPLEX_STEP * line.direction
        args = replaced(params, line.name, moved), *rest
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a cast to real numbers only warns
            value = complex(run(_unchecked, line.J, args))
    except Exception:  # whatever J makes of complex numbers
        return Sight(line)
    derivative = value.imag / COMPLEX_STEP
    if not np.isfinite(derivative) or abs(value.imag) < LEAST:
        return Sight(line)
    # 1e-13: hundreds of eps, for the roundings of a network
    return Sight(line, derivative, 1e-13 * abs(derivative), "complex step")


def _complex(x: Any) -> Any:
    is_float = hasattr(x, "dtype") and jax.numpy.issubdtype(x.dtype, np.floating)
    return np.asarray(x) + 0j if is_float else x


def _unchecked(J: Callable) -> Callable:
    """An objective without its checks, which refuse complex parameters."""
    if not isinstance(J, Objective):
        return J
    return lambda params, X, Y: value_and_output(J, params, X, jax.numpy.asarray(Y))[0]


# --- one-sided differences ------------------------------------------------------------------------


def kinks(
    J: Callable, args: tuple, name: str, entries: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the smaller and the larger slope of J beside some entries; NaN for no kink.

    At a kink the two slopes stay apart with shorter steps; a bend closes, and a jump opens.
    """
    array = by_name(args[0])[name]
    line = Line(J, args, name, array, 0)
    middle = float(line.at(array))
    unit = np.sqrt(np.mean(array**2)) or 1.0
    found = np.full((2, len(entries)), np.nan)
    for i, entry in enumerate(entries):
        sides = []
        for h in unit * 2.0 ** np.array([-14, -20]):
            e = np.zeros_like(array)
            e.flat[entry] = h
            sides.append([(float(line.at(array + s * e)) - middle) / (s * h) for s in (-1, 1)])
        (low, high), (coarse_low, coarse_high) = sorted(sides[1]), sorted(sides[0])
        gap, coarse, most = high - low, coarse_high - coarse_low, max(abs(low), abs(high))
        # 1e-3 and a tenth: far above the rounding of J over the shorter step
        if gap > 1e-3 * most and abs(gap - coarse) <= 0.1 * gap:
            found[:, i] = low - 1e-6 * gap, high + 1e-6 * gap
    return found[0], found[1]


# --- central differences --------------------------------------------------------------------------


def central(line: Line) -> Sight:
    """Return the derivative by central differences, Richardson's extrapolation of the best steps.

    Unseen at a kink, where the two one-sided differences do not approach each other.
    """
    middle, v = float(line.at(line.array)), line.direction
    ahead, behind = (
        np.array([float(line.at(line.array + sign * h * v)) for h in STEPS]) for sign in (1, -1)
    )
    with np.errstate(all="ignore"):
        # Steps fall by 4, errors by 16: so 16/15 of the finer slope less 1/15 of the coarser
        slopes = (ahead - behind) / (2 * STEPS)
        better = (16 * slopes[1:] - slopes[:-1]) / 15
        # 16 eps: what J itself rounds by
        noise = 16 * np.finfo(float).eps * max(abs(middle), np.abs(ahead).max()) / STEPS[2:]
        # The bend falls to a quarter with h; at a kink it stays, so more than 0.6 of it is left
        bend = (ahead + behind - 2 * middle) / STEPS
        jumps = np.abs(bend[:-1] - 4 * bend[1:])
        errors = np.abs(np.diff(better)) + np.maximum(jumps[:-1], jumps[1:]) + noise
        kink = abs(bend[-1]) > 0.6 * abs(bend[-2]) and abs(bend[-1]) > 4 * noise[-1]
    if kink or not np.isfinite(errors).any():
        return Sight(line)
    best = int(np.nanargmin(errors))
    return Sight(line, float(better[best + 1]), float(errors[best]), "central differences")
