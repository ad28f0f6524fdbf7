"""What each classic mistake makes of one array of the gradient, while the way back is right."""

import itertools
import math
from collections.abc import Callable, Iterator, Set
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from jaxmlp.gradcheck.judge import Given, size
from jaxmlp.gradcheck.mistakes import ARRAYS, FACTORS
from jaxmlp.gradcheck.names import split
from jaxmlp.gradcheck.tape import ALL, Place

Words = dict[str, str]  # what the mend says besides the layer, as {"other": "sigmoid"}


class Edit(NamedTuple):
    """A mistake, what it makes of an array, and what is to be said of it.

    make: returns the array, or None if it cannot be the one that was given.
    """

    mistake: str
    make: Callable[[], np.ndarray | None]
    words: Words = {}  # noqa: RUF012


IN_ARRAYS = {*FACTORS, *ARRAYS, "dA_for_dZ"}  # the mistakes of this module


def explanations(
    place: Place, name: str, right: np.ndarray, given: Given, known: Set[str]
) -> dict[str, Words]:
    """Return which of the known mistakes, made in one array alone, give what was given."""
    found: dict[str, Words] = {}
    for edit in _of_array(place, name, right, given) if known & IN_ARRAYS else ():
        if edit.mistake in known and edit.mistake not in found:
            array = edit.make()
            if array is not None and given.matches(array):
                found[edit.mistake] = edit.words
    return found


def _of_array(place: Place, name: str, right: np.ndarray, given: Given) -> Iterator[Edit]:
    """Yield what a mistake in one array would make of it, while the way back stays right."""
    field, _ = split(name)
    factors = known_factors(place)
    if right.size > 1:  # any single number is a multiple of another
        factors += fitted_factor(place, given.raw, right)
    for mistake, factor, words in factors:
        yield Edit(mistake, partial(np.multiply, right, factor), words)
    if field in ("W", "b"):
        yield from _other_products(place, field, given)
    if field == "b":
        yield from _of_bias(place)
    if field == "slope":
        yield from _of_slope(place)
    # What may have been returned in its place, or done to it
    parameter = getattr(place.record.layer, field)
    yield Edit("wrong_array", lambda: parameter, {"what": f"{name} itself"})
    if right.any():
        yield Edit("zeros", partial(np.zeros_like, right))
    if given.raw.shape == right.shape:
        yield from _after_all(right, given.raw, parameter)


def _other_products(place: Place, field: str, given: Given) -> Iterator[Edit]:
    """Other factors in `dW = A.T @ dZ / m`; db is this product with ones in the place of A."""
    record, above, dZ, number = place.record, place.above, place.dZ, place.number
    m, n, A, records = len(dZ), place.tape.divisor, record.A_prev, place.tape.records
    product = partial(_product, given, field == "b")
    # Another array in the place of dZ
    yield Edit("dA_for_dZ", partial(product, A, place.dA, n))
    if above is not None:
        yield Edit("wrong_dZ", partial(product, A, above.dZ, n))
        words = {"what": f"d{field}{above.number}"}
        yield Edit("wrong_array", partial(product, record.A, above.dZ, n), words)
    # A loop over the samples that overwrites instead of adding, or begins or ends too early
    some = {
        "the last": slice(m - 1, m), "the first": slice(0, 1),
        "all but the last": slice(0, m - 1), "all but the first": slice(1, m),
    }  # fmt: skip
    for which, rows in some.items() if m > 2 else ():
        for divisor in (n, 1):
            make = partial(product, A, dZ, divisor, rows, rows)
            yield Edit("some_samples", make, {"which": which})
    if field == "b":
        return
    # Another order, or another array in the place of A
    yield Edit("transposed", partial(product, dZ, A, n))
    yield Edit("wrong_A", partial(product, record.A, dZ, n))
    for down in range(1, number):
        words = {"down": "one layer" if down == 1 else f"{down} layers"}
        yield Edit("far_A", partial(product, records[number - 1 - down].A_prev, dZ, n), words)
    if number > 1:
        yield Edit("Z_for_A", partial(product, records[number - 2].Z, dZ, n))
    # The samples averaged or mixed up
    yield Edit("product_of_means", lambda: np.outer(A.mean(axis=0), dZ.mean(axis=0)))
    for order, rows in orders(m):
        yield Edit("rows_apart", partial(product, A, dZ, n, rows), {"order": order})
        yield Edit("rows_apart", partial(product, A, dZ, n, ALL, rows), {"order": order})


def _product(
    given: Given, is_bias: bool, left, right, n, rows: Any = ALL, others: Any = ALL
) -> np.ndarray | None:
    """Return `left[rows].T @ right[others] / n`; None if its shape or one entry tells enough."""
    if is_bias:
        return right[others].sum(axis=0) / n
    if (left.shape[1], right.shape[1]) != given.array.shape:
        return None
    if given.at is not None:
        i, j = given.at
        if not given.may_be(left[:, i][rows] @ right[:, j][others] / n):
            return None
    return left[rows].T @ right[others] / n


def _of_bias(place: Place) -> Iterator[Edit]:
    dZ, n = place.dZ, place.tape.divisor
    yield Edit("bias_not_summed", lambda: dZ)
    yield Edit("bias_not_summed", lambda: dZ / n)
    for divisor, axis, keep in itertools.product(("count", 1, n), (1, None), (False, True)):
        of = {"axis": axis, "keepdims": keep}
        total = dZ.mean if divisor == "count" else (dZ / divisor).sum
        yield Edit("bias_wrong_axis", partial(total, **of))
    dW = place.record.A_prev.T @ dZ / n
    yield Edit("bias_of_dW", partial(dW.sum, axis=0))
    yield Edit("bias_of_dW", partial(dW.mean, axis=0))


def _of_slope(place: Place) -> Iterator[Edit]:
    record = place.record
    for what, dA, Z in (
        ("dZ in the place of dA", place.dZ, np.minimum(record.U, 0)),
        ("Z, also where it is positive", place.dA, record.U),
        ("A in the place of Z", place.dA, np.minimum(record.A, 0)),
    ):
        make = partial(np.divide, np.sum(dA * Z), place.tape.divisor)
        yield Edit("wrong_slope", make, {"what": what})


def _after_all(right: np.ndarray, given: np.ndarray, parameter: np.ndarray) -> Iterator[Edit]:
    """What was done to a right array."""
    # A constant that is fitted to one number would explain any of them
    if parameter.size > 1 and parameter.any():
        decay = np.vdot(parameter, given - right) / np.vdot(parameter, parameter)
        yield Edit("extra_l2", lambda: right + parameter * decay)
    if parameter.size > 1 and right.any():
        rate = float(np.vdot(right, parameter - given) / np.vdot(right, right))
        if rate > 0:
            words = {"rate": f"{rate:.3g}"}
            yield Edit("updated_parameter", lambda: parameter - rate * right, words)
    # The fewest digits that keep what was given; one entry tells most numbers of digits
    one = given.ravel()[:1]
    few = (n for n in range(1, 9) if one.size and np.round(one, n) == one)
    digits = next((n for n in few if np.array_equal(given, np.round(given, n))), 0)
    if digits and given.any():
        yield Edit("rounded", partial(np.round, right, digits), {"digits": str(digits)})
    # Entries beyond a limit are at the limit; that several are there is what tells
    limit = size(given)
    if np.sum(np.abs(given) == limit) > 1 and size(right) > limit:
        yield Edit("clipped", partial(np.clip, right, -limit, limit), {"limit": f"{limit:g}"})


@lru_cache(maxsize=4)  # problems in turn
def orders(m: int) -> list[tuple[str, np.ndarray]]:
    """Return ways in which m rows are put in another order, on purpose or not; [] for one row."""
    rows = np.arange(m)
    found = [
        ("backwards", rows[::-1]),
        ("one row further", np.roll(rows, 1)),
        ("one row back", np.roll(rows, -1)),
    ]
    for seed in (0, 1, 42):  # the seeds that people choose
        for draw in (np.random.RandomState(seed), np.random.default_rng(seed)):
            found.append((f"shuffled with seed {seed}", draw.permutation(m)))
    return found if m > 1 else []


# --- factors --------------------------------------------------------------------------------------


def known_factors(place: Place) -> list[tuple[str, float, Words]]:
    m, K = place.tape.Y.shape
    found = (
        ("sum_not_mean", m), ("mean_twice", 1 / m), ("mean_over_classes", K),
        ("mean_over_classes", 1 / K), ("factor_2", 2.0), ("factor_half", 0.5), ("sign", -1.0),
    )  # fmt: skip
    return [(mistake, factor, {}) for mistake, factor in found if factor != 1]


def fitted_factor(place: Place, given: np.ndarray | None, right: np.ndarray) -> list:
    """The factor between an array and the right one, if there is one."""
    factor = None if given is None else factor_between(given, right)
    if factor is None or abs(factor - 1) <= 1e-12:  # 1 to the rounding of long sums
        return []
    meaning = of_what(factor, *place.tape.Y.shape, *place.record.layer.W.shape)
    words = {"factor": f"{factor:.4g}", "why": f": {meaning}" if meaning else ""}
    return [("factor", factor, words)]


def factor_between(given: np.ndarray, right: np.ndarray) -> float | None:
    """Return the factor that fits an array best, or None if it is no multiple of the right one."""
    if given.shape != right.shape or not (right.any() and given.any()):
        return None
    c, r = given.astype(np.float64) / size(given), right / size(right)
    fitted = float(np.vdot(r, c) / np.vdot(r, r))
    factor = fitted * (size(given) / size(right))
    is_near = bool(np.abs(c - fitted * r).max() < 0.02)  # half precision rounds by a hundredth
    return factor if is_near and np.isfinite(factor) and factor != 0 else None


def of_what(factor: float, m: int, K: int, d_in: int, d_out: int) -> str:
    """Say a factor as a product of what the network has: "-m / 2, m = 300 samples"."""
    words = {
        "m": f"m = {m} samples", "K": f"K = {K} outputs", "d_in": f"d_in = {d_in} inputs",
        "d_out": f"d_out = {d_out} units", "(m - 1)": f"m = {m} samples", "2": "",
    }  # fmt: skip
    values = dict(zip(words, (m, K, d_in, d_out, m - 1, 2), strict=True))
    known = [name for name, value in values.items() if value > 1]
    for names in (*itertools.combinations(known, 1), *itertools.combinations(known, 2)):
        for powers in itertools.product((1, -1), repeat=len(names)):
            value = math.prod(values[n] ** p for n, p in zip(names, powers, strict=True))
            if abs(value / abs(factor) - 1) < 1e-5:  # what float32 shows of a factor
                over = [name for name, power in zip(names, powers, strict=True) if power > 0]
                under = [name for name in names if name not in over]
                product = " ".join(over) or "1"
                product += f" / {' '.join(under)}" if under else ""
                told = dict.fromkeys(words[name] for name in names if words[name])
                return ", ".join(["-" * (factor < 0) + product, *told])
    return ""
