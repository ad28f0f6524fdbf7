"""What is said of all arrays together: numerical, float32 on the way, a common factor."""

import itertools
from typing import NamedTuple

import numpy as np

from jaxmlp.gradcheck.names import Arrays, eps_of
from jaxmlp.gradcheck.numbers import error, size

# Steps of finite differences in use; 2^-26 is the square root of eps
# smallest first: what is whole for one step is so for its multiples too
STEPS = sorted((*(10.0**-k for k in range(1, 13)), *(2.0**-k for k in range(4, 40))))
FEW = 4  # entries that have to fit a step before it is believed


class Step(NamedTuple):
    """Of finite differences: the step, and whether it is taken to both sides."""

    h: float
    both_sides: bool


def step_of_differences(given: Arrays, value: float) -> Step | None:
    """Return the step if every entry is a difference of two values of J, divided by it.

    A difference of floating numbers near J is a whole number of units in its last place, so
    `entry * h / unit` is whole too, to the rounding of the division. A derivative's is not.
    """
    entries = np.concatenate([array.ravel().astype(np.float64) for array in given.values()])
    dtype = np.result_type(*(array.dtype for array in given.values()))
    if dtype not in (np.float64, np.float32) or not np.isfinite(entries).all() or not value:
        return None
    eps, last = eps_of(dtype), float(np.spacing(np.asarray(abs(value), dtype)))
    # below a power of two the unit is half of that above, and their J may be a smaller one
    for h, both_sides, part in itertools.product(STEPS, (True, False), (1, 2, 8)):
        units = entries * (2 * h if both_sides else h) / last * part
        if not np.abs(units).max() * eps < 0.01:  # so many that any number would be whole
            continue
        off = np.abs(units - np.round(units)) > 0.02 + 4 * eps * np.abs(units)
        if not off.any() and np.sum(np.abs(units) > 4) >= FEW:
            return Step(h, both_sides)
    return None


def holds_float32(given: Arrays, right: Arrays, tolerances: dict[str, float]) -> bool:
    """Whether float64 arrays are as exact as float32: in all of them, and without a pattern.

    tolerances: those of float32. A factor or a single wrong array is no rounding.
    """
    if any(array.dtype != np.float64 for array in given.values()) or not given:
        return False
    if any(given[name].shape != right[name].shape for name in given):
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
    """Whether what is off is a multiple of what is right."""
    off, right = (given - right) / size(right), right / size(right)
    along = abs(np.vdot(off, right)) > 0.99 * np.linalg.norm(off) * np.linalg.norm(right)
    return bool(along) or right.size == 1


def common_factor(given: Arrays, right: Arrays, matches) -> float | None:
    """Return the factor between the gradient and the right one, if there is one for all arrays."""
    largest = max(right, key=lambda name: right[name].size)
    g, r = given.get(largest), right[largest]
    if g is None or g.shape != r.shape or not r.any() or sum(x.size for x in right.values()) < 2:
        return None
    factor = float(np.vdot(r / size(r), g / size(g)) / np.vdot(r / size(r), r / size(r)))
    factor *= size(g) / size(r)
    fits = all(matches(name, factor * array) for name, array in right.items())
    return factor if fits and np.isfinite(factor) and factor != 0 else None
