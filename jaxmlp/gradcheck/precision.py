"""What rounding explains: how far right numbers may be off in a dtype, and what it can decide."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxmlp.gradcheck.judge import error, gap, size
from jaxmlp.gradcheck.names import VALUE, Arrays, cast, eps_of
from jaxmlp.gradcheck.reference import FLOAT64, Truth, autodiff
from jaxmlp.gradcheck.rounding import conventions, spread
from jaxmlp.gradcheck.tape import Tape

SAFETY = 16.0  # times the measured error: draws and orders of summation differ
VAGUE = 1e-2  # a tolerance that decides nothing


class Precision(NamedTuple):
    """One truth as one dtype sees it.

    tolerances: by name, relative to the array's largest entry, absolute for zeros. errors: what
    rounding does to each array, in the same measure; inf if dtype cannot tell. reaches: the arrays
    of the gradient for which a difference beyond the tolerance says "wrong"; decides: those for
    which one within it says "right". off: how far each entry may move at the kinks that units sit
    at, to rounding; tapes: those with one side's derivative at all of these.
    """

    dtype: np.dtype
    tolerances: dict[str, float]
    errors: dict[str, float]
    reaches: set[str]
    decides: set[str]
    tapes: list[Tape]
    off: Arrays

    @property
    def eps(self) -> float:
        return eps_of(self.dtype)


def precision(truth: Truth, dtype, rtol: float | None) -> Precision:
    """Return what dtype can tell; rtol: the caller's tolerance, None for that of rounding."""
    right = truth.steps | truth.gradient | {VALUE: np.asarray(truth.value)}
    # How far rounding takes each array
    coarsest = max((np.dtype(dtype), truth.narrow), key=eps_of)
    floor = eps_of(coarsest) * truth.num_layers**0.5
    errors = _errors(truth, coarsest, right)
    zeros = {name for name in (*truth.gradient, VALUE) if not right[name].any()}
    tolerances = {
        name: rtol or SAFETY * max(0.0 if name in zeros else floor, errors[name]) for name in right
    }
    # Which verdicts that allows
    is_last = dtype == truth.dtype != FLOAT64  # nothing is better: J does not run in float64
    reaches = {
        name
        for name, array in truth.gradient.items()
        if is_last or (np.isfinite(errors[name]) and _in_range(array, dtype))
    }
    clear = min(max(VAGUE, 128 * floor), 0.3)  # half precision and great depth have no better
    decides = {
        name for name in reaches if is_last or rtol is not None or SAFETY * errors[name] <= clear
    }
    # What kinks leave open
    tapes, off = [], {}
    if truth.rounding is not None:
        with jax.enable_x64(True):
            tapes = conventions(truth.tapes[0], truth.rounding.U, eps_of(dtype))
    if tapes:
        off = spread(truth.tapes[0], *tapes[:2])
    return Precision(np.dtype(dtype), tolerances, errors, reaches, decides, tapes, off)


def _in_range(right: np.ndarray, dtype) -> bool:
    """Whether an array is large enough for dtype, or exactly zero.

    The largest entry needs 1e-30 in float32 and 1e-291 in float64, because what underflows on the
    way is lost to the entries below. float16 has little range and keeps its subnormals.
    """
    largest = np.abs(right).max(initial=0)
    if largest == 0:
        return True
    limits = jax.numpy.finfo(dtype)
    # Ten eps above what is lost, an entry has all its bits
    lost = limits.smallest_subnormal if dtype == np.float16 else limits.tiny
    return bool(10 * float(lost) / eps_of(dtype) <= largest < np.inf)


def _errors(truth: Truth, dtype, right: Arrays) -> dict[str, float]:
    """What rounding in dtype does to each array, relative to its size."""
    arrays = {name: right[name] for name in (*truth.gradient, VALUE)}
    found = dict.fromkeys(right, 0.0)
    if truth.rounding is not None:
        growth = truth.rounding.growth
        found = {name: eps_of(dtype) * (growth[name] / size(x)) for name, x in right.items()}
    try:
        measured = measured_errors(truth, dtype, arrays)
    except (TypeError, ValueError, NotImplementedError):  # J does not run in this dtype
        measured = dict.fromkeys(arrays, np.inf)
    return found | {name: max(found[name], off) for name, off in measured.items()}


def measured_errors(truth: Truth, dtype, right: Arrays, draws: int = 3) -> dict[str, float]:
    """Return how far autodiff in dtype is from autodiff in float64.

    At the arguments, and, unless a tape knows how rounding grows, at some draws a few last bits
    away: one can be right by luck. In float64, which nothing can judge, it is the error of float32,
    which sees the same cancellations, scaled by the ratio of their eps. If J does not run in
    float64 it is what moving by those bits changes. inf if nothing could be computed.
    """
    J, args, runs_in_float64 = truth.plain, truth.args, truth.dtype == FLOAT64
    coarse, scale, unknown = np.dtype(dtype), 1.0, np.inf
    if dtype == FLOAT64:
        # 64 eps: of a function whose float32 overflows nothing is known
        coarse, unknown = np.dtype(np.float32), 64 * eps_of(FLOAT64)
        scale = eps_of(FLOAT64) / eps_of(coarse)
    near = [] if dtype == FLOAT64 else [args]
    if truth.rounding is None:
        rng = np.random.default_rng(0)
        near += [_moved(args, coarse, runs_in_float64, rng) for _ in range(draws)]
    largest = dict.fromkeys(right, 0.0)
    for at in near:
        exact = _arrays(J, at, FLOAT64) if at is not args and runs_in_float64 else right
        own = _arrays(J, at, coarse)
        for name, array in right.items():
            off = scale * gap(own[name], exact[name]) / size(array)
            largest[name] = max(largest[name], off if np.isfinite(off) else unknown)
    return largest


def _arrays(J: Callable, args: tuple, dtype) -> Arrays:
    value, gradient = autodiff(J, args, dtype)
    return gradient | {VALUE: np.asarray(value)}


def _moved(args: tuple, dtype, cast_rest: bool, rng: np.random.Generator) -> tuple:
    """The arguments with every parameter in dtype and up to two eps away."""

    def moved(leaf: Any) -> np.ndarray:
        leaf = np.asarray(leaf).astype(dtype).astype(np.float64)
        steps = rng.integers(-2, 3, size=leaf.shape)
        return (leaf * (1 + steps * eps_of(dtype))).astype(dtype)

    rest = cast(args[1:], dtype) if cast_rest else args[1:]
    return (jax.tree.map(moved, args[0]), *rest)


# --- numerical, or float32 on the way -------------------------------------------------------------

# Steps of finite differences in use; 2^-26 is the square root of eps. The smallest first: what is a
# whole number of units for one step is so for its multiples too
STEPS = sorted((*(10.0**-k for k in range(1, 13)), *(2.0**-k for k in range(4, 40))))
FEW = 4  # entries that have to fit a step before it is believed


def step_of_differences(given: Arrays, value: float) -> tuple[float, bool] | None:
    """Return the step if every entry is a difference of two values of J, divided by it.

    With it comes whether the step was taken to both sides. A difference of floating numbers near J
    is a whole number of units in its last place, so `entry * h / unit` is whole too, to the
    rounding of the division. A derivative's is not.
    """
    entries = np.concatenate([array.ravel().astype(np.float64) for array in given.values()])
    dtype = np.result_type(*(array.dtype for array in given.values()))
    if dtype not in (np.float64, np.float32) or not np.isfinite(entries).all() or not value:
        return None
    eps, unit = eps_of(dtype), float(np.spacing(np.asarray(abs(value), dtype)))
    is_float32 = dtype == np.float64 and np.array_equal(entries, entries.astype(np.float32))
    largest = np.abs(entries).max()

    def are_whole(units: np.ndarray) -> bool:
        # A fiftieth: of numbers that are not whole, four in a hundred are as near
        off = np.abs(units - np.round(units)) > 0.02 + 4 * eps * np.abs(units)
        return not off.any()

    # Their J may be smaller: below each power of two the unit is half of that above
    for h, both_sides, part in itertools.product(STEPS, (True, False), (1, 2, 8)):
        scale = (2 * h if both_sides else h) / unit * part
        if not largest * scale * eps < 0.01:  # so many units that any number would be whole
            continue
        if is_float32 and largest * scale >= 2**24:  # whole because float32 has 24 bits
            continue
        # Some entries tell most steps
        units = entries * scale
        if are_whole(units[:FEW]) and are_whole(units) and np.sum(np.abs(units) > 4) >= FEW:
            return h, both_sides
    return None


def holds_float32(given: Arrays, right: Arrays, tolerances: dict[str, float]) -> bool:
    """Whether float64 arrays are as exact as float32: in all of them, and without a pattern.

    tolerances: those of float32. A factor or a single wrong array is no rounding.
    """
    if any(array.dtype != np.float64 for array in given.values()):
        return False
    errors = {name: error(array, right[name]) for name, array in given.items()}
    if any(not errors[name] <= tolerances[name] for name in given):
        return False
    if all(np.array_equal(x, x.astype(np.float32)) for x in given.values()):
        return True
    coarse = [name for name in given if errors[name] > 1e-10]  # float32 rounds to 6e-8
    pattern = all(_is_factor(given[name], right[name]) for name in coarse)
    return 2 * len(coarse) > len(given) and not pattern


def _is_factor(given: np.ndarray, right: np.ndarray) -> bool:
    """Whether the error is a multiple of the right array."""
    off, right = (given - right) / size(right), right / size(right)
    # 0.99: rounding points everywhere, but where few entries are large it may be near
    along = abs(np.vdot(off, right)) > 0.99 * np.linalg.norm(off) * np.linalg.norm(right)
    return bool(along) or right.size == 1
