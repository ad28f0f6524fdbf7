"""Where wide networks settle with depth, and in how many layers."""

import math
from typing import NamedTuple

from jaxmlp import checks, norms
from jaxmlp.activations import Activation
from jaxmlp.meanfield.correlations import settled_correlation
from jaxmlp.meanfield.integrals import LARGEST, moments
from jaxmlp.meanfield.lengths import NOISE, checked, settled
from jaxmlp.meanfield.remedies import strength


class FixedPoint(NamedTuple):
    """Describe where a wide network settles with depth.

    q: the variance of z; it may be 0, and is inf if it diverges.
    chi_1: the factor of squared gradients there, E|dz[l]|^2 / E|dz[l+1]|^2; its limit for q = 0
      and inf.
    chi_par: the slope of the length map there.
    c: the stable correlation of two inputs; None if every correlation stays as it is.
    chi_c: the slope of the correlation map at c; inf if phi jumps and c = 1.
    xi_q, xi_c: depth scales, -1/ln|chi|: in how many layers q and c come nearer by a factor e. They
      are inf at chi = 1; xi_q is inf also if q is "unstable", "oscillates" or "diverges".
    xi_grad: the depth scale of squared gradients, -1/ln chi_1: positive if they vanish on the way
      back, negative if they explode. If q diverges it is that of the limit.
    stability: "stable"; "half-stable" (attracts from one side); "unstable" (only q0 = q stays);
      "scale-invariant" (every q stays as it is, and q is q0); "oscillates" (q lies inside the
      cycle); "diverges" (q grows without end).
    """

    q: float
    chi_1: float
    chi_par: float
    c: float | None
    chi_c: float
    xi_q: float
    xi_c: float
    xi_grad: float
    stability: str


def fixed_point(
    activation: str | Activation,
    sigma_w2: float,
    sigma_b2: float,
    q0: float = 1.0,
    *,
    residual: float | str | None = None,
    norm: str | None = None,
) -> FixedPoint:
    """Return where length and correlation settle if z of the first layer has variance q0.

    Poole et al. 2016; Schoenholz et al. 2017, "Deep information propagation".

    With a residual or a norm, as in `MLP`, it describes the stream S; see `meanfield/remedies.py`;
    norm_eps is taken as 0. After a norm q is settled in one layer, and chi_1 is
    `sigma_w2 E phi'^2 / (sigma_w2 E phi^2 + sigma_b2)` at variance 1. With a residual the length
    grows without end, and chi_1 is that of the limit. It is 1 for bounded activations and after a
    norm: there gradients grow, and correlations settle, more slowly than any exponential, so no
    depth scale describes them.

    Raises:
      ValueError: for variances out of range, softmax, an activation that cannot be integrated, an
        unknown residual or norm, and a residual that depends on the depth.

    Example:
      >>> point = fixed_point("relu", 2.0, 0.0, q0=3.0)
      >>> point.q, round(point.chi_1, 12), point.c, point.stability
      (3.0, 1.0, 1.0, 'scale-invariant')
      >>> round(fixed_point("sigmoid", 1.0, 0.0, norm="rms").chi_1, 5)
      0.15283
    """
    activation, w, b = checked(activation, sigma_w2, sigma_b2)
    q0, alpha = checks.positive_number("q0", q0), strength(residual, None)
    if norms.get(norm) is not None:
        return _normed(activation, w, b, q0, alpha)
    if alpha is not None:
        return _residual(activation, w, b, q0, alpha)
    q, stability = settled(activation, w, b, q0)
    at = moments(activation, q)
    correlation = settled_correlation(activation, w, b, q)
    return _point(q, w * float(at.slope2), w * float(at.gain), *correlation, stability)


def _normed(activation, w, b, q0, alpha) -> FixedPoint:
    """Return the fixed point with a norm, after which phi gets variance 1 in every layer."""
    at = moments(activation, 1.0)
    added, passed = w * float(at.square) + b, w * float(at.slope2)
    if alpha is not None and alpha**2 * added == 0:
        return _point(q0, 1 + alpha**2 * passed / q0, 1.0, None, 1.0, "scale-invariant")
    c, chi_c = settled_correlation(activation, w, b, 1.0)
    if alpha is not None:
        return _point(math.inf, 1.0, 1.0, c, 1.0, "diverges")
    return _point(added, passed / added if added else 0.0, 0.0, c, chi_c, "stable")


def _residual(activation, w, b, q0, alpha) -> FixedPoint:
    """Return the fixed point with a residual and no norm: the limit of a length that only grows."""
    start = moments(activation, q0)
    if alpha**2 * (w * float(start.square) + b) == 0:
        chi_1 = 1 + alpha**2 * w * float(start.slope2)
        return _point(q0, chi_1, 1.0, None, 1.0, "scale-invariant")
    at = moments(activation, math.inf)
    c, chi_c = settled_correlation(activation, w, b, math.inf)
    # The share of the length that a layer adds, at the largest variance that is integrated
    share = alpha**2 * w * float(moments(activation, LARGEST).square) / LARGEST
    chi_c = chi_c if math.isinf(share) else (1 + share * chi_c) / (1 + share)
    slopes = 1 + alpha**2 * w * float(at.slope2), 1 + alpha**2 * w * float(at.gain)
    return _point(math.inf, *slopes, c, chi_c, "diverges")


def _point(q, chi_1, chi_par, c, chi_c, stability) -> FixedPoint:
    scales = depth_scale_of_length(chi_par, stability), depth_scale(chi_c), depth_scale(chi_1)
    return FixedPoint(q, chi_1, chi_par, c, chi_c, *scales, stability)


def depth_scale_of_length(chi_par: float, stability: str) -> float:
    """Return `depth_scale`, or inf for a length that does not settle."""
    leaves = stability in ("unstable", "oscillates", "diverges")
    return math.inf if leaves else depth_scale(chi_par)


def depth_scale(chi: float) -> float:
    """Return `-1 / ln|chi|`: 0 for chi = 0 and inf, inf for 1 up to rounding, negative above 1."""
    if chi in (0, math.inf):
        return 0.0
    rate = -math.log(abs(chi))
    return math.inf if abs(rate) < NOISE else 1 / rate
