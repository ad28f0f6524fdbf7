"""The plane of weight and bias variances: order, chaos, and how many layers a signal survives."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.polynomial import Chebyshev
from numpy.polynomial.chebyshev import chebfit, chebpts1, chebval

from jaxmlp import checks
from jaxmlp.activations import Activation
from jaxmlp.meanfield.correlations import (
    ACCURACY,
    WIDEST,
    decorrelation_of_weights,
    from_angle,
    settled_correlation,
)
from jaxmlp.meanfield.fixed_points import depth_scale, depth_scale_of_length
from jaxmlp.meanfield.integrals import jumps, moments
from jaxmlp.meanfield.lengths import checked, roots_of, settled

# Chosen: degrees in theta of the table of correlations. The first is enough for the library's
# activations. About CHECKED points are compared with integrals; if they disagree, the second is
# tried. AGREEMENT is a third of the error that `PhaseDiagram` allows for c
DEGREES, DEGREES_WITH_KINKS = (24, 48), (32, 48)
CHECKED, AGREEMENT = 8, 3e-9


class PhaseDiagram(NamedTuple):
    """Hold fixed points over a grid: arrays of shape (len(sigma_b2), len(sigma_w2)).

    chi_1 below 1 is the ordered phase, in which gradients vanish. chi_1 above 1 is the chaotic
    phase, in which they explode. The other fields are those of `FixedPoint`, with NaN for a c of
    None. A c below 1 is accurate to 1e-8, and its slope chi_c to 1e-6.
    """

    activation: str
    sigma_w2: np.ndarray
    sigma_b2: np.ndarray
    q: np.ndarray
    chi_1: np.ndarray
    chi_par: np.ndarray
    c: np.ndarray
    chi_c: np.ndarray
    xi_q: np.ndarray
    xi_c: np.ndarray
    xi_grad: np.ndarray


def phase_diagram(
    activation: str | Activation,
    sigma_w2_grid: Sequence[float] | np.ndarray,
    sigma_b2_grid: Sequence[float] | np.ndarray,
    q0: float = 1.0,
) -> PhaseDiagram:
    """Return chi_1 and the depth scales of every pair of variances.

    Poole et al. 2016, "Exponential expressivity in deep neural networks through transient chaos",
    figure 1; Schoenholz et al. 2017, "Deep information propagation", figures 1 and 2.

    Args:
      sigma_w2_grid, sigma_b2_grid: the variances, one-dimensional.
      q0: variance of the first layer's z.

    Raises:
      ValueError: as `fixed_point`.

    Example:
      >>> diagram = phase_diagram("tanh", [0.5, 3.0], [0.1, 0.2])
      >>> diagram.chi_1 > 1
      array([[False,  True],
             [False,  True]])
    """
    q0 = checks.positive_number("q0", q0)
    rows = [[checked(activation, w, b) for w in sigma_w2_grid] for b in sigma_b2_grid]
    if not rows or not rows[0]:
        raise ValueError("phase_diagram needs at least one sigma_w2 and one sigma_b2")
    # Length and its slopes, then correlation and its slope, then the depth scales
    act = rows[0][0][0]
    w, b = np.moveaxis(np.array([[pair[1:] for pair in row] for row in rows]), -1, 0)
    q, stability = np.vectorize(lambda w, b: settled(act, w, b, q0), otypes=[float, object])(w, b)
    at = moments(act, q)
    chi_1, chi_par = w * at.slope2, w * at.gain
    with np.errstate(invalid="ignore"):  # NaN at q = 0 and inf
        share = w * at.square / q
    c, chi_c = _correlations(act, q, share, chi_1)
    xi_q = np.vectorize(depth_scale_of_length, otypes=[float])(chi_par, stability)
    xi_c, xi_grad = (np.vectorize(depth_scale, otypes=[float])(chi) for chi in (chi_c, chi_1))
    return PhaseDiagram(
        act.name, w[0], b[:, 0], q, chi_1, chi_par, c, chi_c, xi_q, xi_c, xi_grad
    )  # fmt: skip


def _correlations(act, q, share, chi_1):
    """Return c and chi_c: 1 and chi_1 in the ordered phase, from a table in the chaotic one.

    share: the weights' share in the variance q.
    """
    c, chi_c = np.ones_like(q), np.where(np.abs(chi_1 - 1) <= ACCURACY, 1.0, chi_1)
    for end in (0.0, math.inf):  # at these q the map depends on the activation alone
        if (q == end).any():
            settles, slope = settled_correlation(act, 1.0, 0.0, end)
            c[q == end], chi_c[q == end] = np.nan if settles is None else settles, slope
    inside = (q > 0) & np.isfinite(q)
    chaotic = inside & ((chi_c > 1) | bool(jumps(act)))
    if chaotic.any():
        c[chaotic], chi_c[chaotic] = _below_one(act, q[chaotic], share[chaotic])
    return c, chi_c


def _below_one(act, q, share):
    """Return c < 1 and chi_c of many fixed points."""
    some = np.argsort(q)[:: max(1, len(q) // CHECKED)]
    for degree in DEGREES_WITH_KINKS if act.kinks else DEGREES:
        table = _table(act, q.min(), q.max(), degree)
        pairs = zip(q, share, strict=True)
        theta, chi_c = np.array([_fixed(act, *pair, table) for pair in pairs]).T
        e_next = [share[i] * decorrelation_of_weights(act, q[i])(theta[i]) for i in some]
        if np.allclose(e_next, from_angle(theta[some]), rtol=AGREEMENT, atol=0):
            return np.maximum(0, np.cos(theta)), chi_c
    raise ValueError(f"the correlations of activation {act.name!r} vary too much over this grid")


def _order(act):
    """Return the power of theta that `1 - c'` follows near 0: 1 if phi jumps, else 2."""
    return 1 if jumps(act) else 2


def _table(act, low, high, degree):
    """Return a function of q: `(1 - c') / theta^order` without biases, as a polynomial in theta."""
    low, high = math.log(low), math.log(high)
    centre, half = (high + low) / 2, (high - low) / 2 + 1e-9  # not 0, even if there is one q
    # Chosen: a third as many nodes in ln q as in theta, and as many more for every factor e^2 in q
    x, y = chebpts1(degree // 3 + int(degree / 3 * half) + 1), chebpts1(degree + 1)
    angles, order = WIDEST * (y + 1) / 2, _order(act)
    of_q = [decorrelation_of_weights(act, q) for q in np.exp(centre + half * x)]
    ratio = np.array([[e_next(theta) / theta**order for theta in angles] for e_next in of_q])
    over_q = chebfit(x, ratio, len(x) - 1)
    coefficients = chebfit(y, over_q.T, degree).T

    def at(q):
        return Chebyshev(chebval((np.log(q) - centre) / half, coefficients), [0, WIDEST])

    return at


def _fixed(act, q, share, table) -> tuple[float, float]:
    """Return the angle with `1 - c' = 1 - c`, and the slope of the correlation map there."""
    order = _order(act)
    ratio = share * table(q)
    e_ratio = Chebyshev.interpolate(lambda x: from_angle(x) / x**order, DEGREES[0], [0, WIDEST])
    theta = max(roots_of(ratio - e_ratio), default=0.0)
    if theta == 0:  # c is 1 to rounding
        return 0.0, 1.0
    slope = order * theta ** (order - 1) * ratio(theta) + theta**order * ratio.deriv()(theta)
    return theta, slope / np.sin(theta)
