"""The edge of chaos: the variances at which gradients neither vanish nor explode, chi_1 = 1.

It is a curve with the length q as parameter: `sigma_w2(q) = 1 / E phi'^2` and
`sigma_b2(q) = q - E phi^2 / E phi'^2`. An equation must be solved only for the q that belongs to a
given sigma_w2 or sigma_b2.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from jaxmlp import activations, checks, norms
from jaxmlp.activations import Activation
from jaxmlp.meanfield.integrals import elementwise, moments, unresolved
from jaxmlp.meanfield.lengths import (
    EDGES,
    NOISE,
    interpolated,
    nonnegative,
    roots_in_cells,
    scan,
    settled,
)


class CriticalPoint(NamedTuple):
    """Hold variances for which chi_1 = 1 at a fixed point q of the length.

    q: None if every q is fixed; 0 if the point is the limit q -> 0.
    chi_par: the slope of the length map at q.
    stability: "stable", "half-stable" or "unstable" if chi_par is below, at or above 1. At q = 0
      chi_par is 1, and the point is "stable" if the length shrinks nearby, "unstable" if it grows.
      "scale-invariant" if every q is fixed.
    """

    sigma_w2: float
    sigma_b2: float
    q: float | None
    chi_par: float
    stability: str


def critical_point(
    activation: str | Activation,
    *,
    sigma_b2: float | None = None,
    sigma_w2: float | None = None,
    q: float | None = None,
    norm: str | None = None,
) -> CriticalPoint | None:
    """Return the variances at which squared gradients keep their size, chi_1 = 1.

    Give exactly one of sigma_b2, sigma_w2 and q. The result is None if there is no such point. If
    there are several, it is the one of smallest q among those that are not unstable, or else among
    all.

    After a norm (norm_eps taken as 0) the critical variances satisfy
    `sigma_b2 = sigma_w2 (E phi'^2 - E phi^2)` at variance 1. Linear and ReLU layers without biases
    are then critical at every sigma_w2, and the one with q = 1 is returned. With a residual chi_1
    is above 1, and no point is critical.

    Schoenholz et al. 2017, "Deep information propagation"; Roberts, Yaida & Hanin 2022, "The
    principles of deep learning theory", section 5.

    Raises:
      TypeError: if not exactly one of the three is given.
      ValueError: for a value out of range, softmax, an activation that cannot be integrated, and
        an unknown norm.

    Example:
      >>> point = critical_point("erf", sigma_b2=0.0)
      >>> round(point.sigma_w2, 9) == round(math.pi / 4, 9), point.q
      (True, 0.0)
      >>> critical_point("softplus", sigma_b2=0.1) is None
      True
    """
    activation = elementwise(activation)
    given = {"sigma_b2": sigma_b2, "sigma_w2": sigma_w2, "q": q}
    given = {name: value for name, value in given.items() if value is not None}
    if len(given) != 1:
        raise TypeError(
            f"expected exactly one of sigma_b2, sigma_w2 and q, got {sorted(given) or 'none'}"
        )
    ((name, target),) = given.items()
    target = (nonnegative if name == "sigma_b2" else checks.positive_number)(name, target)
    if norms.get(norm) is not None:
        return _after_norm(activation, name, target)
    if not (scan(activation).slope2 > 0).any():
        return None
    # q gives the variances; a variance may belong to several q
    if name == "q":
        return _at(activation, target)
    points = [*_limit(activation, name, target), *_along(activation, name, target)]
    unknown = np.isnan(scan(activation).square)
    if not points and unknown.any():
        raise unresolved(activation, np.exp(EDGES[unknown][0]))
    return next((point for point in points if point.stability != "unstable"), (*points, None)[0])


def _after_norm(activation, name, target) -> CriticalPoint | None:
    """Return the critical point after a norm, where phi gets variance 1."""
    at = moments(activation, 1.0)
    slope2, ratio = float(at.slope2), float(at.slope2 - at.square)  # ratio: sigma_b2 / sigma_w2
    ratio = 0.0 if abs(ratio) <= NOISE * slope2 else ratio
    if slope2 == 0 or ratio < 0 or (name == "sigma_b2" and (target == 0) != (ratio == 0)):
        return None
    if name == "sigma_b2":
        sigma_w2 = target / ratio if ratio else 1 / slope2
    else:
        sigma_w2 = target if name == "sigma_w2" else target / slope2
    return CriticalPoint(sigma_w2, sigma_w2 * ratio, sigma_w2 * slope2, 0.0, "stable")


def half_stable_point(activation: str | Activation) -> CriticalPoint | None:
    """Return the critical point with chi_1 = chi_par = 1 at q > 0; None if there is none.

    Such a length attracts from one side only. GELU and swish have one. Roberts, Yaida & Hanin
    2022, "The principles of deep learning theory", section 5.3.

    Example:
      >>> point = half_stable_point("gelu")
      >>> round(point.sigma_w2, 3), round(point.sigma_b2, 3)
      (1.983, 0.173)
    """
    activation = elementwise(activation)
    if not (scan(activation).slope2 > 0).any() or _every_length(activation):
        return None
    found = _roots(activation, lambda square, slope2, gain, q: gain / slope2 - 1)
    points = [point for q in found if (point := _at(activation, q))]
    return points[0] if points else None


def _curve(activation, q):
    """Return sigma_w2, sigma_b2 and chi_par of the critical point with length q."""
    at = moments(activation, q)
    with np.errstate(divide="ignore", invalid="ignore"):
        return 1 / at.slope2, q - at.square / at.slope2, at.gain / at.slope2


def _every_length(activation):
    """Return whether every length is critical at the same variances, as for ReLU."""
    off = _curve_at_edges(activation)[1] / np.exp(EDGES)
    return bool(np.nanmax(np.abs(off)) <= NOISE)


def _curve_at_edges(activation):
    """Return sigma_w2 and sigma_b2 at the edges of the cells; NaN if they are unknown."""
    at = scan(activation)
    with np.errstate(divide="ignore", invalid="ignore"):
        return 1 / at.slope2, np.exp(EDGES) - at.square / at.slope2


def _at(activation, q) -> CriticalPoint | None:
    """Return the critical point with length q; None if its sigma_b2 would be negative."""
    if _every_length(activation):
        return CriticalPoint(float(_curve(activation, 1.0)[0]), 0.0, None, 1.0, "scale-invariant")
    sigma_w2, sigma_b2, chi_par = (float(x) for x in _curve(activation, q))
    if sigma_b2 < -NOISE * q:
        return None
    side = chi_par - 1
    # A root q is known to about 1e-9, and so is its chi_par
    words = "half-stable" if abs(side) < 1e-9 else "stable" if side < 0 else "unstable"
    return CriticalPoint(sigma_w2, max(0.0, sigma_b2), q, chi_par, words)


def _limit(activation, name, target) -> list[CriticalPoint]:
    """Return the critical point of every q, or else of q -> 0, if it has the given variance."""
    sigma_w2 = float(_curve(activation, 0.0)[0])
    fits = target == 0 if name == "sigma_b2" else abs(target / sigma_w2 - 1) <= NOISE
    if not fits or math.isinf(sigma_w2):
        return []
    if _every_length(activation):
        return [CriticalPoint(sigma_w2, 0.0, None, 1.0, "scale-invariant")]
    growth = sigma_w2 * scan(activation).square / np.exp(EDGES) - 1
    # If phi(0) = 0 and phi' is not 0, growth at q = 1e-16 is about sqrt(q) phi'' / phi', near 1e-8
    if abs(growth[0]) > 1e-6:
        return []
    first = growth[np.abs(growth) > 100 * NOISE][0]  # chosen: the first that is surely not rounding
    return [CriticalPoint(sigma_w2, 0.0, 0.0, 1.0, "stable" if first < 0 else "unstable")]


def _along(activation, name, target) -> list[CriticalPoint]:
    """Return the critical points of q > 0 with the given variance, smallest q first."""
    if _every_length(activation):
        return []
    if name == "sigma_b2":
        error = lambda square, slope2, gain, q: 1 - (square / slope2 + target) / q  # noqa: E731
    else:
        error = lambda square, slope2, gain, q: target * slope2 - 1  # noqa: E731
    points = (_at(activation, q) for q in _roots(activation, error))
    given = {name: target}  # the number given, without the rounding of the way through q
    return [point._replace(**given) for point in points if point is not None]


def _roots(activation, function) -> list[float]:
    """Return the q at which a function of the moments crosses 0."""
    with np.errstate(divide="ignore", invalid="ignore"):  # phi' may be 0
        at_edges = function(*scan(activation), np.exp(EDGES))

    def in_cell(i):
        return interpolated(lambda t: function(*moments(activation, np.exp(t)), np.exp(t)), i)

    return [math.exp(t) for t in roots_in_cells(at_edges, in_cell, NOISE)]


# --- a table --------------------------------------------------------------------------------------


def criticality_table(
    acts: Any = None,
    sigma_b2: float = 0.05,  # as in Schoenholz et al. 2017
) -> list[dict[str, Any]]:
    """Return one dict for each activation: its critical points, and its factors elsewhere.

    critical, critical_biased: the `CriticalPoint` without biases and with sigma_b2; None if there
      is none.
    why_none: the reason, in words, if one of them is None.
    lecun, he: the factor of the gradient norm in one layer, sqrt(chi_1), for sigma_w2 = 1 and 2
      without biases, at the fixed point that is reached from q = 1.

    Example:
      >>> (row,) = criticality_table(["relu"])
      >>> row["critical"].sigma_w2, row["critical_biased"], round(row["he"], 9)
      (2.0, None, 1.0)
    """
    if acts is None:  # each of them once, although silu has two names
        acts = dict.fromkeys(activations.get(name) for name in activations.names())
        acts = [activation for activation in acts if activation is not activations.softmax]
    return [_row(elementwise(activation), sigma_b2) for activation in acts]


def _row(activation, sigma_b2):
    points = [critical_point(activation, sigma_b2=value) for value in (0.0, sigma_b2)]
    ends = {w: settled(activation, w, 0.0, 1.0)[0] for w in (1.0, 2.0)}
    factors = [math.sqrt(w * moments(activation, q).slope2) for w, q in ends.items()]
    return {
        "activation": activation.name,
        "critical": points[0],
        "critical_biased": points[1],
        "why_none": _why_none(activation) if None in points else "",
        "lecun": factors[0],
        "he": factors[1],
    }


def _why_none(activation) -> str:
    if not (scan(activation).slope2 > 0).any():
        return "the derivative is 0 almost everywhere"
    if _every_length(activation):
        return "chi_1 = 1 leaves no room for biases: every length is fixed without them"
    if np.nanmax(_curve_at_edges(activation)[1]) < 0:
        return "with chi_1 = 1 every length grows"
    return "with chi_1 = 1 no length is fixed at these biases"
