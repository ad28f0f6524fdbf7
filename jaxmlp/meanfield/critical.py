"""Where gradients neither vanish nor explode: the edge of chaos, chi_1 = 1.

It is a curve in q, with no equation to solve: `sigma_w2(q) = 1 / E phi'^2` and
`sigma_b2(q) = q - E phi^2 / E phi'^2`. A root is sought in one of the two only.
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
    """Variances with chi_1 = 1 at a fixed point q of the length.

    q: None where every q is fixed, 0 where the point is a limit.
    chi_par: the slope of the length map at q.
    stability: "stable", "half-stable", "unstable" as chi_par is below, at, above 1 (at q = 0, where
      it is 1, as the length shrinks or grows nearby); "scale-invariant" where every q is fixed.
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

    Give exactly one of sigma_b2, sigma_w2 and q; None where there is no such point. Of several, the
    stable one of smallest q, else that of smallest q. Behind a norm (norm_eps taken as 0) they are
    those with `sigma_b2 = sigma_w2 (E phi'^2 - E phi^2)` at variance 1: linear and ReLU layers are
    critical at every sigma_w2 without biases, and that of q = 1 is given. With a residual chi_1 is
    above 1, and no point is critical.

    Schoenholz et al. 2017, "Deep information propagation"; Roberts, Yaida & Hanin 2022, "The
    principles of deep learning theory", section 5.

    Raises:
      TypeError: if not exactly one of the three is given.
      ValueError: for a value out of range, softmax, an activation that cannot be integrated, or an
        unknown norm.

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
        return _behind_norm(activation, name, target)
    if not (scan(activation).slope2 > 0).any():
        return None
    if name == "q":
        return _at(activation, target)
    points = [*_limit(activation, name, target), *_along(activation, name, target)]
    unknown = np.isnan(scan(activation).square)
    if not points and unknown.any():
        raise unresolved(activation, np.exp(EDGES[unknown][0]))
    return next((point for point in points if point.stability != "unstable"), (*points, None)[0])


def _behind_norm(activation, name, target) -> CriticalPoint | None:
    """The critical point where phi sees variance 1."""
    at = moments(activation, 1.0)
    slope2, room = float(at.slope2), float(at.slope2 - at.square)
    room = 0.0 if abs(room) <= NOISE * slope2 else room  # sigma_b2 for each sigma_w2
    if slope2 == 0 or room < 0 or (name == "sigma_b2" and (target == 0) != (room == 0)):
        return None
    if name == "sigma_b2":
        sigma_w2 = target / room if room else 1 / slope2
    else:
        sigma_w2 = target if name == "sigma_w2" else target / slope2
    return CriticalPoint(sigma_w2, sigma_w2 * room, sigma_w2 * slope2, 0.0, "stable")


def half_stable_point(activation: str | Activation) -> CriticalPoint | None:
    """Return the critical point with chi_1 = chi_par = 1 at q > 0; None where there is none.

    There the length attracts from one side only. GELU and swish have one. Roberts, Yaida & Hanin
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
    """sigma_w2, sigma_b2 and chi_par of the critical point with that length."""
    at = moments(activation, q)
    with np.errstate(divide="ignore", invalid="ignore"):
        return 1 / at.slope2, q - at.square / at.slope2, at.gain / at.slope2


def _every_length(activation):
    """Whether every length is critical at the same variances, as for ReLU."""
    off = _curve_at_edges(activation)[1] / np.exp(EDGES)
    return bool(np.nanmax(np.abs(off)) <= NOISE)


def _curve_at_edges(activation):
    """sigma_w2 and sigma_b2 at the edges of the cells; NaN where unknown."""
    at = scan(activation)
    with np.errstate(divide="ignore", invalid="ignore"):
        return 1 / at.slope2, np.exp(EDGES) - at.square / at.slope2


def _at(activation, q) -> CriticalPoint | None:
    if _every_length(activation):
        return CriticalPoint(float(_curve(activation, 1.0)[0]), 0.0, None, 1.0, "scale-invariant")
    sigma_w2, sigma_b2, chi_par = (float(x) for x in _curve(activation, q))
    if sigma_b2 < -NOISE * q:
        return None
    side = chi_par - 1
    # q of a root is known to 1e-9 or so, and chi_par with it
    words = "half-stable" if abs(side) < 1e-9 else "stable" if side < 0 else "unstable"
    return CriticalPoint(sigma_w2, max(0.0, sigma_b2), q, chi_par, words)


def _limit(activation, name, target) -> list[CriticalPoint]:
    """The critical point at q -> 0, which has no biases, or that of every q."""
    sigma_w2 = float(_curve(activation, 0.0)[0])
    asked = target == 0 if name == "sigma_b2" else abs(target / sigma_w2 - 1) <= NOISE
    if not asked or math.isinf(sigma_w2):
        return []
    if _every_length(activation):
        return [CriticalPoint(sigma_w2, 0.0, None, 1.0, "scale-invariant")]
    growth = sigma_w2 * scan(activation).square / np.exp(EDGES) - 1
    # at q = 1e-16 growth is about phi'' / phi' times sqrt(q), 1e-8, if phi is smooth on each side
    if abs(growth[0]) > 1e-6:
        return []  # phi(0) is not 0, or phi' is
    first = growth[np.abs(growth) > 100 * NOISE][0]  # the first that is surely not rounding
    return [CriticalPoint(sigma_w2, 0.0, 0.0, 1.0, "stable" if first < 0 else "unstable")]


def _along(activation, name, target) -> list[CriticalPoint]:
    """The critical points of q > 0, smallest q first."""
    if _every_length(activation):
        return []
    if name == "sigma_b2":
        miss = lambda square, slope2, gain, q: 1 - (square / slope2 + target) / q  # noqa: E731
    else:
        miss = lambda square, slope2, gain, q: target * slope2 - 1  # noqa: E731
    points = (_at(activation, q) for q in _roots(activation, miss))
    given = {name: target}  # as it was asked for, not as it came back from q
    return [point._replace(**given) for point in points if point is not None]


def _roots(activation, function) -> list[float]:
    """The q at which a function of the moments crosses 0."""
    with np.errstate(divide="ignore", invalid="ignore"):  # slopes of 0
        at_edges = function(*scan(activation), np.exp(EDGES))

    def in_cell(i):
        return interpolated(lambda t: function(*moments(activation, np.exp(t)), np.exp(t)), i)

    return [math.exp(t) for t in roots_in_cells(at_edges, in_cell, NOISE)]


# --- a table --------------------------------------------------------------------------------------


def criticality_table(
    acts: Any = None,
    sigma_b2: float = 0.05,  # as in Schoenholz et al. 2017
) -> list[dict[str, Any]]:
    """Return one dict for each activation: its critical points, and its gradients elsewhere.

    critical, critical_biased: the `CriticalPoint` without biases, and with that sigma_b2, or None;
    why_none: the reason, in words, where one is missing; lecun, he: the norm factor of one layer,
    sqrt(chi_1) at the fixed point that sigma_w2 = 1 and 2 without biases reach from q = 1.

    Example:
      >>> (row,) = criticality_table(["relu"])
      >>> row["critical"].sigma_w2, row["critical_biased"], round(row["he"], 9)
      (2.0, None, 1.0)
    """
    if acts is None:  # every one once, though some have two names
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
