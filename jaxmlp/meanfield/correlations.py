"""The correlation c of two inputs from layer to layer, and where it settles.

Everything is computed with `1 - c` and the angle theta, `c = cos(theta)`. So nothing cancels near
c = 1, where ordered networks end.
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

WIDEST = 1.8  # where the search begins; a stable fixed point has c >= 0, so theta <= pi/2 = 1.57
ACCURACY, ACCURACY_OF_LIMITS = 1e-10, 1e-7  # of slopes; a limit is off by about sqrt(1e-16)
DEGREE = 20  # of polynomials over a factor of 2 in theta; measured: right to 1e-12 (6 activations)


def correlation_map(
    activation: str | Activation, sigma_w2: float, sigma_b2: float, q: float, c: float
) -> float:
    """Return the correlation in the next layer of two inputs with variance q and correlation c.

    It is `c' = (sigma_w2 E phi(u1) phi(u2) + sigma_b2) / q'`, q' the length map at q. It is
    accurate to 1e-10, and so is `1 - c'` near c = 1.

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
    """Return `1 - c'` from `e = 1 - c`, for q from 0 to inf."""
    theta = 2 * math.asin(math.sqrt(min(e, 2) / 2))
    share = _of_weights(activation, sigma_w2, sigma_b2, q)
    return share * decorrelation_of_weights(activation, q)(theta)


def _of_weights(activation, sigma_w2, sigma_b2, q):
    """Return the weights' share in the variance of the next layer; the biases have the rest."""
    if sigma_b2 == 0:
        return 1.0
    of_weights = sigma_w2 * float(moments(activation, q).square)
    return 1.0 if math.isinf(of_weights) else of_weights / (of_weights + sigma_b2)


def decorrelation_of_weights(activation, q) -> Callable:
    """Return the function of theta that gives `1 - c'` without biases."""
    if activation.homogeneous:
        return functools.partial(_of_two_slopes, activation)
    q = min(max(q, SMALLEST), LARGEST)
    square = float(moments(activation, q).square)
    return lambda theta: (
        half_difference(activation, q, theta) / square if square else from_angle(theta)
    )


def _of_two_slopes(activation, theta):
    """Return `1 - c'` of a homogeneous activation, which has one slope on each side of 0.

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
    """Return the stable fixed point of the correlation map, and the slope there.

    The map is convex and increasing on 0..1, and c = 1 is a fixed point. So there is another one
    below 1 exactly if the slope at 1 is above 1.
    """
    share = _of_weights(activation, sigma_w2, sigma_b2, q)
    of_weights = decorrelation_of_weights(activation, q)
    e_next = lambda theta: share * of_weights(theta)  # noqa: E731
    # A convex map that meets the identity at 0 and at two more angles is the identity
    if all(abs(e_next(theta) - from_angle(theta)) <= NOISE for theta in (1.0, 2.0)):
        return None, 1.0
    at_one = math.inf if jumps(activation) else share * _slope_at_one(activation, q)
    # For q = 0 and inf the slope is that of the last variance that is integrated
    accuracy = ACCURACY if SMALLEST < q < LARGEST else ACCURACY_OF_LIMITS
    at_one = 1.0 if abs(at_one - 1) <= accuracy else at_one
    # Halve theta until the map leaves the identity on the other side: the root lies between
    theta = WIDEST if at_one > 1 else 0.0
    while theta > SMALLEST_ANGLE:
        if e_next(theta / 2) > from_angle(theta / 2):
            return _crossing(e_next, theta / 2, theta)
        theta /= 2
    return 1.0, at_one


def from_angle(theta):
    """Return `1 - cos(theta)` without cancellation."""
    return 2 * np.sin(theta / 2) ** 2


def _slope_at_one(activation, q):
    """Return the slope of the correlation map at c = 1 without biases, `q E phi'^2 / E phi^2`."""
    q = min(max(q, SMALLEST), LARGEST)
    at = moments(activation, q)
    return q * float(at.slope2) / float(at.square) if at.square else 0.0


def _crossing(e_next, low, high):
    """Return c and the slope `de'/de` at the theta between low and high with `e'(theta) = e`."""
    curve = Chebyshev.interpolate(np.vectorize(e_next), DEGREE, [low, high])
    theta = roots_of(curve - Chebyshev.interpolate(from_angle, DEGREE, [low, high]))[0]
    return max(0.0, math.cos(theta)), float(curve.deriv()(theta)) / math.sin(theta)
