"""The numbers that compare two arrays in a certificate."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from jaxmlp.compare import magnitude


class Numbers(NamedTuple):
    """How far one array is from another; every number is free of their size.

    difference: `max|c - r| / max|r|`; cosine and norm_ratio: of c against r; sign_flips: entries
    of opposite sign; ulp: `max|c - r|` in units of the last place of r's largest entry.
    """

    difference: float
    cosine: float
    norm_ratio: float
    sign_flips: int
    ulp: float


def numbers(candidate: np.ndarray, reference: np.ndarray, eps: float) -> Numbers:
    """Return the numbers that compare two arrays of one shape, in float64; eps sizes the ulp."""
    kc, kr = (magnitude(np.asarray(_largest(x))) for x in (candidate, reference))
    error = largest = product = squares_c = squares_r = 0.0
    flips = 0
    with np.errstate(all="ignore"):  # NaN and infinity are an answer here
        for c, r in _pieces(candidate, reference):
            r_own = np.ldexp(r, -kr)
            error = _max(error, np.ldexp(c, -kr) - r_own)
            c = np.ldexp(c, -kc)
            largest = _max(largest, r_own)
            product += np.sum(c * r_own)
            squares_c, squares_r = squares_c + np.sum(c * c), squares_r + np.sum(r_own * r_own)
            flips += int(np.sum(np.sign(c) * np.sign(r_own) < 0))
        norm_c, norm_r = np.sqrt(squares_c), np.sqrt(squares_r)
        alike = 1.0 if norm_c == norm_r == 0 else product / (norm_c * norm_r)
        ratio = 1.0 if norm_c == norm_r == 0 else np.ldexp(norm_c / norm_r, kc - kr)
        difference = np.float64(error) / largest if error != 0 else 0.0
    return Numbers(float(difference), float(alike), float(ratio), flips, float(error / (eps / 2)))


def gap(candidate: np.ndarray, reference: np.ndarray) -> float:
    """Return `max|c - r|`; NaN if one holds a NaN."""
    largest = 0.0
    with np.errstate(all="ignore"):
        for c, r in _pieces(candidate, reference):
            largest = _max(largest, c - r)
    return float(largest)


def error(candidate: np.ndarray, reference: np.ndarray) -> float:
    """Return `max|c - r| / max|r|`; `max|c|` if r is exactly zero; NaN if one holds a NaN."""
    return gap(candidate, reference) / size(reference)


def size(reference: np.ndarray) -> float:
    """Return what `error` is relative to: the largest entry, or 1 for zeros."""
    return _largest(reference) or 1.0


def flushed(x: np.ndarray) -> np.ndarray:
    """Return x in float64 with subnormals as 0, which is what XLA makes of them."""
    x = np.asarray(x).astype(np.float64)  # not np.asarray(x, float64), which refuses bfloat16
    return np.where(np.abs(x) < TINY, 0.0, x)


# --- a piece at a time: a weight of 2048 x 2048 has 32 MiB, and these need many of its size -------

PIECE = 2**18
TINY = float(np.finfo(np.float64).tiny)


def _pieces(*arrays: np.ndarray) -> Iterator[list[np.ndarray]]:
    """Consecutive entries of arrays of one shape, flushed."""
    if np.size(arrays[0]) <= PIECE:
        yield [flushed(x) for x in arrays]
        return
    flat = [np.ravel(np.asarray(x)) for x in arrays]
    for start in range(0, flat[0].size, PIECE):
        yield [flushed(x[start : start + PIECE]) for x in flat]


def _max(largest: float, x: np.ndarray) -> float:
    return np.maximum(largest, np.max(np.abs(x), initial=0))  # which hands on a NaN


def _largest(x: np.ndarray) -> float:
    largest = 0.0
    for (piece,) in _pieces(x):
        largest = _max(largest, piece)
    return float(largest)
