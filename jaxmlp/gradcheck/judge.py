"""The verdict on one array: how far it is from the right one, and whether that is too far."""

import enum
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from jaxmlp.compare import magnitude

NAN = float("nan")


class Verdict(enum.StrEnum):
    """What is said of one array."""

    RIGHT = "right"
    WRONG = "wrong"
    WRONG_SHAPE = "wrong shape"
    MISSING = "missing"
    NOT_FINITE = "not finite"
    UNDECIDED = "undecided"
    """neither precision nor route can tell"""


class Numbers(NamedTuple):
    """How far an array c is from the right array r; no number depends on their size.

    difference: `max|c - r| / max|r|`; cosine and norm_ratio: of c against r; sign_flips: entries
    of opposite sign; ulp: `max|c - r|` in units of the last place of r's largest entry.
    """

    difference: float = NAN
    cosine: float = NAN
    norm_ratio: float = NAN
    sign_flips: int = 0
    ulp: float = NAN


class Row(NamedTuple):
    """One array of the candidate against the reference.

    name: W1, b1, slope1, dZ2, ..., or the path in a pytree; "J" is the value.
    layer: its number, None outside of networks.
    numbers: None if nothing could be compared.
    tolerance: how large the difference may be.
    at_kinks: entries that depend on which side's derivative is taken at a kink.
    dtype: the precision that decided.
    second_route: the relative difference from the numeric derivative along random directions, and
    which route it was; "cannot see" if J's differences do not resolve it, "" if not asked.
    why: the detail of a verdict: both shapes, or the reason why it is undecided.
    """

    name: str
    layer: int | None
    verdict: Verdict
    numbers: Numbers | None = None
    tolerance: float = NAN
    at_kinks: int = 0
    dtype: str = ""
    second_route: str = ""
    why: str = ""

    @property
    def is_right(self) -> bool:
        return self.verdict == Verdict.RIGHT

    @property
    def is_undecided(self) -> bool:
        return self.verdict == Verdict.UNDECIDED

    @property
    def is_wrong(self) -> bool:
        return not (self.is_right or self.is_undecided)

    def undecided(self, why: str) -> "Row":
        return self._replace(verdict=Verdict.UNDECIDED, why=why)


def judge(
    name: str,
    given: np.ndarray,
    right: np.ndarray,
    tolerance: float,
    eps: float,
    also: Iterable[np.ndarray] = (),
    off: np.ndarray | float = 0.0,
) -> Row:
    """Compare an array with the right one.

    Args:
      tolerance: how large `max|given - right| / max|right|` may be.
      eps: of the dtype that judges; it sizes the ulp.
      also: other arrays that are right too.
      off: how far each entry may move at kinks.
    """
    if given.shape != right.shape:
        return Row(name, None, Verdict.WRONG_SHAPE, why=f"{given.shape}, not {right.shape}")
    row = Row(name, None, Verdict.WRONG, numbers(given, right, eps), tolerance)
    if not np.isfinite(given.astype(np.float64)).all():
        return row._replace(verdict=Verdict.NOT_FINITE)
    slack = tolerance * np.abs(right).max(initial=0)
    at_kinks = np.broadcast_to(off > slack, right.shape)
    row = row._replace(at_kinks=int(at_kinks.sum()))
    # One of the right arrays
    for reference in (right, *also):
        if error(given, reference) <= tolerance:
            found = numbers(given, reference, eps)
            return row._replace(verdict=Verdict.RIGHT, numbers=found)
    # Or the right one, but for the side that each unit chose at its kink
    if at_kinks.any() and (np.abs(flushed(given) - right) <= off + slack).all():
        found = numbers(np.where(at_kinks, right, flushed(given)), right, eps)
        return row._replace(verdict=Verdict.RIGHT, numbers=found)
    return row


# --- the same as another array --------------------------------------------------------------------


class Given(NamedTuple):
    """One array of the candidate, and how near another one has to be to be the same.

    raw: as it came; array: in float64; shape: of the right array. tolerance: relative to the size
    of the other array; slack: absolute, for an array that has not the shape of the right one. at:
    the place of the largest entry, None if this entry alone cannot tell.
    """

    raw: np.ndarray
    array: np.ndarray
    shape: tuple[int, ...]
    tolerance: float
    slack: float
    at: tuple[int, ...] | None

    def may_be(self, entry: Any) -> bool:
        """Whether an array with this entry at `at` may be this one."""
        own = self.array[self.at]
        # 5: beyond the 4 below, whichever of the two arrays is the larger
        return not abs(own - entry) > 5 * self.tolerance * abs(own) + TINY  # a NaN may

    def matches(self, array: np.ndarray) -> bool:
        """Whether the two are the same, within rounding."""
        array = array if array.shape == self.shape else settled(array, self.shape)
        if array.shape != self.array.shape:
            return False
        # Nearly all that do not match are refused by one entry
        if self.at is not None and not self.may_be(array[self.at]):
            return False
        # 4: a mistake's number is rounded in more ways than the right one
        return gap(self.array, array) <= 4 * self.tolerance * size(array) + self.slack


def settled(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return a bias that came as (1, d) or (d, 1), or a slope as (1,), in its own shape."""
    is_vector = len(shape) <= 1 and array.ndim <= 2 and array.size == np.prod(shape, dtype=int)
    return (
        array.reshape(shape) if is_vector and max(array.shape, default=1) == array.size else array
    )


# --- numbers --------------------------------------------------------------------------------------


def numbers(given: np.ndarray, right: np.ndarray, eps: float) -> Numbers:
    """Return the numbers that compare two arrays of one shape, in float64; eps sizes the ulp."""
    kc, kr = (magnitude(np.asarray(_largest(x))) for x in (given, right))
    off = largest = product = squares_c = squares_r = 0.0
    flips = 0
    with np.errstate(all="ignore"):  # NaN and infinity are an answer here
        # Each array in the power of two of its largest entry: squares of 1e-170 are 0
        for c, r in _pieces(given, right):
            c_own, r_own = np.ldexp(c, -kc), np.ldexp(r, -kr)
            off = _max(off, np.ldexp(c, -kr) - r_own)
            largest = _max(largest, r_own)
            product += np.sum(c_own * r_own)
            squares_c += np.sum(c_own * c_own)
            squares_r += np.sum(r_own * r_own)
            flips += int(np.sum(np.sign(c_own) * np.sign(r_own) < 0))
        if squares_c == squares_r == 0:
            cosine = ratio = 1.0
        else:
            cosine = product / (np.sqrt(squares_c) * np.sqrt(squares_r))
            ratio = np.ldexp(np.sqrt(squares_c) / np.sqrt(squares_r), kc - kr)
        difference = np.float64(off) / largest if off != 0 else 0.0
    ulp = off / (eps / 2)  # the largest entry of r_own lies between 1/2 and 1
    return Numbers(float(difference), float(cosine), float(ratio), flips, float(ulp))


def error(given: np.ndarray, right: np.ndarray) -> float:
    """Return `max|given - right| / max|right|`; `max|given|` if right is exactly zero.

    NaN if one of them holds a NaN.
    """
    return gap(given, right) / size(right)


def gap(given: np.ndarray, right: np.ndarray) -> float:
    """Return `max|given - right|`; NaN if one of them holds a NaN."""
    with np.errstate(all="ignore"):
        return _largest(in_float64(given) - in_float64(right))


def size(right: np.ndarray) -> float:
    """Return what `error` is relative to: the largest entry, or 1 for zeros."""
    return _largest(right) or 1.0


def in_float64(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x)  # np.asarray(x, np.float64) refuses bfloat16
    return x if x.dtype == np.float64 else x.astype(np.float64)


def flushed(x: np.ndarray) -> np.ndarray:
    """Return x in float64 with subnormals as 0, which is what XLA makes of them."""
    x = in_float64(x)
    return np.where(np.abs(x) < TINY, 0.0, x)


TINY = float(np.finfo(np.float64).tiny)
PIECE = 2**18  # entries: a weight of 2048 x 2048 has 32 MiB, and `numbers` needs many of its size


def _pieces(*arrays: np.ndarray) -> Iterator[list[np.ndarray]]:
    """Consecutive entries of arrays of one shape, flushed."""
    flat = [np.ravel(np.asarray(x)) for x in arrays]
    for start in range(0, flat[0].size, PIECE):
        yield [flushed(x[start : start + PIECE]) for x in flat]


def _max(largest: float, x: np.ndarray) -> float:
    return np.maximum(largest, np.max(np.abs(x), initial=0))  # which hands on a NaN


def _largest(x: np.ndarray) -> float:
    """The largest absolute entry, flushed; NaN if there is one."""
    largest = float(np.abs(in_float64(x)).max(initial=0))
    return 0.0 if largest < TINY else largest
