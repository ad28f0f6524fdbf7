"""What is said of all arrays together: numerical, or float32 on the way."""

import itertools

import numpy as np

from jaxmlp.gradcheck.judge import error, size
from jaxmlp.gradcheck.names import Arrays, eps_of

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
