"""How the correlation of two inputs goes from layer to layer, and where it settles.

What is carried is `1 - c`, through the angle theta with `c = cos(theta)`: near c = 1, where ordered
networks end, nothing cancels.
"""

import functools
import math
from collections.abc import Callable

import numpy as np
from numpy.polynomial import Chebyshev

from jaxmlp import checks
from jaxmlp.activations import Activation
from jaxmlp.meanfield.integrals import (
    LARGEST,
    SMALLEST,
    SMALLEST_ANGLE,
    half_difference,
    jumps,
    moments,
    values_and_slopes,
)
from jaxmlp.meanfield.lengths import NOISE, checked, roots_of

WIDEST = 1.8  # where the search begins: a fixed point that attracts has c >= 0, an angle to pi/2
ACCURACY, ACCURACY_OF_LIMITS = 1e-10, 1e-7  # of slopes: a limit is off by about sqrt(1e-16)
DEGREE = 20  # of polynomials over a factor of 2 in theta: right to 1e-12 for six activations


def correlation_map(
    activation: str | Activation, sigma_w2: float, sigma_b2: float, q: float, c: float
) -> float:
    """Return the correlation one layer on of two inputs of variance q and correlation c.

    `c' = (sigma_w2 E phi(u1) phi(u2) + sigma_b2) / q'`, q' the length map at q; accurate to 1e-10,
    also as `1 - c'` near c = 1.

    Example:
      >>> round(correlation_map("relu", 2.0, 0.0, 1.0, 0.0), 12) == round(1 / math.pi, 12)
      True
    """
    activation, sigma_w2, sigma_b2 = checked(activation, sigma_w2, sigma_b2)
    q = checks.positive_number("q", q)
    if not -1 <= c <= 1:
        raise ValueError(f"c must lie in -1..1, got {c}")
    return 1 - decorrelation(activation, sigma_w2, sigma_b2, q, 1 - c)


def decorrelation(activation, sigma_w2, sigma_b2, q, e):
    """`1 - c'` from `e = 1 - c`; q from 0 to inf."""
    theta = 2 * math.asin(math.sqrt(min(e, 2) / 2))
    share = _of_weights(activation, sigma_w2, sigma_b2, q)
    return share * decorrelation_of_weights(activation, q)(theta)


def _of_weights(activation, sigma_w2, sigma_b2, q):
    """The share of the next variance that the weights contribute, not the biases."""
    if sigma_b2 == 0:
        return 1.0
    of_weights = sigma_w2 * float(moments(activation, q).square)
    return 1.0 if math.isinf(of_weights) else of_weights / (of_weights + sigma_b2)


def decorrelation_of_weights(activation, q) -> Callable:
    """`1 - c'` without biases, as a function of theta."""
    if activation.homogeneous:
        return functools.partial(_of_two_slopes, activation)
    q = min(max(q, SMALLEST), LARGEST)
    square = float(moments(activation, q).square)
    return lambda theta: (
        half_difference(activation, q, theta) / square if square else from_angle(theta)
    )


def _of_two_slopes(activation, theta):
    """The arc-cosine kernel of a homogeneous activation, which has one slope on either side of 0.

    Cho & Saul 2009, "Kernel methods for deep learning": for ReLU the correlation is
    `(sin theta + (pi - theta) cos theta) / pi`; `phi = (high - low) relu + low z`.
    """
    low, high = values_and_slopes(activation, np.array([-1.0, 1.0]))[1].tolist()
    if theta < 0.1:  # sin - theta cos cancels; the next term is below 1e-16 of the first
        series = 1 / 3 - theta**2 / 30 + theta**4 / 840 - theta**6 / 45360
        bent = theta**3 * series
    else:
        bent = math.sin(theta) - theta * math.cos(theta)
    e, square = from_angle(theta), (low**2 + high**2) / 2
    return float(e - (high - low) ** 2 * bent / (2 * math.pi * square)) if square else float(e)


def settled_correlation(activation, sigma_w2, sigma_b2, q) -> tuple[float | None, float]:
    """The stable fixed point of the correlation map, and the slope there.

    The map is convex and increasing on 0..1 and has c = 1, so there is one below 1 exactly if its
    slope at 1 is above 1.
    """
    share = _of_weights(activation, sigma_w2, sigma_b2, q)
    of_weights = decorrelation_of_weights(activation, q)
    e_next = lambda theta: share * of_weights(theta)  # noqa: E731
    # Two angles tell: a convex map that meets the identity there and at 0 is the identity
    if all(abs(e_next(theta) - from_angle(theta)) <= NOISE for theta in (1.0, 2.0)):
        return None, 1.0
    at_one = math.inf if jumps(activation) else share * _slope_at_one(activation, q)
    # At 0 and inf the slope is that of the last variance that is integrated
    accuracy = ACCURACY if SMALLEST < q < LARGEST else ACCURACY_OF_LIMITS
    at_one = 1.0 if abs(at_one - 1) <= accuracy else at_one
    theta = WIDEST if at_one > 1 else 0.0
    while theta > SMALLEST_ANGLE:
        if e_next(theta / 2) > from_angle(theta / 2):
            return _crossing(e_next, theta / 2, theta)
        theta /= 2
    return 1.0, at_one


def from_angle(theta):
    """`1 - cos(theta)` without cancellation."""
    return 2 * np.sin(theta / 2) ** 2


def _slope_at_one(activation, q):
    """The slope of the correlation map at c = 1 without biases, `q E phi'^2 / E phi^2`."""
    q = min(max(q, SMALLEST), LARGEST)
    at = moments(activation, q)
    return q * float(at.slope2) / float(at.square) if at.square else 0.0


def _crossing(e_next, low, high):
    """c and the slope `de'/de` where `e'(theta) = e`, low < theta < high."""
    curve = Chebyshev.interpolate(np.vectorize(e_next), DEGREE, [low, high])
    theta = roots_of(curve - Chebyshev.interpolate(from_angle, DEGREE, [low, high]))[0]
    return max(0.0, math.cos(theta)), float(curve.deriv()(theta)) / math.sin(theta)
