"""Where wide networks settle with depth, and how many layers that takes."""

import math
from typing import NamedTuple

from jaxmlp import checks
from jaxmlp.activations import Activation
from jaxmlp.meanfield.correlations import settled_correlation
from jaxmlp.meanfield.integrals import moments
from jaxmlp.meanfield.lengths import NOISE, checked, settled


class FixedPoint(NamedTuple):
    """Where a wide network settles with depth.

    q: the variance of z; 0, or inf where it diverges.
    chi_1: E|dz[l]|^2 / E|dz[l+1]|^2 there, the factor of squared gradients; the limit at 0 and inf.
    chi_par: the slope of the length map there.
    c: the correlation of two inputs, the stable one; None where every correlation stays as it is.
    chi_c: the slope of the correlation map at c; inf where phi jumps and c = 1.
    xi_q, xi_c: depth scales in layers, -1/ln|chi|, with which q and c settle; inf at chi = 1. xi_q
      is inf where q does not settle: "unstable", "oscillates", "diverges".
    xi_grad: that of squared gradients, -1/ln chi_1: positive where they vanish on the way back,
      negative where they explode; where q diverges, that of its limit.
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
    activation: str | Activation, sigma_w2: float, sigma_b2: float, q0: float = 1.0
) -> FixedPoint:
    """Return where length and correlation settle, starting from variance q0 of the first layer's z.

    Poole et al. 2016; Schoenholz et al. 2017, "Deep information propagation".

    Raises:
      ValueError: for variances out of range, softmax, or an activation that cannot be integrated.

    Example:
      >>> point = fixed_point("relu", 2.0, 0.0, q0=3.0)
      >>> point.q, round(point.chi_1, 12), point.c, point.stability
      (3.0, 1.0, 1.0, 'scale-invariant')
    """
    activation, sigma_w2, sigma_b2 = checked(activation, sigma_w2, sigma_b2)
    q, stability = settled(activation, sigma_w2, sigma_b2, checks.positive_number("q0", q0))
    at = moments(activation, q)
    chi_1, chi_par = sigma_w2 * float(at.slope2), sigma_w2 * float(at.gain)
    c, chi_c = settled_correlation(activation, sigma_w2, sigma_b2, q)
    scales = depth_scale_of_length(chi_par, stability), depth_scale(chi_c), depth_scale(chi_1)
    return FixedPoint(q, chi_1, chi_par, c, chi_c, *scales, stability)


def depth_scale_of_length(chi_par: float, stability: str) -> float:
    """`depth_scale`, or inf for a length that does not settle."""
    leaves = stability in ("unstable", "oscillates", "diverges")
    return math.inf if leaves else depth_scale(chi_par)


def depth_scale(chi: float) -> float:
    """`-1 / ln|chi|`: 0 at chi = 0 and inf, inf at 1 up to rounding, negative above."""
    if chi in (0, math.inf):
        return 0.0
    rate = -math.log(abs(chi))
    return math.inf if abs(rate) < NOISE else 1 / rate
