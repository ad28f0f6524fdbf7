"""The numbers that compare two arrays in a certificate."""

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
    c, r = flushed(candidate), flushed(reference)
    kc, kr = magnitude(c), magnitude(r)
    with np.errstate(all="ignore"):  # NaN and infinity are an answer here
        error = np.max(np.abs(np.ldexp(c, -kr) - np.ldexp(r, -kr)), initial=0)
        c, r_own = np.ldexp(c, -kc), np.ldexp(r, -kr)
        norm_c, norm_r = (np.sqrt(np.sum(x * x)) for x in (c, r_own))
        size = np.max(np.abs(r_own), initial=0)
        alike = 1.0 if norm_c == norm_r == 0 else np.sum(c * r_own) / (norm_c * norm_r)
        ratio = 1.0 if norm_c == norm_r == 0 else np.ldexp(norm_c / norm_r, kc - kr)
        return Numbers(
            float(error / size) if error != 0 else 0.0,
            float(alike),
            float(ratio),
            int(np.sum(np.sign(c) * np.sign(r_own) < 0)),
            float(error / (eps / 2)),
        )


def flushed(x: np.ndarray) -> np.ndarray:
    """Return x in float64 with subnormals as 0, which is what XLA makes of them."""
    x = np.asarray(x).astype(np.float64)
    return np.where(np.abs(x) < np.finfo(np.float64).tiny, 0.0, x)
